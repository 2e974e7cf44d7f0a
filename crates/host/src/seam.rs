//! The seam: the few primitives through which everything of ours touches a computer.
//!
//! `linux` is the kernel, `sim` a machine of plain data, `crashing` counts primitives and dies at the k-th.
//! Every call is synchronous and fails with the kernel's errno. The network namespace is in every call, never ambient.

use crate::unfinished::Unfinished;
use api::{EswitchMode, PciAddress, RdmaMode, Timestamp};
pub use rustix::io::Errno;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// How long a change of sysfs, an interface, devlink or RDMA is waited for. Cards with many VFs take tens of seconds.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A computer, as far as we touch one.
pub trait Host: Send + Sync {
    /// The whole content of a file.
    fn read(&self, path: &str) -> Result<Vec<u8>, Refusal>;
    /// Exactly one `write(2)` to an existing file: what sysfs and procfs want.
    fn write(&self, path: &str, content: &str) -> Result<(), Refusal>;
    /// Names in a directory, sorted, without `.` and `..`.
    fn list(&self, path: &str) -> Result<Vec<String>, Refusal>;
    /// Where a symbolic link points, as it is written.
    fn link_target(&self, path: &str) -> Result<String, Refusal>;
    /// What is at the path; follows symbolic links.
    fn metadata(&self, path: &str) -> Result<Metadata, Refusal>;
    /// Replaces a file at once or not at all: temporary file in the same directory, fsync, rename, fsync of the
    /// directory. Makes missing directories with mode 0755.
    fn replace(&self, path: &str, content: &[u8], mode: u32) -> Result<(), Refusal>;
    /// Adds to the end of a file with one `write(2)`, so that what several programs add at once stays whole. Makes the file
    /// with mode 0644 where it is missing, in a directory that is there.
    fn append(&self, path: &str, content: &[u8]) -> Result<(), Refusal>;
    /// Removes a file; a file that is not there is success.
    fn remove(&self, path: &str) -> Result<(), Refusal>;
    /// Takes an exclusive flock on the file (made when missing); ETIMEDOUT after `timeout`; zero tries once.
    /// Released when the guard is dropped, and by the kernel when the process dies.
    fn lock(&self, path: &str, timeout: Duration) -> Result<Lock, Refusal>;

    /// Network interfaces of a namespace (RTM_GETLINK).
    fn links(&self, space: &Namespace, query: &LinkQuery) -> Result<Vec<Link>, Refusal>;
    /// One change of one network interface (RTM_SETLINK).
    fn change_link(&self, space: &Namespace, change: &LinkChange) -> Result<(), Refusal>;
    /// Addresses of an interface, or of all with `None`.
    fn addresses(&self, space: &Namespace, link: Option<u32>) -> Result<Vec<Address>, Refusal>;
    fn change_address(&self, space: &Namespace, change: &AddressChange) -> Result<(), Refusal>;
    fn routes(&self, space: &Namespace) -> Result<Vec<Route>, Refusal>;
    fn change_route(&self, space: &Namespace, change: &RouteChange) -> Result<(), Refusal>;
    /// Sends one frame out of an interface (AF_PACKET): announcements of new addresses.
    fn send_frame(&self, space: &Namespace, link: u32, frame: &[u8]) -> Result<(), Refusal>;

    /// Writes one setting below `/proc/sys`, as the namespace has it: `net/ipv6/conf/net1/disable_ipv6`.
    fn set_sysctl(&self, space: &Namespace, name: &str, value: &str) -> Result<(), Refusal>;

    /// The embedded switch and the parameters of a PCI device (devlink).
    fn devlink(&self, device: &PciAddress) -> Result<DevlinkDevice, Refusal>;
    fn change_devlink(&self, device: &PciAddress, change: &DevlinkChange) -> Result<(), Refusal>;

    /// The RDMA mode (RDMA_NLDEV_CMD_SYS_GET); ENOENT or EPROTONOSUPPORT while ib_core is not loaded.
    fn rdma_mode(&self) -> Result<RdmaMode, Refusal>;
    /// RDMA devices that the namespace sees (RDMA_NLDEV_CMD_GET, dump).
    fn rdma_devices(&self, space: &Namespace) -> Result<Vec<RdmaDevice>, Refusal>;
    /// The ports of one of them (RDMA_NLDEV_CMD_PORT_GET, dump), none for one that is not there. The kernel asks the
    /// card for each (drivers/infiniband/core/nldev.c, fill_port_info: ib_query_port), which takes the firmware its
    /// time.
    fn rdma_ports(&self, space: &Namespace, device: u32) -> Result<Vec<RdmaPort>, Refusal>;
    fn change_rdma(&self, space: &Namespace, change: &RdmaChange) -> Result<(), Refusal>;
    /// Who has protection domains, queue pairs or connections on the devices that the namespace sees
    /// (RDMA_NLDEV_CMD_RES_PD_GET, RES_QP_GET and RES_CM_ID_GET, dumps), each once a device. The kernel's own users are told
    /// to a process of the host's PID namespace only (drivers/infiniband/core/restrack.c, rdma_is_visible_in_pid_ns).
    fn rdma_users(&self, space: &Namespace) -> Result<Vec<RdmaUser>, Refusal>;
    /// The hardware's counters of a port (RDMA_NLDEV_CMD_STAT_GET); none where the driver has none.
    fn rdma_counters(
        &self,
        space: &Namespace,
        device: u32,
        port: u32,
    ) -> Result<Vec<RdmaCount>, Refusal>;
    /// How many resources of each kind a device has (RDMA_NLDEV_CMD_RES_GET).
    fn rdma_resources(&self, space: &Namespace, device: u32) -> Result<Vec<RdmaCount>, Refusal>;

    /// Runs a program in the host's root and waits for it. A program that is not installed is ENOENT.
    fn run(&self, program: &Program, arguments: &[&str], input: &[u8]) -> Result<Output, Refusal>;

    /// Changes past their deadline (ETIMEDOUT) that the kernel is still at. Until they end, what would change their card
    /// or wait for them is refused at once (EALREADY).
    fn unfinished(&self) -> Vec<Unfinished>;

    fn now(&self) -> Timestamp;
    /// Returns at the first interesting event, or when the timeout is over. The only thing that sleeps.
    fn wait(&self, interests: &[Interest], timeout: Duration) -> Woken;
}

/// A primitive that the kernel refused: what was tried, and the errno. Operations name the object and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The call in a few words: `write 4 to /sys/bus/pci/devices/0000:3b:00.0/sriov_numvfs`.
    pub tried: String,
    pub errno: Errno,
    /// What the kernel added in words (netlink extended acknowledgement); empty where nothing.
    pub note: String,
}

impl Refusal {
    pub fn new(tried: impl Into<String>, errno: Errno) -> Self {
        Self { tried: tried.into(), errno, note: String::new() }
    }

    /// Why, without what: for sentences that say already what was tried.
    pub fn reason(&self) -> String {
        match self.note.as_str() {
            "" => words(self.errno),
            note => format!("{} ({note})", words(self.errno)),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tried, self.reason())
    }
}

impl std::error::Error for Refusal {}

/// The errno as strerror(3) says it, in lower case.
pub fn words(errno: Errno) -> String {
    if errno == Errno::TIMEDOUT {
        // The C library says "connection timed out", and there is none.
        return "timed out".to_owned();
    }
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Namespace {
    /// The one of process 1.
    Host,
    /// By path: `/var/run/netns/…`, `/proc/<pid>/ns/net`.
    At(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Device and inode of the file itself: what identifies a namespace.
    pub device: u64,
    pub inode: u64,
    /// Major and minor of a device node; zeros otherwise.
    pub major: u32,
    pub minor: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    File,
    Directory,
    CharacterDevice,
    Other,
}

/// A lock that is held until this is dropped.
pub struct Lock(#[allow(dead_code)] Box<dyn std::any::Any + Send>);

impl Lock {
    /// Wraps whatever releases the lock on drop.
    pub fn new(guard: impl std::any::Any + Send) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// Which interfaces, and how much of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkQuery {
    /// Only the one with this name or altname.
    pub name: Option<String>,
    /// Only the one with this index.
    pub index: Option<u32>,
    /// Fill `Link::vfs` (mask RTEXT_FILTER_VF | SKIP_STATS; the kernel truncates above 256 VFs).
    pub with_vfs: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub alt_names: Vec<String>,
    /// Hardware address: 6 bytes on Ethernet, 20 on IPoIB.
    pub address: Vec<u8>,
    /// IFLA_PERM_ADDRESS: what the driver was given when it started; None where it made an address up (Linux 5.6).
    pub permanent: Option<Vec<u8>>,
    pub mtu: u32,
    /// IFF_UP.
    pub up: bool,
    /// IFF_RUNNING.
    pub running: bool,
    /// IFF_PROMISC, as far as somebody has set it for the interface and not for a socket.
    pub promiscuous: bool,
    /// IFF_ALLMULTI, the same.
    pub all_multicast: bool,
    /// ARPHRD_*: 1 Ethernet, 32 InfiniBand, 772 loopback.
    pub hardware: u16,
    /// IFLA_PARENT_DEV_NAME: the PCI address. The only way to know a VF that is inside a pod.
    pub parent: Option<String>,
    /// IFLA_LINK: index of the lower device.
    pub lower: Option<u32>,
    /// IFLA_MASTER: index of the bond, bridge or VRF above.
    pub master: Option<u32>,
    /// IFLA_INFO_KIND: `bond`, `vlan`, `ipoib`.
    pub kind: Option<String>,
    pub phys_port_name: Option<String>,
    pub phys_switch_id: Option<String>,
    /// IFLA_NUM_VF: told only where the query asks for VFs; 0 for any other PCI device.
    pub num_vfs: Option<u32>,
    pub vfs: Vec<VfLink>,
}

impl Link {
    /// True for the port of an eswitch that stands for a function, told by the port's name: `pf0vf3` and `pf0sf88`,
    /// `c1pf0` with the controller's number before it on a SmartNIC, and `p0pf0vf3` (drivers/net/ethernet/sfc/
    /// ef100_rep.c). An uplink is `p0` (net/devlink/port.c, __devlink_port_phys_port_name_get).
    pub fn is_representor(&self) -> bool {
        self.phys_port_name.as_deref().is_some_and(|port| port.contains("pf"))
    }

    /// The index of the VF that it stands for.
    pub fn represented_vf(&self) -> Option<u32> {
        let port = self.phys_port_name.as_deref().filter(|_| self.is_representor())?;
        port.rsplit_once("vf")?.1.parse().ok()
    }

    /// The function's own of the interfaces below it: what it represents has a port of its own, and a child is on it. A
    /// representor is on nothing either, and its name may come before.
    pub fn own_of(links: &[Link]) -> Option<&Link> {
        let mut own = links.iter().filter(|link| !link.is_representor());
        let is_on_nothing = |link: &&Link| link.lower.is_none_or(|lower| lower == link.index);
        own.clone().find(is_on_nothing).or_else(|| own.next())
    }
}

/// A VF as its PF's link shows it (IFLA_VFINFO_LIST). `None`: the driver does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VfLink {
    pub index: u32,
    /// Admin MAC; all zeros when none is set.
    pub mac: Vec<u8>,
    pub vlan: Option<Vlan>,
    pub spoof_check: Option<bool>,
    pub trust: Option<bool>,
    pub link_state: Option<VfLinkState>,
    /// Mbit/s; 0 is no limit.
    pub min_tx_rate: Option<u32>,
    pub max_tx_rate: Option<u32>,
    pub node_guid: Option<u64>,
    pub port_guid: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vlan {
    /// 0 is none.
    pub id: u16,
    pub qos: u8,
    /// 0x8100 or 0x88a8.
    pub protocol: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VfLinkState {
    Auto,
    Enable,
    Disable,
}

/// One change of one interface, named by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    Up {
        link: u32,
    },
    Down {
        link: u32,
    },
    /// Sets or unsets IFF_PROMISC.
    Promiscuous {
        link: u32,
        on: bool,
    },
    /// Sets or unsets IFF_ALLMULTI.
    AllMulticast {
        link: u32,
        on: bool,
    },
    Mtu {
        link: u32,
        mtu: u32,
    },
    Rename {
        link: u32,
        name: String,
    },
    Address {
        link: u32,
        address: Vec<u8>,
    },
    AddAltName {
        link: u32,
        name: String,
    },
    RemoveAltName {
        link: u32,
        name: String,
    },
    /// Moves the interface to another namespace, under a new name where one is given. Not all or nothing: where the new
    /// name is taken there, the kernel moves the interface under its own name and then answers EEXIST.
    Move {
        link: u32,
        to: Namespace,
        name: Option<String>,
    },
    /// A setting of VF `vf` through its PF.
    Vf {
        link: u32,
        vf: u32,
        setting: VfSetting,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VfSetting {
    Mac([u8; 6]),
    Vlan(Vlan),
    /// Mbit/s.
    Rate {
        min: u32,
        max: u32,
    },
    SpoofCheck(bool),
    Trust(bool),
    LinkState(VfLinkState),
    NodeGuid(u64),
    PortGuid(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub link: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// IFA_F_TENTATIVE: duplicate address detection is still running.
    pub tentative: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressChange {
    Add { link: u32, address: IpAddr, prefix: u8 },
    Remove { link: u32, address: IpAddr, prefix: u8 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination and prefix length; 0 bits is the default route.
    pub destination: (IpAddr, u8),
    pub gateway: Option<IpAddr>,
    pub link: Option<u32>,
    /// 254 is the main table.
    pub table: u32,
    pub priority: Option<u32>,
    /// RT_SCOPE_*; None lets the kernel's rule decide.
    pub scope: Option<u8>,
    pub mtu: Option<u32>,
    pub advmss: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    Add(Route),
    Remove(Route),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevlinkDevice {
    /// None: the driver has no embedded switch.
    pub eswitch: Option<EswitchMode>,
    pub parameters: Vec<DevlinkParameter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevlinkParameter {
    pub name: String,
    /// One of `runtime`, `driverinit`, `permanent`, with the value as text.
    pub mode: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevlinkChange {
    Eswitch(EswitchMode),
    Parameter { name: String, mode: String, value: String },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaDevice {
    /// Stable while the device exists, in every namespace.
    pub index: u32,
    pub name: String,
    /// 0 is none.
    pub node_guid: u64,
    pub system_image_guid: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaPort {
    pub number: u32,
    /// `ACTIVE`, `DOWN`, …, as `rdma link` prints it.
    pub state: String,
    /// `LINK_UP`, `DISABLED`, ….
    pub physical_state: String,
    /// Index of the netdev, where the namespace sees one.
    pub netdev: Option<u32>,
    pub netdev_name: Option<String>,
}

/// One of the things that are counted on a device, by the kernel's name: `out_of_buffer`, `qp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdmaCount {
    pub name: String,
    pub value: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RdmaChange {
    /// RDMA_NLDEV_CMD_SYS_SET; EBUSY while any other network namespace exists.
    Mode(RdmaMode),
    /// RDMA_NLDEV_CMD_SET with a namespace fd; EOPNOTSUPP in shared mode.
    Move {
        device: u32,
        to: Namespace,
    },
    Rename {
        device: u32,
        name: String,
    },
}

/// Something of a device that somebody uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RdmaUser {
    /// Name of the device.
    pub device: String,
    pub owner: RdmaOwner,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RdmaOwner {
    /// A module of the kernel, by its name: `ib_core`, `nvme_rdma`.
    Kernel(String),
    /// A process, by its number.
    Process(u32),
}

/// The programs that have no kernel interface in their place. Closed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Modprobe,
    /// Takes one module away and no other: `modprobe -r` also takes those that it no longer needs, such as the card's
    /// Ethernet driver below its RDMA driver.
    Rmmod,
    Systemctl,
    SystemdRun,
    Grubby,
    UpdateGrub,
    RpmOstree,
    TransactionalUpdate,
    Mstconfig,
    Mstfwreset,
    Udevadm,
    /// Our own program by absolute path, where it was installed for the boot phases.
    Own {
        path: String,
    },
    /// An IPAM plugin by absolute path, with the CNI environment as `KEY=value`.
    Ipam {
        path: String,
        environment: Vec<String>,
    },
}

impl Program {
    /// The name by which the host knows the program.
    pub fn name(&self) -> &str {
        match self {
            Self::Modprobe => "modprobe",
            Self::Rmmod => "rmmod",
            Self::Systemctl => "systemctl",
            Self::SystemdRun => "systemd-run",
            Self::Grubby => "grubby",
            Self::UpdateGrub => "update-grub",
            Self::RpmOstree => "rpm-ostree",
            Self::TransactionalUpdate => "transactional-update",
            Self::Mstconfig => "mstconfig",
            Self::Mstfwreset => "mstfwreset",
            Self::Udevadm => "udevadm",
            Self::Own { path } | Self::Ipam { path, .. } => path,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit status; 128 + n for a signal.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// What `wait` wakes up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Any uevent of the kernel (NETLINK_KOBJECT_UEVENT).
    Uevent,
    /// Any change of an interface (RTNLGRP_LINK).
    Link,
    /// Any RDMA notification (RDMA_NL_GROUP_NOTIFY), where the kernel sends them.
    Rdma,
    /// A change of this file, or of an entry of this directory (inotify).
    File(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    ByEvent,
    ByTimeout,
}

/// What an idempotent operation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Yes,
    AlreadyRight,
}

#[cfg(test)]
mod tests {
    use super::Link;

    fn link(name: &str, port: Option<&str>, lower: Option<u32>) -> Link {
        let phys_port_name = port.map(str::to_owned);
        Link { index: 7, name: name.to_owned(), phys_port_name, lower, ..Link::default() }
    }

    #[test]
    fn a_port_name_tells_which_vf_an_interface_represents() {
        let told = |port| {
            let link = link("x", port, None);
            (link.is_representor(), link.represented_vf())
        };
        assert_eq!(told(Some("pf0vf3")), (true, Some(3)));
        assert_eq!(told(Some("c1pf0vf12")), (true, Some(12)));
        assert_eq!(told(Some("p0pf0vf3")), (true, Some(3)));
        assert_eq!(told(Some("pf0sf88")), (true, None));
        assert_eq!(told(Some("c1pf0")), (true, None));
        assert_eq!(told(Some("pf0vf")), (true, None));
        assert_eq!(told(Some("vf3")), (false, None));
        assert_eq!(told(Some("p0")), (false, None));
        assert_eq!(told(None), (false, None));
    }

    #[test]
    fn the_own_interface_is_no_representor_and_on_nothing() {
        let own = |links: &[Link]| Link::own_of(links).map(|link| link.name.clone());
        let (vf, uplink) = (link("a0", Some("pf0vf0"), None), link("b0", Some("p0"), None));
        let child = link("a1", None, Some(3));
        assert_eq!(own(&[vf.clone(), child.clone(), uplink]).as_deref(), Some("b0"));
        assert_eq!(own(&[vf.clone(), child]).as_deref(), Some("a1"));
        assert_eq!(own(&[vf]), None);
    }
}
