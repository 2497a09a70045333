//! Where a process's socket lies: `$XDG_RUNTIME_DIR/cowspace/PID` if the user has a runtime folder, else `/tmp/cowspace-UID/PID`.
//!
//! Nobody but the user may get at the folder: else somebody could answer in a process's place, or ask. So it is looked at each time, by both sides.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;
use nix::unistd::{Pid, Uid};

/// A process waits no longer for room among those who wait for it.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

/// The folder for sockets of this user's processes, made if it is not there.
///
/// # Errors
///
/// It cannot be made, or others may write to it, or read it.
pub(super) fn make_folder() -> io::Result<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| is_our_folder(path.as_ref()));
    let folder = folder(runtime, Uid::effective());
    match DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if is_only_for(&folder, Uid::effective())? {
        Ok(folder)
    } else {
        let text = format!(
            "{} is not a folder of this user's alone",
            folder.to_string_lossy()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }
}

/// Where the socket of a user's process can be, by what is known of its environment and of ours.
pub(super) fn candidates(pid: u32, user: Uid) -> Vec<PathBuf> {
    let ours = std::env::var_os("XDG_RUNTIME_DIR");
    let runtime = [runtime_of(pid), ours].into_iter().flatten();
    let mut folders: Vec<PathBuf> = runtime.map(|path| folder(Some(path), user)).collect();
    folders.push(folder(None, user));
    folders.dedup();
    folders
        .into_iter()
        .map(|folder| folder.join(pid.to_string()))
        .collect()
}

fn folder(runtime: Option<OsString>, user: Uid) -> PathBuf {
    match runtime {
        Some(path) => Path::new(&path).join("cowspace"),
        None => format!("/tmp/cowspace-{user}").into(),
    }
}

/// `XDG_RUNTIME_DIR` as a process was started with it.
fn runtime_of(pid: u32) -> Option<OsString> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"XDG_RUNTIME_DIR="))?;
    Some(OsString::from_vec(value.to_vec()))
}

/// Whether a path can be a runtime folder: an absolute one, and a folder of this user's. (After `su` it is another user's.)
fn is_our_folder(path: &Path) -> bool {
    let ours = |meta: fs::Metadata| meta.is_dir() && meta.uid() == Uid::effective().as_raw();
    path.is_absolute() && fs::metadata(path).is_ok_and(ours)
}

/// Whether a path is a folder (and no link to one) that `user` owns and nobody else can do anything with.
pub(super) fn is_only_for(folder: &Path, user: Uid) -> io::Result<bool> {
    let meta = fs::symlink_metadata(folder)?;
    Ok(meta.is_dir() && meta.uid() == user.as_raw() && meta.mode() & 0o077 == 0)
}

/// Connects to the socket at a path. Waits for nobody for long.
///
/// # Errors
///
/// `ECONNREFUSED`: there is a socket, and nobody listens at it any more.
pub(super) fn dial(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    setsockopt(&socket, SendTimeout, &PATIENCE)?;
    connect(
        std::os::fd::AsRawFd::as_raw_fd(&socket),
        &UnixAddr::new(path)?,
    )?;
    Ok(socket.into())
}

/// Removes the sockets of processes that are gone and have not done it themselves: they were killed.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.trim_start_matches('.').parse().ok());
        if pid.is_some_and(|pid| !exists(pid)) {
            remove_stale(&entry.path());
        }
    }
}

/// Removes a socket that nobody listens at any more, and nothing else. (That the process is not there is not enough: it may be one of a container that shares the folder.)
pub(super) fn remove_stale(path: &Path) {
    let is_socket = |meta: fs::Metadata| meta.file_type().is_socket();
    if fs::symlink_metadata(path).is_ok_and(is_socket) && is_stale(&dial(path)) {
        // Whoever else swept may have been faster.
        let _ = fs::remove_file(path);
    }
}

pub(super) fn is_stale(dialed: &io::Result<UnixStream>) -> bool {
    matches!(dialed, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether there is such a process.
pub(super) fn exists(pid: u32) -> bool {
    // 0 and negative numbers are groups of processes.
    i32::try_from(pid)
        .is_ok_and(|pid| pid > 0 && !matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH)))
}
