//! The device plugin at rest: memory, CPU and wake-ups with 0, 64 and 512 VFs on offer.
//!
//! It runs over a directory in the place of the host's root, with an offer in it and no kubelet to register with. The
//! daemon needs an API server and cards, so it is measured in the lab only; said aloud, not left out in silence.

use crate::tools;
use anyhow::Context;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SETTLE: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(60);

pub fn run() -> anyhow::Result<()> {
    let mut build = tools::cargo();
    tools::run(build.args(["build", "--quiet", "--release", "--package", "node"]))?;
    let program = tools::target().join("release/ironrail-node");
    println!("device plugin, at rest for {} s:", WATCHED.as_secs());
    println!("{:>5} {:>10} {:>9} {:>14}", "VFs", "memory", "CPU", "wake-ups/min");
    for vfs in [0, 64, 512] {
        let root = tools::target().join(format!("bench/node-{vfs}"));
        lay_out(&root, vfs)?;
        println!("{vfs:>5} {}", at_rest(&program, &root)?);
    }
    println!("NOT MEASURED: the daemon, which needs an API server and cards; see cargo xtask lab");
    Ok(())
}

/// A root with a boot and an offer of so many VFs.
fn lay_out(root: &Path, vfs: u32) -> anyhow::Result<()> {
    let device = |vf: u32| {
        let (bus, function) = (0x10 + vf / 256, vf % 256);
        format!(
            r#"{{"pci":"0000:{bus:02x}:{:02x}.{}","numa":0,"driver":"mlx5_core","rdmaDevice":"mlx5_{vf}","state":{{"ready":null}}}}"#,
            function / 8,
            function % 8
        )
    };
    let devices: Vec<String> = (0..vfs).map(device).collect();
    let offer = format!(
        r#"{{"version":1,"bootId":"bench","sequence":1,"resources":{{"openshift.io/rdma_vf":{{"rdma":true,"vhostNet":false,"devices":[{}]}}}}}}"#,
        devices.join(",")
    );
    for (path, content) in
        [("proc/sys/kernel/random/boot_id", "bench\n"), ("run/ironrail/offer.json", offer.as_str())]
    {
        let path = root.join(path);
        let directory = path.parent().context("a file without a directory")?;
        fs::create_dir_all(directory).context("cannot make a root for the benchmark")?;
        fs::write(path, content).context("cannot write a root for the benchmark")?;
    }
    fs::create_dir_all(root.join("kubelet/device-plugins"))
        .context("cannot make the kubelet's directory")
}

fn at_rest(program: &Path, root: &Path) -> anyhow::Result<String> {
    let mut child = Command::new(program)
        .arg("device-plugin")
        .env("HOST_ROOT", root)
        .env("KUBELET_DIRECTORY", root.join("kubelet"))
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    std::thread::sleep(SETTLE);
    let before = Rest::of(child.id());
    std::thread::sleep(WATCHED);
    let after = Rest::of(child.id());
    let ended = child.try_wait().context("cannot look at the device plugin")?;
    let _ = child.kill();
    let _ = child.wait();
    if let Some(status) = ended {
        anyhow::bail!("the device plugin ended by itself: {status}");
    }
    let (before, after) = (before?, after?);
    let minutes = WATCHED.as_secs() / 60;
    Ok(format!(
        "{:>6} KiB {:>6} ms {:>14}",
        after.resident,
        (after.ticks - before.ticks) * 10,
        (after.switches - before.switches) / minutes.max(1)
    ))
}

/// What the kernel counts of a process.
struct Rest {
    /// KiB.
    resident: u64,
    /// Hundredths of a second of CPU.
    ticks: u64,
    /// Times that a thread went to sleep, each of which was woken before.
    switches: u64,
}

impl Rest {
    fn of(process: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{process}/{name}"))
                .with_context(|| format!("cannot read {name} of the device plugin"))
        };
        let stat = read("stat")?;
        let fields: Vec<&str> =
            stat.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
        let tick =
            |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let mut switches = 0;
        let tasks = fs::read_dir(format!("/proc/{process}/task")).context("no threads")?;
        for task in tasks.flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            switches += number(&status, "voluntary_ctxt_switches:");
        }
        Ok(Self {
            resident: number(&read("status")?, "VmRSS:"),
            ticks: tick(11) + tick(12),
            switches,
        })
    }
}

fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
