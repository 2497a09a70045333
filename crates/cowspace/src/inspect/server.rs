//! The process's side: a socket, and a thread that answers.
//!
//! One thread serves all who ask, and never waits for one of them: it reads what is there and writes what there is room for. Who says nothing, or half a question, or does
//! not read the answer, keeps a place, and loses it when all are taken and somebody new comes.
//!
//! The thread blocks the program's signals but not the real-time one that stops threads: it may be inside the allocator, or hold a lock, as any other thread.
//! The socket goes when the process ends by `exit(3)`; a forked copy that ends so leaves it alone. One of a process that was killed is swept by the next who listens.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Once};

use host_memory::process::at_exit;
use host_memory::thread::{BareThread, standard_signals, with_blocked};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;

use super::collect;
use super::place;
use super::wire::{self, Answer, Question};
use crate::engine::Engine;
use crate::lock::Mutex;

/// So many can be connected at a time.
const PLACES: usize = 16;

/// What listens in this process, or in the one that it is a copy of.
static LISTENING: Mutex<Option<Arc<Ear>>> = Mutex::new(None);

/// Keeps this process open to `cowspace inspect` and `cowspace top`. Dropping it ends that.
#[derive(Debug)]
pub struct Listener(Arc<Ear>);

/// The socket of this process.
#[derive(Debug)]
struct Ear {
    path: PathBuf,
    /// The process whose it is.
    pid: u32,
    /// Ends the thread.
    end: EventFd,
}

/// Opens this process to `cowspace inspect` and `cowspace top`, for its own user and root, until the result is dropped. With `COWSPACE_INSPECT=1` in its environment a process
/// does so by itself, for as long as it runs.
///
/// # Errors
///
/// `AlreadyExists` if it is open already; what is in the way of the socket (its folder is `$XDG_RUNTIME_DIR/cowspace`, or `/tmp/cowspace-UID`, and must be nobody else's) or of another
/// thread; `Unsupported` if the engine cannot start, or in a forked copy of the process.
pub fn listen() -> io::Result<Listener> {
    Engine::get().map_err(|status| io::Error::new(io::ErrorKind::Unsupported, status))?;
    open_ear().map(Listener)
}

/// Listens for as long as the process runs, if its environment says so. What is in the way is told on standard error: the program may have nobody who reads a log, and whoever
/// set the variable waits for the socket.
pub(crate) fn listen_if_asked() {
    if std::env::var_os("COWSPACE_INSPECT").is_none_or(|value| value.is_empty() || value == "0") {
        return;
    }
    match open_ear() {
        Ok(_) => {}
        // Made ahead of the engine's start.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => eprintln!("cowspace: this process cannot be inspected: {error}"),
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if std::process::id() != self.0.pid {
            // A forked copy has neither thread nor socket.
            return;
        }
        // With the lock held: whoever listens next has a socket of the same name.
        let mut listening = LISTENING.lock();
        self.0.remove_socket();
        *listening = None;
        drop(listening);
        // The thread may be at work: it ends when it looks. (EAGAIN: told already.)
        let _ = self.0.end.write(1);
    }
}

impl Ear {
    /// A forked copy does nothing.
    fn remove_socket(&self) {
        if std::process::id() == self.pid {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// At `exit(3)`.
extern "C" fn remove_socket() {
    // Nobody is waited for: in a forked copy whoever has the lock may not be there.
    if let Some(listening) = LISTENING.try_lock()
        && let Some(ear) = &*listening
    {
        ear.remove_socket();
    }
}

fn open_ear() -> io::Result<Arc<Ear>> {
    let mut listening = LISTENING.lock();
    let pid = std::process::id();
    if listening.as_ref().is_some_and(|ear| ear.pid == pid) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the process listens already",
        ));
    }
    let folder = place::make_folder()?;
    let path = folder.join(pid.to_string());
    let socket = bind(&path)?;
    let ear = Arc::new(Ear {
        path,
        pid,
        end: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
    });
    let started = spawn(Server {
        socket,
        ear: ear.clone(),
        connections: Vec::new(),
    });
    started.inspect_err(|_| ear.remove_socket())?;
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // Else the socket is swept later.
        let _ = at_exit(remove_socket);
    });
    *listening = Some(ear.clone());
    Ok(ear)
}

/// A socket that others see when it listens: until then it has another name. (At one that does not they would be refused, and take it for a dead process's.)
fn bind(path: &std::path::Path) -> io::Result<UnixListener> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}"));
    // Of a process that had the same id and was killed just now.
    let _ = fs::remove_file(&hidden);
    let socket = UnixListener::bind(&hidden)?;
    let made = fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))
        .and_then(|()| socket.set_nonblocking(true))
        .and_then(|()| fs::rename(&hidden, path));
    made.inspect_err(|_| drop(fs::remove_file(&hidden)))?;
    Ok(socket)
}

fn spawn(server: Server) -> io::Result<()> {
    let start = || BareThread::spawn(c"cowspace-inspect", move || server.run());
    with_blocked(standard_signals(), start).map(drop)
}

/// The thread.
struct Server {
    socket: UnixListener,
    ear: Arc<Ear>,
    /// The one that has asked last is the last.
    connections: Vec<Connection>,
}

/// Somebody who asks.
struct Connection {
    stream: UnixStream,
    /// What was read of the next question.
    question: Vec<u8>,
    /// What is to be written of the last answer.
    answer: Vec<u8>,
    written: usize,
}

impl Server {
    fn run(mut self) {
        self.await_use();
        if let Some(folder) = self.ear.path.parent() {
            place::sweep(folder);
        }
        // Whether there were no descriptors for one more.
        let mut full = false;
        loop {
            let mut polled = vec![PollFd::new(self.ear.end.as_fd(), PollFlags::POLLIN)];
            polled.extend(self.connections.iter().map(Connection::polled));
            if !full {
                polled.push(PollFd::new(self.socket.as_fd(), PollFlags::POLLIN));
            }
            let patience = if full {
                PollTimeout::from(100u8)
            } else {
                PollTimeout::NONE
            };
            match poll(&mut polled, patience) {
                Ok(_) | Err(Errno::EINTR) => {}
                // There is nothing to be done but to try again, and not at once.
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
            }
            let is_ready =
                |polled: &PollFd| polled.revents().is_some_and(|flags| !flags.is_empty());
            let ready: Vec<bool> = polled.iter().map(is_ready).collect();
            if ready[0] {
                return;
            }
            self.serve(&ready[1..]);
            full = self.accept().is_err();
        }
    }

    /// Waits until the engine runs or somebody is here. A thread that was made ahead takes no lock until then, the allocator's among them: the program may fork, and its copy have an engine
    /// of its own.
    fn await_use(&self) {
        while Engine::running().is_none() {
            let mut polled = [self.ear.end.as_fd(), self.socket.as_fd()]
                .map(|file| PollFd::new(file, PollFlags::POLLIN));
            match poll(&mut polled, PollTimeout::from(100u8)) {
                Ok(0) | Err(Errno::EINTR) => {}
                _ => return,
            }
        }
    }

    /// Reads and writes where that is possible.
    fn serve(&mut self, ready: &[bool]) {
        let mut asked = Vec::new();
        let mut ready = ready.iter();
        let connections = std::mem::take(&mut self.connections);
        for mut connection in connections {
            if !ready.next().is_some_and(|&ready| ready) {
                self.connections.push(connection);
                continue;
            }
            match connection.serve() {
                Ok(false) => self.connections.push(connection),
                Ok(true) => asked.push(connection),
                // Whoever has gone away, or says what is no question.
                Err(_) => {}
            }
        }
        self.connections.append(&mut asked);
    }

    /// Takes in all who wait.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.socket.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_transient(&error) => continue,
                Err(error) => {
                    if self.connections.is_empty() {
                        return Err(error);
                    }
                    self.connections.remove(0);
                    continue;
                }
            };
            if !may_ask(&stream) || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.connections.len() == PLACES {
                self.connections.remove(0);
            }
            self.connections.push(Connection {
                stream,
                question: Vec::new(),
                answer: wire::greeting().to_vec(),
                written: 0,
            });
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

/// The socket's permissions keep others out already.
fn may_ask(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials)
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == Uid::effective().as_raw())
}

impl Connection {
    /// No question is read before the last answer was taken.
    fn polled(&self) -> PollFd<'_> {
        let flags = if self.written < self.answer.len() {
            PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        };
        PollFd::new(self.stream.as_fd(), flags)
    }

    /// Goes on with it; says whether a question was answered. An error ends the connection.
    fn serve(&mut self) -> io::Result<bool> {
        if self.written < self.answer.len() {
            self.write()?;
        } else {
            self.read()?;
        }
        let mut asked = false;
        // More than one may have been read.
        while self.answer.is_empty()
            && let Some(question) = self.next_question()?
        {
            asked = true;
            let framed = wire::frame(&answer(question), wire::LONGEST_ANSWER);
            let framed = framed.or_else(|| {
                let why = "the answer is too long: there is too much mapped";
                wire::frame(&Answer::Failed(why.into()), wire::LONGEST_ANSWER)
            });
            self.answer = framed.ok_or(io::ErrorKind::InvalidData)?;
            self.write()?;
        }
        Ok(asked)
    }

    /// Takes a question out of what was read, if there is a whole one.
    fn next_question(&mut self) -> io::Result<Option<Question>> {
        let Some((header, rest)) = self.question.split_first_chunk() else {
            return Ok(None);
        };
        let len = wire::len(*header);
        if len > wire::LONGEST_QUESTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some(question) = rest.get(..len) else {
            return Ok(None);
        };
        let question = postcard::from_bytes(question).map_err(io::Error::other)?;
        self.question.drain(..wire::HEADER_LEN + len);
        Ok(Some(question))
    }

    /// Reads no more than one question and a bit.
    fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; wire::HEADER_LEN + wire::LONGEST_QUESTION];
        let room = bytes.len().saturating_sub(self.question.len());
        match self.stream.read(&mut bytes[..room]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.question.extend_from_slice(&bytes[..read]);
                Ok(())
            }
            Err(error) if is_later(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.answer.len() {
            match self.stream.write(&self.answer[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        // It may be large.
        self.answer = Vec::new();
        self.written = 0;
        Ok(())
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn answer(question: Question) -> Answer {
    let engine = Engine::running();
    let answer = match question {
        Question::Live => collect::live(engine).map(|live| Answer::Live(Box::new(live))),
        Question::Inspect => collect::inspect(engine).map(|all| Answer::Inspect(Box::new(all))),
    };
    answer.unwrap_or_else(|status| Answer::Failed(status.to_string()))
}
