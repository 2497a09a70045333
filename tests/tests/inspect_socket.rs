//! Who may look into a process, and what becomes of the socket: of nobody's business, of no use to others, and never left behind for long.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cowspace::Vmo;
use cowspace::inspect::{Error, connect, listen};

/// Set in a process that a test starts again: what it is to do.
const ROLE: &str = "COWSPACE_TEST_ROLE";
/// Nobody, by custom: an id that owns nothing.
const NOBODY: u32 = 65534;

/// A test of this program, to be run again in a process of its own, with a runtime folder of its own.
fn again(test: &str, role: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command
        .args([test, "--exact", "--nocapture"])
        .env(ROLE, role)
        .env_remove("COWSPACE_INSPECT")
        .env("XDG_RUNTIME_DIR", folder);
    command
}

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Runs a test in a process with a runtime folder, which is given to it; asserts that nothing is left of it.
fn inside(test: &str, works: impl FnOnce(&Path)) {
    if role().is_some() {
        return works(Path::new(
            &std::env::var_os("XDG_RUNTIME_DIR").expect("a folder"),
        ));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = again(test, "inside", folder.path())
        .output()
        .expect("the test runs again");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
    print!("{text}");
    if let Ok(left) = fs::read_dir(folder.path().join("cowspace")) {
        assert_eq!(left.count(), 0);
    }
}

fn socket(folder: &Path, pid: u32) -> PathBuf {
    folder.join("cowspace").join(pid.to_string())
}

/// A process that listens as its environment says, until its input ends.
struct Listening {
    child: Child,
    input: Option<ChildStdin>,
    out: ChildStdout,
}

impl Listening {
    fn start(test: &str, folder: &Path, inspect: &str) -> Listening {
        let mut command = again(test, "listening", folder);
        command
            .env("COWSPACE_INSPECT", inspect)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the process starts");
        let input = child.stdin.take();
        let mut out = child.stdout.take().expect("a pipe");
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"ready") {
            out.read_exact(&mut byte).expect("it gets ready");
            said.extend(byte);
        }
        Listening { child, input, out }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it end by itself.
    fn end(mut self) {
        drop(self.input.take());
        std::io::copy(&mut self.out, &mut std::io::sink()).expect("it is a pipe");
        assert!(self.child.wait().expect("it ends").success());
    }

    fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it ends");
    }
}

/// The other process's part of a test: whether that was it.
fn was_listening() -> bool {
    if role().as_deref() != Some("listening") {
        return false;
    }
    let vmo = Vmo::create(1).expect("a VMO");
    println!("\nready");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the input ends");
    drop(vmo);
    true
}

#[test]
fn the_environment_opens_a_socket_and_the_end_removes_it() {
    const TEST: &str = "the_environment_opens_a_socket_and_the_end_removes_it";
    if was_listening() {
        return;
    }
    inside(TEST, |folder| {
        for off in ["", "0"] {
            let closed = Listening::start(TEST, folder, off);
            assert!(matches!(connect(closed.pid()), Err(Error::NotListening(_))));
            assert!(!folder.join("cowspace").exists());
            closed.end();
        }
        let open = Listening::start(TEST, folder, "1");
        let path = socket(folder, open.pid());
        let meta = fs::symlink_metadata(&path).expect("a socket");
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.mode() & 0o777, 0o600);
        let above = fs::symlink_metadata(folder.join("cowspace")).expect("a folder");
        assert_eq!(above.mode() & 0o777, 0o700);
        let mut client = connect(open.pid()).expect("it listens");
        assert_eq!(client.live().expect("an answer").memory.vmos, 1);
        let pid = open.pid();
        open.end();
        assert!(!path.exists());
        assert!(matches!(client.live(), Err(Error::Ended(_))));
        assert!(matches!(connect(pid), Err(Error::NoSuchProcess(_))));
    });
}

#[test]
fn sockets_of_killed_processes_are_swept() {
    const TEST: &str = "sockets_of_killed_processes_are_swept";
    if was_listening() {
        return;
    }
    inside(TEST, |folder| {
        let first = Listening::start(TEST, folder, "1");
        let lives = Listening::start(TEST, folder, "1");
        let stale = socket(folder, first.pid());
        // A file that is no socket stays, whatever its name.
        let other = folder.join("cowspace").join("999999999");
        fs::write(&other, "").expect("a file");
        // It sweeps before it answers, and so will not any more.
        connect(lives.pid())
            .expect("it listens")
            .live()
            .expect("an answer");
        first.kill();
        assert!(stale.exists());
        let listener = listen().expect("a socket");
        // The thread sweeps before it answers.
        connect(std::process::id())
            .expect("we listen")
            .live()
            .expect("an answer");
        assert!(!stale.exists() && other.exists());
        assert!(connect(lives.pid()).is_ok());
        fs::remove_file(other).expect("it is there");

        let second = Listening::start(TEST, folder, "1");
        let (pid, stale) = (second.pid(), socket(folder, second.pid()));
        second.kill();
        assert!(stale.exists());
        assert!(matches!(connect(pid), Err(Error::NoSuchProcess(_))));
        assert!(!stale.exists());

        // A process of the number that does not listen.
        drop(listener);
        let ours = socket(folder, std::process::id());
        assert!(!ours.exists());
        drop(UnixListener::bind(&ours).expect("a socket"));
        assert!(matches!(
            connect(std::process::id()),
            Err(Error::NotListening(_))
        ));
        assert!(!ours.exists());
        lives.end();
    });
}

#[test]
fn only_one_listens_at_a_time() {
    inside("only_one_listens_at_a_time", |folder| {
        for _ in 0..3 {
            let listener = listen().expect("a socket");
            let again = listen().expect_err("it listens already");
            assert_eq!(again.kind(), ErrorKind::AlreadyExists);
            let mut client = connect(std::process::id()).expect("we listen");
            client.inspect().expect("an answer");
            drop(listener);
            assert!(!socket(folder, std::process::id()).exists());
            assert!(matches!(client.live(), Err(Error::Ended(_))));
        }
    });
}

#[test]
fn half_messages_and_nonsense_are_in_nobodys_way() {
    inside("half_messages_and_nonsense_are_in_nobodys_way", |folder| {
        let _listener = listen().expect("a socket");
        let path = socket(folder, std::process::id());
        let dial = || UnixStream::connect(&path).expect("it listens");
        let mut client = connect(std::process::id()).expect("we listen");
        // As many as there are places, and more.
        let mut waiting = Vec::new();
        for number in 0..40u8 {
            let mut stream = dial();
            match number % 4 {
                // Nothing; half a header; half a question; a question, and nobody to read the answer.
                0 => {}
                1 => stream.write_all(&[1, 0]).expect("room"),
                2 => stream.write_all(&[9, 0, 0, 0, 1]).expect("room"),
                _ => stream.write_all(&[1, 0, 0, 0, 1]).expect("room"),
            }
            waiting.push(stream);
            if number < 10 {
                client.live().expect("an answer");
            }
        }
        // Whoever has asked last is not the one that makes room, unless all others have asked since.
        let mut other = connect(std::process::id()).expect("there is room");
        other.inspect().expect("an answer");
        for nonsense in [
            &[0xff; 8][..],
            &[1, 0, 0, 0, 0x77],
            &[0, 0, 0, 0],
            &[64, 1, 0, 0],
        ] {
            let mut stream = dial();
            stream.write_all(nonsense).expect("room");
            let mut said = Vec::new();
            // The greeting, and then the end.
            let ended = stream.read_to_end(&mut said);
            assert!(
                ended.is_ok()
                    || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
            );
            assert!(said.len() <= 12, "{said:?}");
        }
        other.live().expect("an answer");
        // Two questions at once, in pieces.
        let mut stream = dial();
        let mut greeting = [0; 12];
        stream.read_exact(&mut greeting).expect("a greeting");
        for byte in [1, 0, 0, 0, 0, 1, 0, 0, 0, 0] {
            stream.write_all(&[byte]).expect("room");
        }
        for _ in 0..2 {
            let mut header = [0; 4];
            stream.read_exact(&mut header).expect("an answer");
            let mut answer = vec![0; u32::from_le_bytes(header) as usize];
            stream.read_exact(&mut answer).expect("all of it");
        }
    });
}

#[test]
fn others_sockets_and_other_versions_are_told_apart() {
    const TEST: &str = "others_sockets_and_other_versions_are_told_apart";
    if was_listening() {
        return;
    }
    inside(TEST, |folder| {
        drop(listen().expect("makes the folder"));
        let ours = socket(folder, std::process::id());
        let answer = |greeting: &'static [u8]| {
            let socket = UnixListener::bind(&ours).expect("a socket");
            let answers = std::thread::spawn(move || {
                let (mut stream, _) = socket.accept().expect("somebody");
                stream.write_all(greeting).expect("room");
            });
            let error = connect(std::process::id()).expect_err("no such thing");
            answers.join().expect("it has answered");
            fs::remove_file(&ours).expect("a socket");
            error
        };
        let error = answer(b"HTTP/1.1 400 Bad Request\r\n");
        assert!(matches!(error, Error::Foreign(_)), "{error}");
        let error = answer(b"cowspace\xff\0\0\0");
        assert!(
            matches!(error, Error::OtherVersion { theirs: 255, .. }),
            "{error}"
        );
        let error = answer(b"cows");
        assert!(!error.to_string().contains('\n'));

        // The socket of another process, under our number.
        let other = Listening::start(TEST, folder, "1");
        std::os::unix::fs::symlink(socket(folder, other.pid()), &ours).expect("a link");
        let error = connect(std::process::id()).expect_err("not ours");
        assert!(matches!(error, Error::Foreign(_)), "{error}");
        fs::remove_file(&ours).expect("a link");
        other.end();

        // A folder that others can write to is none of ours.
        let above = folder.join("cowspace");
        fs::set_permissions(&above, fs::Permissions::from_mode(0o770)).expect("it is ours");
        assert_eq!(
            listen().expect_err("refused").kind(),
            ErrorKind::PermissionDenied
        );
        fs::remove_dir(&above).expect("it is empty");
        std::os::unix::fs::symlink("/tmp", &above).expect("a link");
        assert_eq!(
            listen().expect_err("refused").kind(),
            ErrorKind::PermissionDenied
        );
        fs::remove_file(&above).expect("a link");
    });
}

#[test]
fn another_user_is_refused() {
    const TEST: &str = "another_user_is_refused";
    if role().as_deref() == Some("other user") {
        let pid = std::env::var("COWSPACE_TEST_PID").expect("a process");
        let error = connect(pid.parse().expect("a number")).expect_err("refused");
        assert!(matches!(error, Error::OtherUser { user: 0, .. }), "{error}");
        let path = std::env::var_os("COWSPACE_TEST_SOCKET").expect("a path");
        let error = UnixStream::connect(path).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        return;
    }
    inside(TEST, |folder| {
        if !nix::unistd::Uid::effective().is_root() {
            println!("SKIP {TEST}: not root");
            return;
        }
        // All but our own folder is open.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let _listener = listen().expect("a socket");
        let pid = std::process::id();
        let ended = again(TEST, "other user", folder)
            .env("COWSPACE_TEST_PID", pid.to_string())
            .env("COWSPACE_TEST_SOCKET", socket(folder, pid))
            .uid(NOBODY)
            .gid(NOBODY)
            .output();
        match ended {
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{errors}");
            }
            Err(error) => println!("SKIP {TEST}: {error}"),
        }
    });
}

/// As after su(1), which leaves the runtime folder of whoever called it in the environment.
#[test]
fn a_runtime_folder_of_another_user_is_passed_over() {
    const TEST: &str = "a_runtime_folder_of_another_user_is_passed_over";
    if role().as_deref() == Some("after su") {
        let error = connect(std::process::id()).expect_err("nobody listens");
        assert!(matches!(error, Error::NotListening(_)), "{error}");
        return;
    }
    inside(TEST, |folder| {
        if !nix::unistd::Uid::effective().is_root() {
            println!("SKIP {TEST}: not root");
            return;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("it is ours");
        let ended = again(TEST, "after su", folder)
            .uid(NOBODY)
            .gid(NOBODY)
            .output();
        match ended {
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{errors}");
            }
            Err(error) => println!("SKIP {TEST}: {error}"),
        }
    });
}
