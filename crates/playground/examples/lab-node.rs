//! The lab's program about the node, whole: our real daemon, device plugin and CNI binaries on a real kernel with real VFs.
//!
//! The API server and the operator are the playground's; the kubelet is a script that speaks the real gRPC. The guide's
//! order is taken, with the card's own vendor and name, from nothing to two pods, and back to nothing.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "lab/guide.rs"]
mod guide;
#[path = "lab/machine.rs"]
mod machine;
#[path = "../../host/examples/lab/pod.rs"]
mod pod;
#[path = "lab/reading.rs"]
mod reading;
#[path = "../../host/examples/lab/report.rs"]
mod report;

use api::{PciAddress, names};
use guide::{Guide, RESOURCE};
use host::seam::LinkQuery;
use host::{Host, Namespace, home};
use playground::cluster::objects::{items, text};
use pod::Pod;
use report::{Outcome, Report, StageCase, equal};
use serde_json::json;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

impl Guide {
    /// What the daemon says of the cards is what sysfs says.
    fn discovery(&mut self) -> Outcome {
        let state = self.machine.until("the daemon reports the cards", || {
            let state = self.state();
            match items(&state, "/status/interfaces").is_empty() {
                true => Err("no interfaces are listed".to_owned()),
                false => Ok(state),
            }
        })?;
        let found = items(&state, "/status/interfaces");
        let read = |pci: &PciAddress, file: &str| {
            String::from_utf8(self.host.read(&pci.file(file)).unwrap()).unwrap().trim().to_owned()
        };
        let cards = machine::cards(&self.host);
        let mut expected = Vec::new();
        for pci in &cards {
            let link = home::interface_at_home(&self.host, pci).unwrap().unwrap();
            expected.push(json!({
                "pciAddress": pci.to_string(), "name": link.name, "driver": "igb",
                "mac": host::vf_profile::show_address(&link.address), "mtu": link.mtu,
                "vendor": read(pci, "vendor").trim_start_matches("0x"),
                "deviceID": read(pci, "device").trim_start_matches("0x"),
                "totalvfs": read(pci, "sriov_totalvfs").parse::<u32>().unwrap(),
                "linkType": "ETH", "eSwitchMode": "legacy",
            }));
        }
        for (found, expected) in found.iter().zip(&expected) {
            for (key, value) in expected.as_object().unwrap() {
                equal(&format!("{key} of {}", expected["pciAddress"]), &found[key], value)?;
            }
        }
        equal("cards", found.len(), expected.len())?;
        Ok(format!("{} cards, each as sysfs has it, and not the disk controller", found.len()))
    }

    /// Every field of the cards and of all VFs, also of those in pods, against what a person reads.
    fn reported(&mut self) -> Outcome {
        // The daemon may look a moment after the machine has changed.
        let (fields, vfs) = self.machine.until("the status is what the machine is", || {
            let (fields, vfs) = reading::of_status(&self.state(), &self.pods)?;
            match vfs {
                guide::VFS => Ok((fields, vfs)),
                other => Err(format!("{other} VFs")),
            }
        })?;
        let held = self.pods.len();
        Ok(format!("{fields} fields of two cards and {vfs} VFs, {held} of them in pods"))
    }

    /// Step 4 of the guide, twice: Allocate over gRPC, then the chain by the real binaries.
    fn start_pods(&mut self) -> Outcome {
        for name in ["rdma-app-1", "rdma-app-2"] {
            let device = self.machine.allocate(RESOURCE, name)?;
            let pod = Pod::start(name);
            let chain = self.machine.chain("rdma-network", &device)?;
            let result = machine::add(&chain, &pod)?;
            let address = text(&result, "/ips/0/address").to_owned();
            if !address.starts_with("10.10.10.1") {
                return Err(format!("{name} has the address {address:?}"));
            }
            self.pods.push((pod, device));
        }
        let devices: BTreeSet<&String> = self.pods.iter().map(|(_, device)| device).collect();
        equal("different devices", devices.len(), 2)?;
        let (one, other) = (&self.pods[0].1, &self.pods[1].1);
        Ok(format!(
            "rdma-app-1 has {one}, rdma-app-2 has {other}, each with an address of the network"
        ))
    }

    /// Each pod's process sees its VF and its RDMA device and nobody else's, and the host sees neither.
    fn isolation(&mut self) -> Outcome {
        let mut seen = Vec::new();
        for (pod, device) in &self.pods {
            let links = self.host.links(&pod.namespace(), &LinkQuery::default()).unwrap();
            let of_cards: Vec<&String> =
                links.iter().filter_map(|link| link.parent.as_ref()).collect();
            equal("interfaces of cards", of_cards, vec![device])?;
            let interface = pod.run(&["ls", "/sys/class/net"])?;
            equal(
                "what its process sees",
                interface.split_whitespace().collect(),
                vec!["lo", "net1"],
            )?;
            let listed = pod.run(&["ls", "/sys/class/infiniband"])?;
            let own = pod.run(&["ls", &format!("/sys/bus/pci/devices/{device}/infiniband")])?;
            equal("RDMA devices of its process", listed.trim(), own.trim())?;
            equal("RDMA devices", listed.split_whitespace().count(), 1)?;
            let verbs = pod.run(&["ibv_devices"])?;
            let verbs: Vec<&str> = verbs.lines().skip(2).filter_map(first_word).collect();
            equal("RDMA devices that its programs open", verbs, vec![own.trim()])?;
            seen.push(own.trim().to_owned());
            let address: PciAddress = device.parse().unwrap();
            equal("at home", home::interface_at_home(&self.host, &address).unwrap(), None)?;
        }
        let host: Vec<String> =
            self.host.rdma_devices(&Namespace::Host).unwrap().into_iter().map(|d| d.name).collect();
        let third = Pod::start("third");
        let nothing = self.host.rdma_devices(&third.namespace()).unwrap().len();
        equal("RDMA devices that a third pod sees", nothing, 0)?;
        for name in &seen {
            equal(&format!("{name} is seen by the host"), host.contains(name), false)?;
        }
        Ok(format!(
            "the pods see {}; the host sees {}; a third pod none",
            seen.join(" and "),
            host.join(", ")
        ))
    }

    /// The pods' programs talk to each other by RDMA, each over its own device.
    fn traffic(&mut self) -> Outcome {
        let [(client, _), (server, _)] = self.pods.as_slice() else {
            return Err("there are not two pods".to_owned());
        };
        let address = server.run(&["busybox", "ip", "-4", "-o", "addr", "show", "dev", "net1"])?;
        let address = address.split_whitespace().nth(3).and_then(|net| net.split('/').next());
        let address = address.ok_or("the server has no address")?.to_owned();
        let _reached = (0..30).any(|_| client.run(&["ping", "-c1", "-W1", &address]).is_ok());
        let served = ["timeout", "60", "rping", "-s", "-a", &address, "-C", "3"];
        let mut serving = server.start_program(&served);
        let asked = ["timeout", "30", "rping", "-c", "-a", &address, "-v", "-C", "3"];
        let mut told = Err("never asked".to_owned());
        for _ in 0..10 {
            told = client.run(&asked);
            if told.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let _ = serving.kill();
        let _ = serving.wait();
        let pings = told?.lines().filter(|line| line.contains("rdma-ping-")).count();
        equal("pings", pings, 3)?;
        // The guide's own step: the counters are read inside the pod.
        let counters = "cd /sys/class/infiniband/*/ports/1/counters && \
            for name in port_xmit_data port_rcv_data; do echo \"$name $(busybox cat $name)\"; done";
        let counted = client.run(&["busybox", "sh", "-c", counters])?;
        let counted: Vec<&str> = counted.lines().collect();
        let is_none = |line: &&str| line.split(' ').nth(1).is_none_or(|count| count == "0");
        equal("counters that count nothing", counted.iter().find(|line| is_none(line)), None)?;
        Ok(format!(
            "rping from {} to {address}: three pings came back; in the pod {}",
            client.name,
            counted.join(", ")
        ))
    }

    /// `cat` and `rdma` of our image on the running kernel, beside the distribution's.
    fn tools(&mut self) -> Outcome {
        let theirs = |words: &[&str]| machine::said(Command::new("/usr/bin/rdma").args(words));
        let ours = |words: &[&str]| machine::tool("rdma", words);
        // Theirs adds what the protocol and the lock are, which ours does not ask for.
        let system = theirs(&["system"])?;
        let mode = ours(&["system"])?;
        equal("rdma system", system.starts_with(mode.trim_end()), true)?;
        for words in [["link", "show"], ["dev", "show"]] {
            let plain = |text: String| -> Vec<String> {
                let lines = text.lines().map(|line| line.split_whitespace().take(4));
                lines.map(|words| words.collect::<Vec<_>>().join(" ")).collect()
            };
            let (ours, theirs) = (plain(ours(&words)?), plain(theirs(&words)?));
            let without_type = |line: &String| line.replace(" node_type ca", "");
            let theirs: Vec<String> = theirs.iter().map(without_type).collect();
            equal("lines", ours.len(), theirs.len())?;
            for (ours, theirs) in ours.iter().zip(&theirs) {
                equal(
                    &format!("{words:?}: {ours:?} begins as {theirs:?}"),
                    ours.starts_with(theirs.as_str()),
                    true,
                )?;
            }
        }
        let counts = machine::tool("cat", &["/sys/class/net/*/device/sriov_numvfs"])?;
        let mut cards: Vec<&str> = counts.lines().collect();
        cards.sort_unstable();
        equal("VFs of the two cards", cards, vec!["0", "4"])?;
        let missing = machine::tool("cat", &["/sys/class/net/nothing/device/sriov_numvfs"]);
        equal("a file that is not there", missing.is_err(), true)?;
        Ok(format!("{}; cat with a pattern finds the counts of both cards", mode.trim()))
    }

    /// A boot as far as one kernel shows it: nothing is left but the disk. The phase brings mode and VFs back.
    fn boot(&mut self) -> Outcome {
        self.send_pods_home()?;
        self.machine.stop_programs();
        let _ = std::fs::remove_dir_all("/run/ironrail");
        host::vf_count::set(&self.host, &self.pf, 0, true).map_err(|e| e.to_string())?;
        machine::unload_rdma(&self.host);
        machine::load_rdma(&self.host);
        equal("mode before", self.host.rdma_mode().ok(), Some(api::RdmaMode::Shared))?;
        let done = machine::boot("pre")?;
        equal("mode", self.host.rdma_mode().ok(), Some(api::RdmaMode::Exclusive))?;
        equal("VFs", self.count().as_str(), "4")?;
        let again = machine::boot("post")?;
        self.machine.start_programs();
        self.offered()?;
        Ok(format!("pre: {}; post: {}", one_line(&done), one_line(&again)))
    }

    /// The node state says who has what.
    fn holders(&mut self) -> Outcome {
        let held = self.machine.until("the status names the holders", || {
            let state = self.state();
            let holders = items(&state, "/status/holders");
            match holders.len() {
                2 => Ok(holders
                    .iter()
                    .map(|h| format!("{} by {}", text(h, "/device"), text(h, "/pod")))
                    .collect::<Vec<_>>()),
                other => Err(format!("{other} holders")),
            }
        })?;
        Ok(held.join(", "))
    }

    /// DEL of both pods, by the binaries.
    fn send_pods_home(&mut self) -> Result<(), String> {
        for (pod, device) in self.pods.drain(..) {
            let chain = self.machine.chain("rdma-network", &device)?;
            machine::del(&chain, &pod)?;
            self.machine.free(&pod.name);
            let address: PciAddress = device.parse().unwrap();
            let home = home::interface_at_home(&self.host, &address).unwrap();
            equal("at home", home.is_some(), true)?;
            let rdma = home::rdma_devices_at_home(&self.host, &device).unwrap_or_default();
            equal("RDMA devices at home", rdma.len(), 1)?;
        }
        Ok(())
    }

    /// Policy, network and pool go, and what they brought goes with them.
    fn back(&mut self) -> Outcome {
        let named = |manifest: &serde_json::Value| {
            let at = |pointer: &str| text(manifest, pointer).to_owned();
            (at("/metadata/namespace"), at("/metadata/name"))
        };
        let (namespace, network) = named(&self.manifests.network);
        self.machine.delete(names::SRIOV_NETWORK, &namespace, &network)?;
        self.machine.until("the network's definition is taken away", || {
            match self.machine.chain("rdma-network", "0000:00:00.0") {
                Err(_) => Ok(()),
                Ok(chain) => Err(format!("it still has {} plugins", chain.len())),
            }
        })?;
        self.machine.delete(names::POLICY, names::NAMESPACE, "rdma-policy")?;
        self.machine.until("the VFs are taken away", || match self.count().as_str() {
            "0" => Ok(()),
            other => Err(format!("{other} VFs; {}", self.state()["status"])),
        })?;
        self.machine.until("nothing is offered", || {
            match self.machine.healthy(RESOURCE).len() {
                0 => Ok(()),
                other => Err(format!("{other} devices are still offered")),
            }
        })?;
        // Last of all the daemon takes away the record of the count that it set.
        self.machine.until("the journal is empty", || {
            let left = self.host.list(api::files::CNI_JOURNAL).unwrap_or_default();
            if left.is_empty() { Ok(()) } else { Err(format!("it has {}", left.join(", "))) }
        })?;
        let (namespace, pool) = named(&self.manifests.pool);
        self.machine.delete(names::POOL, &namespace, &pool)?;
        // The machine's command line says exclusive for other cases: the mode of before is asked for, and the line is named.
        let sentence = self.machine.until("the mode of before is asked for", || {
            let blockers = self.state()["status"]["blockers"].take();
            let told =
                items(&json!({ "blockers": blockers }), "/blockers").iter().find_map(|blocker| {
                    let of_it = text(blocker, "/reason") == "KernelArgumentContradicts";
                    of_it.then(|| text(blocker, "/message").to_owned())
                });
            told.ok_or_else(|| format!("the blockers are {blockers}"))
        })?;
        Ok(format!(
            "deleted network, policy and pool left no VF, no offer and no journal; and {sentence}"
        ))
    }
}

fn first_word(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

/// What a log says, without when it said it.
fn one_line(log: &str) -> String {
    let said = log.lines().map(|line| line.split_once("INFO ").map_or(line, |(_, said)| said));
    said.collect::<Vec<_>>().join(", ")
}

const CASES: [StageCase<Guide>; 13] = [
    ("the node: its daemon reports every card as sysfs has it", Guide::discovery),
    ("the node: the pool's rdma mode is switched live", Guide::pool),
    ("the node: a policy makes vfs and the kubelet is offered them", Guide::policy),
    ("the node: its daemon reports every vf as ip, rdma and sysfs have it", Guide::reported),
    ("the node: a network becomes a chain of plugins", Guide::network),
    ("the node: cat and rdma of our image tell what the kernel says", Guide::tools),
    ("the node: two pods get a vf each", Guide::start_pods),
    ("the node: each pod sees its own and nobody else's", Guide::isolation),
    ("the node: rdma traffic between the pods", Guide::traffic),
    ("the node: the status names who holds what", Guide::holders),
    ("the node: its daemon reports every vf so while pods hold them", Guide::reported),
    ("the node: a boot phase brings mode and vfs back, without an api server", Guide::boot),
    ("the node: and back to nothing", Guide::back),
];

fn main() {
    let mut report = Report::new("the node, whole: the guide from nothing to two pods, and back");
    let start = || {
        let seen = "an API server with our operator, and a kubelet that speaks gRPC";
        Ok((Guide::new(), seen.to_owned()))
    };
    let name = "the node: api server, operator, kubelet and our programs start";
    drop(report.on_stage(name, start, &CASES));
    report.end();
    // The playground's threads must not keep the program.
    std::thread::sleep(Duration::from_millis(10));
    std::process::exit(0);
}
