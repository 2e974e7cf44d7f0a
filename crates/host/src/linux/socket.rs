//! One netlink socket and its conversation: a request, then replies until the verdict.

use super::Failure;
use super::files::errno;
use crate::netlink::message::replies;
use crate::netlink::{Body, Malformed, Request};
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// NETLINK_ROUTE and so on.
pub(super) const ROUTE: isize = 0;
pub(super) const UEVENT: isize = 15;
pub(super) const GENERIC: isize = 16;
pub(super) const RDMA: isize = 20;

/// Larger than any message: the kernel's dumps come in at most 32 KiB, one interface with 256 VFs in under 64.
const ROOM: usize = 128 * 1024;
/// The kernel answers before `send` returns; this is for a kernel that does not.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// A dump that the kernel could not keep consistent is asked for again this often.
const TRIES: u32 = 5;
/// MSG_TRUNC: tell the true length of a datagram that does not fit.
const TRUE_LENGTH: i32 = 0x20;

/// A message of the kernel: its type and its payload.
pub(super) type Data = (u16, Vec<u8>);

pub(super) struct Conversation {
    socket: Socket,
    sequence: u32,
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self { errno: Errno::BADMSG, note: malformed.to_string() }
    }
}

impl Conversation {
    /// A socket in the namespace of the calling thread.
    pub(super) fn open(protocol: isize) -> Result<Self, Failure> {
        let mut socket = Socket::new(protocol).map_err(errno)?;
        socket.bind_auto().map_err(errno)?;
        // Kernels before 4.12 have neither; the verdict stands without words.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks, and returns what the kernel sent before its verdict.
    pub(super) fn ask(&mut self, request: &Request) -> Result<Vec<Data>, Failure> {
        for _ in 0..TRIES {
            self.sequence += 1;
            self.send(request)?;
            if let Some(found) = self.collect()? {
                return Ok(found);
            }
        }
        Err(Errno::AGAIN.into())
    }

    fn send(&self, request: &Request) -> Result<(), Failure> {
        let bytes = request.bytes(self.sequence);
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.socket.send_to(&bytes, &kernel, 0).map_err(errno) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Everything up to the verdict; None where it has holes and must be asked for again.
    fn collect(&self) -> Result<Option<Vec<Data>>, Failure> {
        let mut found = Vec::new();
        let mut whole = true;
        let mut buffer = Vec::with_capacity(ROOM);
        loop {
            if !self.receive(&mut buffer)? {
                continue;
            }
            for reply in replies(&buffer)? {
                if reply.sequence != self.sequence {
                    continue;
                }
                whole &= !reply.interrupted;
                match reply.body {
                    Body::Data { kind, payload } => found.push((kind, payload)),
                    Body::Done => return Ok(whole.then_some(found)),
                    Body::Refused { errno, note } => return Err(Failure { errno, note }),
                    Body::Overrun => whole = false,
                }
            }
        }
    }

    /// One datagram; false where it came from somebody other than the kernel.
    fn receive(&self, buffer: &mut Vec<u8>) -> Result<bool, Failure> {
        let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut ready, Some(&PATIENCE)) {
            Err(Errno::INTR) => return Ok(false),
            Ok(0) => return Err(Errno::TIMEDOUT.into()),
            polled => polled?,
        };
        buffer.clear();
        let (length, sender) = match self.socket.recv_from(buffer, TRUE_LENGTH).map_err(errno) {
            Err(Errno::INTR) => return Ok(false),
            received => received?,
        };
        if length > buffer.len() {
            return Err(Errno::MSGSIZE.into());
        }
        Ok(sender.port_number() == 0)
    }
}
