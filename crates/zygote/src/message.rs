//! Messages with descriptors over a Unix socket.
//!
//! A message is some bytes and some descriptors, both as many as one likes. The kernel takes at most 253 descriptors at a time (`SCM_MAX_FD`), and no more
//! bytes than the socket's buffer holds, so a message travels in one or several packets (`SOCK_SEQPACKET`). Each packet says how much of the message
//! is left, itself included:
//!
//! ```text
//!     [ bytes left: u32 | descriptors left: u32 | some of the bytes ]   + some of the descriptors (SCM_RIGHTS)
//! ```
//!
//! so a receiver notices at once when a packet is missing, is from another message, or has lost descriptors. What is said there is a peer's allegation: nothing is
//! allocated for it before it has arrived.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg,
    sendmsg, socketpair,
};

/// Descriptors in one packet, the kernel's `SCM_MAX_FD`.
const DESCRIPTORS_PER_PACKET: usize = 253;
/// Bytes of a message in one packet: well below the smallest usual socket buffer.
const BYTES_PER_PACKET: usize = 32 * 1024;
const HEADER: usize = 8;
/// How often a sender waits a millisecond because the user has too many descriptors under way.
const MOST_WAITS: u32 = 10_000;

/// A message as it was received.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// The most that a receiver is willing to take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) descriptors: usize,
}

/// Two connected sockets for messages, closed on exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message; waits while the socket's buffer is full.
///
/// A message of one packet (32 KiB, 253 descriptors) is sent in one piece even if other threads send on the same socket; a longer one needs the socket for itself.
///
/// # Errors
///
/// `BrokenPipe` if the peer is gone; `InvalidInput` for what a header cannot express; else what sendmsg(2) says.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let (mut bytes, mut descriptors) = (bytes, descriptors);
    let mut waited = 0;
    loop {
        let mut header = [0; HEADER];
        let (bytes_left, descriptors_left) = header.split_at_mut(4);
        bytes_left.copy_from_slice(&length(bytes.len())?);
        descriptors_left.copy_from_slice(&length(descriptors.len())?);
        let (now, later) = bytes.split_at(bytes.len().min(BYTES_PER_PACKET));
        let (give, keep) = descriptors.split_at(descriptors.len().min(DESCRIPTORS_PER_PACKET));
        let packet = [IoSlice::new(&header), IoSlice::new(now)];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PACKET))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !give.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(give));
        }
        match retry_on_intr(|| sendmsg(socket, &packet, &mut control, SendFlags::NOSIGNAL)) {
            // An ordinary user may have only so many descriptors under way (unix(7)): once some have arrived, these may go.
            Err(Errno::TOOMANYREFS) if waited < MOST_WAITS => {
                waited += 1;
                wait_unless_closed(socket)?;
                continue;
            }
            // Gone without having read what was sent before (unix(7)); gone all the same.
            Err(Errno::CONNRESET) => return Err(io::ErrorKind::BrokenPipe.into()),
            other => other?,
        };
        (bytes, descriptors) = (later, keep);
        if bytes.is_empty() && descriptors.is_empty() {
            return Ok(());
        }
    }
}

/// Waits a millisecond, or less if the peer closes its end.
fn wait_unless_closed(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut closed = [PollFd::new(&socket, PollFlags::empty())];
    let a_moment = Timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    match retry_on_intr(|| poll(&mut closed, Some(&a_moment)))? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

fn length(of: usize) -> io::Result<[u8; 4]> {
    u32::try_from(of).map(u32::to_le_bytes).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "a message is longer than 4 GiB",
        )
    })
}

/// Receives one message, or `None` if the peer has closed its end (or died).
///
/// # Errors
///
/// `UnexpectedEof` if the peer went away in the middle of a message; `InvalidData` if it exceeds the limits or is not put together as this module does; `Other` if
/// descriptors were lost because this process may not have more; else what recvmsg(2) says.
pub(crate) fn receive(socket: BorrowedFd<'_>, limits: Limits) -> io::Result<Option<Message>> {
    let mut message = Message {
        bytes: Vec::new(),
        descriptors: Vec::new(),
    };
    let mut packet = Vec::new();
    let mut expected = None;
    loop {
        let before = message.descriptors.len();
        let Some(body) = receive_packet(socket, &mut packet, &mut message.descriptors)? else {
            return match expected {
                None => Ok(None),
                Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        };
        let left = (body.bytes_left, body.descriptors_left);
        if *expected.get_or_insert(left) != left {
            return Err(malformed(
                "a packet does not continue the message before it",
            ));
        }
        if left.0 > limits.bytes - message.bytes.len() {
            return Err(malformed("a message is longer than it may be"));
        }
        if left.1 > limits.descriptors - before {
            return Err(malformed(
                "a message has more descriptors than this process may take (see `ulimit -n`)",
            ));
        }
        let descriptors = message.descriptors.len() - before;
        let (Some(bytes_left), Some(descriptors_left)) = (
            left.0.checked_sub(body.bytes.len()),
            left.1.checked_sub(descriptors),
        ) else {
            return Err(malformed("a packet holds more than it says"));
        };
        if body.bytes.is_empty() && descriptors == 0 && left != (0, 0) {
            return Err(malformed("a packet holds nothing"));
        }
        message.bytes.extend_from_slice(body.bytes);
        if (bytes_left, descriptors_left) == (0, 0) {
            return Ok(Some(message));
        }
        expected = Some((bytes_left, descriptors_left));
    }
}

struct Packet<'a> {
    bytes_left: usize,
    descriptors_left: usize,
    bytes: &'a [u8],
}

/// Receives one packet, its descriptors into `descriptors`; `None` if the peer has closed its end.
fn receive_packet<'a>(
    socket: BorrowedFd<'_>,
    buffer: &'a mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<Option<Packet<'a>>> {
    // The room that it takes and no more: a buffer for the longest would be most of what a fresh child touches.
    buffer.resize(packet_length(socket)?.min(HEADER + BYTES_PER_PACKET), 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PACKET))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = past_reset(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = part {
            descriptors.extend(more);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(
            "descriptors were lost: this process may not have so many (raise `ulimit -n`)",
        ));
    }
    let packet = &buffer[..received.bytes];
    let (Some((bytes_left, rest)), false) = (
        packet.split_first_chunk::<4>(),
        received.flags.contains(ReturnFlags::TRUNC),
    ) else {
        return Err(malformed("a packet is too short or too long"));
    };
    let Some((descriptors_left, bytes)) = rest.split_first_chunk::<4>() else {
        return Err(malformed("a packet is too short or too long"));
    };
    Ok(Some(Packet {
        bytes_left: u32::from_le_bytes(*bytes_left) as usize,
        descriptors_left: u32::from_le_bytes(*descriptors_left) as usize,
        bytes,
    }))
}

/// Waits for a packet and says how long it is; 0 if there will be none.
fn packet_length(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
    Ok(past_reset(|| {
        recv(socket, &mut [0_u8; 0], flags).map(|(_, len)| len)
    })?)
}

/// Receives, in spite of a peer that is gone and has not read all that was sent to it (unix(7)). This is told once, by whichever call comes first after it, ahead of what the peer has sent itself.
fn past_reset<T>(mut receive: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    match retry_on_intr(&mut receive) {
        Err(Errno::CONNRESET) => retry_on_intr(receive),
        other => other,
    }
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Sends `value` in postcard's format as the bytes of a message.
pub(crate) fn send_value(
    socket: BorrowedFd<'_>,
    value: &impl serde::Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
    send(socket, &bytes, descriptors)
}

/// Receives what [`send_value`] has sent; bytes that are not such a value are `InvalidData`.
pub(crate) fn receive_value<T: serde::de::DeserializeOwned>(
    socket: impl AsFd,
    limits: Limits,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some(message) = receive(socket.as_fd(), limits)? else {
        return Ok(None);
    };
    match postcard::take_from_bytes(&message.bytes) {
        Ok((value, [])) => Ok(Some((value, message.descriptors))),
        _ => Err(malformed("a message does not hold what it should")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;
    use rustix::fs::fstat;

    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 1 << 20,
        descriptors: 600,
    };

    /// Receives what `peer` sends as raw packets before it closes its end.
    fn from_peer(packets: &[&[u8]]) -> io::Result<Option<Message>> {
        let (peer, ours) = pair()?;
        for packet in packets {
            rustix::net::send(&peer, packet, SendFlags::NOSIGNAL)?;
        }
        drop(peer);
        receive(ours.as_fd(), LIMITS)
    }

    fn packet(bytes_left: u32, descriptors_left: u32, bytes: &[u8]) -> Vec<u8> {
        [
            &bytes_left.to_le_bytes(),
            &descriptors_left.to_le_bytes(),
            bytes,
        ]
        .concat()
    }

    #[test]
    fn messages_of_any_length_arrive() {
        let (ours, theirs) = pair().unwrap();
        for len in [0, 1, BYTES_PER_PACKET, BYTES_PER_PACKET + 1, 1 << 20] {
            let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
            std::thread::scope(|scope| {
                scope.spawn(|| send(ours.as_fd(), &bytes, &[]).unwrap());
                let message = receive(theirs.as_fd(), LIMITS).unwrap().unwrap();
                assert!(message.bytes == bytes, "{len}");
            });
        }
    }

    /// More descriptors than the kernel takes at once, in order.
    #[test]
    fn descriptors_of_any_number_arrive() {
        let (ours, theirs) = pair().unwrap();
        let files = [
            File::open("/dev/null").unwrap(),
            File::open("/dev/zero").unwrap(),
        ];
        for count in [0, 1, 253, 254, 600] {
            let given: Vec<BorrowedFd<'_>> = (0..count).map(|n| files[n % 2].as_fd()).collect();
            send(ours.as_fd(), b"with these", &given).unwrap();
            let message = receive(theirs.as_fd(), LIMITS).unwrap().unwrap();
            assert_eq!(message.bytes, b"with these");
            assert_eq!(message.descriptors.len(), count);
            for (n, got) in message.descriptors.iter().enumerate() {
                assert_eq!(
                    fstat(got).unwrap().st_rdev,
                    fstat(&files[n % 2]).unwrap().st_rdev
                );
                let flags = rustix::io::fcntl_getfd(got).unwrap();
                assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            }
        }
    }

    #[test]
    fn a_peer_that_closes_is_the_end() {
        assert!(from_peer(&[]).unwrap().is_none());
        let (peer, ours) = pair().unwrap();
        send(ours.as_fd(), b"unread", &[]).unwrap();
        drop(peer);
        assert!(
            receive(ours.as_fd(), LIMITS).unwrap().is_none(),
            "with something unread, too"
        );
        assert_eq!(
            send(ours.as_fd(), b"", &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        let (peer, ours) = pair().unwrap();
        send(ours.as_fd(), b"unread", &[]).unwrap();
        drop(peer);
        assert_eq!(
            send(ours.as_fd(), b"", &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn last_words_are_heard() {
        let (peer, ours) = pair().unwrap();
        send(ours.as_fd(), b"unread", &[]).unwrap();
        send(peer.as_fd(), b"last words", &[]).unwrap();
        drop(peer);
        assert_eq!(
            receive(ours.as_fd(), LIMITS).unwrap().unwrap().bytes,
            b"last words"
        );
        assert!(receive(ours.as_fd(), LIMITS).unwrap().is_none());
    }

    /// The peer may close its end at any moment of this side's receiving.
    #[test]
    fn last_words_are_heard_whenever_the_peer_goes() {
        for _ in 0..2000 {
            let (peer, ours) = pair().unwrap();
            send(ours.as_fd(), b"unread", &[]).unwrap();
            let goes = std::thread::spawn(move || {
                send(peer.as_fd(), b"last words", &[]).unwrap();
                drop(peer);
            });
            let heard = receive(ours.as_fd(), LIMITS).unwrap().unwrap();
            assert_eq!(heard.bytes, b"last words");
            assert!(receive(ours.as_fd(), LIMITS).unwrap().is_none());
            goes.join().unwrap();
        }
    }

    #[test]
    fn a_message_cut_short_is_noticed() {
        let cut = from_peer(&[&packet(10, 0, b"12345")]).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn packets_that_do_not_fit_are_refused() {
        let long = vec![0; HEADER + BYTES_PER_PACKET + 1];
        for wrong in [
            &[&b"short"[..]][..],
            &[&long],
            &[&packet(2, 0, b"123")],
            &[&packet(5, 0, b"")],
            &[&packet(LIMITS.bytes as u32 + 1, 0, b"1")],
            &[&packet(u32::MAX, u32::MAX, b"1")],
            &[&packet(1, LIMITS.descriptors as u32 + 1, b"1")],
            &[&packet(5, 0, b"123"), &packet(3, 0, b"456")],
            &[&packet(5, 0, b"123"), &packet(2, 1, b"45")],
        ] {
            assert_eq!(
                from_peer(wrong).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{wrong:?}"
            );
        }
    }

    /// Descriptors that were not announced are refused, and closed: there is no other end any more.
    #[test]
    fn foreign_descriptors_are_closed() {
        let (peer, ours) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let give = [write.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&give)));
        let packet = packet(1, 0, b"1");
        sendmsg(
            &peer,
            &[IoSlice::new(&packet)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .unwrap();
        drop(write);
        assert_eq!(
            receive(ours.as_fd(), LIMITS).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(rustix::io::read(&read, &mut [0; 1]).unwrap(), 0);
    }

    proptest! {
        /// Packets with headers that are often nearly right.
        #[test]
        fn any_packets_are_refused_or_one_message(
            packets in proptest::collection::vec((0_u32..6, 0_u32..2, 0_usize..6), 0..4),
        ) {
            let raw: Vec<Vec<u8>> = packets.iter().map(|(left, descriptors, len)| packet(*left, *descriptors, &vec![7; *len])).collect();
            let raw: Vec<&[u8]> = raw.iter().map(Vec::as_slice).collect();
            if let Ok(Some(message)) = from_peer(&raw) {
                prop_assert_eq!(message.bytes.len(), packets[0].0 as usize);
                prop_assert!(message.descriptors.is_empty() && packets[0].1 == 0);
            }
        }
    }
}
