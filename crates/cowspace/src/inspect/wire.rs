//! What goes over the socket.
//!
//! The process speaks first: a greeting of 12 bytes, the same for all time, with the version of all that follows. Then the client asks, and gets an answer for each question. Both are
//! a length (four bytes, little-endian) and so many bytes of postcard.

use serde::{Deserialize, Serialize};

use super::records::{Inspection, Live};

/// To be raised with each change of a message.
pub(super) const VERSION: u32 = 1;

/// `cowspace`, and the version, little-endian.
pub(super) const GREETING_LEN: usize = MAGIC.len() + size_of::<u32>();
const MAGIC: [u8; 8] = *b"cowspace";

/// Bytes of the length before a message.
pub(super) const HEADER_LEN: usize = size_of::<u32>();
/// No question is longer.
pub(super) const LONGEST_QUESTION: usize = 64;
/// No answer is longer: it holds some 500,000 mappings.
pub(super) const LONGEST_ANSWER: usize = 64 << 20;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Question {
    Live,
    Inspect,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Live(Box<Live>),
    Inspect(Box<Inspection>),
    /// Why there is none, in one line.
    Failed(String),
}

pub(super) fn greeting() -> [u8; GREETING_LEN] {
    let mut greeting = [0; GREETING_LEN];
    greeting[..MAGIC.len()].copy_from_slice(&MAGIC);
    greeting[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    greeting
}

/// The version that a greeting tells; `None` if it is none.
pub(super) fn version(greeting: &[u8; GREETING_LEN]) -> Option<u32> {
    let version = greeting.strip_prefix(&MAGIC)?;
    Some(u32::from_le_bytes(version.try_into().ok()?))
}

/// A message with its length. `None` if it is too long.
pub(super) fn frame(message: &impl Serialize, longest: usize) -> Option<Vec<u8>> {
    let framed = postcard::to_extend(message, vec![0; HEADER_LEN]);
    let mut framed = framed.ok()?;
    let len = framed.len() - HEADER_LEN;
    if len > longest {
        return None;
    }
    framed[..HEADER_LEN].copy_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
    Some(framed)
}

/// The length of the message behind a header.
pub(super) fn len(header: [u8; HEADER_LEN]) -> usize {
    u32::from_le_bytes(header) as usize
}
