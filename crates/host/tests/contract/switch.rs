//! The contract of embedded switches: devlink's modes, ports and parameters, and the settings of VFs that igb refuses.
//!
//! The card is netdevsim, the kernel's own soft one, which devlink knows in the lab as a PCI device (xtask, lab). There is
//! no PCI function behind it, so its VFs are counted in a file of its own bus, they have neither driver nor interface, and
//! the number of them that it refuses is not compared: that is the PCI core's, and other cases have it.

use api::{EswitchMode, PciAddress};
use host::seam::{
    DevlinkChange, Host, Link, LinkChange, LinkQuery, Namespace, Refusal, VfLinkState, VfSetting,
    Vlan, words,
};
use host::sim::{Flavour, Machine, SimHost};
use host::{eswitch, firmware};
use std::fmt::{Debug, Display};

const HOME: Namespace = Namespace::Host;

/// One case on its stage.
pub struct Switch<'a> {
    pub host: &'a dyn Host,
    pub card: PciAddress,
    /// The file in which its VFs are counted.
    pub vf_count: &'a str,
    lines: Vec<String>,
}

/// A case: its sentence, and what it does. It leaves the card without VFs and in legacy mode; parameters stay as set.
pub type Case = (&'static str, fn(&mut Switch<'_>));

pub const CASES: [Case; 6] = [
    ("a switch changes its mode, and its vfs become ports", modes),
    ("vfs that come while a card is a switch are ports at once", late_vfs),
    ("the switch operation sets a mode, reads it back, and has nothing to do again", operation),
    ("a switch that is not there is told from one that refuses", nowhere),
    ("a switch has parameters, each with its time and type", parameters),
    ("a switch takes the settings of vfs that igb refuses", settings),
];

/// Runs a case and returns its lines.
pub fn run(case: &Case, host: &dyn Host, card: PciAddress, vf_count: &str) -> String {
    let mut switch = Switch { host, card, vf_count, lines: Vec::new() };
    (case.1)(&mut switch);
    let legacy = host.change_devlink(&card, &DevlinkChange::Eswitch(EswitchMode::Legacy));
    if legacy.is_err() || host.write(vf_count, "0").is_err() {
        switch.lines.push("the card could not be put back".to_owned());
    }
    switch.lines.join("\n").replace(&card.to_string(), "CARD")
}

/// What the simulation says in a case, on a machine of its own.
pub fn simulated(case: &Case) -> String {
    let mut machine = Machine::new("lab", Flavour::Ubuntu, api::Timestamp::UNIX_EPOCH);
    machine.add_netdevsim(0x0b);
    machine.boot();
    let card: PciAddress = "0000:0b:00.0".parse().expect("an address of a slot");
    run(case, &SimHost::new(machine), card, &card.file("sriov_numvfs"))
}

impl Switch<'_> {
    fn say(&mut self, what: &str, outcome: Result<impl Display, Refusal>) {
        let outcome = match outcome {
            Ok(value) => value.to_string(),
            Err(refusal) => words(refusal.errno),
        };
        self.lines.push(format!("{what}: {outcome}"));
    }

    /// What an operation answered.
    fn told<T: Debug, E: Display>(&mut self, what: &str, outcome: Result<T, E>) {
        let outcome = match outcome {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        };
        self.lines.push(format!("{what}: {outcome}"));
    }

    fn vfs(&mut self, count: &str) {
        let outcome = self.host.write(self.vf_count, count).map(|()| "done");
        self.say(&format!("{count} vfs"), outcome);
    }

    /// Sets the mode, and tells it as the kernel and our operation read it.
    fn mode(&mut self, wanted: EswitchMode) {
        let outcome = self.host.change_devlink(&self.card, &DevlinkChange::Eswitch(wanted));
        self.say(&format!("{wanted}"), outcome.map(|()| "done"));
        self.says_its_mode();
    }

    fn says_its_mode(&mut self) {
        let read = self.host.devlink(&self.card).map(|device| format!("{:?}", device.eswitch));
        self.say("  mode", read);
        let operation = eswitch::mode(self.host, &self.card);
        self.say("  as the operation reads it", operation);
    }

    /// Everything on the card, by the name of its port.
    fn links(&self) -> Vec<Link> {
        let query = LinkQuery { with_vfs: true, ..LinkQuery::default() };
        let mut links = self.host.links(&HOME, &query).unwrap_or_default();
        links.retain(|link| link.parent == Some(self.card.to_string()));
        links.sort_by(|one, other| one.phys_port_name.cmp(&other.phys_port_name));
        links
    }

    /// The card's own: `p` and the number of the port, which is told by its role.
    fn uplink(&self) -> Link {
        let number = |name: &str| name.strip_prefix('p').is_some_and(|n| n.parse::<u32>().is_ok());
        let is_uplink = |link: &Link| link.phys_port_name.as_deref().is_some_and(number);
        self.links().into_iter().find(is_uplink).unwrap_or_default()
    }

    fn ports(&mut self) {
        let (links, uplink) = (self.links(), self.uplink());
        let role = |link: &Link| match link.index == uplink.index {
            true => "the uplink".to_owned(),
            false => link.phys_port_name.clone().unwrap_or_else(|| "without a name".to_owned()),
        };
        let names: Vec<String> = links.iter().map(role).collect();
        self.lines.push(format!("  ports: {}", names.join(", ")));
        let has_one = uplink.phys_switch_id.as_ref().is_some_and(|id| !id.is_empty());
        let one = has_one && links.iter().all(|link| link.phys_switch_id == uplink.phys_switch_id);
        self.lines.push(format!("  all of one switch: {one}"));
    }

    fn set(&mut self, name: &str, mode: &str, value: &str) {
        let what = format!("{name} {mode} {value}");
        let (name, mode, value) = (name.to_owned(), mode.to_owned(), value.to_owned());
        let change = DevlinkChange::Parameter { name, mode, value };
        let outcome = self.host.change_devlink(&self.card, &change).map(|()| "done");
        self.say(&what, outcome);
    }

    fn parameters(&mut self) {
        let listed = self.host.devlink(&self.card).map(|device| {
            let rows = device.parameters.iter();
            let rows = rows.map(|row| format!("{} {} {}", row.name, row.mode, row.value));
            rows.collect::<Vec<_>>().join(", ")
        });
        self.say("  parameters", listed);
        let device = self.host.devlink(&self.card).unwrap_or_default();
        let facts = firmware::in_devlink(&device, 4).map(|facts| (facts.enabled, facts.vfs));
        self.lines.push(format!("  as facts of a card that shows 4: {facts:?}"));
    }

    fn set_vf(&mut self, what: &str, vf: u32, setting: VfSetting) {
        let link = self.uplink().index;
        let change = LinkChange::Vf { link, vf, setting };
        let outcome = self.host.change_link(&HOME, &change).map(|()| "done");
        self.say(what, outcome);
    }
}

fn modes(switch: &mut Switch<'_>) {
    switch.says_its_mode();
    switch.ports();
    switch.vfs("3");
    switch.ports();
    let uplink = switch.uplink().index;
    for mode in [EswitchMode::Switchdev, EswitchMode::Switchdev, EswitchMode::Legacy] {
        switch.mode(mode);
        switch.ports();
    }
    let same = switch.uplink().index == uplink;
    switch.lines.push(format!("the uplink is the same interface: {same}"));
}

fn late_vfs(switch: &mut Switch<'_>) {
    switch.mode(EswitchMode::Switchdev);
    switch.ports();
    switch.vfs("2");
    switch.ports();
    // What becomes of the mode when the last VF goes differs between drivers, so it is left before.
    switch.mode(EswitchMode::Legacy);
    switch.vfs("0");
    switch.ports();
}

fn operation(switch: &mut Switch<'_>) {
    switch.vfs("2");
    for mode in [EswitchMode::Switchdev, EswitchMode::Legacy] {
        for _ in 0..2 {
            let outcome = eswitch::set(switch.host, &switch.card, mode);
            switch.told(&format!("{mode}"), outcome);
        }
        switch.says_its_mode();
    }
}

fn nowhere(switch: &mut Switch<'_>) {
    let nobody = "0000:ff:1f.7".parse::<PciAddress>().expect("an address");
    let host = switch.host;
    switch.say("devlink", host.devlink(&nobody).map(|device| format!("{device:?}")));
    let (name, mode) = ("enable_sriov".to_owned(), "permanent".to_owned());
    let parameter = DevlinkChange::Parameter { name, mode, value: "true".to_owned() };
    for change in [DevlinkChange::Eswitch(EswitchMode::Switchdev), parameter] {
        let outcome = host.change_devlink(&nobody, &change).map(|()| "done");
        switch.say("a change", outcome);
    }
    switch.say("its mode, as the operation reads it", eswitch::mode(host, &nobody));
    for mode in [EswitchMode::Legacy, EswitchMode::Switchdev] {
        switch.told(&format!("{mode}"), eswitch::set(host, &nobody, mode));
    }
}

fn parameters(switch: &mut Switch<'_>) {
    switch.parameters();
    switch.set("total_vfs", "permanent", "6");
    switch.set("enable_sriov", "permanent", "true");
    switch.parameters();
    switch.set("enable_sriov", "permanent", "false");
    switch.parameters();
    for (name, mode, value) in [
        ("total_vfs", "runtime", "8"),
        ("total_vfs", "driverinit", "8"),
        ("total_vfs", "some day", "8"),
        ("total_vfs", "permanent", "many"),
        ("total_vfs", "permanent", "-1"),
        ("total_vfs", "permanent", "4294967296"),
        ("total_vfs", "runtime", "many"),
        ("enable_sriov", "permanent", "1"),
        ("no_such_parameter", "permanent", "true"),
    ] {
        switch.set(name, mode, value);
    }
    switch.parameters();
    let by_devlink = api::inventory::FirmwareSource::Devlink;
    for vfs in [8, 8, 2] {
        let outcome = firmware::raise(switch.host, &switch.card, by_devlink, vfs);
        switch.told(&format!("raise to {vfs}"), outcome);
        switch.parameters();
    }
}

fn settings(switch: &mut Switch<'_>) {
    use VfSetting as S;
    switch.vfs("3");
    let vlan = |id, qos, protocol| S::Vlan(Vlan { id, qos, protocol });
    switch.set_vf("mac", 1, S::Mac([2, 0, 0, 0, 0, 7]));
    switch.set_vf("multicast mac", 1, S::Mac([1, 0, 0, 0, 0, 7]));
    switch.set_vf("vlan 100 qos 3 of 802.1ad", 1, vlan(100, 3, 0x88a8));
    switch.set_vf("vlan 5000", 1, vlan(5000, 0, 0x8100));
    switch.set_vf("qos 9", 1, vlan(100, 9, 0x8100));
    switch.set_vf("rate 100 to 1000", 1, S::Rate { min: 100, max: 1000 });
    switch.set_vf("rate 200 to 100", 1, S::Rate { min: 200, max: 100 });
    switch.set_vf("spoof check off", 1, S::SpoofCheck(false));
    switch.set_vf("trust on", 1, S::Trust(true));
    switch.set_vf("link state disable", 1, S::LinkState(VfLinkState::Disable));
    switch.set_vf("link state enable of another", 2, S::LinkState(VfLinkState::Enable));
    switch.set_vf("node guid", 1, S::NodeGuid(0x0011_2233_4455_6677));
    switch.set_vf("port guid", 1, S::PortGuid(0x0011_2233_4455_6677));
    for (what, setting) in [
        ("mac of vf 9", S::Mac([2, 0, 0, 0, 0, 9])),
        ("trust of vf 9", S::Trust(true)),
        ("link state of vf 9", S::LinkState(VfLinkState::Enable)),
    ] {
        switch.set_vf(what, 9, setting);
    }
    for vf in switch.uplink().vfs {
        // Of no VLAN each driver tells another protocol.
        let vlan = vf.vlan.filter(|vlan| vlan.id != 0);
        let line = format!(
            "vf {}: mac {:02x?} {:?} spoof {:?} trust {:?} {:?} rate {:?}..{:?} guids {:?} {:?}",
            vf.index,
            vf.mac,
            vlan,
            vf.spoof_check,
            vf.trust,
            vf.link_state,
            vf.min_tx_rate,
            vf.max_tx_rate,
            vf.node_guid,
            vf.port_guid
        );
        switch.lines.push(line);
    }
}
