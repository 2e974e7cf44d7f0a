//! The contract of the operations: what each says and does, told as lines, over the simulation and over the kernel.
//!
//! Below them is the contract of the seam (`cases`); here the operations that the daemon runs stand on it.

use super::cases::{Case, Stage};
use api::journal::{LinkState, Rate, VfProfile, VlanTag};
use api::{EswitchMode, PciAddress};
use host::seam::{LinkChange, Namespace};
use host::{autoprobe, driver_bind, eswitch, link, vf_count, vf_profile, vf_settings};
use std::fmt::{Debug, Display};

pub const CASES: [Case; 7] = [
    ("the count operation goes through zero, refuses too many, and has nothing to do again", count),
    ("vfs are made unprobed, told their address, and probed once", golden_order),
    ("what a death left of that is put right by the next count", after_a_death),
    ("the driver operations bind, override, take back, and have nothing to do again", drivers),
    ("the settings operation sets what the card takes, and names what it does not", settings),
    ("mtu and up are set and read back, also in a pod", links),
    ("a card without a switch is refused switchdev by name", switch),
];

impl Stage<'_> {
    /// What an operation answered.
    pub fn told<T: Debug, E: Display>(&mut self, what: &str, outcome: Result<T, E>) {
        let outcome = match outcome {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        };
        let outcome = self.named(&outcome);
        let line = self.roles(&format!("{what}: {outcome}"));
        self.lines.push(line);
    }

    /// Names and indexes of interfaces by their role, and without what the kernel adds in words of its own.
    fn named(&self, text: &str) -> String {
        let mut text = text.split(" (mtu ").next().unwrap_or(text).to_owned();
        let functions = [("PF", self.pf), ("VF0", self.vf(0))];
        for (role, pci) in functions {
            if let Some(link) = self.netdev(&Namespace::Host, pci) {
                text = text.replace(&format!(" {} ", link.name), &format!(" {role}'s "));
                text = text.replace(&format!(" {}:", link.name), &format!(" {role}'s:"));
                text = text.replace(&format!(" link {} ", link.index), &format!(" {role}'s link "));
            }
        }
        text
    }

    fn set_count(&mut self, wanted: u32, probe: bool) {
        let outcome = vf_count::set(self.host, &self.pf, wanted, probe);
        self.told(&format!("{wanted} vfs, probed {probe}"), outcome);
    }

    fn set_profile(&mut self, what: &str, profile: &VfProfile) {
        let outcome = vf_settings::set(self.host, &self.pf, 0, profile);
        self.told(what, outcome);
    }

    fn driver(&mut self, index: u32) {
        let driver = host::function::driver(self.host, &self.vf(index)).unwrap_or_default();
        self.lines.push(format!("driver of VF{index}: {driver:?}"));
    }

    fn probing(&mut self) {
        let file = self.read("sriov_drivers_autoprobe");
        self.say("sriov_drivers_autoprobe", file);
        let held = autoprobe::held(self.host).map(|held| held.len());
        self.say("held", held);
    }
}

fn count(stage: &mut Stage<'_>) {
    for wanted in [2, 4, 4, 8, 0, 0] {
        stage.set_count(wanted, true);
    }
    let nobody = "0000:ff:1f.7".parse::<PciAddress>().expect("an address");
    let outcome = vf_count::set(stage.host, &nobody, 1, true);
    stage.told("1 vf on a function that is not there", outcome);
}

fn golden_order(stage: &mut Stage<'_>) {
    let up = link::set_up(stage.host, &stage.pf).map(drop);
    stage.told("card up", up);
    stage.set_count(2, false);
    stage.driver(0);
    stage.probing();
    let mac = "02:11:22:33:44:77";
    let outcome = vf_settings::set_mac(stage.host, &stage.pf, 0, mac);
    stage.told("mac of VF0", outcome);
    for index in 0..2 {
        let outcome = driver_bind::bind_default(stage.host, &stage.vf(index));
        stage.told(&format!("probe VF{index}"), outcome);
    }
    stage.driver(1);
    stage.probing();
    let found = stage.netdev(&Namespace::Host, stage.vf(0)).unwrap_or_default();
    let found = vf_profile::show_address(&found.address);
    stage.lines.push(format!("VF0 took the address at its only probe: {}", found == mac));
    let outcome = driver_bind::bind_default(stage.host, &stage.vf(0));
    stage.told("probe VF0 again", outcome);
}

fn after_a_death(stage: &mut Stage<'_>) {
    let held = autoprobe::hold(stage.host, &stage.pf, false).map(|()| "done");
    stage.say("autoprobe off", held);
    stage.probing();
    stage.set_count(1, true);
    stage.driver(0);
    stage.probing();
}

fn drivers(stage: &mut Stage<'_>) {
    stage.set_count(1, true);
    let vf = stage.vf(0);
    for _ in 0..2 {
        let outcome = driver_bind::bind(stage.host, &vf, "vfio-pci");
        stage.told("bind to vfio-pci", outcome);
    }
    stage.driver(0);
    let left = stage.read_of(vf, "driver_override");
    stage.say("override", left);
    for _ in 0..2 {
        let outcome = driver_bind::bind_default(stage.host, &vf);
        stage.told("bind to the default", outcome);
    }
    stage.driver(0);
    for _ in 0..2 {
        let outcome = driver_bind::unbind(stage.host, &vf);
        stage.told("unbind", outcome);
    }
    stage.driver(0);
    // The rest is modprobe's own words, with the kernel's version in them.
    let outcome = driver_bind::bind(stage.host, &vf, "no-such-driver").map_err(|error| {
        error.to_string().split(": modprobe").next().unwrap_or_default().to_owned()
    });
    stage.told("bind to a driver that nobody has", outcome);
    let outcome = driver_bind::bind_default(stage.host, &vf);
    stage.told("bind to the default", outcome);
}

fn settings(stage: &mut Stage<'_>) {
    stage.set_count(2, true);
    let running = stage.running();
    stage.lines.push(format!("the card is running: {running}"));
    let profile = VfProfile::default;
    let vlan = |protocol| Some(VlanTag { id: 100, qos: 3, protocol });
    let mac = Some("02:11:22:33:44:55".to_owned());
    stage.set_profile("mac", &VfProfile { mac: mac.clone(), ..profile() });
    stage.set_profile("mac again", &VfProfile { mac, ..profile() });
    stage.set_profile("vlan", &VfProfile { vlan: vlan(0x8100), ..profile() });
    stage.set_profile("vlan of 802.1ad", &VfProfile { vlan: vlan(0x88a8), ..profile() });
    stage.set_profile("spoof check", &VfProfile { spoof_check: Some(false), ..profile() });
    stage.set_profile("trust", &VfProfile { trust: Some(true), ..profile() });
    let rate = |min, max| VfProfile { rate: Some(Rate { min, max }), ..profile() };
    stage.set_profile("rate to 100", &rate(0, 100));
    stage.set_profile("rate from 10", &rate(10, 100));
    stage
        .set_profile("link state", &VfProfile { link_state: Some(LinkState::Enable), ..profile() });
    let outcome = vf_settings::set_guid(stage.host, &stage.pf, 0, "00:11:22:33:44:55:66:77");
    stage.told("guid", outcome);
    let outcome = vf_settings::set_mac(stage.host, &stage.pf, 9, "02:00:00:00:00:09");
    stage.told("mac of a vf that is not there", outcome);
}

fn links(stage: &mut Stage<'_>) {
    stage.set_count(1, true);
    let vf = stage.vf(0);
    for mtu in [1400, 1400, 20_000] {
        let outcome = link::set_mtu(stage.host, &vf, mtu);
        stage.told(&format!("mtu {mtu} of VF0"), outcome);
    }
    for _ in 0..2 {
        let outcome = link::set_up(stage.host, &vf);
        stage.told("VF0 up", outcome);
    }
    let outcome = link::set_down(stage.host, &vf);
    stage.told("VF0 down", outcome);
    let pod = stage.pods.start();
    let index = stage.netdev(&Namespace::Host, vf).unwrap_or_default().index;
    let moving = LinkChange::Move { link: index, to: pod.clone(), name: None };
    let moved = stage.host.change_link(&Namespace::Host, &moving).map(|()| "done");
    stage.say("into a pod", moved);
    let outcome = link::set_mtu(stage.host, &vf, 1300);
    stage.told("mtu 1300 of VF0 in the pod", outcome);
    let found = stage.netdev(&pod, vf).unwrap_or_default();
    stage.lines.push(format!("mtu in the pod: {}", found.mtu));
}

fn switch(stage: &mut Stage<'_>) {
    for mode in [EswitchMode::Legacy, EswitchMode::Switchdev] {
        let outcome = eswitch::set(stage.host, &stage.pf, mode);
        stage.told(&format!("{mode}"), outcome);
    }
}
