//! One raw frame out of one interface (AF_PACKET): gratuitous ARP and unsolicited neighbour advertisements.

use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sendto, socket_with};

/// `struct sockaddr_ll`, with only the interface said.
#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: u16,
    interface: i32,
    hardware: u16,
    packet_type: u8,
    length: u8,
    address: [u8; 8],
}

// SAFETY: the pointer is to a live `repr(C)` value of exactly the layout and length of `struct sockaddr_ll`, and it is
// readable for that length while `f` runs.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let length = SocketAddrLen::try_from(size_of::<Self>()).unwrap_or(0);
        f(std::ptr::from_ref(self).cast(), length)
    }
}

pub(super) fn send(link: u32, frame: &[u8]) -> Result<(), Errno> {
    let family = AddressFamily::PACKET;
    // Protocol 0: the socket sends and never receives.
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let to = LinkAddress {
        family: family.as_raw(),
        protocol: 0,
        interface: link.cast_signed(),
        hardware: 0,
        packet_type: 0,
        length: 0,
        address: [0; 8],
    };
    let sent = sendto(&socket, frame, SendFlags::empty(), &to)?;
    if sent == frame.len() { Ok(()) } else { Err(Errno::IO) }
}
