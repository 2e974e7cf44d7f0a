//! The lab's program about embedded switches: devlink and the settings of VFs on a soft card that has a switch.
//!
//! The card is netdevsim, which devlink knows here as a PCI device (xtask, lab). There is no PCI function and no interface
//! of a VF behind it: what is about those runs on the other cards.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "lab/report.rs"]
mod report;

use api::{EswitchMode, PciAddress};
use host::eswitch;
use host::linux::LinuxHost;
use host::seam::{
    DevlinkChange, DevlinkDevice, Errno, Host, Link, LinkChange, LinkQuery, Namespace, Program,
    Refusal, VfLinkState, VfSetting, Vlan, words,
};
use report::{Outcome, Report, StageCase, equal};

/// The eleventh device of the driver.
const CARD: PciAddress = PciAddress { domain: 0, bus: 11, device: 0, function: 0 };
const BUS: &str = "/sys/bus/netdevsim";
const HOME: Namespace = Namespace::Host;
const VFS: usize = 3;

struct Switch {
    host: LinuxHost,
}

impl Switch {
    fn plugged_in() -> Result<Self, String> {
        let host = LinuxHost::new("/").unwrap();
        let output = host.run(&Program::Modprobe, &["netdevsim"], b"").map_err(said)?;
        equal("modprobe netdevsim", output.status, 0)?;
        host.write(&format!("{BUS}/new_device"), "11 1").map_err(said)?;
        Ok(Self { host })
    }

    fn vfs(&self, count: &str) -> Result<(), String> {
        let path = format!("{BUS}/devices/{CARD}/sriov_numvfs");
        self.host.write(&path, count).map_err(said)
    }

    fn devlink(&self) -> Result<DevlinkDevice, String> {
        self.host.devlink(&CARD).map_err(said)
    }

    fn change(&self, change: &DevlinkChange) -> Result<(), Refusal> {
        self.host.change_devlink(&CARD, change)
    }

    /// A parameter's value at one of the times at which it takes effect.
    fn parameter(&self, name: &str, mode: &str) -> Result<String, String> {
        let rows = self.devlink()?.parameters;
        let found = rows.into_iter().find(|row| row.name == name && row.mode == mode);
        found.map(|row| row.value).ok_or_else(|| format!("there is no {name} ({mode})"))
    }

    fn set(&self, name: &str, mode: &str, value: &str) -> Result<(), Refusal> {
        let (name, mode, value) = (name.to_owned(), mode.to_owned(), value.to_owned());
        self.change(&DevlinkChange::Parameter { name, mode, value })
    }

    /// Everything on the card, by the name of its port at the switch.
    fn ports(&self) -> Result<Vec<Link>, String> {
        let query = LinkQuery { with_vfs: true, ..LinkQuery::default() };
        let links = self.host.links(&HOME, &query).map_err(said)?;
        let mut ports: Vec<Link> =
            links.into_iter().filter(|link| link.parent == Some(CARD.to_string())).collect();
        ports.sort_by(|one, other| one.phys_port_name.cmp(&other.phys_port_name));
        Ok(ports)
    }

    fn uplink(&self) -> Result<Link, String> {
        let uplink =
            |link: &Link| link.phys_port_name.as_deref().is_some_and(|name| !name.contains("vf"));
        self.ports()?.into_iter().find(uplink).ok_or_else(|| "the card has no port".to_owned())
    }

    /// The mode goes there and back; in between each VF has a representor on the same switch.
    fn modes(&self) -> Outcome {
        equal("mode at first", self.devlink()?.eswitch, Some(EswitchMode::Legacy))?;
        self.vfs("3")?;
        equal("ports in legacy mode", self.ports()?.len(), 1)?;
        self.change(&DevlinkChange::Eswitch(EswitchMode::Switchdev)).map_err(said)?;
        equal("mode", self.devlink()?.eswitch, Some(EswitchMode::Switchdev))?;
        equal(
            "mode, as the operation reads it",
            eswitch::mode(&self.host, &CARD).ok(),
            Some(EswitchMode::Switchdev),
        )?;
        let ports = self.ports()?;
        let names: Vec<&str> =
            ports.iter().filter_map(|link| link.phys_port_name.as_deref()).collect();
        equal(
            "ports of the switch",
            names.as_slice(),
            ["p1", "pf0vf0", "pf0vf1", "pf0vf2"].as_slice(),
        )?;
        let switch = ports[0].phys_switch_id.clone();
        equal(
            "each has the uplink's switch",
            ports.iter().all(|port| port.phys_switch_id == switch),
            true,
        )?;
        equal("and there is one", switch.as_ref().is_some_and(|id| !id.is_empty()), true)?;
        self.change(&DevlinkChange::Eswitch(EswitchMode::Legacy)).map_err(said)?;
        equal("ports after it", self.ports()?.len(), 1)?;
        self.vfs("0")?;
        Ok(format!(
            "{} of switch {}; gone again with the mode",
            names.join(" "),
            switch.unwrap_or_default()
        ))
    }

    /// What has no switch, and what is not there.
    fn without(&self) -> Outcome {
        let nowhere = PciAddress { bus: 99, ..CARD };
        refused("a device that is not there", self.host.devlink(&nowhere), Errno::NODEV)?;
        let change = DevlinkChange::Eswitch(EswitchMode::Switchdev);
        refused("its mode", self.host.change_devlink(&nowhere, &change), Errno::NODEV)?;
        equal(
            "the operation's answer for it",
            eswitch::mode(&self.host, &nowhere).ok(),
            Some(EswitchMode::Legacy),
        )?;
        let error = eswitch::set(&self.host, &nowhere, EswitchMode::Switchdev).map(drop);
        let error = error.map_err(|error| error.to_string()).unwrap_err();
        Ok(error)
    }

    /// Parameters are listed with the time at which they take effect, and set as the type that the kernel says.
    fn parameters(&self) -> Outcome {
        equal("max_macs", self.parameter("max_macs", "driverinit")?.as_str(), "32")?;
        self.set("max_macs", "driverinit", "64").map_err(said)?;
        self.set("test1", "driverinit", "false").map_err(said)?;
        equal("max_macs set", self.parameter("max_macs", "driverinit")?.as_str(), "64")?;
        // Only the parameters that are needed are asked for, so that no other is waited for.
        equal("test1 is not asked for", self.parameter("test1", "driverinit").is_err(), true)?;
        refused(
            "at a time that it has not",
            self.set("max_macs", "permanent", "64"),
            Errno::OPNOTSUPP,
        )?;
        refused("no parameter", self.set("enable_sriov", "permanent", "true"), Errno::INVAL)?;
        refused("no number", self.set("max_macs", "driverinit", "many"), Errno::INVAL)?;
        equal("untouched by that", self.parameter("max_macs", "driverinit")?.as_str(), "64")?;
        let uplink = self.uplink()?.index;
        self.change(&DevlinkChange::Reload).map_err(said)?;
        equal("after the reload", self.parameter("max_macs", "driverinit")?.as_str(), "64")?;
        // The driver began anew: its interface is another one.
        equal("the interface is the old one", self.uplink()?.index == uplink, false)?;
        Ok("max_macs 32 to 64 and test1 to false, by the kernel's types, and through a reload"
            .to_owned())
    }

    /// What igb refuses: a lowest rate, the state of the link, VLANs of 802.1ad.
    fn settings(&self) -> Outcome {
        self.vfs(&VFS.to_string())?;
        let link = self.uplink()?.index;
        let mac = [2, 0, 0, 0, 0, 7];
        let vlan = Vlan { id: 100, qos: 3, protocol: 0x88a8 };
        let settings = [
            VfSetting::Mac(mac),
            VfSetting::Vlan(vlan),
            VfSetting::Rate { min: 100, max: 1000 },
            VfSetting::SpoofCheck(true),
            VfSetting::Trust(true),
            VfSetting::LinkState(VfLinkState::Disable),
        ];
        for setting in settings {
            self.host.change_link(&HOME, &LinkChange::Vf { link, vf: 1, setting }).map_err(said)?;
        }
        let uplink = self.uplink()?;
        equal("VFs", uplink.vfs.len(), VFS)?;
        let vf = &uplink.vfs[1];
        equal("address", vf.mac.as_slice(), mac.as_slice())?;
        equal("VLAN", vf.vlan, Some(vlan))?;
        equal("rates", (vf.min_tx_rate, vf.max_tx_rate), (Some(100), Some(1000)))?;
        equal("spoof check", vf.spoof_check, Some(true))?;
        equal("trust", vf.trust, Some(true))?;
        equal("state", vf.link_state, Some(VfLinkState::Disable))?;
        equal("the state of another VF", uplink.vfs[0].link_state, Some(VfLinkState::Auto))?;
        let guid = LinkChange::Vf { link, vf: 1, setting: VfSetting::NodeGuid(1) };
        refused("a GUID on Ethernet", self.host.change_link(&HOME, &guid), Errno::OPNOTSUPP)?;
        let ninth = LinkChange::Vf { link, vf: 9, setting: VfSetting::Trust(true) };
        refused("a VF that is not there", self.host.change_link(&HOME, &ninth), Errno::INVAL)?;
        self.vfs("0")?;
        Ok("address, VLAN 100 of 802.1ad, rates 100 to 1000, spoof check, trust and state read back".to_owned())
    }
}

fn said(refusal: Refusal) -> String {
    refusal.to_string()
}

fn refused<T: std::fmt::Debug>(
    what: &str,
    outcome: Result<T, Refusal>,
    errno: Errno,
) -> Result<(), String> {
    let found = outcome.map_err(|refusal| words(refusal.errno)).map(|value| format!("{value:?}"));
    equal(what, found, Err(words(errno)))
}

const CASES: [StageCase<Switch>; 4] = [
    ("a switch changes its mode, and its vfs become ports", |switch| switch.modes()),
    ("a switch that is not there is told from one that refuses", |switch| switch.without()),
    ("a switch has parameters, each with its time and type", |switch| switch.parameters()),
    ("a switch takes the settings of vfs that igb refuses", |switch| switch.settings()),
];

fn main() {
    let mut report = Report::new("switches: devlink on a card that has one");
    let plugged_in = || {
        let switch = Switch::plugged_in()?;
        equal("ports", switch.ports()?.len(), 1)?;
        Ok((switch, format!("devlink knows it as pci/{CARD}")))
    };
    report.on_stage("a switch: the soft card is plugged in", plugged_in, &CASES);
    report.end();
}
