//! Messages between the processes of a bench: a length of four bytes, then the value in postcard's format.

use std::io::{self, Read, Write};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// No message is longer.
const LONGEST: usize = 1 << 20;

/// Sends one value.
pub(crate) fn send(to: &mut impl Write, value: &impl Serialize) -> Result<()> {
    let mut frame = postcard::to_extend(value, vec![0; 4])?;
    let length = u32::try_from(frame.len() - 4).context("a message too long to send")?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame)?;
    to.flush()?;
    Ok(())
}

/// Receives one value; `None` where the stream ends before it.
pub(crate) fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        bail!("a message of {length} bytes, which is not one of ours");
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(Some(postcard::from_bytes(&frame)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_until_the_end() {
        let mut stream = Vec::new();
        send(&mut stream, &vec![1.5, 2.0]).unwrap();
        send(&mut stream, &Some("a".to_owned())).unwrap();
        let mut from = &stream[..];
        assert_eq!(
            receive::<Vec<f64>>(&mut from).unwrap(),
            Some(vec![1.5, 2.0])
        );
        assert_eq!(
            receive::<Option<String>>(&mut from).unwrap(),
            Some(Some("a".to_owned()))
        );
        assert_eq!(receive::<u8>(&mut from).unwrap(), None);
        let endless = [0xff; 8];
        assert!(receive::<u8>(&mut &endless[..]).is_err());
    }
}
