//! Machines as they are bought: distributions, cards, slots.

use super::Fault;
use super::machine::{Firmware, Function, FunctionKind, Machine, PhysicalPart, RdmaSubsystem};
use super::network::{HostNetwork, Sessions};
use super::pci::fnv;
use api::{EswitchMode, PciAddress, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The distribution, as far as its levers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Flavour {
    /// `grubby`.
    Rhel,
    /// `update-grub` and `/etc/default/grub.d`.
    Ubuntu,
    /// `rpm-ostree`.
    Coreos,
    /// `transactional-update`, a read-only root and snapshots of it.
    SleMicro,
    /// No tool for the kernel command line; `modprobe.d` can be written.
    NoTool,
    /// No tool, and `/etc` is read-only.
    Immutable,
}

/// Vendor and device of the soft card. It is no PCI device, so the numbers are nobody's.
pub(super) const NETDEVSIM: (&str, &str) = ("ffff", "0001");

impl Flavour {
    pub(super) fn etc_writable(self) -> bool {
        self != Self::Immutable
    }

    fn os_release(self) -> &'static str {
        match self {
            Self::Rhel => {
                "ID=\"rhel\"\nID_LIKE=\"fedora\"\nVERSION_ID=\"9.6\"\nPRETTY_NAME=\"Red Hat Enterprise Linux 9.6\"\n"
            }
            Self::Ubuntu => {
                "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nPRETTY_NAME=\"Ubuntu 24.04 LTS\"\n"
            }
            Self::Coreos => {
                "ID=rhcos\nID_LIKE=\"rhel fedora\"\nVARIANT_ID=coreos\nPRETTY_NAME=\"Red Hat Enterprise Linux CoreOS\"\n"
            }
            Self::SleMicro => {
                "ID=\"sl-micro\"\nID_LIKE=\"suse\"\nVERSION_ID=\"6.1\"\nPRETTY_NAME=\"SUSE Linux Micro 6.1\"\n"
            }
            Self::NoTool => {
                "ID=\"sles\"\nID_LIKE=\"suse\"\nVERSION_ID=\"15.7\"\nPRETTY_NAME=\"SUSE Linux Enterprise Server 15 SP7\"\n"
            }
            Self::Immutable => "ID=talos\nVERSION_ID=v1.11\nPRETTY_NAME=\"Talos (v1.11)\"\n",
        }
    }
}

impl Machine {
    /// A machine without cards, not yet powered on.
    pub fn new(name: &str, flavour: Flavour, clock: Timestamp) -> Self {
        let arguments: Vec<String> =
            ["BOOT_IMAGE=/vmlinuz", "root=/dev/sda2", "ro"].map(str::to_owned).into();
        let mut files = BTreeMap::new();
        let mut put =
            |path: &str, text: &str| files.insert(path.to_owned(), text.as_bytes().to_vec());
        put("/etc/os-release", flavour.os_release());
        put("/etc/hostname", &format!("{name}\n"));
        // What it does is in `programs`; callers look for the file first.
        put("/opt/cni/bin/host-local", "ELF\n");
        let line = arguments[1..].join(" ");
        match flavour {
            Flavour::Rhel => put("/usr/sbin/grubby", "program"),
            Flavour::Ubuntu => {
                put("/usr/sbin/update-grub", "program");
                put(
                    "/etc/default/grub",
                    &format!("GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"{line}\"\n"),
                );
                put(super::programs::GRUB_CONFIG, &super::programs::grub_config(&line))
            }
            Flavour::Coreos => put("/usr/bin/rpm-ostree", "program"),
            Flavour::SleMicro => {
                put("/usr/sbin/transactional-update", "program");
                put(
                    "/etc/default/grub",
                    &format!("GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX=\"{line}\"\n"),
                );
                put(&super::programs::snapshot_config(1), &super::programs::grub_config(&line))
            }
            Flavour::NoTool | Flavour::Immutable => None,
        };
        Self {
            name: name.to_owned(),
            flavour,
            clock,
            uptime: Duration::ZERO,
            vdpa: BTreeMap::new(),
            boots: 0,
            boot_id: String::new(),
            reboot_requested: None,
            kernel_arguments: arguments.clone(),
            next_kernel_arguments: arguments,
            modules: BTreeSet::new(),
            files,
            directories: BTreeSet::new(),
            units: BTreeSet::new(),
            functions: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            namespace_paths: BTreeMap::new(),
            processes: BTreeMap::new(),
            links: BTreeMap::new(),
            network: None,
            sessions: Sessions::default(),
            rdma: RdmaSubsystem::default(),
            pending: Vec::new(),
            renames_while_up: false,
            hides_parents: false,
            faults: BTreeSet::new(),
            broken: BTreeMap::new(),
            serial: 0,
        }
    }

    /// The worker of the guide, running: two ConnectX-5 ports of one card (the first is `enp3s0f0`) and an E810 on
    /// NUMA node 0, two ConnectX-7 on both nodes, an 82576 port, and a lifeline that is none of ours.
    pub fn rdma_worker(name: &str, flavour: Flavour, clock: Timestamp) -> Self {
        let mut machine = Self::new(name, flavour, clock);
        machine.add_lifeline(0x01);
        machine.add_connectx5(0x03, 0);
        machine.add_82576(0x07, 0);
        machine.add_connectx7(0x3b, 0, false);
        machine.add_e810(0x5e, 0);
        machine.add_connectx7(0xaf, 1, false);
        machine.boot();
        machine
    }

    /// The smallest worker: a lifeline and one card with two ConnectX-5 ports, running.
    pub fn small_worker(name: &str, flavour: Flavour, clock: Timestamp) -> Self {
        let mut machine = Self::new(name, flavour, clock);
        machine.add_lifeline(0x01);
        machine.add_connectx5(0x03, 0);
        machine.boot();
        machine
    }

    /// A worker whose own network is a bond (`bond0`) over the ports of the two cards on buses 3 and 59, which policies
    /// may select: a host that has no other card to live by.
    pub fn bonded_worker(name: &str, flavour: Flavour, clock: Timestamp) -> Self {
        let mut machine = Self::new(name, flavour, clock);
        machine.add_connectx7(0x03, 0, false);
        machine.add_82576(0x07, 0);
        machine.add_connectx7(0x3b, 0, false);
        machine.add_connectx7(0xaf, 1, false);
        let legs = [0x03, 0x3b].map(|bus| PciAddress { domain: 0, bus, device: 0, function: 0 });
        machine.live_on(&legs);
        machine.boot();
        machine
    }

    /// From the next boot on the host's own network is a bond over these ports.
    pub fn live_on(&mut self, legs: &[PciAddress]) {
        self.network = Some(HostNetwork {
            bond: Some("bond0".to_owned()),
            legs: legs.to_vec(),
            address: (Ipv4Addr::new(10, 0, 0, 11).into(), 24),
            gateway: Ipv4Addr::new(10, 0, 0, 1).into(),
        });
    }

    /// The machine with one fault more.
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.insert(fault);
        self
    }

    /// A plain NIC (I210) that carries the node's own address.
    pub fn add_lifeline(&mut self, bus: u8) {
        let mac = self.mac(bus, 0);
        let mut function = self.function(bus, 0, 0, ("8086", "1533"));
        function.kind = FunctionKind::Plain { mac };
        self.insert(bus, 0, function);
    }

    /// A card with two ConnectX-5 ports: functions 0 and 1, 8 VFs each.
    pub fn add_connectx5(&mut self, bus: u8, numa_node: i32) {
        self.add_mellanox(bus, numa_node, ("1017", "1018"), 2, 100_000, false);
    }

    /// A ConnectX-7 with one port, 16 VFs.
    pub fn add_connectx7(&mut self, bus: u8, numa_node: i32, infiniband: bool) {
        self.add_mellanox(bus, numa_node, ("1021", "101e"), 1, 400_000, infiniband);
    }

    fn add_mellanox(
        &mut self,
        bus: u8,
        numa_node: i32,
        (device, vf_device): (&str, &str),
        ports: u8,
        speed: u32,
        infiniband: bool,
    ) {
        let total: u32 = if ports == 2 { 8 } else { 16 };
        for port in 0..ports {
            let mut part = self.physical_part(bus, port, vf_device, total, speed);
            // The VFs of the first port follow the PFs, those of the second follow the first's.
            part.offset = if ports == 1 { 1 } else { 2 + u16::from(port) * (total as u16 - 1) };
            part.infiniband = infiniband;
            part.firmware = Some(firmware(total, ports, infiniband));
            let mut function = self.function(bus, port, numa_node, ("15b3", device));
            if infiniband {
                function.class = 0x02_0700;
            }
            function.kind = FunctionKind::Physical(Box::new(part));
            self.insert(bus, port, function);
        }
    }

    /// What the card on this bus is delivered with; `takes_writes: false` is one that only a cold start would change.
    /// Call it before `boot`.
    pub fn deliver_firmware(&mut self, bus: u8, sriov: bool, vfs: u32, takes_writes: bool) {
        for (pci, function) in &mut self.functions {
            let FunctionKind::Physical(part) = &mut function.kind else { continue };
            let Some(firmware) = part.firmware.as_mut().filter(|_| pci.bus == bus) else {
                continue;
            };
            let enabled = if sriov { "True(1)" } else { "False(0)" };
            firmware.next.insert("SRIOV_EN".to_owned(), enabled.to_owned());
            firmware.next.insert("NUM_OF_VFS".to_owned(), vfs.to_string());
            firmware.current = firmware.next.clone();
            firmware.ignores_writes = !takes_writes;
        }
    }

    /// A driver that lists SR-IOV among its permanent parameters, as mlx5 does since 6.17
    /// (drivers/net/ethernet/mellanox/mlx5/core/lib/nv_param.c).
    pub fn list_firmware_in_devlink(&mut self, bus: u8) {
        for (pci, function) in &mut self.functions {
            let FunctionKind::Physical(part) = &mut function.kind else { continue };
            let Some(firmware) = part.firmware.as_ref().filter(|_| pci.bus == bus) else {
                continue;
            };
            let text = |name: &str| firmware.next.get(name).cloned().unwrap_or_default();
            let permanent = |value: String| BTreeMap::from([("permanent".to_owned(), value)]);
            let enabled = text("SRIOV_EN").starts_with("True").to_string();
            part.parameters.insert("enable_sriov".to_owned(), permanent(enabled));
            part.parameters.insert("total_vfs".to_owned(), permanent(text("NUM_OF_VFS")));
        }
    }

    /// A worker whose ConnectX-5 cards come as cards do: SR-IOV off (bus 3), room for 2 VFs (bus 5), and firmware that
    /// shows what was set and never uses it (bus 9).
    pub fn firmware_worker(name: &str, flavour: Flavour, clock: Timestamp) -> Self {
        let mut machine = Self::new(name, flavour, clock);
        machine.add_lifeline(0x01);
        for (bus, sriov, vfs, takes_writes) in
            [(0x03, false, 0, true), (0x05, true, 2, true), (0x09, true, 2, false)]
        {
            machine.add_connectx5(bus, 0);
            machine.deliver_firmware(bus, sriov, vfs, takes_writes);
        }
        machine.boot();
        machine
    }

    /// An Intel E810, 64 VFs.
    pub fn add_e810(&mut self, bus: u8, numa_node: i32) {
        let mut part = self.physical_part(bus, 0, "1889", 64, 100_000);
        part.offset = 8;
        let mut function = self.function(bus, 0, numa_node, ("8086", "1592"));
        function.kind = FunctionKind::Physical(Box::new(part));
        self.insert(bus, 0, function);
    }

    /// An Intel 82576 port: 7 VFs at offset 128, stride 2 (lab.md section 2).
    pub fn add_82576(&mut self, bus: u8, numa_node: i32) {
        let mut part = self.physical_part(bus, 0, "10ca", 7, 1000);
        (part.offset, part.stride) = (128, 2);
        let mut function = self.function(bus, 0, numa_node, ("8086", "10c9"));
        function.kind = FunctionKind::Physical(Box::new(part));
        self.insert(bus, 0, function);
    }

    /// The soft card of the lab, which has a switch and whose VFs have neither driver nor interface: netdevsim, with the
    /// SR-IOV of a firmware among its parameters (xtask, lab/builder.rs).
    pub fn add_netdevsim(&mut self, bus: u8) {
        let mut part = self.physical_part(bus, 0, "0002", 4, u32::MAX);
        let permanent = |value: &str| BTreeMap::from([("permanent".to_owned(), value.to_owned())]);
        part.parameters = BTreeMap::from([
            ("enable_sriov".to_owned(), permanent("false")),
            ("total_vfs".to_owned(), permanent("4")),
        ]);
        let mut function = self.function(bus, 0, 0, NETDEVSIM);
        function.kind = FunctionKind::Physical(Box::new(part));
        self.insert(bus, 0, function);
    }

    fn physical_part(
        &self,
        bus: u8,
        port: u8,
        vf_device: &str,
        total_vfs: u32,
        speed: u32,
    ) -> PhysicalPart {
        let mac = self.mac(bus, port);
        PhysicalPart {
            mac,
            guid: super::pci::guid_from_mac(&mac),
            infiniband: false,
            port: u32::from(port),
            total_vfs,
            num_vfs: 0,
            vf_device: vf_device.to_owned(),
            offset: 1,
            stride: 1,
            autoprobe: true,
            eswitch: EswitchMode::Legacy,
            speed,
            vfs: BTreeMap::new(),
            firmware: None,
            parameters: BTreeMap::new(),
        }
    }

    fn function(
        &self,
        bus: u8,
        port: u8,
        numa_node: i32,
        (vendor, device): (&str, &str),
    ) -> Function {
        let domain = u8::from(numa_node > 0) * 0x80;
        let bridge = PciAddress { domain: 0, bus: domain, device: bus & 0x1f, function: 0 };
        Function {
            vendor: vendor.to_owned(),
            device: device.to_owned(),
            class: 0x02_0000,
            driver: None,
            driver_override: None,
            numa_node,
            iommu_group: Some(u32::from(bus) * 8 + u32::from(port)),
            root: format!("pci0000:{domain:02x}"),
            bridges: vec![bridge],
            kind: FunctionKind::Bridge,
        }
    }

    fn insert(&mut self, bus: u8, port: u8, function: Function) {
        for bridge in &function.bridges {
            let above = Function {
                vendor: "8086".to_owned(),
                device: "2030".to_owned(),
                class: 0x06_0400,
                driver: None,
                driver_override: None,
                numa_node: function.numa_node,
                iommu_group: None,
                root: function.root.clone(),
                bridges: Vec::new(),
                kind: FunctionKind::Bridge,
            };
            self.functions.entry(*bridge).or_insert(above);
        }
        self.functions.insert(PciAddress { domain: 0, bus, device: 0, function: port }, function);
    }

    fn mac(&self, bus: u8, port: u8) -> [u8; 6] {
        let spread = fnv(&self.name).to_be_bytes();
        [0x0c, 0x42, 0xa1, spread[6], spread[7] ^ bus, bus.wrapping_mul(16) ^ port]
    }
}

/// The firmware of a card as delivered with SR-IOV on.
fn firmware(total_vfs: u32, ports: u8, infiniband: bool) -> Firmware {
    let link_type = if infiniband { "IB(1)" } else { "ETH(2)" };
    let mut values = BTreeMap::from([
        ("NUM_OF_VFS".to_owned(), total_vfs.to_string()),
        ("SRIOV_EN".to_owned(), "True(1)".to_owned()),
    ]);
    for port in 1..=ports {
        values.insert(format!("LINK_TYPE_P{port}"), link_type.to_owned());
    }
    Firmware { current: values.clone(), next: values, ignores_writes: false }
}
