//! The lab's program about custody: the shipped plugins, real VFs and namespaces, and death at every point of ADD and DEL.
//!
//! Called with `LAB_DIE` it is a plugin that aborts at that primitive; else it is whoever goes on afterwards: the runtime
//! with DEL or with another ADD, or the node's sweeper. A VF must end up as it was: at home, under its name, configured as
//! before, with nothing written about it and no address given. Called as `…-rdma` it takes the VF's RDMA device along, by
//! the chain `sriov`, `rdma`, and it is `rdma` that dies.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.

#[path = "lab/attachment.rs"]
mod attachment;
#[path = "../../host/examples/lab/pod.rs"]
mod pod;
#[path = "../../host/examples/lab/report.rs"]
mod report;
#[path = "lab/thick.rs"]
mod thick;

use api::custody::{Offer, OfferState, OfferedDevice, OfferedResource, VERSION};
use api::{PciAddress, RdmaMode, files};
use attachment::{Attachment, Plugin, Way};
use host::crashing::{Crash, Side};
use host::linux::LinuxHost;
use host::seam::{Interest, LinkChange, LinkQuery, Program};
use host::{Host, Namespace, home, journal, vf_profile};
use pod::Pod;
use report::{Outcome, Report};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use thick::{Daemon, End};

/// So many VFs the card has; each has a runtime of its own while instants are tried.
const VFS: u32 = 4;
/// The seed that chooses the instants, and how many there are.
const SEED: u64 = 20_261_122;
const INSTANTS: u32 = 200;
/// How many ADDs are begun at once, over all VFs.
const AT_ONCE: usize = 200;
/// After this no kill is begun any more: a case has seven minutes (`lab/report.rs`), and the last way home may take one.
/// What a slow computer has left is tried in a case of its own.
const LONGEST: Duration = Duration::from_secs(330);
/// How often Multus' pod ends in the middle of ADD.
const ENDS: u32 = 16;

/// The node's sweeper (`lab-sweep` of `node`), and the sandboxes that it is told of.
const SWEEP: &str = "/usr/sbin/sweep";
const SANDBOXES: &str = "/run/lab-sandboxes";

/// Numerical Recipes' linear congruence: all that matters is that it spreads.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// What a VF and our files about it are like.
fn world(host: &LinuxHost, pci: &PciAddress) -> String {
    let link = home::interface_at_home(host, pci).unwrap();
    let identity = vf_profile::identify(host, pci).unwrap();
    let (_, profile) = vf_profile::look(host, &identity).unwrap();
    let link = link.map(|l| (l.name, vf_profile::show_address(&l.address), l.mtu, l.up));
    let record = host.read(&journal::path(&pci.to_string())).is_ok();
    let note = host.read(&format!("{}/{pci}", files::ALLOCATIONS)).is_ok();
    let rdma = home::rdma_devices_at_home(host, &pci.to_string());
    let rdma = rdma.map(|found| found.into_iter().map(|device| device.name).collect::<Vec<_>>());
    format!("{pci}: {link:?} {profile:?} rdma {rdma:?} journal {record} note {note}")
}

/// How an RDMA device goes on that was not at home when it was to be: what sysfs and each namespace show of it over ten
/// seconds, whenever that changes, and the kernel's last words.
fn afterwards(host: &LinuxHost, pci: &PciAddress) -> String {
    let (began, mut said, mut last) = (Instant::now(), String::new(), String::new());
    while began.elapsed() < Duration::from_secs(10) {
        let directory = host.list(&format!("{}/infiniband", home::directory(&pci.to_string())));
        let spaces = std::iter::once(Namespace::Host).chain(home::other_namespaces(host));
        let seen: Vec<String> = spaces
            .map(|space| {
                let found = host.rdma_devices(&space);
                let names =
                    found.map(|all| all.into_iter().map(|d| (d.index, d.name)).collect::<Vec<_>>());
                format!("{space:?}: {names:?}")
            })
            .collect();
        let now = format!("sysfs {directory:?}; {}", seen.join("; "));
        if now != last {
            said.push_str(&format!("\n    after {:?}: {now}", began.elapsed()));
            last = now;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let kernel = Command::new("/usr/bin/busybox").arg("dmesg").output().unwrap().stdout;
    let kernel = String::from_utf8_lossy(&kernel).into_owned();
    let lines: Vec<&str> = kernel.lines().collect();
    let tail = lines[lines.len().saturating_sub(30)..].join("\n    ");
    format!("{said}\n    the kernel said last:\n    {tail}")
}

/// The card with its VFs, and what they were like at first.
struct Bench {
    host: LinuxHost,
    pf: PciAddress,
    vfs: Vec<PciAddress>,
    home: BTreeMap<PciAddress, String>,
    /// The plugin that dies: the last of the chain.
    plugin: Plugin,
}

impl Bench {
    fn new(host: LinuxHost, plugin: Plugin) -> Self {
        for module in ["igb", "igbvf"] {
            host.run(&Program::Modprobe, &[module], b"").unwrap();
        }
        let names = host.list("/sys/bus/pci/drivers/igb").unwrap();
        let pf: PciAddress = names.iter().find_map(|name| name.parse().ok()).unwrap();
        let link = home::interface_at_home(&host, &pf).unwrap().unwrap().index;
        host.change_link(&Namespace::Host, &LinkChange::Up { link }).unwrap();
        host::vf_count::set(&host, &pf, VFS, true).unwrap();
        let vfs: Vec<PciAddress> =
            (0..VFS).map(|index| host::function::vf(&host, &pf, index).unwrap()).collect();
        for vf in &vfs {
            for _ in 0..50 {
                if home::interface_at_home(&host, vf).unwrap().is_some() {
                    break;
                }
                host.wait(&[Interest::Link], Duration::from_millis(200));
            }
        }
        // A rate needs a speed.
        while !home::interface_at_home(&host, &pf).unwrap().unwrap().running {
            host.wait(&[Interest::Link], Duration::from_millis(200));
        }
        if plugin == Plugin::Rdma {
            rdma_devices(&host, &vfs);
        }
        attachment::install_ipam();
        attachment::adopt_orphans();
        std::fs::create_dir_all(SANDBOXES).unwrap();
        offer(&host, pf, &vfs);
        let home = vfs.iter().map(|vf| (*vf, world(&host, vf))).collect();
        Self { host, pf, vfs, home, plugin }
    }

    fn attachment<'a>(&self, number: usize, pod: &'a Pod) -> Attachment<'a> {
        known(&pod.name);
        Attachment {
            device: self.vfs[number],
            pod,
            container: &pod.name,
            plugin: self.plugin,
            // The chain with `rdma` is about the RDMA device.
            is_plain: self.plugin == Plugin::Rdma,
            way: Way::Thin,
        }
    }

    /// What the runtime has done before it calls the plugin that dies, and the result so far.
    fn before(&self, at: &Attachment, verb: &str) -> Result<Value, String> {
        let mut result = Value::Null;
        if self.plugin == Plugin::Rdma {
            result = at.by(Plugin::Sriov).call("ADD")?;
        }
        if verb == "DEL" {
            result = at.call_with("ADD", &result)?;
        }
        Ok(result)
    }

    /// The runtime's DEL, with the pod's namespace alive or gone.
    fn release(&self, at: &Attachment) -> Result<(), String> {
        if self.plugin == Plugin::Rdma {
            at.by(Plugin::Rdma).call("DEL").map_err(|why| format!("rdma: {why}"))?;
        }
        at.by(Plugin::Sriov).call("DEL").map(drop)
    }

    fn must_be_home(&self, device: &PciAddress) -> Result<(), String> {
        let now = world(&self.host, device);
        report::equal("the vf", &now, &self.home[device])
            .map_err(|why| format!("{why}{}", afterwards(&self.host, device)))
    }

    /// The runtime's DEL; then the world must be as at first.
    fn must_come_home(&self, at: &Attachment) -> Result<(), String> {
        self.release(at)?;
        forgotten(at.container);
        report::equal("an address is left", at.has_address(), false)?;
        self.must_be_home(&at.device)
    }

    /// Death at each primitive of a verb. With each second death the pod's namespace ends before DEL, which comes twice.
    fn at_every_primitive(&self, verb: &str) -> Outcome {
        let mut deaths = 0;
        for primitive in 1.. {
            let pod = Pod::start(&format!("{verb}-{primitive}"));
            let at = self.attachment(0, &pod);
            let previous = self.before(&at, verb)?;
            // Before a call is after the one before it: nothing else touches the machine.
            if !at.die(verb, &previous, Crash { primitive, side: Side::After }) {
                self.must_come_home(&at)?;
                break;
            }
            deaths += 1;
            let when = |why| format!("{verb} died after primitive {primitive}: {why}");
            if primitive % 2 == 0 {
                pod.end();
                self.release(&at).map_err(when)?;
            }
            self.must_come_home(&at).map_err(when)?;
        }
        if deaths < 15 {
            return Err(format!("only {deaths} primitives: the plugin did not do its work"));
        }
        Ok(format!("died after each of its {deaths} primitives; each time the VF came home"))
    }

    /// How long ADD and DEL of the plugin that dies take, in microseconds: the second time, when the program's file and the
    /// kernel's memory are warm as for all that follow.
    fn times(&self) -> Result<BTreeMap<&'static str, u64>, String> {
        let pod = Pod::start("measure");
        let at = self.attachment(0, &pod);
        let mut time = BTreeMap::new();
        for _ in 0..2 {
            let previous = self.before(&at, "ADD")?;
            for verb in ["ADD", "DEL"] {
                let started = Instant::now();
                at.call_with(verb, &previous)?;
                time.insert(verb, u64::try_from(started.elapsed().as_micros()).unwrap());
            }
            self.must_come_home(&at)?;
        }
        Ok(time)
    }

    /// kill -9 at random instants of ADD and DEL, on all VFs at once; whoever comes next is the runtime with DEL, the runtime
    /// with another ADD, or the sweeper. On a slow computer no kill is begun after a while: what is left is for the next
    /// case, and the last one leaves nothing.
    fn at_random_instants(&self, left: &mut BTreeSet<u32>, is_last: bool) -> Outcome {
        if left.is_empty() {
            return Ok(format!("all {INSTANTS} were tried in the case before"));
        }
        let begun = Instant::now();
        let (time, killed, done) = (self.times()?, AtomicU32::new(0), Mutex::new(Vec::new()));
        let at_once = self.vfs.len();
        let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
            let runtimes = (0..at_once).map(|number| {
                let (time, killed, done, left) = (&time, &killed, &done, &*left);
                scope.spawn(move || {
                    let own = left.iter().filter(|instant| **instant as usize % at_once == number);
                    let in_time = |_: &&u32| begun.elapsed() < LONGEST;
                    own.take_while(in_time).try_for_each(|instant| {
                        self.instant(number, *instant, time, killed)?;
                        done.lock().unwrap().push(*instant);
                        Ok(())
                    })
                })
            });
            let runtimes: Vec<_> = runtimes.collect();
            runtimes.into_iter().map(|runtime| runtime.join().unwrap()).collect()
        });
        outcomes.into_iter().collect::<Result<(), String>>()?;
        let (killed, done) = (killed.into_inner(), done.into_inner().unwrap());
        left.retain(|instant| !done.contains(instant));
        let (done, left) = (done.len() as u32, left.len());
        if is_last && left > 0 {
            return Err(format!(
                "this computer is too slow: {left} of {INSTANTS} are left after twice {LONGEST:?}"
            ));
        }
        if killed < done / 2 {
            return Err(format!("only {killed} of {done} calls ran when they were killed"));
        }
        let more = match left {
            0 => String::new(),
            left => format!(" (THIS COMPUTER IS SLOW: {left} are left for the next case)"),
        };
        Ok(format!(
            "{killed} of {done} calls were killed in their middle, on {at_once} VFs at once{more}; each time the VF came \
             home by DEL, another ADD or the sweeper"
        ))
    }

    /// One kill, and one way home.
    fn instant(
        &self,
        number: usize,
        instant: u32,
        time: &BTreeMap<&str, u64>,
        killed: &AtomicU32,
    ) -> Result<(), String> {
        let mut random = Random(SEED + u64::from(instant) * 16 + number as u64);
        let pod = Pod::start(&format!("random-{number}-{instant}"));
        let verb = if random.below(2) == 0 { "ADD" } else { "DEL" };
        let at = self.attachment(number, &pod);
        let previous = self.before(&at, verb)?;
        let after = Duration::from_micros(random.below(time[verb]));
        killed.fetch_add(u32::from(at.kill(verb, &previous, after)), Ordering::Relaxed);
        attachment::wait_for_orphans();
        if random.below(3) == 0 {
            pod.end();
        }
        let (next, outcome) = match random.below(3) {
            0 => ("DEL", self.must_come_home(&at)),
            1 => ("another ADD", self.given_again(&at)),
            _ => ("the sweeper", self.swept(&at)),
        };
        outcome.map_err(|why| {
            format!(
                "{verb} of instant {instant} on {} killed after {after:?}, then {next}: {why}",
                at.device
            )
        })
    }

    /// The VF goes to whoever comes next: the same attachment while its pod lives, else another pod's.
    fn given_again(&self, at: &Attachment) -> Result<(), String> {
        let lives = std::fs::exists(&at.pod.path).unwrap();
        let other = Pod::start(&format!("{}-next", at.container));
        let next = match lives {
            true => *at,
            false => Attachment { container: &other.name, pod: &other, ..*at },
        };
        known(next.container);
        let mut result = next.by(Plugin::Sriov).call("ADD")?;
        if self.plugin == Plugin::Rdma {
            result = next.call_with("ADD", &result)?;
            self.must_be_whole(&next)?;
        }
        if !lives {
            // The DEL of the pod that is gone comes late, and takes nothing from the next.
            self.release(at)?;
        }
        next.call_with("CHECK", &result)?;
        self.must_come_home(&next)?;
        report::equal("an address of the first is left", at.has_address(), false)
    }

    /// The kernel's own queue pair is there, by which connections are made: a killed process's move brings the device and not
    /// always this (`ib_mad_port_open`).
    fn must_be_whole(&self, at: &Attachment) -> Result<(), String> {
        let space = at.pod.namespace();
        for device in self.host.rdma_devices(&space).map_err(|refusal| refusal.to_string())? {
            let counts = self.host.rdma_resources(&space, device.index);
            let counts = counts.map_err(|refusal| refusal.to_string())?;
            if !counts.iter().any(|count| count.name == "qp" && count.value > 0) {
                return Err(format!("{} in the pod has no queue pair: {counts:?}", device.name));
            }
        }
        Ok(())
    }

    /// The node's sweeper, which is told that the runtime does not know the sandbox; DEL comes later for the address.
    fn swept(&self, at: &Attachment) -> Result<(), String> {
        forgotten(at.container);
        let swept = Command::new(SWEEP).arg(at.device.to_string()).output().unwrap();
        if !swept.status.success() {
            return Err(String::from_utf8_lossy(&swept.stdout).into_owned());
        }
        self.must_be_home(&at.device)?;
        self.must_come_home(at)
    }

    /// The plain way: into the pod under its name, configured, and back.
    fn there_and_back(&self) -> Outcome {
        let pod = Pod::start("plain");
        let at = self.attachment(0, &pod);
        let result = at.call("ADD")?;
        at.call_with("CHECK", &result)?;
        let seen = self.host.links(&pod.namespace(), &LinkQuery::default()).unwrap();
        let found = seen.iter().find(|link| link.name == "net1").ok_or("the pod has no net1")?;
        report::equal("its device", found.parent.clone(), Some(self.vfs[0].to_string()))?;
        report::equal("up", found.up, true)?;
        report::equal("mac", vf_profile::show_address(&found.address), at.mac())?;
        let told = result["interfaces"][0]["mac"].as_str();
        report::equal("mac in the result", told, Some(at.mac().as_str()))?;
        let addresses = self.host.addresses(&pod.namespace(), Some(found.index)).unwrap();
        let has = |address: &host::seam::Address| address.address.to_string() == "10.56.217.171";
        report::equal("address", addresses.iter().any(has), true)?;
        let identity = vf_profile::identify(&self.host, &self.vfs[0]).unwrap();
        let profile = vf_profile::look(&self.host, &identity).unwrap().1;
        let vlan = profile.vlan.map(|vlan| (vlan.id, vlan.qos));
        report::equal("vlan", vlan, Some(attachment::VLAN))?;
        let rate = profile.rate.map(|rate| rate.max);
        report::equal("rate", rate, Some(attachment::RATE))?;
        report::equal("admin mac", profile.mac, Some(at.mac()))?;
        self.must_come_home(&at)?;
        Ok(format!(
            "net1 in the pod was {} with address, MAC, VLAN 100 and a rate, and home it had nothing of it left",
            self.vfs[0]
        ))
    }

    fn end(self, report: Report) {
        host::vf_count::set(&self.host, &self.pf, 0, true).unwrap();
        // The next program's machine has no daemon yet.
        std::fs::remove_dir_all(files::RUN).unwrap();
        report.end();
    }

    /// A second ADD for a VF that a living pod has.
    fn taken(&self) -> Outcome {
        let (one, other) = (Pod::start("one"), Pod::start("other"));
        let (first, second) = (self.attachment(0, &one), self.attachment(0, &other));
        let result = first.call("ADD")?;
        let refused = match second.call("ADD") {
            Ok(_) => return Err("two pods were given one VF".to_owned()),
            Err(why) => why,
        };
        if !refused.contains("is already allocated to interface net1 of container one") {
            return Err(refused);
        }
        second.call("DEL")?;
        first.call_with("CHECK", &result)?;
        self.must_come_home(&first)?;
        Ok("the second was told who has it, and its DEL took nothing from the first".to_owned())
    }

    /// Many processes at once, each with a container of its own, for few VFs: each VF is given once, and all the others are
    /// told to come later.
    fn at_once(&self) -> Outcome {
        let pods: Vec<Pod> =
            (0..2 * VFS).map(|number| Pod::start(&format!("crowd-{number}"))).collect();
        let names: Vec<String> = (0..AT_ONCE).map(|number| format!("crowd-{number}")).collect();
        let crowd: Vec<Attachment> = names
            .iter()
            .enumerate()
            .map(|(number, name)| {
                // Each VF has two pods that want it; in a pod the name net1 is there once.
                let vf = number % self.vfs.len();
                let at = self.attachment(vf, &pods[2 * vf + number / self.vfs.len() % 2]);
                Attachment { container: name, ..at }
            })
            .collect();
        let begun: Vec<_> = crowd.iter().map(|at| at.start("ADD", &Value::Null)).collect();
        let said = begun.into_iter().map(|child| attachment::answer("ADD", child));
        let mut winners = BTreeMap::new();
        for (at, said) in crowd.iter().zip(said.collect::<Vec<_>>()) {
            match said {
                Ok(_) => {
                    if let Some(other) = winners.insert(at.device, at) {
                        let (one, two) = (other.container, at.container);
                        return Err(format!("{} is {one}'s and {two}'s", at.device));
                    }
                }
                Err(why) if why.contains("\"code\":11") && why.contains("is already allocated") => {
                }
                Err(why) => return Err(format!("{} for {}: {why}", at.container, at.device)),
            }
        }
        report::equal("the VFs that were given", winners.len(), self.vfs.len())?;
        for at in crowd.iter().filter(|at| winners[&at.device].container != at.container) {
            report::equal("a loser's address", at.has_address(), false)?;
        }
        for at in winners.values() {
            self.must_come_home(at)?;
        }
        Ok(format!("{AT_ONCE} processes at once for {VFS} VFs: each was given once, and came home"))
    }

    /// A state directory in which nothing can be written: ADD says so, and leaves everything as it was.
    fn unwritable(&self) -> Outcome {
        let pod = Pod::start("unwritable");
        let at = self.attachment(0, &pod);
        let busybox = |words: &[&str]| {
            assert!(Command::new("/usr/bin/busybox").args(words).status().unwrap().success());
        };
        std::fs::create_dir_all(files::CNI_JOURNAL).unwrap();
        busybox(&["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", files::CNI_JOURNAL]);
        std::fs::write(format!("{}/filler", files::CNI_JOURNAL), [0; 4096]).unwrap();
        let refused = |why: &str| {
            let said = at.call("ADD").err().ok_or("ADD succeeded without a journal")?;
            let record = journal::path(&at.device.to_string());
            let wanted = format!(r#""code":5,"msg":"cannot replace {record}: {why}""#);
            if !said.contains(&wanted) {
                return Err(format!("found {said}, expected {wanted}"));
            }
            report::equal("an address is left", at.has_address(), false)?;
            let left = std::fs::read_dir(files::CNI_JOURNAL).unwrap().count();
            report::equal("files besides the filler", left, 1)?;
            self.must_be_home(&at.device)
        };
        let outcome = refused("no space left on device").and_then(|()| {
            busybox(&["mount", "-o", "remount,ro", files::CNI_JOURNAL]);
            refused("read-only file system")
        });
        busybox(&["umount", files::CNI_JOURNAL]);
        outcome?;
        at.call("ADD")?;
        self.must_come_home(&at)?;
        Ok("ADD was refused for a full disk and for a read-only one, by code and sentence, and changed nothing".to_owned())
    }

    /// What comes out of the pod's interface once it has its address.
    fn announced(&self) -> Outcome {
        let pod = Pod::start("announced");
        let at = self.attachment(0, &pod);
        let ear = ear(&pod);
        at.call("ADD")?;
        let mac = vf_profile::parse_address(&at.mac()).unwrap();
        let (broadcast, address) = ([0xff; 6], [10, 56, 217, 171]);
        let request = [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1];
        let wanted = [&broadcast, &*mac, &request, &*mac, &address, &[0; 6], &address].concat();
        let mut heard = 0;
        let mut frame = [0; 256];
        while let Ok((length, _)) = recv(&ear, &mut frame, RecvFlags::empty()) {
            heard += u32::from(frame[..length] == wanted);
        }
        self.must_come_home(&at)?;
        match heard {
            0 => Err("no gratuitous ARP request came out of net1".to_owned()),
            _ => Ok(format!("{heard} gratuitous ARP requests for the address came out of net1")),
        }
    }

    /// ADD as Multus thick starts it, ended with the daemon's pod; DEL comes from the host, or from the next daemon.
    fn thick(&self) -> Outcome {
        // What nobody disturbs: given by thick, taken by thin.
        let (pod, daemon) = (Pod::start("thick"), Daemon::start());
        let at = self.attachment(0, &pod);
        let result = at.from(Way::Thick(&daemon)).call("ADD")?;
        at.call_with("CHECK", &result)?;
        self.must_come_home(&at)?;
        drop((pod, daemon));
        let time = self.times()?["ADD"];
        let mut random = Random(SEED);
        let (mut killed, mut memory) = (0, 0);
        for number in 0..ENDS {
            let (pod, daemon, next) =
                (Pod::start(&format!("thick-{number}")), Daemon::start(), Daemon::start());
            let how = if number % 2 == 0 { End::Killed } else { End::OutOfMemory };
            let at = self.attachment(0, &pod);
            let mut child = at.from(Way::Thick(&daemon)).start("ADD", &Value::Null);
            // The mounts of the daemon's pod take their time too.
            std::thread::sleep(Duration::from_micros(time / 4 + random.below(time)));
            memory += daemon.end(how);
            killed += u32::from(child.wait().unwrap().signal().is_some());
            let home = if number / 2 % 2 == 0 { Way::Thin } else { Way::Thick(&next) };
            self.must_come_home(&at.from(home))
                .map_err(|why| format!("ADD of pod {number}, {how:?}: {why}"))?;
        }
        if killed < ENDS / 2 || memory == 0 {
            return Err(format!("only {killed} of {ENDS} pods ended in ADD, {memory} by memory"));
        }
        Ok(format!(
            "{killed} of {ENDS} ADDs ended with Multus' pod, {memory} of them for want of memory; each time the VF came \
             home, by a DEL from the host or from the next pod"
        ))
    }
}

/// A socket that hears every frame of every interface of the pod, also of those that come later.
fn ear(pod: &Pod) -> OwnedFd {
    let space = std::fs::File::open(&pod.path).unwrap();
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        // ETH_P_ALL, in the network's order.
        let all = Protocol::from_raw(0x0300_u32.try_into().unwrap());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(all)).unwrap()
    });
    thread.join().unwrap()
}

/// The container runtime knows this sandbox.
fn known(container: &str) {
    std::fs::write(format!("{SANDBOXES}/{container}"), "").unwrap();
}

fn forgotten(container: &str) {
    let _ = std::fs::remove_file(format!("{SANDBOXES}/{container}"));
}

/// What the daemon tells the plugins.
fn offer(host: &LinuxHost, pf: PciAddress, vfs: &[PciAddress]) {
    let boot_id = host.read("/proc/sys/kernel/random/boot_id").unwrap();
    let devices = vfs.iter().zip(0..).map(|(vf, index)| OfferedDevice {
        pci: *vf,
        state: OfferState::Ready,
        numa_node: None,
        parent: pf,
        vf: Some(index),
        driver: None,
        rdma_device: None,
        profile: None,
    });
    let resource = OfferedResource { devices: devices.collect(), ..OfferedResource::default() };
    let offer = Offer {
        version: VERSION,
        boot_id: String::from_utf8(boot_id).unwrap().trim().to_owned(),
        sequence: 1,
        by_path: true,
        resources: BTreeMap::from([("openshift.io/lab".to_owned(), resource)]),
    };
    host.replace(files::OFFER, &serde_json::to_vec(&offer).unwrap(), 0o600).unwrap();
}

/// What a card's own driver makes, in exclusive mode.
fn rdma_devices(host: &LinuxHost, vfs: &[PciAddress]) {
    for module in ["ib_uverbs", "ib_umad", "rdma_rxe"] {
        host.run(&Program::Modprobe, &[module], b"").unwrap();
    }
    host::rdma_mode::switch(host, RdmaMode::Exclusive).unwrap();
    for (number, vf) in vfs.iter().enumerate() {
        let link = home::interface_at_home(host, vf).unwrap().unwrap().name;
        let name = format!("mlx5_{number}");
        let words = ["link", "add", &name, "type", "rxe", "netdev", &link];
        assert!(Command::new("/usr/bin/rdma").args(words).status().unwrap().success());
    }
}

fn main() {
    if attachment::is_ipam() {
        attachment::ipam();
    }
    if let Ok(order) = std::env::var("LAB_DIE") {
        attachment::plugin(&order);
    }
    if std::env::args().next().unwrap().ends_with("-rdma") {
        return with_rdma();
    }
    let mut report = Report::new("custody: real VFs come home, whenever the plugin dies");
    let bench = Bench::new(LinuxHost::new("/").unwrap(), Plugin::Sriov);
    report.case("a vf goes into a pod as configured, and comes home as it was", || {
        bench.there_and_back()
    });
    report.case("a vf that a living pod has is refused to another", || bench.taken());
    report.case("a pod's address is announced out of its interface", || bench.announced());
    report.case("a state directory without room or read-only is named, and nothing leaks", || {
        bench.unwritable()
    });
    report.case("of 200 adds at once each vf is given to one", || bench.at_once());
    report.case("a vf comes home after a death at every primitive of add", || {
        bench.at_every_primitive("ADD")
    });
    report.case("a vf comes home after a death at every primitive of del", || {
        bench.at_every_primitive("DEL")
    });
    let mut left = (0..INSTANTS).collect();
    report.case("a vf comes home after kill -9 at 200 random instants", || {
        bench.at_random_instants(&mut left, false)
    });
    report.case("a vf comes home after kill -9 at what is left of 200 instants", || {
        bench.at_random_instants(&mut left, true)
    });
    report.case("a vf comes home when multus' pod ends in the middle of add", || bench.thick());
    bench.end(report);
}

fn with_rdma() {
    let mut report = Report::new("custody: RDMA devices come home, whenever the plugin dies");
    let bench = Bench::new(LinuxHost::new("/").unwrap(), Plugin::Rdma);
    report.case("an rdma device comes home after a death at every primitive of add", || {
        bench.at_every_primitive("ADD")
    });
    report.case("an rdma device comes home after a death at every primitive of del", || {
        bench.at_every_primitive("DEL")
    });
    let mut left = (0..INSTANTS).collect();
    report.case("an rdma device comes home after kill -9 at 200 random instants", || {
        bench.at_random_instants(&mut left, false)
    });
    report.case("an rdma device comes home after kill -9 at what is left of 200 instants", || {
        bench.at_random_instants(&mut left, true)
    });
    bench.end(report);
}
