use std::{ffi::CStr, fmt, io};

/// The result of a call, as `zx_status_t`: 0 is success, every error is negative.
///
/// The numbers are those of Zircon's `errors.h`. A number without a name here is still a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(i32);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $raw:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Status = Status($raw);)*

            /// The name without its `ZX_ERR_` prefix, if the number has one here.
            fn name(self) -> Option<&'static str> {
                match self {
                    $(Status::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// The name as C programs write it: `ZX_OK`, `ZX_ERR_INTERNAL`, or `(UNKNOWN)` for a number without a name.
            /// `zx_status_get_string`.
            pub const fn c_name(self) -> &'static CStr {
                const fn name(text: &'static str) -> &'static CStr {
                    match CStr::from_bytes_with_nul(text.as_bytes()) {
                        Ok(name) => name,
                        Err(_) => panic!("each text below ends in its only zero"),
                    }
                }
                // The one name that has no ERR in it.
                if self.0 == Status::OK.0 {
                    return c"ZX_OK";
                }
                match self {
                    $(Status::$name => const { name(concat!("ZX_ERR_", stringify!($name), "\0")) },)*
                    _ => c"(UNKNOWN)",
                }
            }

            #[cfg(test)]
            const ALL: &[Status] = &[$(Status::$name),*];
        }
    };
}

statuses! {
    /// Success.
    OK = 0;
    /// The system met an error of its own.
    INTERNAL = -1;
    /// The operation is not supported, or not for this object.
    NOT_SUPPORTED = -2;
    /// A resource other than memory ran out: addresses, handles.
    NO_RESOURCES = -3;
    /// Memory ran out.
    NO_MEMORY = -4;
    /// An argument, or a combination of arguments, is invalid.
    INVALID_ARGS = -10;
    /// A handle value that is not a handle of this process.
    BAD_HANDLE = -11;
    /// A handle to an object of another type than the call works on.
    WRONG_TYPE = -12;
    /// The call does not exist.
    BAD_SYSCALL = -13;
    /// A range or number lies outside of what the object has.
    OUT_OF_RANGE = -14;
    /// The caller's buffer is too small for the result.
    BUFFER_TOO_SMALL = -15;
    /// The object is in a state in which the call does not work, for example destroyed.
    BAD_STATE = -20;
    /// The deadline passed first.
    TIMED_OUT = -21;
    /// The operation cannot be done now, but may be later.
    SHOULD_WAIT = -22;
    /// The operation was called off.
    CANCELED = -23;
    /// The other end is closed.
    PEER_CLOSED = -24;
    /// What was asked for does not exist.
    NOT_FOUND = -25;
    /// What was to be made exists already.
    ALREADY_EXISTS = -26;
    /// The object is bound already.
    ALREADY_BOUND = -27;
    /// The object cannot serve the call at present, or does not allow it.
    UNAVAILABLE = -28;
    /// The handle lacks a right, or a policy forbids the call.
    ACCESS_DENIED = -30;
    /// Input or output failed.
    IO = -40;
    /// The device refused the operation.
    IO_REFUSED = -41;
    /// Data does not match its checksum.
    IO_DATA_INTEGRITY = -42;
    /// Data is lost.
    IO_DATA_LOSS = -43;
    /// The device is not there.
    IO_NOT_PRESENT = -44;
    /// The device gave more than was asked for.
    IO_OVERRUN = -45;
    /// The device missed a deadline.
    IO_MISSED_DEADLINE = -46;
    /// The device does not know the operation, or its parameters are invalid.
    IO_INVALID = -47;
    /// A path is too long, or not well formed.
    BAD_PATH = -50;
    /// Not a directory.
    NOT_DIR = -51;
    /// Not a file.
    NOT_FILE = -52;
    /// The file would become too large.
    FILE_BIG = -53;
    /// The file system has no room.
    NO_SPACE = -54;
    /// The directory is not empty.
    NOT_EMPTY = -55;
    /// Not an error: a callback asks not to be called again.
    STOP = -60;
    /// Not an error: a callback asks for the next item.
    NEXT = -61;
    /// Not an error: the item is handed over to another worker.
    ASYNC = -62;
    /// The protocol is not supported.
    PROTOCOL_NOT_SUPPORTED = -70;
    /// The address cannot be reached.
    ADDRESS_UNREACHABLE = -71;
    /// The address is in use.
    ADDRESS_IN_USE = -72;
    /// The socket is not connected.
    NOT_CONNECTED = -73;
    /// The other end refused the connection.
    CONNECTION_REFUSED = -74;
    /// The connection was reset.
    CONNECTION_RESET = -75;
    /// The connection was aborted.
    CONNECTION_ABORTED = -76;
}

impl Status {
    /// `Ok` for 0, the error otherwise.
    pub const fn ok(raw: i32) -> Result<(), Status> {
        if raw == Status::OK.0 {
            Ok(())
        } else {
            Err(Status(raw))
        }
    }

    /// The status of a number; every number is one.
    pub const fn from_raw(raw: i32) -> Status {
        Status(raw)
    }

    /// The number, as C programs see it.
    pub const fn into_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Status({})", self.0),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Status {}

impl From<Status> for io::Error {
    /// An error of the nearest kind, with the status as its source of truth (`get_ref`).
    fn from(status: Status) -> io::Error {
        let kind = match status {
            Status::NOT_SUPPORTED | Status::BAD_SYSCALL => io::ErrorKind::Unsupported,
            Status::NO_MEMORY => io::ErrorKind::OutOfMemory,
            Status::INVALID_ARGS
            | Status::BAD_HANDLE
            | Status::WRONG_TYPE
            | Status::OUT_OF_RANGE
            | Status::BUFFER_TOO_SMALL => io::ErrorKind::InvalidInput,
            Status::TIMED_OUT => io::ErrorKind::TimedOut,
            Status::SHOULD_WAIT => io::ErrorKind::WouldBlock,
            Status::PEER_CLOSED => io::ErrorKind::BrokenPipe,
            Status::NOT_FOUND => io::ErrorKind::NotFound,
            Status::ALREADY_EXISTS => io::ErrorKind::AlreadyExists,
            Status::ACCESS_DENIED => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zircons_and_unique() {
        assert_eq!(Status::ACCESS_DENIED.into_raw(), -30);
        assert_eq!(Status::UNAVAILABLE.into_raw(), -28);
        assert_eq!(Status::BAD_STATE.into_raw(), -20);
        for (i, a) in Status::ALL.iter().enumerate() {
            assert!(!Status::ALL[..i].contains(a), "{a} twice");
        }
    }

    #[test]
    fn raw_round_trip_and_unknown_numbers() {
        assert_eq!(Status::ok(0), Ok(()));
        assert_eq!(Status::ok(-10), Err(Status::INVALID_ARGS));
        assert_eq!(Status::from_raw(-99).into_raw(), -99);
        assert_eq!(Status::from_raw(-99).to_string(), "Status(-99)");
        assert_eq!(format!("{:?} {}", Status::OK, Status::IO), "OK IO");
    }

    #[test]
    fn names_in_c() {
        assert_eq!(Status::OK.c_name(), c"ZX_OK");
        assert_eq!(Status::ACCESS_DENIED.c_name(), c"ZX_ERR_ACCESS_DENIED");
        assert_eq!(Status::from_raw(1).c_name(), c"(UNKNOWN)");
    }

    #[test]
    fn io_error_keeps_the_status() {
        let error = io::Error::from(Status::ACCESS_DENIED);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let status = error.get_ref().and_then(|e| e.downcast_ref::<Status>());
        assert_eq!(status, Some(&Status::ACCESS_DENIED));
    }
}
