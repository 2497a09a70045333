//! A pseudo-terminal with a program in it, and what its screen shows.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::num::NonZeroU16;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// A program that runs in a terminal of its own, as the leader of its session.
pub(crate) struct Terminal {
    master: File,
    program: Child,
    before: Termios,
    shown: Arc<Shown>,
    reader: JoinHandle<()>,
    /// Ends the reader, when it is closed.
    goes_on: PipeWriter,
}

/// What has come out.
struct Shown {
    output: Mutex<Output>,
    changed: Condvar,
}

struct Output {
    screen: vt100::Parser,
    bytes: Vec<u8>,
    /// Nobody has the terminal any more.
    ended: bool,
}

/// How a program left its terminal.
pub(crate) struct Left {
    pub(crate) status: ExitStatus,
    /// What stands on the screen now.
    pub(crate) screen: String,
    /// What is not as it was.
    pub(crate) amiss: Vec<String>,
}

impl Terminal {
    /// Starts `command` in a terminal of that size.
    pub(crate) fn start(command: &Command, width: u16, height: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        tcsetwinsize(&master, size(width, height)).expect("a size");
        let slave = || {
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            Stdio::from(ioctl_tiocgptpeer(&master, flags).expect("its other side"))
        };
        // Kept until the program has it: who reads from a terminal that nobody has is told that it has ended.
        let mut session = Command::new("setsid");
        session.arg("-c").arg(command.get_program());
        session.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => session.env(name, value),
                None => session.env_remove(name),
            };
        }
        session.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        session.stdin(slave()).stdout(slave()).stderr(slave());
        let before = tcgetattr(&master).expect("a terminal");
        let program = session.spawn().expect("setsid(1) of util-linux");
        drop(session);

        let master = File::from(master);
        let shown = Arc::new(Shown {
            output: Mutex::new(Output {
                screen: parser(width, height),
                bytes: Vec::new(),
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let (ends, goes_on) = pipe().expect("a pipe");
        let reader = thread::spawn({
            let shown = shown.clone();
            let mut master = master.try_clone().expect("a descriptor");
            move || shown.read(&mut master, &ends)
        });
        Terminal {
            master,
            program,
            before,
            shown,
            reader,
            goes_on,
        }
    }

    /// Types something.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("typed");
    }

    /// Gives the window another size.
    pub(crate) fn resize(&mut self, width: u16, height: u16) {
        let (rows, columns) = nonzero(width, height);
        let mut output = self.shown.output.lock().expect("no panic");
        output.screen.set_size(rows, columns);
        drop(output);
        tcsetwinsize(&self.master, size(width, height)).expect("a size");
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.program);
        rustix::process::kill_process(pid, signal).expect("a process");
    }

    /// Waits until the screen is as wanted, and returns it.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut output = self.shown.output.lock().expect("no panic");
        loop {
            let screen = output.screen.screen().contents();
            if wanted(&screen) {
                return screen;
            }
            assert!(!output.ended, "ended, and no {what} in\n{screen}");
            output = self.shown.changed.wait(output).expect("no panic");
        }
    }

    /// Waits until the program has ended, and looks at what it has left.
    pub(crate) fn left(mut self) -> Left {
        let status = self.program.wait().expect("our child");
        self.reader.join().expect("no panic");
        let output = self.shown.output.lock().expect("no panic");
        let text = String::from_utf8_lossy(&output.bytes);
        let screen = output.screen.screen();
        let after = tcgetattr(&self.master).expect("a terminal");
        let mut amiss = Vec::new();
        for (wrong, what) in [
            (
                !text.contains("\x1b[?1049h"),
                "the alternate screen was never entered",
            ),
            (
                !text.contains("\x1b[?1049l"),
                "the alternate screen was never left",
            ),
            (screen.alternate_screen(), "the alternate screen is shown"),
            (screen.hide_cursor(), "the cursor is hidden"),
            (
                format!("{after:?}") != format!("{:?}", self.before),
                "the terminal's modes are others",
            ),
        ] {
            if wrong {
                amiss.push(what.to_string());
            }
        }
        Left {
            status,
            screen: screen.contents(),
            amiss,
        }
    }

    /// Closes the terminal, as one whose window is closed, and waits until the program has ended.
    pub(crate) fn close(mut self) -> ExitStatus {
        // Whoever reads has it open too.
        drop(self.goes_on);
        self.reader.join().expect("no panic");
        drop(self.master);
        self.program.wait().expect("our child")
    }
}

impl Left {
    /// The program has ended with that status, and the terminal is as it was.
    #[track_caller]
    pub(crate) fn is_tidy(&self, status: i32) {
        assert_eq!(self.status.signal(), None, "{}", self.screen);
        assert_eq!(self.status.code(), Some(status), "{}", self.screen);
        assert!(self.amiss.is_empty(), "{:?}", self.amiss);
    }
}

impl Shown {
    fn read(&self, master: &mut File, ends: &PipeReader) {
        let mut bytes = [0; 8192];
        loop {
            let mut fds = [
                PollFd::new(master, PollFlags::IN),
                PollFd::new(ends, PollFlags::empty()),
            ];
            poll(&mut fds, None).expect("something to read");
            if !fds[1].revents().is_empty() {
                return;
            }
            // EIO: nobody has the other side any more.
            let len = master.read(&mut bytes).unwrap_or(0);
            let mut output = self.output.lock().expect("no panic");
            output.screen.process(&bytes[..len]);
            output.bytes.extend_from_slice(&bytes[..len]);
            output.ended = len == 0;
            self.changed.notify_all();
            if len == 0 {
                return;
            }
        }
    }
}

fn parser(width: u16, height: u16) -> vt100::Parser {
    let (rows, columns) = nonzero(width, height);
    vt100::Parser::new(rows, columns, 0)
}

fn nonzero(width: u16, height: u16) -> (NonZeroU16, NonZeroU16) {
    let number = |number| NonZeroU16::new(number).expect("a window");
    (number(height), number(width))
}

fn size(width: u16, height: u16) -> Winsize {
    Winsize {
        ws_col: width,
        ws_row: height,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
