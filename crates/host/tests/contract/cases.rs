//! The contract of the seam: what a host answers, told as lines of text, over whatever implements it.
//!
//! The same cases run over the simulation (`tests/contract.rs`, where the lines are written down) and in the lab over the
//! running kernel with a real driver, where the lines must be the simulation's. An 82576 port is the card, because it is
//! the one that QEMU emulates. Addresses and names are told by their role (`PF`, `VF0`), so that the lines do not depend
//! on the slot.

use api::{PciAddress, RdmaMode};
use host::seam::{
    Host, Interest, Link, LinkChange, LinkQuery, Namespace, Program, RdmaChange, Refusal, VfLink,
    VfLinkState, VfSetting, Vlan, words,
};
use std::fmt::Display;
use std::time::Duration;

/// What a case needs besides the seam, since the product never makes a namespace.
pub trait Pods {
    /// Makes a network namespace.
    fn start(&self) -> Namespace;
    /// Ends all that were made.
    fn end(&self);
    /// Makes an RDMA device on each function, where the card's own driver makes none.
    #[allow(dead_code)] // Not every program has such cases.
    fn rdma_devices(&self, _functions: &[PciAddress]) {}
}

/// One case on its stage.
pub struct Stage<'a> {
    pub host: &'a dyn Host,
    pub pods: &'a dyn Pods,
    /// The port under test.
    pub pf: PciAddress,
    /// A port that is left alone, whose name is taken.
    pub other: PciAddress,
    pub lines: Vec<String>,
}

/// A case: its sentence, and what it does. It leaves the card as it found it: no VFs, automatic probing.
pub type Case = (&'static str, fn(&mut Stage<'_>));

pub const CASES: [Case; 14] = [
    ("a card tells what it can and has no vfs", card),
    ("a vf count goes from zero to a number and back, and no other way", vf_count),
    ("a vf knows its card, and the card its vfs", vfs),
    ("without automatic probing a vf takes a driver only by override", autoprobe),
    ("a driver is unbound and bound, and what is wrong is refused", driver_bind),
    ("a vf is given to vfio-pci and taken away under it", vfio),
    ("the settings of a vf are taken or refused, and read back", vf_settings),
    ("an interface is changed, and what is wrong is refused", link_changes),
    ("a vf in a pod is found by its parent, and comes home with the pod's end", vf_in_pod),
    ("a vf takes its card's address whenever it is closed, and may have no other", closed),
    ("vfs vanish with their driver's card, wherever they are", card_unbound),
    ("a file of the kernel is read and refused as it is", kernel_files),
    ("the modules of rdma bring the core with them, and hold it", modules),
    ("the rdma mode changes while no other namespace exists", rdma_mode),
];

/// Runs a case and returns its lines.
pub fn run(
    case: &Case,
    host: &dyn Host,
    pods: &dyn Pods,
    pf: PciAddress,
    other: PciAddress,
) -> String {
    let mut stage = Stage { host, pods, pf, other, lines: Vec::new() };
    (case.1)(&mut stage);
    pods.end();
    let autoprobe = host.write(&pf.file("sriov_drivers_autoprobe"), "1");
    let none = host.write(&pf.file("sriov_numvfs"), "0");
    if autoprobe.is_err() || none.is_err() {
        stage.lines.push("the card could not be put back".to_owned());
    }
    stage.lines.join("\n")
}

impl Stage<'_> {
    pub fn say(&mut self, what: &str, outcome: Result<impl Display, Refusal>) {
        let outcome = match outcome {
            Ok(value) => value.to_string(),
            Err(refusal) => words(refusal.errno),
        };
        let outcome = self.roles(&outcome);
        self.lines.push(format!("{what}: {outcome}"));
    }

    /// The address of a VF by the kernel's rule: the first at an offset from the card, each next a stride further.
    pub fn vf(&self, index: u32) -> PciAddress {
        let number = |name: &str| {
            self.read(name).ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0)
        };
        let pf = self.pf;
        let own = (u32::from(pf.bus) << 8) | (u32::from(pf.device) << 3) | u32::from(pf.function);
        let id = own + number("sriov_offset") + number("sriov_stride") * index;
        let byte = |value: u32| u8::try_from(value & 0xff).expect("masked to a byte");
        PciAddress {
            bus: byte(id >> 8),
            device: byte((id >> 3) & 31),
            function: byte(id & 7),
            ..pf
        }
    }

    /// Text with what differs from slot to slot replaced by its role.
    pub fn roles(&self, text: &str) -> String {
        let mut text = text.replace(&self.pf.to_string(), "PF");
        for index in 0..7 {
            text = text.replace(&self.vf(index).to_string(), &format!("VF{index}"));
        }
        text
    }

    /// A file of the card.
    pub fn read(&self, name: &str) -> Result<String, Refusal> {
        self.read_of(self.pf, name)
    }

    pub fn read_of(&self, device: PciAddress, name: &str) -> Result<String, Refusal> {
        let content = self.host.read(&device.file(name))?;
        Ok(String::from_utf8_lossy(&content).trim().to_owned())
    }

    /// Writes a file of the card and tells what came of it.
    pub fn write(&mut self, name: &str, content: &str) {
        let outcome = self.host.write(&self.pf.file(name), content).map(|()| "done");
        self.say(&format!("{name} <- {content}"), outcome);
    }

    fn write_to(&mut self, what: &str, path: &str, content: &str) {
        let outcome = self.host.write(path, content).map(|()| "done");
        self.say(what, outcome);
    }

    /// The last step of a symbolic link of a function.
    fn link_of(&self, device: PciAddress, name: &str) -> Result<String, Refusal> {
        let target = self.host.link_target(&device.file(name))?;
        Ok(target.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// The interface of a function in a namespace, as netlink knows it.
    pub fn netdev(&self, space: &Namespace, device: PciAddress) -> Option<Link> {
        let links = self.host.links(space, &LinkQuery::default()).ok()?;
        links.into_iter().find(|link| link.parent == Some(device.to_string()))
    }

    fn index(&self, space: &Namespace, device: PciAddress) -> u32 {
        self.netdev(space, device).map_or(0, |link| link.index)
    }

    fn change(&mut self, what: &str, space: &Namespace, change: &LinkChange) {
        let outcome = self.host.change_link(space, change).map(|()| "done");
        self.say(what, outcome);
    }

    fn set_vf(&mut self, what: &str, vf: u32, setting: VfSetting) {
        let link = self.index(&Namespace::Host, self.pf);
        self.change(what, &Namespace::Host, &LinkChange::Vf { link, vf, setting });
    }

    /// What the card's interface says of its VFs.
    fn vf_links(&self) -> Result<Vec<VfLink>, Refusal> {
        let index = Some(self.index(&Namespace::Host, self.pf));
        let query = LinkQuery { index, with_vfs: true, ..LinkQuery::default() };
        Ok(self.host.links(&Namespace::Host, &query)?.remove(0).vfs)
    }
}

fn card(stage: &mut Stage<'_>) {
    let names = [
        "vendor",
        "device",
        "class",
        "sriov_totalvfs",
        "sriov_numvfs",
        "sriov_offset",
        "sriov_stride",
        "sriov_vf_device",
        "sriov_drivers_autoprobe",
        "numa_node",
    ];
    for name in names {
        let value = stage.read(name);
        stage.say(name, value);
    }
    let driver = stage.link_of(stage.pf, "driver");
    stage.say("driver", driver);
    let group = stage.link_of(stage.pf, "iommu_group").map(|group| group.parse::<u32>().is_ok());
    stage.say("has an iommu group", group);
    let names = stage.host.list(&stage.pf.file("net")).map(|names| names.len());
    stage.say("interfaces", names);
    let link = stage.netdev(&Namespace::Host, stage.pf).unwrap_or_default();
    stage.lines.push(format!("hardware {} mtu {} vfs {:?}", link.hardware, link.mtu, link.num_vfs));
    let devlink = stage.host.devlink(&stage.pf).map(|device| format!("{device:?}"));
    stage.say("devlink", devlink);
    let infiniband = stage.host.list(&stage.pf.file("infiniband")).map(|names| names.len());
    stage.say("rdma devices", infiniband);
}

fn vf_count(stage: &mut Stage<'_>) {
    for count in ["2", "4", "2", "0", "4", "0", "8", "-1", "many", "7"] {
        stage.write("sriov_numvfs", count);
        let now = stage.read("sriov_numvfs");
        stage.say("  now", now);
    }
}

fn vfs(stage: &mut Stage<'_>) {
    stage.write("sriov_numvfs", "2");
    for name in ["virtfn0", "virtfn1", "virtfn2"] {
        let target = stage.link_of(stage.pf, name);
        stage.say(name, target);
    }
    let vf = stage.vf(1);
    for name in ["vendor", "device", "class", "numa_node", "sriov_totalvfs", "driver_override"] {
        let value = stage.read_of(vf, name);
        stage.say(&format!("VF1 {name}"), value);
    }
    for name in ["physfn", "driver"] {
        let target = stage.link_of(vf, name);
        stage.say(&format!("VF1 {name}"), target);
    }
    let link = stage.netdev(&Namespace::Host, vf).unwrap_or_default();
    let address = link.address.len();
    stage
        .lines
        .push(format!("VF1 interface: up {} mtu {} address of {address} bytes", link.up, link.mtu));
    let named = stage.host.list(&vf.file("net")).map(|names| names == [link.name]);
    stage.say("VF1 has the same name in sysfs", named);
    for (what, device) in [("the card", stage.pf), ("VF1", vf)] {
        let index = Some(stage.index(&Namespace::Host, device));
        let query = LinkQuery { index, with_vfs: true, ..LinkQuery::default() };
        let counted = stage.host.links(&Namespace::Host, &query);
        stage
            .say(&format!("{what} counts"), counted.map(|links| format!("{:?}", links[0].num_vfs)));
    }
}

fn autoprobe(stage: &mut Stage<'_>) {
    stage.write("sriov_drivers_autoprobe", "0");
    stage.write("sriov_numvfs", "1");
    let vf = stage.vf(0);
    let address = vf.to_string();
    let driver = stage.link_of(vf, "driver");
    stage.say("VF0 driver", driver);
    stage.write_to("bind VF0 to igbvf", "/sys/bus/pci/drivers/igbvf/bind", &address);
    stage.write_to("probe VF0", "/sys/bus/pci/drivers_probe", &address);
    let driver = stage.link_of(vf, "driver");
    stage.say("VF0 driver", driver);
    stage.write_to("override igbvf", &vf.file("driver_override"), "igbvf");
    stage.write_to("probe VF0", "/sys/bus/pci/drivers_probe", &address);
    let driver = stage.link_of(vf, "driver");
    stage.say("VF0 driver", driver);
    stage.write_to("no override", &vf.file("driver_override"), "\n");
    let value = stage.read_of(vf, "driver_override");
    stage.say("VF0 driver_override", value);
    stage.write("sriov_drivers_autoprobe", "2");
    stage.write("sriov_drivers_autoprobe", "1");
    let value = stage.read("sriov_drivers_autoprobe");
    stage.say("sriov_drivers_autoprobe", value);
}

fn driver_bind(stage: &mut Stage<'_>) {
    stage.write("sriov_numvfs", "1");
    let vf = stage.vf(0);
    let address = vf.to_string();
    let (bind, unbind) = ("/sys/bus/pci/drivers/igbvf/bind", "/sys/bus/pci/drivers/igbvf/unbind");
    stage.write_to("bind VF0 while it is bound", bind, &address);
    stage.write_to("unbind VF0", unbind, &address);
    stage.write_to("unbind VF0 again", unbind, &address);
    let driver = stage.link_of(vf, "driver");
    stage.say("VF0 driver", driver);
    let names = stage.host.list(&vf.file("net")).map(|names| names.len());
    stage.say("VF0 interfaces", names);
    stage.write_to("bind VF0 to igb", "/sys/bus/pci/drivers/igb/bind", &address);
    stage.write_to("bind VF0", bind, &address);
    let driver = stage.link_of(vf, "driver");
    stage.say("VF0 driver", driver);
    stage.write_to("bind what is not there", bind, "0000:ff:1f.7");
    stage.write_to("probe what is not there", "/sys/bus/pci/drivers_probe", "0000:ff:1f.7");
    stage.write_to("bind to no driver", "/sys/bus/pci/drivers/nothing/bind", &address);
}

fn vfio(stage: &mut Stage<'_>) {
    let load = stage.host.run(&Program::Modprobe, &["vfio-pci"], b"").map(|output| output.status);
    stage.say("modprobe vfio-pci", load);
    stage.write("sriov_numvfs", "2");
    let vf = stage.vf(1);
    let address = vf.to_string();
    stage.write_to("override vfio-pci", &vf.file("driver_override"), "vfio-pci");
    stage.write_to("unbind VF1", "/sys/bus/pci/drivers/igbvf/unbind", &address);
    stage.write_to("probe VF1", "/sys/bus/pci/drivers_probe", &address);
    let driver = stage.link_of(vf, "driver");
    stage.say("VF1 driver", driver);
    let names = stage.host.list(&vf.file("net")).map(|names| names.len());
    stage.say("VF1 interfaces", names);
    stage.write("sriov_numvfs", "0");
    let left = stage.host.list("/sys/bus/pci/drivers/vfio-pci");
    let left = left.map(|names| names.contains(&address));
    stage.say("vfio-pci still has VF1", left);
}

fn vf_settings(stage: &mut Stage<'_>) {
    use VfSetting as S;
    stage.write("sriov_numvfs", "2");
    // A rate is a share of the link's speed, and there is none without a link.
    let running = stage.running();
    stage.lines.push(format!("the card is running: {running}"));
    let vlan = |id, qos, protocol| S::Vlan(Vlan { id, qos, protocol });
    stage.set_vf("mac", 0, S::Mac([2, 0x11, 0x22, 0x33, 0x44, 0x55]));
    stage.set_vf("multicast mac", 0, S::Mac([1, 0, 0, 0, 0, 1]));
    stage.set_vf("vlan 100 qos 3", 0, vlan(100, 3, 0x8100));
    stage.set_vf("vlan 100 of 802.1ad", 0, vlan(100, 0, 0x88a8));
    stage.set_vf("vlan 5000", 0, vlan(5000, 0, 0x8100));
    stage.set_vf("qos 9", 0, vlan(100, 9, 0x8100));
    stage.set_vf("spoof check off", 0, S::SpoofCheck(false));
    stage.set_vf("trust on", 0, S::Trust(true));
    stage.set_vf("link state enable", 0, S::LinkState(VfLinkState::Enable));
    stage.set_vf("rate to 100", 0, S::Rate { min: 0, max: 100 });
    stage.set_vf("rate from 10", 0, S::Rate { min: 10, max: 100 });
    stage.set_vf("node guid", 0, S::NodeGuid(0x0011_2233_4455_6677));
    stage.set_vf("port guid", 0, S::PortGuid(0x0011_2233_4455_6677));
    stage.set_vf("mac of vf 9", 9, S::Mac([2, 0, 0, 0, 0, 9]));
    let vfs = stage.vf_links();
    for vf in vfs.iter().flatten() {
        let line = format!(
            "vf {}: mac {:02x?} vlan {:?} spoof {:?} trust {:?} state {:?} rate {:?} to {:?} guids {:?} {:?}",
            vf.index,
            vf.mac,
            vf.vlan.map(|vlan| (vlan.id, vlan.qos, vlan.protocol)),
            vf.spoof_check,
            vf.trust,
            vf.link_state,
            vf.min_tx_rate,
            vf.max_tx_rate,
            vf.node_guid,
            vf.port_guid
        );
        stage.lines.push(line);
    }
    stage.set_vf("no vlan", 0, vlan(0, 0, 0x8100));
    let again = stage.vf_links().map(|vfs| format!("{:?}", vfs[0].vlan.map(|vlan| vlan.id)));
    stage.say("vlan", again);
}

fn link_changes(stage: &mut Stage<'_>) {
    let home = Namespace::Host;
    stage.write("sriov_numvfs", "1");
    let vf = stage.vf(0);
    let link = stage.index(&home, vf);
    let taken = stage.netdev(&home, stage.other).map(|link| link.name).unwrap_or_default();
    stage.change("mtu 1400", &home, &LinkChange::Mtu { link, mtu: 1400 });
    stage.change("mtu 20000", &home, &LinkChange::Mtu { link, mtu: 20_000 });
    stage.change("mtu 10", &home, &LinkChange::Mtu { link, mtu: 10 });
    stage.change("mac", &home, &LinkChange::Address { link, address: vec![2, 0, 0, 0, 0, 7] });
    stage.change(
        "multicast mac",
        &home,
        &LinkChange::Address { link, address: vec![1, 0, 0, 0, 0, 7] },
    );
    stage.change("mac of 3 bytes", &home, &LinkChange::Address { link, address: vec![2, 0, 0] });
    let rename = |name: &str| LinkChange::Rename { link, name: name.to_owned() };
    stage.change("name net7", &home, &rename("net7"));
    stage.change("name of another", &home, &rename(&taken));
    stage.change("name with a slash", &home, &rename("a/b"));
    stage.change("name of 16 letters", &home, &rename("abcdefghijklmnop"));
    let altname = || "altname-of-a-vf-for-a-while".to_owned();
    stage.change("altname", &home, &LinkChange::AddAltName { link, name: altname() });
    stage.change("altname again", &home, &LinkChange::AddAltName { link, name: altname() });
    let query = LinkQuery { name: Some(altname()), ..LinkQuery::default() };
    let found = stage.host.links(&home, &query);
    let found = found.map(|links| {
        format!("{} {:?} {:02x?}", links[0].name, links[0].alt_names, links[0].address)
    });
    stage.say("by altname", found);
    stage.change("no altname", &home, &LinkChange::RemoveAltName { link, name: altname() });
    stage.change("no altname again", &home, &LinkChange::RemoveAltName { link, name: altname() });
    let found = stage.host.links(&home, &query).map(|links| links.len());
    stage.say("by altname", found);
    stage.change("up", &home, &LinkChange::Up { link });
    let now = stage.netdev(&home, vf).unwrap_or_default();
    stage.lines.push(format!("up {} mtu {}", now.up, now.mtu));
    stage.change("down", &home, &LinkChange::Down { link });
    for name in ["carrier", "speed", "type"] {
        let path = format!("/sys/class/net/net7/{name}");
        let found = stage.host.read(&path);
        let found = found.map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        stage.say(name, found);
    }
    stage.write_to("type <- 1", "/sys/class/net/net7/type", "1");
    stage.change("up of what is not there", &home, &LinkChange::Up { link: 9999 });
}

fn vf_in_pod(stage: &mut Stage<'_>) {
    let home = Namespace::Host;
    stage.write("sriov_numvfs", "2");
    let vf = stage.vf(0);
    let pod = stage.pods.start();
    let link = stage.index(&home, vf);
    let nowhere = Namespace::At("/run/netns/nothing".to_owned());
    stage.change("move to nowhere", &home, &LinkChange::Move { link, to: nowhere, name: None });
    let name = Some("lo".to_owned());
    let taken = LinkChange::Move { link, to: pod.clone(), name };
    stage.change("move under a taken name", &home, &taken);
    let moved = stage.netdev(&pod, vf).is_some_and(|found| found.name != "lo");
    stage.lines.push(format!("it is in the pod under its own name: {moved}"));
    let name = Some("vf0".to_owned());
    let back = LinkChange::Move { link: stage.index(&pod, vf), to: home.clone(), name };
    stage.change("move back as vf0", &pod, &back);
    let named = stage.netdev(&home, vf).map(|link| link.name);
    stage.lines.push(format!("its name at home: {named:?}"));
    let link = stage.index(&home, vf);
    stage.change("up", &home, &LinkChange::Up { link });
    let name = Some("net1".to_owned());
    stage.change("move", &home, &LinkChange::Move { link, to: pod.clone(), name });
    let names = stage.host.list(&vf.file("net")).map(|names| format!("{names:?}"));
    stage.say("VF0 in sysfs of the host", names);
    let at_home = stage.netdev(&home, vf).is_some();
    stage.lines.push(format!("VF0 in the host's namespace: {at_home}"));
    let found = stage.netdev(&pod, vf).unwrap_or_default();
    stage.lines.push(format!("VF0 in the pod: {} up {}", found.name, found.up));
    let listed = stage.vf_links().map(|vfs| vfs.len());
    stage.say("vfs that the card lists", listed);
    stage.pods.end();
    let back = stage.settled(vf);
    stage.lines.push(format!(
        "VF0 at home: {} up {}",
        back.is_some(),
        back.is_some_and(|link| link.up)
    ));
    let pod = stage.pods.start();
    let link = stage.index(&home, vf);
    stage.change("move again", &home, &LinkChange::Move { link, to: pod.clone(), name: None });
    stage.write("sriov_numvfs", "0");
    let left = stage.host.links(&pod, &LinkQuery::default()).map(|links| links.len());
    stage.say("interfaces in the pod", left);
}

fn closed(stage: &mut Stage<'_>) {
    let home = Namespace::Host;
    let running = stage.running();
    stage.lines.push(format!("the card is running: {running}"));
    stage.write("sriov_numvfs", "1");
    let vf = stage.vf(0);
    let own = stage.netdev(&home, vf).unwrap_or_default();
    stage.set_vf("mac", 0, VfSetting::Mac([2, 0x11, 0x22, 0x33, 0x44, 0x88]));
    let has = |stage: &mut Stage<'_>, what: &str| {
        let now = stage.netdev(&home, vf).unwrap_or_default();
        let told = if now.address == own.address { "its own" } else { "its card's" };
        stage.lines.push(format!("{what}: {told} address"));
    };
    has(stage, "probed before");
    stage.change("up", &home, &LinkChange::Up { link: own.index });
    stage.change("down", &home, &LinkChange::Down { link: own.index });
    has(stage, "closed");
    let address = |address: Vec<u8>| LinkChange::Address { link: own.index, address };
    stage.change("its own address", &home, &address(own.address.clone()));
    stage.change("its card's address", &home, &address(vec![2, 0x11, 0x22, 0x33, 0x44, 0x88]));
}

impl Stage<'_> {
    /// Brings the card up and waits for its link.
    pub fn running(&self) -> bool {
        let link = self.index(&Namespace::Host, self.pf);
        if self.host.change_link(&Namespace::Host, &LinkChange::Up { link }).is_err() {
            return false;
        }
        (0..50).any(|_| {
            let now = self.netdev(&Namespace::Host, self.pf).is_some_and(|link| link.running);
            if !now {
                self.host.wait(&[Interest::Link], Duration::from_millis(200));
            }
            now
        })
    }

    /// The VF's interface at home, which the kernel brings back in its own time after a namespace's end.
    fn settled(&self, vf: PciAddress) -> Option<Link> {
        for _ in 0..50 {
            if let Some(link) = self.netdev(&Namespace::Host, vf) {
                return Some(link);
            }
            self.host.wait(&[Interest::Link], Duration::from_millis(200));
        }
        None
    }
}

fn card_unbound(stage: &mut Stage<'_>) {
    stage.write("sriov_numvfs", "2");
    let address = stage.pf.to_string();
    stage.write_to("unbind the card", "/sys/bus/pci/drivers/igb/unbind", &address);
    let present = stage
        .host
        .list("/sys/bus/pci/devices")
        .map(|names| names.contains(&stage.vf(0).to_string()));
    stage.say("VF0 is there", present);
    let count = stage.read("sriov_numvfs");
    stage.say("sriov_numvfs", count);
    stage.write("sriov_numvfs", "2");
    stage.write_to("bind the card", "/sys/bus/pci/drivers/igb/bind", &address);
    let count = stage.read("sriov_numvfs");
    stage.say("sriov_numvfs", count);
    let back = stage.netdev(&Namespace::Host, stage.pf).is_some();
    stage.lines.push(format!("its interface is back: {back}"));
}

fn kernel_files(stage: &mut Stage<'_>) {
    let file = |name: &str| stage.pf.file(name);
    let paths = [
        file("nothing"),
        file("net"),
        file("vendor"),
        file("driver_override"),
        file("vendor/below"),
    ];
    for (name, path) in
        ["nothing", "net", "vendor", "driver_override", "vendor/below"].iter().zip(paths)
    {
        let read = stage
            .host
            .read(&path)
            .map(|content| String::from_utf8_lossy(&content).trim().to_owned());
        stage.say(&format!("read {name}"), read);
        let list = stage.host.list(&path).map(|_| "a directory");
        stage.say(&format!("list {name}"), list);
        let link = stage.host.link_target(&path);
        stage.say(&format!("link {name}"), link);
    }
    stage.write("vendor", "0x15b3");
    stage.write("nothing", "1");
    let phys = stage.netdev(&Namespace::Host, stage.pf).unwrap_or_default().name;
    let port = stage.host.read(&format!("/sys/class/net/{phys}/phys_port_name"));
    stage.say("phys_port_name", port.map(|_| "a name"));
    let port = stage.host.read(&format!("/sys/class/net/{phys}/phys_switch_id"));
    stage.say("phys_switch_id", port.map(|_| "an id"));
}

fn modules(stage: &mut Stage<'_>) {
    let of_interest = ["ib_core", "ib_umad", "ib_uverbs", "rdma_cm"];
    let modprobe = |stage: &mut Stage<'_>, words: &[&str]| {
        let status = stage.host.run(&Program::Modprobe, words, b"").map(|output| output.status);
        stage.say(&format!("modprobe {}", words.join(" ")), status);
        let loaded = of_interest
            .iter()
            .filter(|module| stage.host.list(&format!("/sys/module/{module}")).is_ok());
        let loaded: Vec<&str> = loaded.copied().collect();
        stage.lines.push(format!("  loaded: {}", loaded.join(" ")));
    };
    for module in ["ib_umad", "rdma_cm", "ib_uverbs"] {
        modprobe(stage, &[module]);
    }
    modprobe(stage, &["-r", "ib_core"]);
}

fn rdma_mode(stage: &mut Stage<'_>) {
    let home = Namespace::Host;
    let load = stage.host.run(&Program::Modprobe, &["ib_core"], b"").map(|output| output.status);
    stage.say("modprobe ib_core", load);
    let mut step = |what: &str, mode: Option<RdmaMode>| {
        if let Some(mode) = mode {
            let set = stage.host.change_rdma(&home, &RdmaChange::Mode(mode)).map(|()| "done");
            stage.say(what, set);
        }
        let now = stage.host.rdma_mode();
        stage.say("  now", now);
        let file = stage.host.read("/sys/module/ib_core/parameters/netns_mode");
        stage.say(
            "  the parameter",
            file.map(|text| String::from_utf8_lossy(&text).trim().to_owned()),
        );
    };
    step("", None);
    step("exclusive", Some(RdmaMode::Exclusive));
    step("exclusive again", Some(RdmaMode::Exclusive));
    step("shared", Some(RdmaMode::Shared));
    let pod = stage.pods.start();
    let mut step = |what: &str, mode: RdmaMode| {
        let set = stage.host.change_rdma(&home, &RdmaChange::Mode(mode)).map(|()| "done");
        stage.say(what, set);
        let now = stage.host.rdma_mode();
        stage.say("  now", now);
    };
    step("exclusive with a pod", RdmaMode::Exclusive);
    step("shared with a pod", RdmaMode::Shared);
    let devices = stage.host.rdma_devices(&pod).map(|devices| devices.len());
    stage.say("rdma devices that the pod sees", devices);
    let nothing = RdmaChange::Move { device: 9999, to: pod };
    let moved = stage.host.change_rdma(&home, &nothing).map(|()| "done");
    stage.say("move of what is not there", moved);
}
