//! One frame of a recording: a message, and what tells it from anything else.
//!
//! ```text
//!   bytes   0        8       12       16       20
//!           | MAGIC  |  pid  | length |  CRC   | the message: `length` bytes
//! ```
//!
//! Numbers are little-endian and 4 bytes long. `pid` is the process that wrote it. The CRC-32 (that of zlib) is of pid, length and message. The message is [postcard]'s form of a [`Message`],
//! and nothing behind it. A file is a sequence of frames, of all processes as they came, and nothing else: no header, no index, no end.
//!
//! The last byte of the magic counts versions of all this.

use crate::message::Message;

/// What a frame begins with. No text begins like this.
pub(crate) const MAGIC: [u8; 8] = *b"\x89cowrec1";
/// Bytes of the magic that every version has.
const FAMILY: usize = 7;
/// Bytes before the message.
pub(crate) const HEADER: usize = 20;
/// A message is never longer: whoever reads a length need not believe a larger one.
pub(crate) const LONGEST: usize = 16 << 20;

/// What bytes are.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A frame of `len` bytes.
    Frame {
        len: usize,
        pid: i32,
        message: Message,
    },
    /// A frame may be had, if there are so many bytes in all.
    Needs(usize),
    /// No frame.
    Foreign,
}

/// A message as a frame. `None`: it is too long for one.
pub(crate) fn frame(pid: i32, message: &Message) -> Option<Vec<u8>> {
    let bytes = postcard::to_extend(message, vec![0; HEADER]).ok()?;
    let len = bytes.len() - HEADER;
    if len > LONGEST {
        return None;
    }
    let mut frame = bytes;
    let (header, payload) = frame.split_at_mut(HEADER);
    let pid = pid.to_le_bytes();
    let length = u32::try_from(len).ok()?.to_le_bytes();
    let crc = checksum(pid, length, payload).to_le_bytes();
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&pid);
    header[12..16].copy_from_slice(&length);
    header[16..].copy_from_slice(&crc);
    Some(frame)
}

/// What `bytes` begin with.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Parsed::Foreign;
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Parsed::Needs(HEADER);
    };
    let field = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    let (pid, length, crc) = (field(8), field(12), field(16));
    let len = u32::from_le_bytes(length) as usize;
    if len > LONGEST {
        return Parsed::Foreign;
    }
    let Some(payload) = rest.get(..len) else {
        return Parsed::Needs(HEADER + len);
    };
    if checksum(pid, length, payload) != u32::from_le_bytes(crc) {
        return Parsed::Foreign;
    }
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Parsed::Frame {
            len: HEADER + len,
            pid: i32::from_le_bytes(pid),
            message,
        },
        _ => Parsed::Foreign,
    }
}

/// Whether this begins like a frame of another version.
pub(crate) fn is_other_version(bytes: &[u8]) -> bool {
    bytes.len() >= MAGIC.len()
        && bytes[..FAMILY] == MAGIC[..FAMILY]
        && bytes[FAMILY] != MAGIC[FAMILY]
}

fn checksum(pid: [u8; 4], length: [u8; 4], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&pid);
    crc.update(&length);
    crc.update(payload);
    crc.finalize()
}
