//! `ip link` and `ip addr`, in iproute2's layout.

use super::{Finished, Pod};
use host::Namespace;
use host::seam::{Link, LinkQuery};

pub fn run(pod: &Pod, arguments: &[&str]) -> Finished {
    let words: Vec<&str> = arguments.iter().copied().filter(|a| !a.starts_with('-')).collect();
    let (with_addresses, rest) = match words.split_first() {
        Some((&("link" | "l"), rest)) => (false, rest),
        Some((&("addr" | "address" | "a"), rest)) => (true, rest),
        Some((object, _)) => {
            return Finished::failed(
                format!("Object \"{object}\" is unknown, try \"ip help\".\n"),
                1,
            );
        }
        None => {
            return Finished::failed(
                "Usage: ip { link | addr } [ show [ dev NAME ] ]\n".to_owned(),
                255,
            );
        }
    };
    let name = rest.iter().find(|w| !matches!(**w, "show" | "list" | "dev" | "ls"));
    let query =
        LinkQuery { name: name.map(|n| (*n).to_owned()), with_vfs: true, ..LinkQuery::default() };
    let links = match pod.host.links(&Namespace::Host, &query) {
        Ok(links) if !links.is_empty() || name.is_none() => links,
        _ => {
            let name = name.unwrap_or(&"");
            return Finished::failed(format!("Device \"{name}\" does not exist.\n"), 1);
        }
    };
    let mut out = String::new();
    for link in &links {
        out += &describe(link, with_addresses);
        if with_addresses {
            for address in
                pod.host.addresses(&Namespace::Host, Some(link.index)).unwrap_or_default()
            {
                let family = if address.address.is_ipv4() { "inet" } else { "inet6" };
                out += &format!(
                    "    {family} {}/{} scope global {}\n       valid_lft forever preferred_lft forever\n",
                    address.address, address.prefix, link.name
                );
            }
        }
    }
    Finished::said(out)
}

fn describe(link: &Link, short: bool) -> String {
    let loopback = link.hardware == 772;
    let mut flags = vec![if loopback { "LOOPBACK" } else { "BROADCAST,MULTICAST" }];
    if link.up {
        flags.push("UP");
    }
    if link.running {
        flags.push("LOWER_UP");
    }
    let state = match (loopback, link.up && link.running) {
        (true, _) => "UNKNOWN",
        (_, true) => "UP",
        (_, false) => "DOWN",
    };
    let kind = match link.hardware {
        772 => "loopback",
        32 => "infiniband",
        _ => "ether",
    };
    let broadcast = vec![if loopback { "00" } else { "ff" }; link.address.len()].join(":");
    let address: Vec<String> = link.address.iter().map(|b| format!("{b:02x}")).collect();
    let mode = if short { "" } else { " mode DEFAULT" };
    let mut text = format!(
        "{}: {}: <{}> mtu {} qdisc mq state {state}{mode} group default qlen 1000\n    link/{kind} {} brd {broadcast}\n",
        link.index,
        link.name,
        flags.join(","),
        link.mtu,
        address.join(":"),
    );
    for vf in link.vfs.iter().filter(|_| !short) {
        let on = |flag: Option<bool>| if flag == Some(true) { "on" } else { "off" };
        let mac: Vec<String> = vf.mac.iter().map(|b| format!("{b:02x}")).collect();
        text += &format!(
            "    vf {}     link/ether {} brd ff:ff:ff:ff:ff:ff, spoof checking {}, link-state auto, trust {}\n",
            vf.index,
            mac.join(":"),
            on(vf.spoof_check),
            on(vf.trust),
        );
    }
    for name in &link.alt_names {
        text += &format!("    altname {name}\n");
    }
    text
}
