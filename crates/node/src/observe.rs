//! Facts: what the kernel and the host's files say now, as one `Inventory`.
//!
//! Nothing is judged and nothing is changed here. A card is known by its PCI class and its SR-IOV capability, never by a
//! list of models. A VF is read through its PF, so it is seen also while its netdev is inside a pod.

use crate::{boot_units, ledger};
use api::custody::Holder;
use api::inventory::{FirmwareFacts, Inventory, PhysicalFunction, RdmaSubsystem, VirtualFunction};
use api::nodestate::Interface;
use api::{EswitchMode, LinkType, PciAddress, RdmaMode, files};
use host::seam::{Link, LinkQuery, RdmaDevice, VfLink};
use host::{Host, Namespace, Refusal, firmware, kernel_argument, lifeline, rdma_mode};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};

/// PCI class 02: network controllers.
const NETWORK_CLASS: &str = "0x02";
/// Vendors whose firmware hides the SR-IOV capability while it is switched off (NVIDIA: SRIOV_EN), so that a card
/// without `sriov_totalvfs` may still be one.
const HIDES_CAPABILITY: [&str; 1] = ["15b3"];

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
    let configured = configured(host)?;
    Ok(Inventory {
        boot_id: boot_id(host)?,
        rdma: rdma_subsystem(host)?,
        lifelines: lifeline::observe(host, &links).map_err(failed("what the host lives by"))?,
        lifelines_allowed: lifelines_allowed(host, &configured),
        roce_lags: lifeline::roce_lag_legs(host, &links),
        physical_functions: physical_functions(host, links)?,
        holders,
        reboots: ledger::read(host).map_err(failed("the reboot ledger"))?,
        initial_rdma_mode: ledger::initial_mode(host).map_err(failed("the initial state"))?,
        configured,
        firmware: BTreeMap::new(),
        locked_down: firmware::locked_down(host).map_err(failed("kernel lockdown"))?,
        static_guids: static_guids(host)?,
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
    let short = functions.iter().filter(too_few);
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

fn configured(host: &dyn Host) -> Result<Vec<PciAddress>, ObserveError> {
    let names = match host.list(files::PF_STORE) {
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(Vec::new()),
        other => other.map_err(failed("the store of configured PFs"))?,
    };
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
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

/// PFs that were marked as ours with `allowLifeline`. A mark that cannot be read, or is upstream's, allows nothing.
fn lifelines_allowed(host: &dyn Host, configured: &[PciAddress]) -> BTreeSet<PciAddress> {
    let allowed = |pci: &&PciAddress| {
        let mark = host.read(&format!("{}/{pci}", files::PF_STORE)).unwrap_or_default();
        serde_json::from_slice::<Interface>(&mark).is_ok_and(|interface| interface.allow_lifeline)
    };
    configured.iter().filter(allowed).copied().collect()
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
    let view = View::new(host, links, rdma);
    let mut addresses: Vec<PciAddress> = names.iter().filter_map(|n| n.parse().ok()).collect();
    addresses.sort();
    Ok(addresses.into_iter().filter_map(|pci| view.physical_function(pci)).collect())
}

/// The answers of the kernel when it has no RDMA subsystem loaded, or one older than 5.3.
fn no_rdma(errno: Errno) -> bool {
    [Errno::NOENT, Errno::PROTONOSUPPORT, Errno::OPNOTSUPP, Errno::INVAL].contains(&errno)
}

/// The dumps of one moment, by what they are looked up with.
struct View<'a> {
    host: &'a dyn Host,
    links: BTreeMap<String, Vec<Link>>,
    rdma: BTreeMap<String, RdmaDevice>,
}

impl<'a> View<'a> {
    fn new(host: &'a dyn Host, dump: Vec<Link>, rdma: Vec<RdmaDevice>) -> Self {
        let mut links: BTreeMap<String, Vec<Link>> = BTreeMap::new();
        for mut link in dump {
            if let Some(parent) = link.parent.take() {
                links.entry(parent).or_default().push(link);
            }
        }
        let rdma = rdma.into_iter().map(|device| (device.name.clone(), device)).collect();
        Self { host, links, rdma }
    }

    /// None for a function that is no network function, a VF, or without the SR-IOV capability.
    fn physical_function(&self, pci: PciAddress) -> Option<PhysicalFunction> {
        let is_network = self.text(&pci, "class")?.starts_with(NETWORK_CLASS);
        if !is_network || self.host.link_target(&pci.file("physfn")).is_ok() {
            return None;
        }
        let vendor = self.hex(&pci, "vendor");
        let total_vfs = self.number(&pci, "sriov_totalvfs");
        if total_vfs.is_none() && !HIDES_CAPABILITY.contains(&vendor.as_str()) {
            return None;
        }
        let beside = self.links.get(&pci.to_string()).map(Vec::as_slice).unwrap_or_default();
        let link = uplink(beside).cloned().unwrap_or_default();
        let devlink = self.host.devlink(&pci).unwrap_or_default();
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
            port_state: rdma.and_then(|device| device.ports.first()).map(|port| port.state.clone()),
            firmware: firmware::in_devlink(&devlink, total_vfs.unwrap_or_default()),
            rdma_device,
            net_filter: String::new(),
            vfs: self.virtual_functions(&pci, &link, beside, vf_device.as_deref()),
            vf_device,
            name: link.name,
            alt_names: link.alt_names,
            vendor,
        })
    }

    fn virtual_functions(
        &self,
        pf: &PciAddress,
        uplink: &Link,
        beside: &[Link],
        device: Option<&str>,
    ) -> Vec<VirtualFunction> {
        let count = self.number(pf, "sriov_numvfs").unwrap_or_else(|| self.linked(pf));
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
        let target = self.host.link_target(&pf.file(&format!("virtfn{index}"))).ok()?;
        let pci: PciAddress = last_part(&target).parse().ok()?;
        let link = self.links.get(&pci.to_string()).and_then(|links| links.first());
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
            // All VFs of a PF have one id, which the PF's capability tells: no file of each is read for it.
            device: String::new(),
            iommu_group: self.iommu_group(&pci),
            guid: guid.map(|device| guid_text(device.node_guid)),
            admin_guid: through_pf
                .and_then(|vf| vf.node_guid)
                .filter(|guid| *guid != 0)
                .map(guid_text),
            rdma_device,
            representor: representor(beside, index),
            vdpa: None,
        })
    }

    fn text(&self, pci: &PciAddress, name: &str) -> Option<String> {
        let bytes = self.host.read(&pci.file(name)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
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
        let target = self.host.link_target(&pci.file("driver")).ok()?;
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

/// The PF's own interface: in switchdev mode the representors hang below the same PCI device (`pf0vf1`), and the uplink
/// is the one whose port name is `p` and a number.
fn uplink(links: &[Link]) -> Option<&Link> {
    let is_uplink = |link: &&Link| {
        let port = link.phys_port_name.as_deref().unwrap_or_default();
        let number = port.strip_prefix('p').unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    links.iter().find(is_uplink).or_else(|| links.first())
}

/// The representor of a VF: port name `pf<n>vf<index>`, with `c<n>` before it on a SmartNIC.
fn representor(links: &[Link], index: u32) -> Option<String> {
    let end = format!("vf{index}");
    let is_ours = |link: &&Link| {
        let port = link.phys_port_name.as_deref().unwrap_or_default();
        port.contains("pf") && port.ends_with(&end)
    };
    links.iter().find(is_ours).map(|link| link.name.clone())
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
    Ok(RdmaSubsystem {
        mode,
        kernel_argument: argument(&String::from_utf8_lossy(&command_line)),
        modprobe_option: modprobe_option(&String::from_utf8_lossy(&modprobe)),
        other_namespaces: others,
        kernel_argument_tool: kernel_argument::tool(host).map(|tool| tool.name().to_owned()),
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
