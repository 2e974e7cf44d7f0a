//! The lab's program about boots: our units under a real systemd, in a machine that is booted again and again from one disk.
//!
//! `LAB_BOOT` says which boot this is; each ends with a reboot by systemd. Called as `witness NAME` it is what a unit that
//! starts containers runs first: it writes down what that unit finds. Called as `contain` it is a small container runtime.

#![allow(clippy::unwrap_used)] // A failed case is a panic, which its line tells.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is the outside, which looks and disturbs"
)]

#[path = "lab/cards.rs"]
mod cards;
#[path = "lab/locked.rs"]
mod locked;
#[path = "../../host/examples/lab/report.rs"]
mod report;
#[path = "lab/selinux.rs"]
mod selinux;
#[path = "lab/systemd.rs"]
mod systemd;
#[path = "lab/tree.rs"]
mod tree;

use api::{RdmaMode, files};
use cards::{Cards, VFS, read};
use host::seam::{Errno, RdmaChange};
use host::{Host, Namespace};
use report::{Outcome, Report, equal};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};
use systemd::{POST, PRE, ours, show, systemctl};

const WITNESSES: &str = "/run/witness";
const RUNTIMES: [&str; 3] = ["containerd", "crio", "kubelet"];

/// Nobody installs anything by hand: the daemon reads the mode in the cluster, and writes units and program from where our
/// container has them, through the host's root at `/host`. The order is the one that it saves.
fn install(cards: &Cards) -> Outcome {
    tree::note("files", &tree::listed());
    tree::note("boot", &boot_id());
    systemd::with_daemon("systemd", |state| {
        equal("status.bootPhases", &state["status"]["bootPhases"], &json!("installed"))?;
        succeeded(state)?;
        cards.at_goal()
    })?;
    let verified = systemd::said("systemd-analyze", &["verify", PRE, POST])?;
    equal("what systemd-analyze verify says", verified.as_str(), "")?;
    for unit in [PRE, POST] {
        equal(unit, systemctl(&["is-enabled", unit])?.trim(), "enabled")?;
    }
    let version = systemctl(&["--version"])?;
    let version = version.lines().next().unwrap_or_default();
    let order = std::fs::metadata(files::ORDER).map_err(|e| format!("the saved order: {e}"))?;
    Ok(format!(
        "the node state says installed; both are enabled, and systemd-analyze verify of {version} has nothing to say; \
         an order of {} bytes is saved",
        order.len()
    ))
}

fn both(settled: Result<String, String>, cards: &Cards) -> Outcome {
    settled?;
    equal("cards with a driver", cards.addresses.len(), 2)?;
    Ok(format!("{:?}", cards.addresses))
}

/// A service with a private network is another network namespace, which has no path that anybody could find.
fn private_network(cards: &Cards) -> Outcome {
    let exclusive = RdmaChange::Mode(RdmaMode::Exclusive);
    let change = |change: &RdmaChange| cards.host.change_rdma(&Namespace::Host, change);
    // Of this type, it returns when the program runs, which is after its namespace was made.
    let run =
        ["--unit=private", "--service-type=exec", "--property=PrivateNetwork=yes", "sleep", "60"];
    systemd::said("systemd-run", &run)?;
    let refused = change(&exclusive);
    systemctl(&["stop", "private"])?;
    // The namespace ends in its own time after the service.
    until("the mode changes without it", || change(&exclusive).is_ok())?;
    change(&RdmaChange::Mode(RdmaMode::Shared)).map_err(|e| e.to_string())?;
    match refused {
        Err(refusal) if refusal.errno == Errno::BUSY => Ok(refusal.to_string()),
        other => Err(format!("with the service there: {other:?}")),
    }
}

/// What the three found that start containers, and that systemd had them wait.
fn kept() -> Outcome {
    equal("this is the boot of before", tree::noted("boot") == boot_id(), false)?;
    let expected = format!("exclusive, vfs {VFS} {VFS}, drivers {}", ["igbvf"; 6].join(" "));
    let ended = systemd::ended(PRE)?.max(systemd::ended(POST)?);
    let mut waited = Vec::new();
    for name in RUNTIMES {
        equal(&format!("what {name} found"), witnessed(name).as_str(), expected.as_str())?;
        let began = systemd::began(&format!("{name}.service"))?;
        equal(&format!("{name} began before the phases had ended"), began < ended, false)?;
        waited.push(format!("{name} {} ms", (began - ended).as_millis()));
    }
    equal("containerd", systemctl(&["is-active", "containerd"])?.trim(), "active")?;
    let took = (systemd::ended(PRE)? - systemd::began(PRE)?).as_secs_f32();
    Ok(format!(
        "each found {expected}; pre took {took:.1} s, and after both phases came {}",
        waited.join(", ")
    ))
}

/// Nothing is as the order says, as after a boot.
fn forget(cards: &Cards) -> Result<(), String> {
    let _ = systemctl(&["stop", PRE, POST]);
    let _ = systemctl(&["reset-failed", PRE, POST]);
    cards.forget()
}

/// SIGKILL before the first VF is made, and while VFs get their drivers.
fn killed(cards: &Cards) -> Outcome {
    let half_done: [(&str, &dyn Fn() -> bool); 2] = [
        ("the mode was set", &|| cards.host.rdma_mode().ok() == Some(RdmaMode::Exclusive)),
        ("a VF had its driver", &|| !cards.drivers().is_empty()),
    ];
    let mut told = Vec::new();
    for (name, reached) in half_done {
        forget(cards)?;
        systemctl(&["start", "--no-block", PRE])?;
        until(name, || show(PRE, "ActiveState").as_deref() == Ok("activating") && reached())?;
        systemctl(&["kill", "--signal=KILL", PRE])?;
        until("it is dead", || show(PRE, "ActiveState").as_deref() == Ok("failed"))?;
        equal("result", show(PRE, "Result")?.as_str(), "signal")?;
        told.push(format!("{name} (VFs {:?}, {} drivers)", cards.counts(), cards.drivers().len()));
        systemctl(&["start", PRE])?;
        cards.at_goal()?;
    }
    Ok(format!("killed when {}; each next start brought the rest", told.join(", ")))
}

fn until(what: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > Duration::from_secs(40) {
            return Err(format!("{what}: never seen"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// systemd's own limit, made short.
fn timed_out(cards: &Cards) -> Outcome {
    forget(cards)?;
    let directory = format!("/run/systemd/system/{PRE}.d");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(format!("{directory}/limit.conf"), "[Service]\nTimeoutStartSec=1s\n").unwrap();
    systemctl(&["daemon-reload"])?;
    let began = Instant::now();
    let refused = systemctl(&["start", PRE]);
    let took = began.elapsed();
    std::fs::remove_dir_all(&directory).unwrap();
    systemctl(&["daemon-reload"])?;
    equal("it ended in time", refused.is_ok(), false)?;
    equal("result", show(PRE, "Result")?.as_str(), "timeout")?;
    equal("systemd asked it to end, and waited", took > Duration::from_secs(30), false)?;
    let left = cards.counts();
    systemctl(&["start", PRE])?;
    cards.at_goal()?;
    let took = took.as_secs_f32();
    Ok(format!("ended after {took:.1} s with VFs {left:?}; the next start brought the rest"))
}

/// A card is pulled. Boot phases and runtime are started as a boot starts them, in one transaction.
fn card_missing(cards: &mut Cards) -> Outcome {
    forget(cards)?;
    let gone = cards.addresses.pop().unwrap();
    std::fs::write(gone.file("remove"), "1").unwrap();
    systemctl(&["stop", "containerd"])?;
    let since = systemd::now()?;
    systemctl(&["start", PRE, POST, "containerd"])?;
    let line = systemd::line(&systemd::journal(PRE, &since)?, &format!("cannot configure {gone}"))?;
    equal("result", show(PRE, "Result")?.as_str(), "success")?;
    equal("containerd", systemctl(&["is-active", "containerd"])?.trim(), "active")?;
    cards.at_goal()?;
    std::fs::write("/sys/bus/pci/rescan", "1").unwrap();
    systemd::said("udevadm", &["settle"])?;
    *cards = Cards::new();
    equal("cards", cards.addresses.len(), 2)?;
    Ok(format!("the other has its VFs, and containerd is active; the journal: {line}"))
}

/// Half an order, as a full disk leaves it.
fn break_order() -> Outcome {
    let order = std::fs::read(files::ORDER).unwrap();
    let half = order.len() / 2;
    std::fs::write(files::ORDER, &order[..half]).unwrap();
    Ok(format!("{half} of {} bytes", order.len()))
}

fn broken() -> Outcome {
    for name in RUNTIMES {
        let unit = format!("{name}.service");
        equal(&unit, systemctl(&["is-active", &unit])?.trim(), "active")?;
        let found = witnessed(name);
        // The mode came by the module's option, which the daemon has set too.
        equal(&format!("what {name} found"), found.trim_end(), "exclusive, vfs 0 0, drivers")?;
    }
    equal(PRE, show(PRE, "ActiveState")?.as_str(), "failed")?;
    let status = systemctl(&["status", "--no-pager", "--full", PRE]).unwrap_or_else(|told| told);
    let line = systemd::line(&status, "cannot be understood")?;
    let sentence = line.split_once("]: ").map_or(line.as_str(), |(_, said)| said);
    Ok(format!("the three that start containers are active; systemctl status: {sentence}"))
}

/// systemd has the old hierarchy in this boot.
fn old_cgroups(cards: &Cards) -> Outcome {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    equal("a hierarchy of systemd's name", own.contains("name=systemd:/"), true)?;
    let is_new = Path::new("/sys/fs/cgroup/cgroup.procs").exists();
    equal("the new hierarchy is there", is_new, false)?;
    cards.save_order()?;
    forget(cards)?;
    systemctl(&["start", PRE])?;
    cards.at_goal()?;
    Ok("systemd has its named hierarchy of v1; mode and VFs as with v2 in the boots before"
        .to_owned())
}

/// The mode that brought them takes them away.
fn removed(cards: &Cards) -> Outcome {
    systemd::with_daemon("daemon", |state| {
        succeeded(state)?;
        equal("status.bootPhases", &state["status"]["bootPhases"], &json!(null))?;
        equal(PRE, Path::new("/etc/systemd/system").join(PRE).exists(), false)?;
        // Before the policy was there, the daemon was asked for no VFs.
        cards.at_goal()
    })?;
    let differences = tree::differences(&tree::noted("files"), &tree::listed());
    // It is the pool's that still asks for the mode.
    equal("files", differences.as_str(), files::MODPROBE)?;
    for list in ["list-units", "list-unit-files"] {
        let known = systemctl(&[list, "--all", "--no-legend", "--plain"])?;
        let ours: Vec<&str> = known.lines().filter(|line| line.contains("ironrail")).collect();
        equal(list, ours.join("\n").as_str(), "")?;
    }
    cards.at_goal()?;
    ours(&["remove-boot"])?;
    Ok(format!(
        "every file below /etc and /usr is as before the install, but for {}, which the mode still needs; systemd \
         knows no unit of ours, and mode and VFs are there; where nothing is left a removal ends well too",
        files::MODPROBE
    ))
}

/// The daemon has nothing left to do, and says so.
fn succeeded(state: &Value) -> Result<(), String> {
    let status = &state["status"];
    match status["syncStatus"].as_str() {
        Some("Succeeded") => Ok(()),
        _ => Err(format!(
            "sync status {}: {}; blockers {}",
            status["syncStatus"], status["lastSyncError"], status["blockers"]
        )),
    }
}

fn boot_id() -> String {
    read("/proc/sys/kernel/random/boot_id")
}

fn witnessed(name: &str) -> String {
    std::fs::read_to_string(format!("{WITNESSES}/{name}")).unwrap()
}

/// Writes down what a unit that starts containers finds.
fn witness(name: &str) {
    let mode = match read("/sys/module/ib_core/parameters/netns_mode").as_str() {
        "N" => "exclusive",
        "Y" => "shared",
        _ => "no rdma",
    };
    let cards = Cards::new();
    let counts: Vec<String> = cards.counts().iter().map(ToString::to_string).collect();
    let found = format!("{mode}, vfs {}, drivers {}", counts.join(" "), cards.drivers().join(" "));
    std::fs::create_dir_all(WITNESSES).unwrap();
    std::fs::write(format!("{WITNESSES}/{name}"), found).unwrap();
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["witness", name] => return witness(name),
        ["contain", words @ ..] => return systemd::contain(words),
        _ => {}
    }
    let state = systemctl(&["is-system-running", "--wait"]).unwrap_or_else(|told| told);
    let boot = std::env::var("LAB_BOOT").unwrap_or_default();
    let heading = state.lines().next_back().unwrap_or_default();
    let mut report = Report::new(&format!("systemd, boot {boot} ({heading})"));
    // The system is called running before udev has brought each card its driver.
    let settled = systemd::said("udevadm", &["settle"]);
    let mut cards = Cards::new();
    report.case("boot units: both cards have their driver", || both(settled, &cards));
    match boot.as_str() {
        "install" => {
            let name =
                "boot units: a service with a network of its own keeps the mode from being changed";
            report.case(name, || private_network(&cards));
            let name = "boot units: the daemon installs them by configurationMode, and systemd finds no fault";
            report.case(name, || install(&cards));
        }
        "kept" => {
            let name = "boot units: after a reboot mode and vfs are there before runtimes start";
            report.case(name, kept);
            let name = "boot units: killed in the middle, the next start ends well";
            report.case(name, || killed(&cards));
            let name = "boot units: ended by systemd's time limit, the next start ends well";
            report.case(name, || timed_out(&cards));
            let name = "boot units: a card that is missing is named, and the runtime starts";
            report.case(name, || card_missing(&mut cards));
            report.case("boot units: half an order is left for the next boot", break_order);
        }
        "broken" => {
            let name = "boot units: an order that is broken is named, and the runtimes start";
            report.case(name, broken);
            report.case("boot units: with cgroup v1 as with v2", || old_cgroups(&cards));
            let name = "boot units: taken away by configurationMode, they leave nothing";
            report.case(name, || removed(&cards));
            report.case("selinux: every file of the disk gets its label", selinux::label);
        }
        "selinux" => {
            let name =
                "selinux: what is installed has its directory's type, and nothing else changes";
            report.case(name, || selinux::installed(&cards));
            let name =
                "selinux: systemd may run the boot phase, and nothing that it does is denied";
            report.case(name, || selinux::started(&cards));
            let name = "selinux: removed by hand, neither units nor program are left";
            report.case(name, selinux::removed);
        }
        "locked" => {
            report.case("locked down: the firmware of a card is kept from every tool", || {
                locked::firmware(&cards)
            });
            report.case("locked down: without an iommu vfio-pci takes no vf", || {
                locked::without_iommu(&cards)
            });
        }
        other => report.case("the boot", || Err(format!("LAB_BOOT is {other:?}"))),
    }
    report.end();
    let _ = systemctl(&["reboot"]);
}
