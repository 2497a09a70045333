//! Where to listen: a socket in the file system, or a port of this machine alone. Nobody is asked who he is, so it is for whoever gets there.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Listen {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("unix: needs a path behind it".to_owned());
            }
            return Ok(Listen::Unix(path.into()));
        }
        let address: SocketAddr = text
            .parse()
            .map_err(|_| "give unix:PATH, or 127.0.0.1:PORT".to_owned())?;
        if !address.ip().is_loopback() {
            return Err("scripts are run for whoever asks: only addresses of this machine alone (127.0.0.1) can be listened on".to_owned());
        }
        Ok(Listen::Tcp(address))
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixListener, SocketFile),
    Tcp(std::net::TcpListener),
}

/// Removes the socket's file when it is dropped, if it is still that one.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    file: Identity,
}

/// Device, inode and time of the last change: the number of an inode may be another file's soon.
type Identity = (u64, u64, i64, i64);

impl Listen {
    pub(super) fn bind(&self) -> Result<Socket> {
        match self {
            Listen::Unix(path) => {
                remove_stale(path)?;
                let failed = || format!("cannot listen on unix:{}", path.display());
                let socket = UnixListener::bind(path).with_context(failed)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))
                    .with_context(failed)?;
                let file = SocketFile {
                    path: path.clone(),
                    file: identity(path).with_context(failed)?,
                };
                socket.set_nonblocking(true)?;
                Ok(Socket::Unix(socket, file))
            }
            Listen::Tcp(address) => {
                let socket = std::net::TcpListener::bind(address)
                    .with_context(|| format!("cannot listen on {address}"))?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Tcp(socket))
            }
        }
    }
}

impl Socket {
    /// The address as whoever connects needs it.
    pub(super) fn address(&self) -> io::Result<String> {
        Ok(match self {
            Socket::Unix(_, file) => format!("unix:{}", file.path.display()),
            Socket::Tcp(socket) => format!("http://{}", socket.local_addr()?),
        })
    }
}

/// Removes a socket that a server which was killed has left.
fn remove_stale(path: &Path) -> Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => bail!(
            "cannot listen on unix:{}: somebody else does",
            path.display()
        ),
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_this_machine_alone() {
        assert_eq!("unix:a/b".parse(), Ok(Listen::Unix("a/b".into())));
        for text in ["127.0.0.1:0", "[::1]:80"] {
            assert!(matches!(text.parse(), Ok(Listen::Tcp(_))), "{text}");
        }
        for text in ["unix:", "0.0.0.0:80", "10.0.0.1:80", "localhost", "80", ""] {
            assert!(text.parse::<Listen>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_socket_is_taken_over_from_the_dead_alone() {
        let folder = tempfile::tempdir().unwrap();
        let listen = Listen::Unix(folder.path().join("socket"));
        let first = listen.bind().unwrap();
        assert!(
            listen
                .bind()
                .unwrap_err()
                .to_string()
                .contains("somebody else")
        );
        // As if it had been killed: nobody listens, but the file is there.
        let Socket::Unix(socket, file) = first else {
            panic!("not a Unix socket");
        };
        drop(socket);
        let second = listen.bind().unwrap();
        // It is another file now.
        drop(file);
        assert!(folder.path().join("socket").exists());
        drop(second);
        assert!(!folder.path().join("socket").exists());
        let path = folder.path().join("notes");
        fs::write(&path, "mine").unwrap();
        assert!(Listen::Unix(path.clone()).bind().is_err());
        assert_eq!(fs::read_to_string(path).unwrap(), "mine");
    }
}
