//! A machine as plain data, and what each action makes of it: the pure model that scenarios and properties run on.

#![allow(dead_code, reason = "each test binary uses a part of the model")]

pub mod drive;

use api::inventory::{
    FirmwareFacts, Inventory, PhysicalFunction, RdmaModule, RdmaModules, VirtualFunction,
};
use api::nodestate::{InterfaceStatus, RebootRecord};
use api::{EswitchMode, LinkType, PciAddress, RdmaMode, Timestamp};
use planner::Action;
use planner::action::{RebootCause, VfDriver};
use planner::order::Leave;
use planner::{Permission, Turn};
use std::collections::BTreeSet;

/// One host. What a boot reads (the next command line) is not in the inventory, as on a real one.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub inventory: Inventory,
    pub next_argument: Option<RdmaMode>,
    /// What the boot unit was told.
    pub armed: Option<RdmaMode>,
    /// The mode without any lever.
    pub default_mode: Option<RdmaMode>,
    pub ignores_levers: bool,
    /// The host does not go down when asked.
    pub ignores_reboot: bool,
    pub firmware_ignores: bool,
    pub bios_off: bool,
    pub no_firmware_writes: bool,
    /// `featureGates.rdmaModeReload`.
    pub mode_reload: bool,
    /// The kernel sees a network namespace that we do not.
    pub refuses_switch: bool,
    /// A reload unloads the modules and cannot load them again.
    pub loads_no_more: bool,
    /// A module does not go when it is told to.
    pub module_stays: bool,
    /// Somebody reads the status and does what it says.
    pub person_reboots: bool,
    pub leave: Leave,
    /// VFs in resources that the device plugin may give away.
    pub offered: BTreeSet<PciAddress>,
    /// Withdrawn, and still in the Node's allocatable.
    pub counted: BTreeSet<PciAddress>,
    /// PFs whose VFs no driver takes at present.
    pub without_autoprobe: BTreeSet<PciAddress>,
    pub boots: u32,
    pub now: Timestamp,
}

pub fn pf(pci: &str, name: &str, vendor: &str, device: &str) -> PhysicalFunction {
    PhysicalFunction {
        pci: pci.parse().unwrap(),
        name: name.to_owned(),
        alt_names: vec![],
        mac: format!("0c:42:a1:{}", pci[5..].replace(['.'], ":").replace("00:", "aa:")),
        vendor: vendor.to_owned(),
        device: device.to_owned(),
        driver: Some(if vendor == "15b3" { "mlx5_core" } else { "ice" }.to_owned()),
        mtu: 1500,
        admin_up: true,
        speed: Some(100_000),
        link_type: Some(LinkType::Ethernet),
        eswitch: EswitchMode::Legacy,
        total_vfs: Some(16),
        vf_device: Some("1018".to_owned()),
        numa_node: Some(0),
        pci_path: String::new(),
        iommu_group: None,
        rdma_device: Some("mlx5_0".to_owned()),
        node_guid: None,
        port_state: None,
        firmware: None,
        net_filter: String::new(),
        unreadable: None,
        vfs: vec![],
    }
}

/// The address of a VF: each PF has eight PCI devices for its VFs.
pub fn vf_address(pf: &PciAddress, index: u32) -> PciAddress {
    let index = u8::try_from(index).unwrap();
    let device = 1 + pf.function * 8 + index / 8;
    PciAddress { device, function: index % 8, ..*pf }
}

pub fn new_vf(pf: &PhysicalFunction, index: u32) -> VirtualFunction {
    VirtualFunction {
        pci: vf_address(&pf.pci, index),
        index,
        driver: None,
        name: None,
        mac: None,
        admin_mac: None,
        mtu: None,
        permanent_mac: None,
        vlan: 0,
        device: "1018".to_owned(),
        rdma_device: None,
        rdma_device_anywhere: None,
        guid: None,
        admin_guid: None,
        representor: None,
        iommu_group: None,
        vdpa: None,
        in_pod: None,
    }
}

/// A VF as a finished configuration leaves it.
pub fn ready_vf(pf: &PhysicalFunction, index: u32) -> VirtualFunction {
    let mut vf = new_vf(pf, index);
    vf.admin_mac = Some(planner::functions::derived_mac(&pf.mac, index));
    bind(pf, &mut vf, VfDriver::Default);
    vf
}

fn bind(pf: &PhysicalFunction, vf: &mut VirtualFunction, driver: VfDriver) {
    match driver {
        VfDriver::VfioPci => {
            vf.driver = Some("vfio-pci".to_owned());
            (vf.name, vf.mac, vf.mtu, vf.rdma_device) = (None, None, None, None);
        }
        VfDriver::Default => {
            vf.driver = pf.driver.clone();
            vf.name = Some(format!("{}v{}", pf.name, vf.index));
            vf.mac = vf.admin_mac.clone();
            vf.permanent_mac = vf.admin_mac.clone();
            vf.mtu = Some(1500);
            if pf.vendor == "15b3" {
                vf.rdma_device = Some(format!("mlx5_{}", vf.index + 2));
                let guid = match vf.admin_mac {
                    Some(_) => "0242:a1ff:fe00:0001",
                    None => planner::functions::NO_GUID,
                };
                vf.guid.get_or_insert(guid.to_owned());
            }
        }
    }
}

impl Machine {
    /// One action, as a healthy host does it.
    pub fn apply(&mut self, action: &Action) {
        let rdma = &mut self.inventory.rdma;
        match action {
            Action::SetModprobeOption { mode, .. } => rdma.modprobe_option = Some(*mode),
            Action::RemoveModprobeOption => rdma.modprobe_option = None,
            Action::SetKernelArgument { mode, .. } => self.next_argument = Some(*mode),
            // What a file of somebody else's says stays.
            Action::RemoveKernelArgument { .. } => {
                self.next_argument = rdma.kernel_argument_elsewhere.as_ref().map(|(mode, _)| *mode);
            }
            Action::ArmBootUnit { mode } => {
                assert!(rdma.boot_unit, "there is no boot unit");
                self.armed = Some(*mode);
            }
            Action::SwitchRdmaMode { mode } => {
                assert_eq!(rdma.other_namespaces, 0, "EBUSY: other network namespaces exist");
                if self.refuses_switch {
                    let Inventory { reboots, boot_id, .. } = &self.inventory;
                    let what = (*mode, "device or resource busy");
                    self.inventory.reboots =
                        planner::live_switch::refuse(reboots, what, boot_id, self.now);
                } else {
                    rdma.mode = Some(*mode);
                }
            }
            Action::ReloadRdma { mode, modules } => {
                assert_eq!(modules.last().map(String::as_str), Some("ib_core"));
                let mode = *mode;
                if self.loads_no_more {
                    (rdma.mode, rdma.half_loaded) = (None, true);
                } else if !self.module_stays {
                    rdma.mode = Some(mode);
                }
                let what = (mode, vec!["modprobe.d".to_owned()]);
                let Inventory { reboots, boot_id, .. } = &self.inventory;
                let retry = &self.leave.retry;
                let booked = planner::reload::book(reboots, what, boot_id, retry, self.now);
                self.inventory.reboots = match self.module_stays || self.loads_no_more {
                    true => planner::reload::fail(booked, "rmmod: Module ib_uverbs is in use"),
                    false => booked,
                };
            }
            Action::Reboot { causes, attempt } => {
                self.book(causes, *attempt);
                if !self.ignores_reboot {
                    self.boot();
                }
            }
            Action::RaiseFirmware { pf, vfs, .. } => {
                if let Some(FirmwareFacts::Known(known)) = self.inventory.firmware.get_mut(pf) {
                    known.enabled.next = true;
                    known.vfs.next = known.vfs.next.max(*vfs);
                }
            }
            Action::LeaveReboot { causes } => self.book(causes, 0),
            Action::StartKubelet => {}
            Action::SettleMode { keeps } => {
                self.inventory.reboots = planner::ledger::settle(&self.inventory.reboots, *keeps);
            }
            Action::RememberFunction { interface } => {
                let pci = interface.pci_address;
                if !self.inventory.configured.contains(&pci) {
                    self.inventory.configured.push(pci);
                }
                let external = &mut self.inventory.external;
                match interface.externally_managed {
                    true => external.insert(pci),
                    false => external.remove(&pci),
                };
                let allowed = &mut self.inventory.lifelines_allowed;
                match interface.allow_lifeline {
                    true => allowed.insert(pci),
                    false => allowed.remove(&pci),
                };
            }
            Action::ForgetFunction { pf } => {
                self.inventory.configured.retain(|pci| pci != pf);
                self.inventory.lifelines_allowed.remove(pf);
                self.inventory.external.remove(pf);
            }
            Action::SetVfCount { pf, count, probe } => {
                let pf = self.function(pf);
                assert!(*count <= pf.total_vfs.unwrap(), "ERANGE");
                pf.vfs = (0..*count).map(|index| new_vf(pf, index)).collect();
                assert!(!probe, "the planner never asks for probed VFs");
                let pci = pf.pci;
                if *count > 0 {
                    self.without_autoprobe.insert(pci);
                }
            }
            Action::RestoreAutoprobe { pf } => {
                assert!(self.without_autoprobe.remove(pf), "nothing is held");
            }
            Action::SetEswitchMode { pf, mode } => {
                let pf = self.function(pf);
                assert!(pf.vfs.is_empty(), "EBUSY: the PF has VFs");
                pf.eswitch = *mode;
            }
            Action::SetPfMtu { pf, mtu } => self.function(pf).mtu = *mtu,
            Action::SetPfUp { pf } => self.function(pf).admin_up = true,
            Action::SetVfMac { pf, vf, mac } => self.vf(pf, *vf).1.admin_mac = Some(mac.clone()),
            Action::SetVfGuid { pf, vf, guid } => self.vf(pf, *vf).1.guid = Some(guid.clone()),
            Action::UnbindVf { pf, vf } => {
                let (pf, vf) = self.vf(pf, *vf);
                vf.driver = None;
                (vf.name, vf.mac, vf.mtu, vf.rdma_device) = (None, None, None, None);
                if pf.link_type == Some(LinkType::Ethernet) {
                    vf.guid = None;
                }
            }
            Action::BindVf { pf, vf, driver } => {
                assert!(!self.without_autoprobe.contains(pf), "ENODEV: no driver takes it");
                let (pf, vf) = self.vf(pf, *vf);
                bind(&pf, vf, *driver);
            }
            Action::SetVfMtu { pf, vf, mtu } => self.vf(pf, *vf).1.mtu = Some(*mtu),
            Action::LoadVhost => self.inventory.vhost_missing.clear(),
        }
    }

    pub fn permission(&self, turn: Turn) -> Permission {
        Permission {
            turn,
            offered: self.offered.clone(),
            counted: self.counted.clone(),
            reboots: self.leave.clone(),
            mode_reload: self.mode_reload,
            no_firmware_writes: self.no_firmware_writes,
        }
    }

    fn book(&mut self, causes: &[RebootCause], attempt: u32) {
        let Inventory { reboots, boot_id, .. } = &self.inventory;
        let what = (causes, attempt);
        self.inventory.reboots =
            planner::ledger::book(reboots, what, boot_id, &self.leave.retry, self.now);
    }

    pub fn boot(&mut self) {
        self.boots += 1;
        let inventory = &mut self.inventory;
        inventory.boot_id = format!("boot-{}", self.boots);
        inventory.holders.clear();
        for (pci, facts) in &mut inventory.firmware {
            let FirmwareFacts::Known(known) = facts else { continue };
            if self.firmware_ignores {
                continue;
            }
            known.enabled.current = known.enabled.next;
            known.vfs.current = known.vfs.next;
            let pf = inventory.physical_functions.iter_mut().find(|pf| pf.pci == *pci).unwrap();
            pf.total_vfs = known.enabled.current.then_some(known.vfs.current);
            if self.bios_off {
                pf.total_vfs = None;
            }
        }
        for pf in &mut inventory.physical_functions {
            pf.vfs.clear();
            pf.eswitch = EswitchMode::Legacy;
        }
        let rdma = &mut inventory.rdma;
        rdma.half_loaded = false;
        rdma.kernel_argument = self.next_argument;
        let levers = self.next_argument.or(rdma.modprobe_option).filter(|_| !self.ignores_levers);
        rdma.mode = self.armed.or(levers).or(self.default_mode);
        self.offered.clear();
    }

    fn function(&mut self, pci: &PciAddress) -> &mut PhysicalFunction {
        let mut functions = self.inventory.physical_functions.iter_mut();
        functions.find(|pf| pf.pci == *pci).expect("the planner names a PF that exists")
    }

    fn vf(&mut self, pci: &PciAddress, index: u32) -> (PhysicalFunction, &mut VirtualFunction) {
        let pf = self.function(pci);
        let copy = pf.clone();
        let vf = pf.vfs.iter_mut().find(|vf| vf.index == index);
        (copy, vf.expect("the planner names a VF that exists"))
    }

    /// What the daemon would report of this host.
    pub fn interfaces(&self) -> Vec<InterfaceStatus> {
        let interface = |pf: &PhysicalFunction| InterfaceStatus {
            lifelines: planner::lifeline::of_card(pf, &self.inventory),
            roce_lag: self.inventory.roce_lags.get(&pf.pci).cloned().unwrap_or_default(),
            ..status(pf)
        };
        self.inventory.physical_functions.iter().map(interface).collect()
    }
}

pub fn status(pf: &PhysicalFunction) -> InterfaceStatus {
    InterfaceStatus {
        pci_address: pf.pci,
        name: pf.name.clone(),
        mac: pf.mac.clone(),
        driver: pf.driver.clone().unwrap_or_default(),
        vendor: pf.vendor.clone(),
        device_id: pf.device.clone(),
        net_filter: pf.net_filter.clone(),
        mtu: i64::from(pf.mtu),
        num_vfs: i64::try_from(pf.vfs.len()).unwrap(),
        link_speed: String::new(),
        link_type: pf.link_type.map(|link| link.to_string()).unwrap_or_default(),
        link_admin_state: "up".to_owned(),
        eswitch_mode: pf.eswitch.to_string(),
        externally_managed: false,
        total_vfs: i64::from(pf.total_vfs.unwrap_or(0)),
        alt_names: pf.alt_names.clone(),
        vfs: vec![],
        lifelines: vec![],
        roce_lag: String::new(),
        pci_path: String::new(),
        numa_node: None,
        iommu_group: None,
        rdma_device: String::new(),
        node_guid: String::new(),
        port_state: String::new(),
        firmware: None,
    }
}

/// What a healthy host has loaded for a ConnectX.
pub fn rdma_modules() -> RdmaModules {
    let stack = ["ib_umad", "mlx5_ib", "rdma_ucm", "ib_uverbs", "rdma_cm", "ib_core"];
    let module = |name: &str| RdmaModule { name: name.to_owned(), out_of_tree: false };
    let devices = vec!["mlx5_0".to_owned()];
    RdmaModules {
        stack: stack.map(module).into(),
        kernel_users: [("ib_core".to_owned(), devices.clone())].into(),
        devices,
        addressed_ipoib: vec![],
    }
}

/// A record of a reboot that somebody asked for in an earlier boot.
pub fn record(goal: &str, boot: &str, outcome: api::nodestate::RebootOutcome) -> RebootRecord {
    RebootRecord {
        reason: if goal.contains(':') { "Firmware" } else { "RdmaMode" }.to_owned(),
        goal: goal.to_owned(),
        boot_id_before: boot.to_owned(),
        attempt: 1,
        levers: vec!["modprobe.d".to_owned()],
        asked_at: Timestamp::UNIX_EPOCH,
        retry: String::new(),
        outcome,
        undone: false,
    }
}
