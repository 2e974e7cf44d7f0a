//! RDMA traffic between two pods, each over the device of its own VF, by the programs that people measure with.

use super::bench::{Done, HOME, netdev, said, set_vfs, soft_device, vf};
use super::pod::Pod;
use super::report::{Outcome, Report, StageCase, equal};
use api::PciAddress;
use host::linux::LinuxHost;
use host::seam::{LinkChange, LinkQuery, RdmaChange};
use host::{Host, home};
use std::process::Child;
use std::time::Duration;

/// A pod that has a VF and its RDMA device, with an address.
struct Member {
    pod: Pod,
    vf: PciAddress,
    device: String,
    address: &'static str,
}

struct Pair {
    client: Member,
    server: Member,
}

/// Two pods whose VFs are of two cards on one wire.
struct Stage<'a> {
    host: &'a LinuxHost,
    pf: PciAddress,
    pair: Pair,
}

fn cases<'a>() -> [StageCase<Stage<'a>>; 4] {
    [
        ("ibv_rc_pingpong runs between the pods, and only their devices count", pingpong),
        ("rping runs between the pods", |stage| rping(&stage.pair)),
        ("a pod's end sends its rdma device and its interface home", |stage| {
            end(stage.host, &stage.pair.server)
        }),
        ("a vf whose rdma device a program has open can be taken away", |stage| {
            taken_away(stage.host, stage.pf, &stage.pair.client)
        }),
    ]
}

pub fn run(host: &LinuxHost, pf: PciAddress, other: PciAddress, report: &mut Report) {
    let set = || {
        let pair = Pair::start(host, pf, other)?;
        let seen = isolation(host, &pair)?;
        Ok((Stage { host, pf, pair }, seen))
    };
    report.on_stage("two pods get an rdma device each, and see no other", set, &cases());
    for card in [pf, other] {
        let _ = set_vfs(host, card, "0");
    }
}

impl Pair {
    fn start(host: &LinuxHost, pf: PciAddress, other: PciAddress) -> Result<Self, String> {
        for card in [pf, other] {
            let link = netdev(host, card)?.index;
            said("up", host.change_link(&HOME, &LinkChange::Up { link }))?;
            set_vfs(host, card, "2")?;
            for index in 0..2 {
                soft_device(host, vf(host, card, index)?);
            }
        }
        // One takes its interface first, the other its RDMA device.
        let client = Member::start(host, "client", vf(host, pf, 0)?, "10.20.0.1", true)?;
        let server = Member::start(host, "server", vf(host, other, 0)?, "10.20.0.2", false)?;
        let ping = ["ping", "-c", "1", "-W", "1", server.address];
        let reached = (0..30).any(|_| client.pod.run(&ping).is_ok());
        equal("the server answers a ping", reached, true)?;
        Ok(Self { client, server })
    }
}

impl Member {
    fn start(
        host: &LinuxHost,
        name: &str,
        vf: PciAddress,
        address: &'static str,
        interface_first: bool,
    ) -> Result<Self, String> {
        let pod = Pod::start(name);
        let space = pod.namespace();
        let link = netdev(host, vf)?.index;
        let device = said("device", home::rdma_devices_at_home(host, &vf.to_string()))?.pop();
        let device = device.ok_or_else(|| format!("{vf} has no RDMA device"))?;
        let to_pod = LinkChange::Move { link, to: space.clone(), name: Some("net1".to_owned()) };
        let interface = || said("move", host.change_link(&HOME, &to_pod));
        let rdma = || {
            let change = RdmaChange::Move { device: device.index, to: space.clone() };
            said("move", host.change_rdma(&HOME, &change))
        };
        if interface_first {
            interface()?;
            rdma()?;
        } else {
            rdma()?;
            interface()?;
        }
        for name in ["lo", "net1"] {
            let query = LinkQuery { name: Some(name.to_owned()), ..LinkQuery::default() };
            let link = said("look", host.links(&space, &query))?[0].index;
            said("up", host.change_link(&space, &LinkChange::Up { link }))?;
        }
        pod.run(&["busybox", "ip", "addr", "add", &format!("{address}/24"), "dev", "net1"])?;
        Ok(Self { pod, vf, device: device.name, address })
    }

    fn counter(&self, name: &str) -> Result<u64, String> {
        let path = format!("/sys/class/infiniband/{}/ports/1/hw_counters/{name}", self.device);
        let text = self.pod.run(&["cat", &path])?;
        text.trim().parse().map_err(|_| format!("{path}: {text:?}"))
    }

    /// A server in this pod, which ends with the other side's program, or after a while.
    fn serve(&self, command: &[&str]) -> Child {
        let timed: Vec<&str> = ["timeout", "40"].iter().chain(command).copied().collect();
        self.pod.start_program(&timed)
    }
}

/// Asks until the server is there.
fn ask(member: &Member, command: &[&str]) -> Result<String, String> {
    let timed: Vec<&str> = ["timeout", "40"].iter().chain(command).copied().collect();
    let mut answer = Err("never asked".to_owned());
    for _ in 0..20 {
        answer = member.pod.run(&timed);
        if answer.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    answer
}

fn names(listed: &str) -> Vec<String> {
    // Two lines of heading; then name and GUID.
    let lines = listed.lines().skip(2).filter_map(|line| line.split_whitespace().next());
    lines.map(str::to_owned).collect()
}

fn isolation(host: &LinuxHost, pair: &Pair) -> Outcome {
    let third = Pod::start("third");
    for member in [&pair.client, &pair.server] {
        let listed = names(&member.pod.run(&["ibv_devices"])?);
        equal("ibv_devices in the pod", listed, vec![member.device.clone()])?;
        let class = member.pod.run(&["ls", "/sys/class/infiniband"])?;
        equal("sysfs in the pod", class.trim(), member.device.as_str())?;
        let below = format!("/sys/bus/pci/devices/{}/infiniband", member.vf);
        equal("below its VF", member.pod.run(&["ls", &below])?.trim(), member.device.as_str())?;
        let opened = third.run(&["ibv_rc_pingpong", "-d", &member.device]);
        let words = format!("IB device {} not found", member.device);
        equal("a third pod opens it", opened.is_err_and(|why| why.contains(&words)), true)?;
    }
    equal("ibv_devices in a third pod", names(&third.run(&["ibv_devices"])?), Vec::new())?;
    equal("sysfs in a third pod", third.run(&["ls", "/sys/class/infiniband"])?.trim(), "")?;
    let seen = said("devices", host.rdma_devices(&HOME))?;
    let seen: Vec<String> = seen.into_iter().map(|device| device.name).collect();
    for member in [&pair.client, &pair.server] {
        equal(&format!("the host sees {}", member.device), seen.contains(&member.device), false)?;
    }
    Ok(format!(
        "{} and {}, each alone; a third pod sees and opens neither, the host sees {}",
        pair.client.device,
        pair.server.device,
        seen.join(" ")
    ))
}

fn pingpong(Stage { host, pf, pair }: &mut Stage<'_>) -> Outcome {
    let idle = format!("{}/infiniband", vf(host, *pf, 1)?.file("")).replace("//", "/");
    let idle_name = said("idle", host.list(&idle))?.pop().ok_or("no idle device")?;
    let idle_sent =
        || super::bench::read(host, &format!("{idle}/{idle_name}/ports/1/hw_counters/sent_pkts"));
    let (before, idle_before) = (pair.client.counter("sent_pkts")?, idle_sent()?);
    let served = ["ibv_rc_pingpong", "-d", &pair.server.device, "-g", "1", "-n", "200"];
    let mut server = pair.server.serve(&served);
    let asked = ["ibv_rc_pingpong", "-d", &pair.client.device, "-g", "1", "-n", "200"];
    let asked: Vec<&str> = asked.into_iter().chain([pair.server.address]).collect();
    let told = ask(&pair.client, &asked);
    let _ = server.wait();
    let told = told?;
    let sent = pair.client.counter("sent_pkts")? - before;
    equal("at least a packet for each message", sent >= 200, true)?;
    equal("packets of the device that nobody uses", idle_sent()?, idle_before)?;
    let last = told.lines().last().unwrap_or_default();
    Ok(format!("{last}; {} sent {sent} packets, {idle_name} of the host none", pair.client.device))
}

fn rping(pair: &Pair) -> Outcome {
    let mut server = pair.server.serve(&["rping", "-s", "-a", pair.server.address, "-C", "3"]);
    let asked = ask(&pair.client, &["rping", "-c", "-a", pair.server.address, "-v", "-C", "3"]);
    let _ = server.wait();
    let pings = asked?.lines().filter(|line| line.contains("rdma-ping-")).count();
    equal("pings", pings, 3)?;
    Ok("three pings came back".to_owned())
}

fn end(host: &LinuxHost, member: &Member) -> Outcome {
    member.pod.end();
    for _ in 0..100 {
        let found = home::rdma_devices_at_home(host, &member.vf.to_string());
        if said("devices", found)?.iter().any(|device| device.name == member.device)
            && said("look", home::interface_at_home(host, &member.vf))?.is_some()
        {
            return Ok(format!("{} and the interface of {} are home", member.device, member.vf));
        }
        host.wait(&[], Duration::from_millis(100));
    }
    Err(format!("{} did not come home", member.device))
}

fn taken_away(host: &LinuxHost, pf: PciAddress, member: &Member) -> Outcome {
    let mut holder = member.serve(&["ibv_rc_pingpong", "-d", &member.device, "-g", "1"]);
    std::thread::sleep(Duration::from_secs(1));
    let started = std::time::Instant::now();
    let done: Done = set_vfs(host, pf, "0");
    let took = started.elapsed();
    let _ = holder.kill();
    let _ = holder.wait();
    done?;
    Ok(format!("{:.1} s with an open queue pair", took.as_secs_f32()))
}
