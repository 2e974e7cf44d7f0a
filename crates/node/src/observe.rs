//! Facts: what the kernel and the host's files say now, as one `Inventory`.
//!
//! Nothing is judged and nothing is changed here. A card is known by its PCI class and its SR-IOV capability, never by a
//! list of models. A VF is read through its PF, so it is seen also while its netdev is inside a pod.

use crate::{boot_units, ledger};
use api::custody::Holder;
use api::inventory::{FirmwareFacts, Inventory, PhysicalFunction, RdmaSubsystem, VirtualFunction};
use api::nodestate::Interface;
use api::{EswitchMode, LinkType, PciAddress, RdmaMode, files};
use host::function::{optional, text};
use host::seam::{Link, LinkQuery, RdmaDevice, VfLink};
use host::{
    Host, Namespace, Refusal, eswitch, facilities, firmware, home, kernel_argument, lifeline,
    lockdown, rdma_mode,
};
use rustix::io::Errno;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// PCI class 02: network controllers.
const NETWORK_CLASS: &str = "0x02";
/// Vendors whose firmware hides the SR-IOV capability while it is switched off (NVIDIA: SRIOV_EN), so that a card
/// without `sriov_totalvfs` may still be one.
const HIDES_CAPABILITY: [&str; 1] = ["15b3"];

/// Where vDPA devices are.
const VDPA: &str = "/sys/bus/vdpa/devices";

/// A fact that could not be had. Nothing is planned on half of the facts.
#[derive(Debug, thiserror::Error)]
#[error("cannot observe {what}")]
pub struct ObserveError {
    pub what: String,
    #[source]
    pub source: Refusal,
}

/// Reads the whole node. `holders` were joined from PodResources, CNI journal and claims by the caller.
pub fn observe(host: &dyn Host, holders: Vec<Holder>) -> Result<Inventory, ObserveError> {
    let query = LinkQuery { with_vfs: true, ..LinkQuery::default() };
    let links = host.links(&Namespace::Host, &query).map_err(failed("the network interfaces"))?;
    let marks = marks(host)?;
    let marked = |is: fn(&Interface) -> bool, garbled: bool| {
        let says = move |mark: &Option<Interface>| mark.as_ref().map_or(garbled, is);
        marks.iter().filter(move |(_, mark)| says(mark)).map(|(pci, _)| *pci).collect()
    };
    Ok(Inventory {
        boot_id: boot_id(host)?,
        rdma: rdma_subsystem(host)?,
        lifelines: lifeline::observe(host, &links).map_err(failed("what the host lives by"))?,
        // A mark that cannot be understood allows nothing, and proves nobody's VFs to be ours.
        lifelines_allowed: marked(|mark| mark.allow_lifeline, false),
        external: marked(|mark| mark.externally_managed, true),
        roce_lags: lifeline::roce_lag_legs(host, &links),
        physical_functions: physical_functions(host, links)?,
        holders,
        reboots: ledger::read(host).map_err(failed("the reboot ledger"))?,
        initial_rdma_mode: ledger::initial_mode(host).map_err(failed("the initial state"))?,
        configured: marks.keys().copied().collect(),
        firmware: BTreeMap::new(),
        locked_down: lockdown::is_on(host).map_err(failed("kernel lockdown"))?,
        static_guids: static_guids(host)?,
        vhost_missing: facilities::vhost_missing(host),
        // Asked last: what was seen before may be from the middle of it.
        unfinished: host.unfinished(),
    })
}

/// Asks the firmware of each PF that shows fewer VFs than it is asked for. Not of the others: asking takes a program and
/// a second.
pub fn firmware_of(
    host: &dyn Host,
    asked: &BTreeMap<PciAddress, u32>,
    functions: &[PhysicalFunction],
) -> BTreeMap<PciAddress, FirmwareFacts> {
    let too_few = |pf: &&PhysicalFunction| {
        let asked = asked.get(&pf.pci).copied().unwrap_or_default();
        HIDES_CAPABILITY.contains(&pf.vendor.as_str()) && pf.total_vfs.unwrap_or_default() < asked
    };
    let readable = functions.iter().filter(|pf| pf.unreadable.is_none());
    let short = readable.filter(too_few);
    short.map(|pf| (pf.pci, firmware::read(host, &pf.pci))).collect()
}

/// The identity of this boot.
pub fn boot_id(host: &dyn Host) -> Result<String, ObserveError> {
    let bytes = host.read("/proc/sys/kernel/random/boot_id").map_err(failed("the boot id"))?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

fn failed(what: impl Into<String>) -> impl FnOnce(Refusal) -> ObserveError {
    move |source| ObserveError { what: what.into(), source }
}

/// The PF store, ours and upstream's: for each PF the order by which it was configured, or None where the mark cannot be
/// understood (upstream does not write it at once).
fn marks(host: &dyn Host) -> Result<BTreeMap<PciAddress, Option<Interface>>, ObserveError> {
    let what = "the store of configured PFs";
    let names = optional(host.list(files::PF_STORE)).map_err(failed(what))?.unwrap_or_default();
    let mut marks = BTreeMap::new();
    for pci in names.iter().filter_map(|name| name.parse::<PciAddress>().ok()) {
        let mark = host.read(&format!("{}/{pci}", files::PF_STORE));
        // Gone since the list was read: no mark.
        let Some(mark) = optional(mark).map_err(failed(what))? else { continue };
        marks.insert(pci, serde_json::from_slice(&mark).ok());
    }
    Ok(marks)
}

/// The administrator's GUIDs for VFs; no file is the rule.
fn static_guids(host: &dyn Host) -> Result<Option<String>, ObserveError> {
    match host.read(files::GUIDS) {
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(None),
        other => {
            let bytes = other.map_err(failed("the static GUIDs"))?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }
}

fn physical_functions(
    host: &dyn Host,
    links: Vec<Link>,
) -> Result<Vec<PhysicalFunction>, ObserveError> {
    let names = match host.list("/sys/bus/pci/devices") {
        // A machine without PCI has no cards.
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(Vec::new()),
        other => other.map_err(failed("the PCI devices"))?,
    };
    let rdma = match host.rdma_devices(&Namespace::Host) {
        Err(refusal) if no_rdma(refusal.errno) => Vec::new(),
        other => other.map_err(failed("the RDMA devices"))?,
    };
    // No bus: no vDPA is loaded.
    let vdpa = host.list(VDPA).unwrap_or_default();
    let view = View::new(host, links, rdma, vdpa);
    let mut addresses: Vec<PciAddress> = names.iter().filter_map(|n| n.parse().ok()).collect();
    addresses.sort();
    let mut functions = Vec::new();
    for pci in addresses {
        let is_network = is_network_function(host, &pci);
        if is_network.map_err(failed(format!("the PCI function {pci}")))? {
            functions.extend(view.physical_function(pci));
        }
    }
    Ok(functions)
}

/// Which functions there are is known of all or of none: a card that is not seen would be taken for one that is gone.
fn is_network_function(host: &dyn Host, pci: &PciAddress) -> Result<bool, Refusal> {
    let path = pci.file("class");
    let class = match text(host, &path) {
        // Taken out since the list was read.
        Err(refusal) if is_gone(&refusal) => return Ok(false),
        other => other?,
    };
    match class.is_empty() {
        true => Err(Refusal::new(format!("read a class from {path}"), Errno::NODATA)),
        false => Ok(class.starts_with(NETWORK_CLASS)),
    }
}

/// The kernel's answers for what is not there, or is going.
fn is_gone(refusal: &Refusal) -> bool {
    [Errno::NOENT, Errno::NODEV].contains(&refusal.errno)
}

/// What a change of the card that is still under way keeps from being told; such a card is left alone anyway.
fn is_busy(refusal: &Refusal) -> bool {
    [Errno::ALREADY, Errno::TIMEDOUT].contains(&refusal.errno)
}

/// The answers of the kernel when it has no RDMA subsystem loaded, or one older than 5.3.
fn no_rdma(errno: Errno) -> bool {
    [Errno::NOENT, Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL].contains(&errno)
}

/// The dumps of one moment, by what they are looked up with.
struct View<'a> {
    host: &'a dyn Host,
    /// By the name of the device below them: a PCI address, or `virtio3`.
    links: BTreeMap<String, Vec<Link>>,
    /// By their own name, where the kernel tells no device (before Linux 5.14).
    orphans: BTreeMap<String, Link>,
    rdma: BTreeMap<String, RdmaDevice>,
    /// Names of vDPA devices.
    vdpa: Vec<String>,
    /// What the kernel did not tell of the function that is being read.
    troubles: RefCell<Vec<String>>,
}

impl<'a> View<'a> {
    fn new(host: &'a dyn Host, dump: Vec<Link>, rdma: Vec<RdmaDevice>, vdpa: Vec<String>) -> Self {
        let mut links: BTreeMap<String, Vec<Link>> = BTreeMap::new();
        let mut orphans = BTreeMap::new();
        for mut link in dump {
            match link.parent.take() {
                Some(parent) => links.entry(parent).or_default().push(link),
                None => _ = orphans.insert(link.name.clone(), link),
            }
        }
        let rdma = rdma.into_iter().map(|device| (device.name.clone(), device)).collect();
        Self { host, links, orphans, rdma, vdpa, troubles: RefCell::default() }
    }

    /// None for a VF, and for a network function without the SR-IOV capability.
    fn physical_function(&self, pci: PciAddress) -> Option<PhysicalFunction> {
        self.troubles.borrow_mut().clear();
        if self.known(self.host.link_target(&pci.file("physfn"))).is_some() {
            return None;
        }
        let vendor = self.hex(&pci, "vendor");
        let total_vfs = self.count(&pci, "sriov_totalvfs");
        let may_be_one = HIDES_CAPABILITY.contains(&vendor.as_str()) || self.is_in_doubt();
        if total_vfs.is_none() && !may_be_one {
            return None;
        }
        let beside = self.beside(&pci);
        let link = Link::own_of(&beside).cloned().unwrap_or_default();
        let devlink = self.known(eswitch::devlink(self.host, &pci)).unwrap_or_default();
        let rdma_device = self.rdma_device(&pci);
        let rdma = rdma_device.as_ref().and_then(|name| self.rdma.get(name));
        let vf_device = total_vfs.map(|_| self.hex(&pci, "sriov_vf_device"));
        Some(PhysicalFunction {
            pci,
            mac: hardware_address(&link.address),
            device: self.hex(&pci, "device"),
            driver: self.driver(&pci),
            mtu: link.mtu,
            admin_up: link.up,
            speed: self.speed(&link.name),
            link_type: link_type(&link),
            eswitch: devlink.eswitch.unwrap_or(EswitchMode::Legacy),
            total_vfs,
            numa_node: self.number(&pci, "numa_node"),
            pci_path: self.pci_path(&pci),
            iommu_group: self.iommu_group(&pci),
            node_guid: rdma.map(|device| guid_text(device.node_guid)),
            port_state: rdma.and_then(|device| self.port_state(device)),
            firmware: firmware::in_devlink(&devlink, total_vfs.unwrap_or_default()),
            rdma_device,
            net_filter: String::new(),
            vfs: self.virtual_functions(&pci, &link, &beside, vf_device.as_deref()),
            unreadable: (!self.troubles.borrow().is_empty())
                .then(|| self.troubles.borrow().join("; ")),
            vf_device,
            name: link.name,
            alt_names: link.alt_names,
            vendor,
        })
    }

    /// Of a PF only: the card is asked for it, and nobody wants to know the ports of a thousand VFs.
    fn port_state(&self, device: &RdmaDevice) -> Option<String> {
        let ports = self.known(self.host.rdma_ports(&Namespace::Host, device.index))?;
        Some(ports.into_iter().next()?.state)
    }

    /// What the kernel says; None where it is not there. What it does not tell is kept in mind.
    fn known<T>(&self, answer: Result<T, Refusal>) -> Option<T> {
        answer
            .map_err(|refusal| {
                if !is_gone(&refusal) && !is_busy(&refusal) {
                    self.troubles.borrow_mut().push(refusal.to_string());
                }
            })
            .ok()
    }

    fn is_in_doubt(&self) -> bool {
        !self.troubles.borrow().is_empty()
    }

    /// The interfaces of a function: its own, and the representors of its VFs.
    fn beside(&self, pci: &PciAddress) -> Vec<Link> {
        if let Some(links) = self.links.get(&pci.to_string()) {
            return links.clone();
        }
        // Kernels that tell devices tell virtio's own and not the PCI function below it.
        let is_virtio = || self.driver(pci).is_some_and(|driver| driver == "virtio-pci");
        if !self.links.is_empty() && !is_virtio() {
            return Vec::new();
        }
        let names = self.known(home::interface_names(self.host, pci)).unwrap_or_default();
        let all = self.links.values().flatten().chain(self.orphans.values());
        all.filter(|link| names.contains(&link.name)).cloned().collect()
    }

    fn virtual_functions(
        &self,
        pf: &PciAddress,
        uplink: &Link,
        beside: &[Link],
        device: Option<&str>,
    ) -> Vec<VirtualFunction> {
        let count = self.count(pf, "sriov_numvfs").unwrap_or_else(|| self.linked(pf));
        let through_pf: BTreeMap<u32, &VfLink> =
            uplink.vfs.iter().map(|vf| (vf.index, vf)).collect();
        let one = |index| {
            let mut vf =
                self.virtual_function(pf, index, through_pf.get(&index).copied(), beside)?;
            vf.device = device.unwrap_or_default().to_owned();
            Some(vf)
        };
        (0..count).filter_map(one).collect()
    }

    /// One more than the highest VF on the bus: while the kernel is at a change it does not tell the count.
    fn linked(&self, pf: &PciAddress) -> u32 {
        let names = self.host.list(&pf.directory()).unwrap_or_default();
        let indexes = names.iter().filter_map(|name| name.strip_prefix("virtfn")?.parse().ok());
        indexes.max().map_or(0, |highest: u32| highest + 1)
    }

    fn virtual_function(
        &self,
        pf: &PciAddress,
        index: u32,
        through_pf: Option<&VfLink>,
        beside: &[Link],
    ) -> Option<VirtualFunction> {
        let target = self.known(self.host.link_target(&pf.file(&format!("virtfn{index}"))))?;
        let pci: PciAddress = last_part(&target).parse().ok()?;
        let own = self.beside(&pci);
        let link = Link::own_of(&own);
        let rdma_device = self.rdma_device(&pci);
        let guid = rdma_device.as_ref().and_then(|name| self.rdma.get(name));
        Some(VirtualFunction {
            pci,
            index,
            driver: self.driver(&pci),
            name: link.map(|link| link.name.clone()),
            mac: link.map(|link| hardware_address(&link.address)),
            admin_mac: through_pf
                .filter(|vf| vf.mac.iter().any(|byte| *byte != 0))
                .map(|vf| hardware_address(&vf.mac)),
            mtu: link.map(|link| link.mtu),
            permanent_mac: link.and_then(|link| Some(hardware_address(link.permanent.as_ref()?))),
            vlan: through_pf.and_then(|vf| vf.vlan).map_or(0, |vlan| vlan.id),
            // All VFs of a PF have one id, which the PF's capability tells: no file of each is read for it.
            device: String::new(),
            iommu_group: self.iommu_group(&pci),
            guid: guid.map(|device| guid_text(device.node_guid)),
            admin_guid: through_pf
                .and_then(|vf| vf.node_guid)
                .filter(|guid| *guid != 0)
                .map(guid_text),
            rdma_device_anywhere: match rdma_device {
                Some(_) => None,
                None => facilities::rdma_device_anywhere(self.host, &pci),
            },
            rdma_device,
            representor: beside
                .iter()
                .find(|link| link.represented_vf() == Some(index))
                .map(|link| link.name.clone()),
            vdpa: self.vdpa_type(&pci),
            in_pod: None,
        })
    }

    /// What a vDPA device that somebody made on the VF is for, in a policy's words. Its name is the one that upstream
    /// gives.
    fn vdpa_type(&self, pci: &PciAddress) -> Option<String> {
        let name = format!("vdpa:{pci}");
        let device = self.vdpa.iter().find(|device| **device == name)?;
        let driver = self.host.link_target(&format!("{VDPA}/{device}/driver")).ok()?;
        last_part(&driver).strip_suffix("_vdpa").map(str::to_owned)
    }

    fn text(&self, pci: &PciAddress, name: &str) -> Option<String> {
        self.known(text(self.host, &pci.file(name)))
    }

    /// A number that is there or not: what is no number is not understood.
    fn count(&self, pci: &PciAddress, name: &str) -> Option<u32> {
        let text = self.text(pci, name)?;
        let number = text.parse();
        if number.is_err() {
            let path = pci.file(name);
            self.troubles.borrow_mut().push(format!("{path} says {text:?}, which is no number"));
        }
        number.ok()
    }

    /// A number, or None for a missing file and for the kernel's -1.
    fn number(&self, pci: &PciAddress, name: &str) -> Option<u32> {
        self.text(pci, name)?.parse().ok()
    }

    /// Hex digits of an id file, without 0x.
    fn hex(&self, pci: &PciAddress, name: &str) -> String {
        let text = self.text(pci, name).unwrap_or_default();
        text.trim_start_matches("0x").to_lowercase()
    }

    fn driver(&self, pci: &PciAddress) -> Option<String> {
        let target = self.known(self.host.link_target(&pci.file("driver")))?;
        Some(last_part(&target).to_owned())
    }

    /// The function's place in sysfs, from the root complex on.
    fn pci_path(&self, pci: &PciAddress) -> String {
        let target = self.host.link_target(&pci.directory()).unwrap_or_default();
        target.split_once("devices/").map_or(String::new(), |(_, path)| path.to_owned())
    }

    fn iommu_group(&self, pci: &PciAddress) -> Option<u32> {
        last_part(&self.host.link_target(&pci.file("iommu_group")).ok()?).parse().ok()
    }

    fn rdma_device(&self, pci: &PciAddress) -> Option<String> {
        if self.rdma.is_empty() {
            return None;
        }
        // Listed only where the host's namespace sees the device: not while a pod has it in exclusive mode.
        self.host.list(&pci.file("infiniband")).ok()?.into_iter().next()
    }

    fn speed(&self, name: &str) -> Option<u32> {
        if name.is_empty() {
            return None;
        }
        // EINVAL while the link is down; -1 from drivers that do not know.
        let bytes = self.host.read(&format!("/sys/class/net/{name}/speed")).ok()?;
        String::from_utf8_lossy(&bytes).trim().parse().ok()
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn link_type(link: &Link) -> Option<LinkType> {
    // ARPHRD_ETHER and ARPHRD_INFINIBAND.
    match link.hardware {
        1 => Some(LinkType::Ethernet),
        32 => Some(LinkType::Infiniband),
        _ => None,
    }
}

fn hardware_address(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// A GUID as sysfs writes `node_guid`: `506b:4b03:00e5:72c8`.
fn guid_text(guid: u64) -> String {
    let part = |shift: u32| (guid >> shift) & 0xffff;
    format!("{:04x}:{:04x}:{:04x}:{:04x}", part(48), part(32), part(16), part(0))
}

fn rdma_subsystem(host: &dyn Host) -> Result<RdmaSubsystem, ObserveError> {
    let mode = rdma_mode::effective(host).map_err(failed("the RDMA mode"))?;
    let others = rdma_mode::other_namespaces(host).map_err(failed("network namespaces"))?;
    let command_line = host.read("/proc/cmdline").unwrap_or_default();
    let in_container = rdma_mode::in_driver_container(host);
    let ours = rdma_mode::option_is_ours(host, in_container)
        .map_err(failed("the option of the RDMA mode"))?;
    let file = host.read(rdma_mode::option_file(in_container)).unwrap_or_default();
    // What an administrator wrote into the driver container's file is not ours to judge by, nor to change.
    let modprobe = if ours || !in_container { file } else { Vec::new() };
    let tool = kernel_argument::tool(host);
    let elsewhere = tool.map(|tool| kernel_argument::elsewhere(host, tool)).transpose();
    Ok(RdmaSubsystem {
        mode,
        kernel_argument_elsewhere: elsewhere.map_err(failed("the boot loader's files"))?.flatten(),
        kernel_argument: argument(&String::from_utf8_lossy(&command_line)),
        modprobe_option: modprobe_option(&String::from_utf8_lossy(&modprobe)),
        other_namespaces: others,
        kernel_argument_tool: tool.map(|tool| tool.name().to_owned()),
        modprobe_writable: rdma_mode::option_writable(host) && (ours || !in_container),
        operating_system: operating_system(host),
        driver_container: in_container,
        boot_unit: boot_units::is_installed(host).map_err(failed("the boot units"))?,
        reload: None,
        // Gone when everything is loaded again.
        half_loaded: host.metadata(files::RELOAD).is_ok(),
        managed_before: ledger::managed_before(host).map_err(failed("the initial state"))?,
    })
}

/// A system that says no name has no configuration that we know.
pub fn operating_system(host: &dyn Host) -> String {
    let release = host.read("/etc/os-release").unwrap_or_default();
    let release = String::from_utf8_lossy(&release);
    let id = release.lines().find_map(|line| line.strip_prefix("ID="));
    id.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
}

/// The last one wins, as in the kernel; its bool parameters take more spellings than ours.
fn argument(command_line: &str) -> Option<RdmaMode> {
    let values = command_line.split_whitespace().filter_map(|word| {
        let value = word.strip_prefix("ib_core.netns_mode=");
        value.or_else(|| word.strip_prefix("ib-core.netns_mode="))
    });
    values.filter_map(netns_mode).next_back()
}

fn modprobe_option(text: &str) -> Option<RdmaMode> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("options ib_core "));
    let values =
        lines.flat_map(str::split_whitespace).filter_map(|word| word.strip_prefix("netns_mode="));
    values.filter_map(netns_mode).next_back()
}

fn netns_mode(value: &str) -> Option<RdmaMode> {
    match value {
        "1" | "y" | "Y" | "on" => Some(RdmaMode::Shared),
        "0" | "n" | "N" | "off" => Some(RdmaMode::Exclusive),
        _ => None,
    }
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
