//! The life of a child: blank, told what to become, built, run.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use host_memory::page::page_size;

use crate::context::Context;
use crate::launcher::{Entry, Forked, Launcher};
use crate::launcher_process;
use crate::message::{self, Limits, receive_value, send_value};
use crate::protocol::{Blueprint, HANDED_OVER, Report, blueprint_limits};
use crate::rebuild::rebuild;

/// Lives a child's life and returns its exit code.
///
/// Until the child has all it needs, the end of the launcher or of the zygote ends it without a word.
pub(crate) fn run(handover: OwnedFd, entries: &[Entry]) -> i32 {
    set_name("zygote-blank");
    let Some(control) = take_over(handover) else {
        return 0;
    };
    let (blueprint, layers) = match await_blueprint(&control, entries.len()) {
        Ok(Some(received)) => received,
        Ok(None) => return 0,
        Err(reason) => return fail(&control, &reason),
    };
    // Before the engine starts its threads.
    let launcher = match blueprint.can_spawn.then(|| Launcher::fork(entries)) {
        None => None,
        Some(Ok(Forked::Zygote(launcher))) => Some(launcher),
        Some(Ok(Forked::Launcher(socket))) => {
            drop((control, layers));
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
            let _ = send_value(control.as_fd(), &Report::Ready, &[]);
            drop(control);
            (entry.run)(Context {
                args: clone.arguments,
                vmos: clone.vmos,
                left_out: clone.left_out,
                launcher,
            })
        }
    }
}

/// Waits until this child is needed: takes the standard streams over, and gives the socket to the zygote. `None` if it never will be.
fn take_over(handover: OwnedFd) -> Option<OwnedFd> {
    let limits = Limits {
        bytes: 0,
        descriptors: HANDED_OVER,
    };
    let handed_over = message::receive(handover.as_fd(), limits).ok()??;
    let [control, stdin, stdout, stderr] =
        <[OwnedFd; HANDED_OVER]>::try_from(handed_over.descriptors).ok()?;
    rustix::stdio::dup2_stdin(stdin).ok()?;
    rustix::stdio::dup2_stdout(stdout).ok()?;
    rustix::stdio::dup2_stderr(stderr).ok()?;
    Some(control)
}

/// Waits until this child is told what to become, and by which layers; `None` if the zygote is gone. What is not right is refused with a reason.
fn await_blueprint(
    control: &OwnedFd,
    entries: usize,
) -> Result<Option<(Blueprint, Vec<OwnedFd>)>, String> {
    match receive_value::<Blueprint>(control, blueprint_limits()) {
        Ok(None) => Ok(None),
        Err(cut) if cut.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(format!("its image did not arrive, {error}")),
        Ok(Some((blueprint, layers))) => match blueprint.check(entries, page_size()) {
            Ok(()) => Ok(Some((blueprint, layers))),
            Err(refused) => Err(format!("its image is not right, {refused}")),
        },
    }
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
    use super::*;
    use crate::protocol::{Access, Mapping, Policy, Run};

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
        Ok(await_blueprint(&control, 1)?.map(|(blueprint, _)| blueprint))
    }

    #[test]
    fn a_right_blueprint_is_taken() {
        let taken = told(|peer| send_value(peer.as_fd(), &blueprint(Vec::new()), &[]).unwrap());
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
    }
}
