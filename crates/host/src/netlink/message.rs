//! Netlink messages: the header that every family shares, requests, and the replies that a socket returns.
//!
//! One datagram carries several messages; a reply is data, the end of a dump, or a verdict with the kernel's errno and,
//! where it has something to say, its words (extended acknowledgement). No family is known here.

use super::Malformed;
use super::attribute::{self, padded};
use rustix::io::Errno;

pub const REQUEST: u16 = 0x001;
pub const ACK: u16 = 0x004;
/// NLM_F_ROOT | NLM_F_MATCH.
pub const DUMP: u16 = 0x300;
pub const CREATE: u16 = 0x400;
pub const EXCLUSIVE: u16 = 0x200;

/// NLM_F_DUMP_INTR: the kernel's lists changed while it walked them, so the dump may have holes.
const INTERRUPTED: u16 = 0x010;
/// NLM_F_CAPPED: the verdict does not repeat the request.
const CAPPED: u16 = 0x100;
/// NLM_F_ACK_TLVS: attributes follow the verdict.
const HAS_ATTRIBUTES: u16 = 0x200;

const VERDICT: u16 = 2;
const DONE: u16 = 3;
const OVERRUN: u16 = 4;
const NOOP: u16 = 1;

/// NLMSGERR_ATTR_MSG.
const WORDS: u16 = 1;

const HEADER: usize = 16;

/// What we ask of the kernel: one message without its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kind: u16,
    pub flags: u16,
    pub payload: Vec<u8>,
}

impl Request {
    /// A question about one object.
    pub fn get(kind: u16, payload: Vec<u8>) -> Self {
        Self { kind, flags: REQUEST | ACK, payload }
    }

    /// A question about all objects.
    pub fn dump(kind: u16, payload: Vec<u8>) -> Self {
        Self { kind, flags: REQUEST | DUMP, payload }
    }

    /// A change, with the verdict asked for.
    pub fn change(kind: u16, payload: Vec<u8>) -> Self {
        Self { kind, flags: REQUEST | ACK, payload }
    }

    pub fn is_dump(&self) -> bool {
        self.flags & DUMP == DUMP
    }

    /// The bytes for the socket.
    pub fn bytes(&self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        // The port is ours to leave empty: the kernel knows the socket.
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// One message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub sequence: u32,
    /// The dump that this belongs to may have holes.
    pub interrupted: bool,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Data {
        kind: u16,
        payload: Vec<u8>,
    },
    /// Everything asked for was said or done.
    Done,
    Refused {
        errno: Errno,
        note: String,
    },
    /// Our buffer was too small and messages are lost.
    Overrun,
}

/// The messages of one datagram.
pub fn replies(datagram: &[u8]) -> Result<Vec<Reply>, Malformed> {
    let mut rest = datagram;
    let mut found = Vec::new();
    while rest.len() >= HEADER {
        let length = word(rest, 0)? as usize;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER);
        let message = message.ok_or_else(|| {
            Malformed(format!("a message says {length} bytes, {} are left", rest.len()))
        })?;
        let kind = half(message, 4)?;
        let flags = half(message, 6)?;
        let sequence = word(message, 8)?;
        let payload = &message[HEADER..];
        let body = match kind {
            NOOP => None,
            VERDICT => Some(verdict(payload, flags)?),
            DONE => Some(end_of_dump(payload, flags)),
            OVERRUN => Some(Body::Overrun),
            kind => Some(Body::Data { kind, payload: payload.to_vec() }),
        };
        let interrupted = flags & INTERRUPTED != 0;
        found.extend(body.map(|body| Reply { sequence, interrupted, body }));
        rest = rest.get(padded(length)..).unwrap_or_default();
    }
    if !rest.is_empty() && found.is_empty() {
        return Err(Malformed(format!("{} bytes are no message", rest.len())));
    }
    Ok(found)
}

/// NLMSG_ERROR: a negative errno or 0, the request's header (with its payload unless capped), attributes.
fn verdict(payload: &[u8], flags: u16) -> Result<Body, Malformed> {
    let Some(errno) = refusal(word(payload, 0)?) else {
        return Ok(Body::Done);
    };
    let repeated = match flags & CAPPED {
        0 => word(payload, 4)? as usize,
        _ => HEADER,
    };
    let attributes = payload.get(padded(repeated).saturating_add(4)..);
    Ok(Body::Refused { errno, note: words(attributes.filter(|_| flags & HAS_ATTRIBUTES != 0)) })
}

/// NLMSG_DONE: a negative errno or 0, attributes. Old kernels send no payload at all.
fn end_of_dump(payload: &[u8], flags: u16) -> Body {
    match word(payload, 0).ok().and_then(refusal) {
        None => Body::Done,
        Some(errno) => {
            let attributes = payload.get(4..).filter(|_| flags & HAS_ATTRIBUTES != 0);
            Body::Refused { errno, note: words(attributes) }
        }
    }
}

fn refusal(code: u32) -> Option<Errno> {
    let errno = code.cast_signed().checked_neg().unwrap_or(i32::MAX);
    // An errno is 1 to 4095; anything else cannot come from a kernel, and must not become a success either.
    match errno {
        0 => None,
        1..=4095 => Some(Errno::from_raw_os_error(errno)),
        _ => Some(Errno::BADMSG),
    }
}

/// The kernel's sentence. A verdict stands without it, so attributes that cannot be read are only a lost sentence.
fn words(attributes: Option<&[u8]>) -> String {
    let found = attributes.map(attribute::read).and_then(Result::ok).unwrap_or_default();
    found.iter().find(|a| a.kind == WORDS).map(attribute::Attribute::text).unwrap_or_default()
}

fn word(bytes: &[u8], offset: usize) -> Result<u32, Malformed> {
    match bytes.get(offset..).and_then(<[u8]>::first_chunk::<4>) {
        Some(found) => Ok(u32::from_ne_bytes(*found)),
        None => {
            Err(Malformed(format!("a message of {} bytes ends before byte {offset}", bytes.len())))
        }
    }
}

fn half(bytes: &[u8], offset: usize) -> Result<u16, Malformed> {
    match bytes.get(offset..).and_then(<[u8]>::first_chunk::<2>) {
        Some(found) => Ok(u16::from_ne_bytes(*found)),
        None => {
            Err(Malformed(format!("a message of {} bytes ends before byte {offset}", bytes.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        Request { kind, flags, payload: payload.to_vec() }.bytes(7)
    }

    #[test]
    fn a_refusal_carries_errno_and_the_kernels_words() {
        // The shape that the kernel gives to sockets with NETLINK_EXT_ACK and NETLINK_CAP_ACK.
        let mut payload = (-22i32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; HEADER]);
        payload.extend(attribute::Writer::new().text(WORDS, "Unknown device type").done());
        let found = replies(&message(VERDICT, CAPPED | HAS_ATTRIBUTES, &payload)).unwrap();
        let body = Body::Refused { errno: Errno::INVAL, note: "Unknown device type".to_owned() };
        assert_eq!(found, [Reply { sequence: 7, interrupted: false, body }]);
    }

    #[test]
    fn words_are_found_behind_a_request_that_is_repeated_whole() {
        let request = message(19, REQUEST | ACK, &[1, 2, 3, 4, 5, 6]);
        let mut payload = (-16i32).to_ne_bytes().to_vec();
        payload.extend_from_slice(&request);
        payload.resize(padded(payload.len()), 0);
        payload.extend(attribute::Writer::new().text(WORDS, "busy").done());
        let found = replies(&message(VERDICT, HAS_ATTRIBUTES, &payload)).unwrap();
        let body = Body::Refused { errno: Errno::BUSY, note: "busy".to_owned() };
        assert_eq!(found[0].body, body);
    }

    #[test]
    fn a_dump_that_fails_half_way_is_a_refusal() {
        let found = replies(&message(DONE, 0, &(-11i32).to_ne_bytes())).unwrap();
        assert_eq!(found[0].body, Body::Refused { errno: Errno::AGAIN, note: String::new() });
    }

    #[test]
    fn an_errno_that_no_kernel_sends_is_not_taken_for_success() {
        for code in [i32::MIN, 1, -4096] {
            let mut payload = code.to_ne_bytes().to_vec();
            payload.extend_from_slice(&[0; HEADER]);
            let found = replies(&message(VERDICT, 0, &payload)).unwrap();
            assert_eq!(found[0].body, Body::Refused { errno: Errno::BADMSG, note: String::new() });
        }
    }

    #[test]
    fn a_datagram_that_ends_in_the_middle_is_refused() {
        let mut bytes = message(16, 0, &[0; 20]);
        bytes.truncate(30);
        let error = replies(&bytes).unwrap_err();
        assert_eq!(error.to_string(), "a message says 36 bytes, 30 are left");
    }

    proptest! {
        #[test]
        fn any_bytes_give_replies_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = replies(&bytes);
        }

        #[test]
        fn any_payload_of_a_verdict_gives_a_verdict_or_an_error(
            kind in 1u16..5, flags in any::<u16>(), payload in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = replies(&message(kind, flags, &payload));
        }

        #[test]
        fn data_arrives_as_it_was_sent(kind in 16u16.., flags in any::<u16>(), payload in proptest::collection::vec(any::<u8>(), 0..80)) {
            let found = replies(&message(kind, flags, &payload)).unwrap();
            prop_assert_eq!(&found[0].body, &Body::Data { kind, payload });
        }
    }
}
