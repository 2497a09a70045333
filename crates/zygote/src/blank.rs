//! The life of a child: blank, told what to become, built, run.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use host_memory::page::page_size;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::context::Context;
use crate::launcher::{Entry, Forked, Launcher};
use crate::launcher_process;
use crate::message::{self, receive_value, send_value};
use crate::protocol::{Blueprint, Policy, Report, STREAMS, blueprint_limits};
use crate::rebuild::rebuild;

/// Lives a child's life and returns its exit code.
///
/// Until the child has all it needs, the end of the zygote ends it without a word.
pub(crate) fn run(control: OwnedFd, entries: &[Entry]) -> i32 {
    let (pid, pidfd) = match own_pidfd() {
        Ok(own) => own,
        Err(error) => return fail(&control, &format!("it cannot open its own pidfd, {error}")),
    };
    // Last: whoever looks for a blank child finds one that only waits.
    set_name("zygote-blank");
    let Told {
        blueprint,
        streams,
        layers,
    } = match await_blueprint(&control, entries.len()) {
        Ok(Some(told)) => told,
        Ok(None) => return 0,
        Err(reason) => return fail(&control, &reason),
    };
    if let Err(error) = take_streams(streams) {
        return fail(&control, &format!("it has no standard streams, {error}"));
    }
    // Before the engine starts its threads.
    let launcher = match blueprint.can_spawn.then(|| Launcher::fork(entries)) {
        None => None,
        Some(Ok(Forked::Zygote(launcher))) => Some(launcher),
        Some(Ok(Forked::Launcher(socket))) => {
            drop((control, pidfd, layers));
            launcher_process::run(socket, entries.to_vec());
        }
        Some(Err(error)) => {
            return fail(&control, &format!("it cannot fork its launcher, {error}"));
        }
    };
    let entry = entries[blueprint.entry as usize];
    match rebuild(blueprint, layers) {
        Err(error) => fail(&control, &error.to_string()),
        Ok(clone) => {
            set_name(entry.name);
            // If the zygote has died meanwhile, its child goes on all the same.
            let _ = send_value(control.as_fd(), &Report::Ready(pid), &[pidfd.as_fd()]);
            drop((control, pidfd));
            (entry.run)(Context {
                args: clone.arguments,
                vmos: clone.vmos,
                left_out: clone.left_out,
                launcher,
            })
        }
    }
}

/// Does in the launcher, with nothing, what each child does with its image: what this process has used of the program's code its copies find in place.
pub(crate) fn rehearse() -> io::Result<()> {
    let (zygote, control) = message::pair()?;
    let nothing = Blueprint {
        entry: 0,
        arguments: Vec::new(),
        policy: Policy::Native,
        can_spawn: false,
        vmos: Vec::new(),
        mappings: Vec::new(),
        handles: Vec::new(),
        left_out: Vec::new(),
    };
    let streams: [_; STREAMS] = [zygote.as_fd(); STREAMS];
    send_value(zygote.as_fd(), &nothing, &streams)?;
    let _ = await_blueprint(&control, 1);
    let (pid, pidfd) = own_pidfd()?;
    send_value(control.as_fd(), &Report::Ready(pid), &[pidfd.as_fd()])
}

/// This process's number, and a descriptor for the zygote that means this process for ever.
fn own_pidfd() -> io::Result<(i32, OwnedFd)> {
    let pid = getpid();
    Ok((pid.as_raw_pid(), pidfd_open(pid, PidfdFlags::empty())?))
}

/// What a child is told to become, and by which streams and layers.
struct Told {
    blueprint: Blueprint,
    streams: [OwnedFd; STREAMS],
    layers: Vec<OwnedFd>,
}

/// Waits until this child is told; `None` if the zygote is gone. What is not right is refused with a reason.
fn await_blueprint(control: &OwnedFd, entries: usize) -> Result<Option<Told>, String> {
    let (blueprint, mut streams) = match receive_value::<Blueprint>(control, blueprint_limits()) {
        Ok(None) => return Ok(None),
        Err(cut) if cut.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(format!("its image did not arrive, {error}")),
        Ok(Some(received)) => received,
    };
    if let Err(refused) = blueprint.check(entries, page_size()) {
        return Err(format!("its image is not right, {refused}"));
    }
    let layers = streams.split_off(STREAMS.min(streams.len()));
    let streams = <[OwnedFd; STREAMS]>::try_from(streams)
        .map_err(|_| "its image is not right, it comes without standard streams")?;
    Ok(Some(Told {
        blueprint,
        streams,
        layers,
    }))
}

fn take_streams([stdin, stdout, stderr]: [OwnedFd; STREAMS]) -> io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    Ok(())
}

/// Tells the zygote why there is no clone, if it is still there, and returns the exit code for that.
fn fail(control: &OwnedFd, reason: &str) -> i32 {
    let report = Report::Failed(reason.to_owned());
    let _ = send_value(control.as_fd(), &report, &[]);
    1
}

/// Names the process for ps(1); the kernel cuts the name after 15 bytes. Without a name nothing is lost.
fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use super::*;
    use crate::protocol::{Access, Mapping, Run};

    fn blueprint(mappings: Vec<Mapping>) -> Blueprint {
        Blueprint {
            entry: 0,
            arguments: Vec::new(),
            policy: Policy::Native,
            can_spawn: false,
            vmos: Vec::new(),
            mappings,
            handles: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// What a child makes of a message by a zygote that then closes its end.
    fn told(send: impl FnOnce(&OwnedFd)) -> Result<Option<Blueprint>, String> {
        let (peer, control) = message::pair().unwrap();
        send(&peer);
        drop(peer);
        Ok(await_blueprint(&control, 1)?.map(|told| told.blueprint))
    }

    #[test]
    fn a_right_blueprint_is_taken() {
        let stream = io::stderr();
        let streams: [BorrowedFd<'_>; STREAMS] = [stream.as_fd(); STREAMS];
        let taken =
            told(|peer| send_value(peer.as_fd(), &blueprint(Vec::new()), &streams).unwrap());
        assert!(taken.unwrap().is_some());
    }

    #[test]
    fn a_zygote_that_is_gone_is_no_error() {
        assert!(told(|_| {}).unwrap().is_none());
        // It died after the first of two packets.
        let half = |peer: &OwnedFd| {
            let header = [
                [9_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat(),
                vec![1; 5],
            ]
            .concat();
            rustix::net::send(peer, &header, rustix::net::SendFlags::NOSIGNAL).unwrap();
        };
        assert!(told(half).unwrap().is_none());
    }

    #[test]
    fn what_is_not_right_is_refused() {
        let garbage = told(|peer| message::send(peer.as_fd(), &[0xff; 40], &[]).unwrap());
        assert!(
            garbage
                .unwrap_err()
                .contains("does not hold what it should")
        );
        let trailing = told(|peer| {
            let mut bytes = postcard::to_stdvec(&blueprint(Vec::new())).unwrap();
            bytes.push(0);
            message::send(peer.as_fd(), &bytes, &[]).unwrap();
        });
        assert!(
            trailing
                .unwrap_err()
                .contains("does not hold what it should")
        );
        let run = Run {
            len: page_size() as u64,
            access: Access::Read,
        };
        let of_no_vmo = Mapping {
            address: 0,
            vmo: 0,
            vmo_offset: 0,
            runs: vec![run],
        };
        let unfounded =
            told(|peer| send_value(peer.as_fd(), &blueprint(vec![of_no_vmo]), &[]).unwrap());
        assert!(unfounded.unwrap_err().contains("VMO"));
        let without = told(|peer| {
            let two = [peer.as_fd(); 2];
            send_value(peer.as_fd(), &blueprint(Vec::new()), &two).unwrap();
        });
        assert!(without.unwrap_err().contains("standard streams"));
    }
}
