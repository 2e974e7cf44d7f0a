//! The contract of what a chain's plugins do to an interface besides moving it: addresses, routes, sysctls, and a name that
//! is changed while the interface is up.
//!
//! All of it in a pod, on a VF whose link runs; of the routes only those that a case has added are told, since the kernel
//! adds its own to each address.

use super::cases::{Case, Stage};
use host::seam::{
    Address, AddressChange, LinkChange, LinkQuery, Namespace, Route, RouteChange, VfSetting,
};
use std::net::IpAddr;
use std::time::Duration;

pub const CASES: [Case; 4] = [
    ("addresses are given and taken, and what is wrong is refused", addresses),
    ("routes need an interface that is up and a gateway that is near", routes),
    ("the sysctls of an interface are those of its namespace, and take numbers", sysctls),
    ("an interface that is up takes another name, and sends nothing when it is down", renamed),
];

/// A VF in a pod, as net1.
struct InPod {
    space: Namespace,
    link: u32,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> (IpAddr, u8) {
    let (address, prefix) = text.split_once('/').expect("an address and a prefix");
    (ip(address), prefix.parse().expect("a number"))
}

impl Stage<'_> {
    fn in_pod(&mut self) -> InPod {
        let home = Namespace::Host;
        // A VF has a link while its card has one.
        let running = self.running();
        self.lines.push(format!("the card is running: {running}"));
        self.write("sriov_numvfs", "1");
        let vf = self.vf(0);
        let space = self.pods.start();
        let link = self.netdev(&home, vf).unwrap_or_default().index;
        let name = Some("net1".to_owned());
        let moved = LinkChange::Move { link, to: space.clone(), name };
        let outcome = self.host.change_link(&home, &moved).map(|()| "done");
        self.say("into the pod", outcome);
        let link = self.netdev(&space, vf).unwrap_or_default().index;
        InPod { space, link }
    }

    fn link(&mut self, what: &str, pod: &InPod, change: &LinkChange) {
        let outcome = self.host.change_link(&pod.space, change).map(|()| "done");
        self.say(what, outcome);
    }

    fn address(&mut self, pod: &InPod, verb: &str, link: u32, text: &str) {
        let (address, prefix) = net(text);
        let change = match verb {
            "add" => AddressChange::Add { link, address, prefix },
            _ => AddressChange::Remove { link, address, prefix },
        };
        let outcome = self.host.change_address(&pod.space, &change).map(|()| "done");
        self.say(&format!("{verb} {text}"), outcome);
    }

    /// What the interface has, without what IPv6 makes up for itself.
    fn held(&mut self, pod: &InPod) {
        let told = self.host.addresses(&pod.space, Some(pod.link)).map(|addresses| {
            let own = addresses.iter().filter(|held| !is_link_local(held));
            let mut own: Vec<String> =
                own.map(|held| format!("{}/{}", held.address, held.prefix)).collect();
            own.sort();
            own.join(" ")
        });
        self.say("  it has", told);
    }

    fn route(&mut self, pod: &InPod, verb: &str, to: &str, gateway: Option<&str>, link: u32) {
        let route = Route {
            destination: net(to),
            gateway: gateway.map(ip),
            link: Some(link),
            table: 254,
            priority: None,
            scope: None,
            mtu: None,
            advmss: None,
        };
        let change = match verb {
            "add" => RouteChange::Add(route),
            _ => RouteChange::Remove(route),
        };
        let outcome = self.host.change_route(&pod.space, &change).map(|()| "done");
        let through = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        self.say(&format!("{verb} {to}{through}"), outcome);
    }

    fn routed(&mut self, pod: &InPod, destinations: &[&str]) {
        let told = self.host.routes(&pod.space).map(|routes| {
            let has = |to: &&&str| {
                let same = |route: &&Route| route.destination == net(to) && route.table == 254;
                routes.iter().find(same).is_some()
            };
            destinations.iter().filter(has).copied().collect::<Vec<_>>().join(" ")
        });
        self.say("  routed", told);
    }

    fn sysctl(&mut self, pod: &InPod, name: &str, value: &str) {
        let outcome = self.host.set_sysctl(&pod.space, name, value).map(|()| "done");
        self.say(&format!("{name} <- {value}"), outcome);
    }
}

fn is_link_local(held: &Address) -> bool {
    matches!(held.address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn addresses(stage: &mut Stage<'_>) {
    let pod = stage.in_pod();
    let link = pod.link;
    stage.address(&pod, "add", link, "10.1.0.2/24");
    stage.address(&pod, "add", link, "10.1.0.2/24");
    stage.address(&pod, "add", link, "10.1.0.2/16");
    stage.address(&pod, "remove", link, "10.1.0.2/16");
    stage.address(&pod, "remove", link, "10.1.0.9/24");
    stage.address(&pod, "add", link, "2001:db8::2/64");
    stage.address(&pod, "add", link, "2001:db8::2/64");
    stage.address(&pod, "remove", link, "2001:db8::3/64");
    stage.address(&pod, "add", 9999, "10.1.0.3/24");
    stage.held(&pod);
    stage.link("up", &pod, &LinkChange::Up { link });
    stage.link("down", &pod, &LinkChange::Down { link });
    stage.held(&pod);
    stage.sysctl(&pod, "net/ipv6/conf/net1/disable_ipv6", "1");
    stage.address(&pod, "add", link, "2001:db8::4/64");
    stage.address(&pod, "remove", link, "10.1.0.2/24");
    stage.held(&pod);
}

fn routes(stage: &mut Stage<'_>) {
    let pod = stage.in_pod();
    let link = pod.link;
    stage.address(&pod, "add", link, "10.1.0.2/24");
    stage.address(&pod, "add", link, "2001:db8::2/64");
    stage.route(&pod, "add", "10.9.0.0/16", None, link);
    stage.route(&pod, "add", "10.9.0.0/16", Some("10.1.0.1"), link);
    stage.route(&pod, "add", "2001:db8:9::/48", None, link);
    stage.link("up", &pod, &LinkChange::Up { link });
    stage.route(&pod, "add", "10.9.0.0/16", Some("10.1.0.1"), link);
    stage.route(&pod, "add", "10.9.0.0/16", Some("10.1.0.1"), link);
    stage.route(&pod, "add", "10.8.0.0/16", Some("10.2.0.1"), link);
    stage.route(&pod, "add", "2001:db8:9::/48", Some("2001:db8::1"), link);
    stage.route(&pod, "add", "2001:db8:9::/48", Some("2001:db8::1"), link);
    stage.route(&pod, "add", "2001:db8:8::/48", Some("2001:db9::1"), link);
    stage.route(&pod, "add", "10.7.0.0/16", None, link);
    stage.route(&pod, "add", "10.6.0.0/16", None, 9999);
    stage.route(&pod, "remove", "10.5.0.0/16", None, link);
    let told = ["10.9.0.0/16", "10.8.0.0/16", "10.7.0.0/16", "2001:db8:9::/48"];
    stage.routed(&pod, &told);
    stage.route(&pod, "remove", "10.7.0.0/16", None, link);
    stage.routed(&pod, &told);
    stage.link("down", &pod, &LinkChange::Down { link });
    stage.routed(&pod, &told);
}

fn sysctls(stage: &mut Stage<'_>) {
    let pod = stage.in_pod();
    for (family, key) in [("ipv4", "arp_notify"), ("ipv6", "ndisc_notify"), ("ipv6", "accept_dad")]
    {
        stage.sysctl(&pod, &format!("net/{family}/conf/net1/{key}"), "1");
    }
    stage.sysctl(&pod, "net/ipv4/conf/net1/arp_notify", "many");
    stage.sysctl(&pod, "net/ipv4/conf/net1/nothing", "1");
    stage.sysctl(&pod, "net/ipv4/conf/nothing/arp_notify", "1");
    // The host has no interface of that name.
    let host = InPod { space: Namespace::Host, link: 0 };
    stage.sysctl(&host, "net/ipv4/conf/net1/arp_notify", "1");
}

fn renamed(stage: &mut Stage<'_>) {
    let pod = stage.in_pod();
    let link = pod.link;
    let frame = [0xff; 64];
    let sent = stage.host.send_frame(&pod.space, link, &frame).map(|()| "done");
    stage.say("a frame while it is down", sent);
    stage.link("up", &pod, &LinkChange::Up { link });
    stage.link("name net9", &pod, &LinkChange::Rename { link, name: "net9".to_owned() });
    stage.link("name lo", &pod, &LinkChange::Rename { link, name: "lo".to_owned() });
    let query = LinkQuery { name: Some("net9".to_owned()), ..LinkQuery::default() };
    let up = stage.host.links(&pod.space, &query).map(|links| format!("up {}", links[0].up));
    stage.say("  net9", up);
    let sent = || stage.host.send_frame(&pod.space, link, &frame);
    let late = (0..50).map(|_| sent()).find(|sent| {
        let done = sent.is_ok();
        if !done {
            stage.host.wait(&[], Duration::from_millis(200));
        }
        done
    });
    stage.lines.push(format!("a frame while it is up: {}", late.is_some()));
    let lo = stage
        .host
        .links(&pod.space, &LinkQuery { name: Some("lo".to_owned()), ..LinkQuery::default() });
    let lo = lo.map(|links| links[0].index).unwrap_or_default();
    let home = LinkChange::Move { link: lo, to: Namespace::Host, name: Some("lo9".to_owned()) };
    stage.link("the loopback moves", &pod, &home);
    let setting = VfSetting::Trust(true);
    stage.link(
        "a setting of a vf on the loopback",
        &pod,
        &LinkChange::Vf { link: lo, vf: 0, setting },
    );
}
