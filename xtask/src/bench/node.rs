//! Daemon and device plugin at rest: memory, CPU and wake-ups with 0, 64 and 512 VFs.
//!
//! Each runs over a directory in the place of the host's root, with cards as sysfs has them. The device plugin has an
//! offer and no kubelet to register with; the daemon talks to the playground's API server, reports the cards and is asked
//! for nothing. Of the network interfaces it is told those of this computer: the cards have none, which the lab alone can
//! give them. The daemon's node is made with kubectl.

use crate::{image, tools};
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SETTLE: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(60);
/// Between two looks at the threads: those that make a look at the node live for ten seconds after it.
const GLANCE: Duration = Duration::from_secs(1);
/// How long the API server may take to listen.
const PATIENCE: Duration = Duration::from_secs(60);
/// As images are built.
const PROFILE: &str = "release-image";
/// VFs of one card.
const OF_A_CARD: u32 = 64;
/// An offer as our daemon writes it, which a test of `node` holds against its reader.
const OFFER: &str = include_str!("../../../fuzz/corpus/files/01");
/// What the device plugin writes once it has taken an offer.
const CLAIMS: &str = "run/ironrail/claims.json";

pub fn run() -> anyhow::Result<()> {
    let program = image::build(PROFILE, &["ironrail-node"])?.join("ironrail-node");
    // The whole workspace, so that features are those of every other build; the API server need not be fast.
    let mut server = tools::cargo();
    tools::run(server.args(["build", "--quiet", "--workspace", "--bin", "ironrail"]))?;
    let directory = tools::target().join("bench/node");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).context("cannot make a directory for the benchmark")?;
    let (kubeconfig, _server) = api_server(&directory)?;
    let kubectl = kubectl();
    if kubectl.is_none() {
        println!("NOT MEASURED: the daemon, because kubectl is not installed");
    }
    println!(
        "at rest for {} s; of the memory, `own` is not the program's file:",
        WATCHED.as_secs()
    );
    println!(
        "{:<14} {:>5} {:>10} {:>10} {:>9} {:>14}",
        "", "VFs", "memory", "own", "CPU", "wake-ups/min"
    );
    for vfs in [0, 64, 512] {
        let root = directory.join(format!("{vfs}"));
        lay_out(&root, vfs)?;
        let mut plugin = Command::new(&program);
        plugin.arg("device-plugin").stdout(Stdio::null());
        let plugin = at_rest(plugin, &root, "device plugin", Some(CLAIMS))?;
        println!("{:<14} {vfs:>5} {}", "device plugin", plugin.told());
        let Some(kubectl) = &kubectl else { continue };
        let name = format!("bench-{vfs}");
        make_node(kubectl, &kubeconfig, &name)?;
        let daemon = at_rest(daemon(&program, &kubeconfig, &name), &root, "daemon", None)?;
        println!("{:<14} {vfs:>5} {}", "daemon", daemon.told());
        println!("{:<14} {vfs:>5} {:>6} KiB", "together", plugin.resident + daemon.resident);
    }
    Ok(())
}

/// That of CI (the newest), or the computer's own.
fn kubectl() -> Option<PathBuf> {
    let ours = tools::root().join("target/tools/kubectl-1.36/kubectl");
    let works =
        |program: &Path| Command::new(program).args(["version", "--client"]).output().is_ok();
    [ours, PathBuf::from("kubectl")].into_iter().find(|program| works(program))
}

/// A node of the cluster; the operator makes a node state for it.
fn make_node(kubectl: &Path, kubeconfig: &Path, name: &str) -> anyhow::Result<()> {
    let manifest = format!(
        r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{name}","labels":{{"kubernetes.io/os":"linux","node-role.kubernetes.io/worker":""}}}}}}"#
    );
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).args(["apply", "--filename", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().context("cannot start kubectl")?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(manifest.as_bytes()).context("kubectl does not read")?;
    }
    let status = child.wait().context("cannot wait for kubectl")?;
    if !status.success() {
        bail!("kubectl could not make node {name}: {status}");
    }
    Ok(())
}

/// A program that ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The playground's, and how to reach it.
fn api_server(directory: &Path) -> anyhow::Result<(PathBuf, Running)> {
    let kubeconfig = directory.join("kubeconfig");
    let mut command = Command::new(tools::target().join("debug/ironrail"));
    command.args(["playground", "--nodes", "1", "--kubeconfig"]).arg(&kubeconfig);
    let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut server = Running(server.context("cannot start the playground")?);
    let begun = Instant::now();
    while !kubeconfig.exists() {
        if let Some(status) = server.0.try_wait().context("cannot look at the playground")? {
            bail!("the playground ended by itself: {status}");
        }
        if begun.elapsed() > PATIENCE {
            bail!("the playground does not serve within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok((kubeconfig, server))
}

/// In mounts of its own: the namespace of the host, which is ours, has to lie below the root.
fn daemon(program: &Path, kubeconfig: &Path, node: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = r#"mount --bind /proc/self/ns/net "$HOST_ROOT/proc/1/ns/net" && exec "$0" daemon"#;
    command.args(["--mount", "sh", "-c", script]).arg(program);
    command.env("NODE_NAME", node).env("KUBECONFIG", kubeconfig).stdout(Stdio::null());
    command
}

/// Where the n-th VF is, counted over all cards.
fn address(vf: u32) -> String {
    let (card, function) = (vf / OF_A_CARD, vf % OF_A_CARD);
    format!("0000:{:02x}:{:02x}.{}", 0x10 + card, 1 + function / 8, function % 8)
}

/// The n-th PF.
fn card(number: u32) -> String {
    format!("0000:{:02x}:00.0", 0x10 + number)
}

/// The offer of so many VFs: what goes for all is as in the seed, and each is as its first device.
fn offer(vfs: u32) -> anyhow::Result<String> {
    let mut offer: Value = serde_json::from_str(OFFER).context("the seed is no offer")?;
    offer["bootId"] = json!("bench");
    let resources = offer["resources"].as_object_mut().context("the seed offers no resource")?;
    for resource in resources.values_mut() {
        let one = resource["devices"][0].take();
        let device = |vf: u32| {
            let mut device = one.clone();
            device["pci"] = json!(address(vf));
            device["parent"] = json!(card(vf / OF_A_CARD));
            device["vf"] = json!(vf % OF_A_CARD);
            device["rdmaDevice"] = json!(format!("mlx5_{vf}"));
            device
        };
        resource["devices"] = (0..vfs).map(device).collect();
    }
    Ok(offer.to_string())
}

/// A root with a boot, cards with so many VFs, and an offer of all of them.
fn lay_out(root: &Path, vfs: u32) -> anyhow::Result<()> {
    file(root, "proc/sys/kernel/random/boot_id", "bench\n")?;
    file(root, "proc/1/ns/net", "")?;
    file(root, "run/ironrail/offer.json", &offer(vfs)?)?;
    for directory in ["kubelet/device-plugins", "sys/bus/pci/devices"] {
        fs::create_dir_all(root.join(directory)).context("cannot make a directory of the root")?;
    }
    for card in 0..vfs.div_ceil(OF_A_CARD) {
        let pf = self::card(card);
        let count = OF_A_CARD.to_string();
        let own =
            [("sriov_totalvfs", count.as_str()), ("sriov_numvfs", &count), ("device", "0x1019")];
        function(root, &pf, &own)?;
        for vf in 0..OF_A_CARD {
            let number = card * OF_A_CARD + vf;
            let address = address(number);
            let uverbs = format!("infiniband_verbs/uverbs{number}/ibdev");
            let name = format!("mlx5_{number}");
            function(root, &address, &[("device", "0x101a"), (&uverbs, &name)])?;
            let devices = root.join("sys/bus/pci/devices");
            link(&devices.join(&pf).join(format!("virtfn{vf}")), &format!("../{address}"))?;
            link(&devices.join(&address).join("physfn"), &format!("../{pf}"))?;
        }
    }
    Ok(())
}

/// What sysfs has of one PCI function.
fn function(root: &Path, pci: &str, files: &[(&str, &str)]) -> anyhow::Result<()> {
    let place = format!("sys/devices/pci0000:00/{pci}");
    let common = [("class", "0x020000"), ("vendor", "0x15b3"), ("numa_node", "0")];
    for (name, content) in common.iter().chain(files) {
        file(root, &format!("{place}/{name}"), &format!("{content}\n"))?;
    }
    link(&root.join(&place).join("driver"), "../../../bus/pci/drivers/mlx5_core")?;
    link(&root.join("sys/bus/pci/devices").join(pci), &format!("../../../devices/pci0000:00/{pci}"))
}

fn file(root: &Path, path: &str, content: &str) -> anyhow::Result<()> {
    let path = root.join(path);
    let directory = path.parent().context("a file without a directory")?;
    fs::create_dir_all(directory).context("cannot make a directory of the root")?;
    fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn link(path: &Path, target: &str) -> anyhow::Result<()> {
    symlink(target, path).with_context(|| format!("cannot make the link {}", path.display()))
}

/// A program at rest over a root; one that has not written its file by then does not what is to be measured.
fn at_rest(
    mut command: Command,
    root: &Path,
    what: &str,
    writes: Option<&str>,
) -> anyhow::Result<AtRest> {
    let child = command.env("HOST_ROOT", root).env("KUBELET_DIRECTORY", root.join("kubelet"));
    let mut child = Running(child.spawn().with_context(|| format!("cannot start the {what}"))?);
    std::thread::sleep(SETTLE);
    if let Some(path) = writes.map(|path| root.join(path)).filter(|path| !path.exists()) {
        let settled = SETTLE.as_secs();
        bail!("the {what} has not written {} in {settled} s: look at what it says", path.display());
    }
    let process = child.0.id();
    let before = Rest::of(process);
    let slept_before = sleeps(process);
    // A thread that ends takes its count along, so that each is looked at again and again.
    let mut slept = slept_before.clone();
    let begun = Instant::now();
    while begun.elapsed() < WATCHED {
        std::thread::sleep(GLANCE);
        slept.extend(sleeps(process));
    }
    let after = Rest::of(process);
    if let Some(status) =
        child.0.try_wait().with_context(|| format!("cannot look at the {what}"))?
    {
        bail!("the {what} ended by itself: {status}");
    }
    let (before, after) = (before?, after?);
    let minutes = WATCHED.as_secs() / 60;
    Ok(AtRest {
        resident: after.resident,
        own: after.own,
        milliseconds: (after.ticks - before.ticks) * 10,
        wakes: (slept.values().sum::<u64>() - slept_before.values().sum::<u64>()) / minutes.max(1),
    })
}

struct AtRest {
    resident: u64,
    own: u64,
    milliseconds: u64,
    wakes: u64,
}

impl AtRest {
    fn told(&self) -> String {
        format!(
            "{:>6} KiB {:>6} KiB {:>6} ms {:>14}",
            self.resident, self.own, self.milliseconds, self.wakes
        )
    }
}

/// What the kernel counts of a process.
struct Rest {
    /// KiB.
    resident: u64,
    /// KiB that are not pages of a file.
    own: u64,
    /// Hundredths of a second of CPU.
    ticks: u64,
}

impl Rest {
    fn of(process: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/{process}/{name}"))
                .with_context(|| format!("cannot read {name} of the program"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        let fields: Vec<&str> =
            stat.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
        let tick =
            |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        Ok(Self {
            resident: number(&status, "VmRSS:"),
            own: number(&status, "RssAnon:"),
            ticks: tick(11) + tick(12),
        })
    }
}

/// How often each living thread went to sleep so far; before each time it was woken.
fn sleeps(process: u32) -> BTreeMap<OsString, u64> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        Some((task.file_name(), number(&status, "voluntary_ctxt_switches:")))
    };
    tasks.filter_map(of).collect()
}

fn number(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{address, lay_out, offer};
    use std::collections::BTreeSet;

    #[test]
    fn each_vf_is_offered_once_as_it_is_laid_out() {
        let root = std::env::temp_dir().join(format!("ironrail-bench-{}", std::process::id()));
        lay_out(&root, 128).unwrap();
        let offered: serde_json::Value = serde_json::from_str(&offer(128).unwrap()).unwrap();
        let devices = offered["resources"]["openshift.io/rdma_vf"]["devices"].as_array().unwrap();
        let place = root.join("sys/bus/pci/devices");
        let mut seen = BTreeSet::new();
        for device in devices {
            let [pci, parent] = ["pci", "parent"].map(|key| device[key].as_str().unwrap());
            let link = std::fs::read_link(place.join(pci).join("physfn")).unwrap();
            assert!(link.ends_with(parent), "{device}");
            assert_eq!(device["state"]["is"], "ready", "{device}");
            assert!(seen.insert(pci.to_owned()), "{device}");
        }
        assert_eq!(seen, (0..128).map(address).collect());
        std::fs::remove_dir_all(root).unwrap();
    }
}
