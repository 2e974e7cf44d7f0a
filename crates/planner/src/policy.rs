//! A SriovNetworkNodePolicy, parsed once: a typed value, or what is wrong with it.
//!
//! The admission webhook calls this very parser, so what is accepted is understood. What can only be judged with nodes
//! or other policies in view is in `select` and `conflicts`.

use crate::desired::{self, VdpaType};
use crate::reason::{Problem, Reason};
use api::policy::{PolicySpec, SriovNetworkNodePolicy};
use api::{DeviceType, EswitchMode, LinkType, PciAddress, VfRange};
use std::collections::BTreeMap;

/// Name of a policy that upstream once made itself and that is skipped everywhere.
const SKIPPED: &str = "default";

/// A policy that can be acted on.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub name: String,
    pub resource: String,
    pub node_selector: BTreeMap<String, String>,
    /// 0 to 99; the lower number wins.
    pub priority: u32,
    pub mtu: Option<u32>,
    /// 0: the PF itself is offered.
    pub num_vfs: u32,
    pub nics: NicSelector,
    pub device_type: DeviceType,
    pub rdma: bool,
    pub vhost_net: bool,
    pub link_type: Option<LinkType>,
    pub eswitch: EswitchMode,
    pub vdpa: Option<VdpaType>,
    pub exclude_topology: bool,
    pub exclude_umad: bool,
    pub spread_rails: bool,
    pub externally_managed: bool,
    pub allow_lifeline: bool,
    pub taint_until_ready: bool,
    /// The spec as it was written, for texts that are handed on as they are.
    pub spec: PolicySpec,
}

/// Which PFs of a node; what is present must hold, all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NicSelector {
    pub vendor: Option<String>,
    pub device: Option<String>,
    pub roots: Vec<PciAddress>,
    /// `pfNames` and `pfName`, in this order, without doubles.
    pub names: Vec<PfName>,
    pub net_filter: Option<String>,
}

/// One entry of `pfNames`: `enp3s0f0` or `enp3s0f0#0-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PfName {
    pub name: String,
    pub range: Option<VfRange>,
}

/// What came of a policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parsed {
    /// `None`: it is not acted on, because of the problems or by its name.
    pub policy: Option<Policy>,
    /// With a policy beside them they are warnings.
    pub problems: Vec<Problem>,
}

/// Parses a policy. Never fails: what is wrong is a value, one problem for each field.
pub fn parse(object: &SriovNetworkNodePolicy) -> Parsed {
    let name = &object.metadata.name;
    if name == SKIPPED {
        return Parsed::default();
    }
    let mut reader = Reader { object: format!("policy {name}"), problems: vec![] };
    let spec = &object.spec;
    let policy = reader.policy(name, spec);
    if !reader.problems.is_empty() {
        return Parsed { policy: None, problems: reader.problems };
    }
    let mut problems = vec![];
    if !spec.bridge.is_empty() {
        // Upstream ignores bridges too unless its feature gate manageSoftwareBridges is on.
        let message = "bridge is ignored: managed OVS bridges are not made by this version";
        problems.push(Problem::new(Reason::Unsupported, &reader.object, message));
    }
    Parsed { policy: Some(policy), problems }
}

/// Parses many; what is wrong with one never stops another. Sorted as `merge` needs them: the weakest first.
pub fn parse_all(objects: &[SriovNetworkNodePolicy]) -> (Vec<Policy>, Vec<Problem>) {
    let parsed: Vec<Parsed> = objects.iter().map(parse).collect();
    let problems = parsed.iter().flat_map(|parsed| parsed.problems.clone()).collect();
    let mut policies: Vec<Policy> = parsed.into_iter().filter_map(|p| p.policy).collect();
    sort(&mut policies);
    (policies, problems)
}

/// Weakest first: by priority downwards, then by name, so that among equals the later name is applied last.
pub fn sort(policies: &mut [Policy]) {
    policies.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
}

struct Reader {
    object: String,
    problems: Vec<Problem>,
}

impl Reader {
    fn policy(&mut self, name: &str, spec: &PolicySpec) -> Policy {
        let device_type = self.keep(desired::device_type(&spec.device_type));
        let link_type = self.keep(desired::link_type(&spec.link_type));
        let num_vfs = self.keep(desired::count("numVfs", spec.num_vfs));
        let policy = Policy {
            name: name.to_owned(),
            resource: self.resource(&spec.resource_name),
            node_selector: spec.node_selector.clone(),
            priority: self.priority(spec.priority),
            mtu: self.keep(desired::mtu(spec.mtu)),
            num_vfs,
            nics: self.nics(spec, num_vfs),
            device_type,
            // An InfiniBand VF without its RDMA device is of no use, so upstream's webhook sets it there.
            rdma: spec.is_rdma
                || (link_type == Some(LinkType::Infiniband)
                    && device_type == DeviceType::Netdevice),
            vhost_net: spec.need_vhost_net,
            link_type,
            eswitch: self.keep(desired::eswitch_mode(&spec.eswitch_mode)),
            vdpa: self.keep(desired::vdpa_type(&spec.vdpa_type)),
            exclude_topology: spec.exclude_topology,
            exclude_umad: spec.exclude_umad,
            spread_rails: spec.spread_rails,
            externally_managed: spec.externally_managed,
            allow_lifeline: spec.allow_lifeline,
            taint_until_ready: spec.taint_until_ready,
            spec: spec.clone(),
        };
        self.combinations(&policy);
        policy
    }

    fn problem(&mut self, message: impl Into<String>) {
        self.problems.push(Problem::new(Reason::InvalidPolicy, &self.object, message));
    }

    fn keep<T: Default>(&mut self, parsed: Result<T, String>) -> T {
        parsed.unwrap_or_else(|message| {
            self.problem(message);
            T::default()
        })
    }

    /// What the kubelet accepts behind the slash of an extended resource, as upstream's webhook has it.
    fn resource(&mut self, name: &str) -> String {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let bytes = name.as_bytes();
        let valid = bytes.iter().copied().all(inner)
            && ends(bytes.first().copied())
            && ends(bytes.last().copied());
        if name.is_empty() {
            self.problem("resourceName is empty; pods ask for a VF by this name");
        } else if bytes.len() > 63 {
            self.problem(format!(
                "resourceName {name:?} has {} characters; 63 are allowed",
                bytes.len()
            ));
        } else if let Some((_, short)) = name.split_once('/') {
            self.problem(format!(
                "resourceName {name:?} has a prefix; write {short}, pods ask for it with the prefix"
            ));
        } else if !valid {
            self.problem(format!(
                "resourceName {name:?} may have letters, digits, - and _ only, with a letter or digit at both ends"
            ));
        }
        name.to_owned()
    }

    /// Absent is 0, the strongest: what a stored policy without it has always meant.
    fn priority(&mut self, priority: Option<i64>) -> u32 {
        let priority = priority.unwrap_or(0);
        match u32::try_from(priority) {
            Ok(priority @ 0..=99) => priority,
            _ => {
                self.problem(format!(
                    "priority {priority} is out of range; write 0 (strongest) to 99"
                ));
                0
            }
        }
    }

    fn nics(&mut self, spec: &PolicySpec, num_vfs: u32) -> NicSelector {
        let selector = &spec.nic_selector;
        let mut nics = NicSelector {
            vendor: self.pci_id("vendor", &selector.vendor),
            device: self.pci_id("deviceID", &selector.device_id),
            net_filter: Some(selector.net_filter.clone()).filter(|filter| !filter.is_empty()),
            ..NicSelector::default()
        };
        for (index, root) in selector.root_devices.iter().enumerate() {
            match root.parse() {
                Ok(root) => nics.roots.push(root),
                Err(error) => self.problem(format!("nicSelector.rootDevices[{index}] {error}")),
            }
        }
        for (field, entries) in [("pfNames", &selector.pf_names), ("pfName", &selector.pf_name)] {
            for (index, entry) in entries.iter().enumerate() {
                match pf_name(entry, num_vfs) {
                    Ok(name) if nics.names.contains(&name) => {}
                    Ok(name) => nics.names.push(name),
                    Err(message) => self.problem(format!("{field}[{index}] {entry:?} {message}")),
                }
            }
        }
        if *selector == api::policy::NicSelector::default() {
            self.problem(
                "nicSelector is empty and would match nothing; name at least one of vendor, deviceID, pfNames, rootDevices, netFilter",
            );
        }
        nics
    }

    /// Vendor and device as the kernel shows them; anything else would never match, so it is said here.
    fn pci_id(&mut self, field: &str, text: &str) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 4 || !text.bytes().all(hex) {
            self.problem(format!(
                "nicSelector.{field} {text:?} is not a PCI id; write four lower-case hex digits without 0x, for example 15b3"
            ));
        }
        Some(text.to_owned())
    }

    fn combinations(&mut self, policy: &Policy) {
        let switchdev = policy.eswitch == EswitchMode::Switchdev;
        if policy.device_type == DeviceType::VfioPci && policy.spec.is_rdma {
            self.problem(
                "isRdma: true needs the kernel's driver and deviceType vfio-pci takes it away; write deviceType: netdevice or isRdma: false",
            );
        }
        if policy.exclude_umad && !policy.rdma {
            self.problem(
                "excludeUmad: true leaves some RDMA devices out and without isRdma: true there are none; write isRdma: true or take out excludeUmad",
            );
        }
        if switchdev && policy.link_type == Some(LinkType::Infiniband) {
            self.problem("eSwitchMode switchdev works on Ethernet only; take out linkType: ib or eSwitchMode");
        }
        if policy.vdpa.is_some() && policy.device_type != DeviceType::Netdevice {
            self.problem("vdpaType needs deviceType: netdevice");
        }
        if policy.vdpa.is_some() && !switchdev {
            self.problem("vdpaType needs eSwitchMode: switchdev");
        }
        if !policy.spec.bridge.is_empty() && !switchdev {
            self.problem("bridge needs eSwitchMode: switchdev");
        }
        if !policy.spec.bridge.is_empty() && policy.externally_managed {
            self.problem("bridge cannot be managed on a PF that is externallyManaged");
        }
    }
}

/// One entry of `pfNames`. Upstream's grammar: one `#`, one `-`, both ends within `numVfs`.
fn pf_name(entry: &str, num_vfs: u32) -> Result<PfName, String> {
    let Some((name, range)) = entry.split_once('#') else {
        if entry.is_empty() {
            return Err("is empty; write the name of a PF".to_owned());
        }
        return Ok(PfName { name: entry.to_owned(), range: None });
    };
    let last = num_vfs.saturating_sub(1);
    let way_out = format!("write {name}#0-{last}");
    if name.is_empty() {
        return Err("names no PF before the #".to_owned());
    }
    let Some((first, end)) = range.split_once('-') else {
        return Err(format!("has no VF range behind the #; {way_out}"));
    };
    if end.is_empty() {
        return Err(format!("has no end to its VF range; {way_out}"));
    }
    let (Ok(first), Ok(end)) = (first.parse::<u32>(), end.parse::<u32>()) else {
        return Err(format!("has a VF range that is not two numbers; {way_out}"));
    };
    if end < first {
        return Err(format!("ends before it starts; {way_out}"));
    }
    if num_vfs == 0 {
        return Err("has a VF range and numVfs is 0; write the name alone or more VFs".to_owned());
    }
    if end > last {
        return Err(format!("ends at VF {end}, and numVfs {num_vfs} makes 0 to {last}; {way_out}"));
    }
    Ok(PfName { name: name.to_owned(), range: Some(VfRange { first, last: end }) })
}
