//! A machine itself: QEMU under plain software emulation, two NUMA nodes, an SR-IOV card on each, and its serial line.

use super::kernel::Kernel;
use super::packages::Packages;
use super::{Arguments, Boot, Plan};
use crate::tools;
use anyhow::Context;
use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A case that hangs ends the machine after seven minutes (`lab/report.rs`); a machine in which nothing of ours is heard for
/// longer hangs itself, whatever its kernel says.
const PATIENCE: Duration = Duration::from_secs(450);
/// How much of a machine's last words is told when it hangs.
const LAST_WORDS: usize = 15;

/// Two root complexes, one on each NUMA node, each with a card of seven VFs behind a port of its own; and a disk
/// controller that has VFs too and is none of our business.
const DEVICES: &[&str] = &[
    "-device",
    "intel-iommu,intremap=on",
    "-numa",
    "node,nodeid=0,cpus=0,memdev=m0",
    "-numa",
    "node,nodeid=1,cpus=1,memdev=m1",
    "-device",
    "pxb-pcie,id=pxb1,bus=pcie.0,bus_nr=32,numa_node=1",
    "-device",
    "pxb-pcie,id=pxb0,bus=pcie.0,bus_nr=16,numa_node=0",
    "-device",
    "pcie-root-port,id=rp0,bus=pxb0,chassis=1,slot=1",
    "-device",
    "pcie-root-port,id=rp1,bus=pxb1,chassis=2,slot=2",
    "-netdev",
    "hubport,id=h0,hubid=0",
    "-netdev",
    "hubport,id=h1,hubid=0",
    "-device",
    "igb,bus=rp0,netdev=h0,mac=52:54:00:aa:00:01",
    "-device",
    "igb,bus=rp1,netdev=h1,mac=52:54:00:aa:00:02",
    "-device",
    "pcie-root-port,id=rp2,bus=pcie.0,chassis=3,slot=3",
    "-device",
    "nvme-subsys,id=disks",
    "-device",
    "nvme,bus=rp2,serial=lab,subsys=disks,sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4,max_ioqpairs=10,msix_qsize=12",
];

/// `intel_iommu=on` gives every function its group. `nohz=off`: an emulated processor that sleeps without a tick was seen
/// to forget an RCU callback, and the move of an interface then waited in `rcu_barrier` for ever (1 of some 800 moves).
/// The rest makes the boot short and names predictable.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=4 nohz=off nokaslr mitigations=off tsc=reliable no_timer_check \
    rcupdate.rcu_expedited=1 net.ifnames=0 panic=-1 intel_iommu=on";

/// A machine that is ready to be started.
pub struct Machine<'a> {
    pub packages: &'a Packages,
    pub kernel: &'a Kernel,
    pub plan: &'a Plan,
    pub root: &'a Root,
}

/// Where a machine has its root.
pub struct Root {
    /// All of it, or only what mounts the disk.
    pub initramfs: PathBuf,
    pub disk: Option<PathBuf>,
}

impl Root {
    /// Keeps the disk as it is before a boot, for a second start of that boot.
    pub fn save(&self) -> anyhow::Result<()> {
        self.disk.as_ref().map_or(Ok(()), |disk| copy(disk, &saved(disk)))
    }

    pub fn restore(&self) -> anyhow::Result<()> {
        self.disk.as_ref().map_or(Ok(()), |disk| copy(&saved(disk), disk))
    }
}

fn saved(disk: &Path) -> PathBuf {
    disk.with_extension("before")
}

/// What is empty takes no place.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut copy = Command::new("cp");
    tools::run(copy.arg("--sparse=always").arg(from).arg(to))
}

/// What the kernel of an emulated machine is known to hang in, whoever asked it for what, and the words by which it is
/// known: a function (see `COMMAND_LINE`), and what the kernel says when a processor gets no timer interrupts any more, as
/// one did from its boot on, on a computer that compiled besides.
const KERNEL_HANGS: [(&str, &str); 2] = [
    ("rcu_barrier", "the kernel's rcu_barrier"),
    ("Possible timer handling issue", "a processor whose timer the emulator has lost"),
];

/// What came of a machine.
#[derive(Default)]
pub struct Outcome {
    pub counts: Counts,
    /// Why the lab has failed.
    pub problem: Option<String>,
    pub hung: Option<Hang>,
}

/// A machine that did not come to its end.
#[derive(Clone)]
pub struct Hang {
    /// The case, or that it was silent.
    pub what: String,
    /// What is known for it. Any other hang may be ours.
    pub known: Option<&'static str>,
}

impl Outcome {
    /// What came of its next boot.
    pub fn add(&mut self, next: Self) {
        self.counts.add(next.counts);
        let problems: Vec<String> = self.problem.take().into_iter().chain(next.problem).collect();
        self.problem = (!problems.is_empty()).then(|| problems.join("; "));
    }
}

impl Machine<'_> {
    /// From power on to power off; a machine with a disk finds there what its last boot left.
    pub fn run(&self, boot: &Boot, arguments: &Arguments) -> anyhow::Result<Outcome> {
        let log = super::directory().join(format!("console-{}{}.log", self.plan.name, boot.log));
        let mut qemu = self.qemu(boot.words, arguments);
        let mut child = qemu.spawn().context("cannot start QEMU")?;
        let heard = listen(&mut child, &log, &self.plan.mark(), arguments.console);
        let _ = child.kill();
        child.wait()?;
        let (counts, hung) = heard?;
        let runs = self.plan.programs.iter().filter(|(_, _, place)| place.contains("/lab-"));
        let programs = runs.count();
        let problem = if counts.programs != programs {
            Some(format!("{} of {programs} programs ended", counts.programs))
        } else {
            (counts.failed > 0).then(|| "the lab found differences".to_owned())
        };
        let told = |problem| format!("{problem}; all that was said is in {}", log.display());
        Ok(Outcome { counts, problem: problem.map(told), hung })
    }

    fn qemu(&self, words: &str, arguments: &Arguments) -> Command {
        let packages = self.packages;
        let mut qemu = packages.program("qemu-system-x86_64", "usr/bin/qemu-system-x86_64");
        qemu.env("QEMU_MODULE_DIR", packages.userland.join("usr/lib/x86_64-linux-gnu/qemu"));
        for firmware in ["usr/share/qemu", "usr/share/seabios"] {
            qemu.arg("-L").arg(packages.userland.join(firmware));
        }
        let machine = "-M q35 -accel tcg,thread=multi -cpu max -smp 2";
        let lines = "-nodefaults -no-reboot -display none -monitor none -serial stdio";
        qemu.args(machine.split(' ')).args(lines.split(' '));
        let megabytes = self.plan.megabytes;
        qemu.arg("-m").arg(megabytes.to_string());
        for node in ["m0", "m1"] {
            let half = megabytes / 2;
            qemu.arg("-object").arg(format!("memory-backend-ram,id={node},size={half}M"));
        }
        qemu.args(DEVICES).arg("-kernel").arg(&self.kernel.image);
        qemu.arg("-initrd").arg(&self.root.initramfs);
        if let Some(disk) = &self.root.disk {
            // What a computer that runs the lab keeps after a power cut is of no interest.
            let file = format!("file={},format=raw,if=none,id=root,cache=unsafe", disk.display());
            qemu.arg("-drive").arg(file);
            qemu.args(["-device", "virtio-blk-pci,bus=pcie.0,drive=root"]);
        }
        // What the kernel does not know and has an equals sign, it puts into the environment of process 1.
        let cases: Vec<String> =
            arguments.cases.iter().map(|case| case.replace(' ', "_")).collect();
        let words = [COMMAND_LINE, words, &format!("LAB_CASES={}", cases.join("|"))];
        qemu.arg("-append").arg(words.join(" "));
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        qemu
    }
}

/// What the programs in the machine counted.
#[derive(Default)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    /// Programs that came to their last line.
    programs: usize,
    /// The lines that cases ended with.
    told: BTreeSet<String>,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.told.extend(other.told);
    }

    /// True when a case has this in its name. What a case saw stands behind its name and the time.
    pub fn has(&self, words: &str) -> bool {
        let plain = |text: &str| text.replace('_', " ");
        self.told.iter().any(|line| {
            let name = line.split_once(" s): ").map_or(line.as_str(), |(name, _)| name);
            plain(name).contains(&plain(words))
        })
    }

    /// True when a case of exactly this name has passed.
    pub fn passed(&self, name: &str) -> bool {
        let told = format!("ok {name} (");
        self.told.iter().any(|line| line.starts_with(&told))
    }

    /// Takes in the last line of a program: `part: 12 passed, 1 failed`.
    fn take_in(&mut self, line: &str) -> Option<()> {
        let (passed, failed) = line.strip_prefix("part: ")?.split_once(" passed, ")?;
        self.passed += passed.parse::<u32>().ok()?;
        self.failed += failed.strip_suffix(" failed")?.parse::<u32>().ok()?;
        self.programs += 1;
        Some(())
    }
}

/// Shows the outcome of each case as it comes, until the machine ends, and tells what hung.
fn listen(
    child: &mut Child,
    log: &Path,
    mark: &str,
    everything: bool,
) -> anyhow::Result<(Counts, Option<Hang>)> {
    let stdout = child.stdout.take().context("a pipe from QEMU")?;
    let (line, lines) = channel();
    std::thread::spawn(move || {
        for found in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&found).trim_end().to_owned();
            if line.send(text).is_err() {
                break;
            }
        }
    });
    let mut log = std::fs::File::create(log)?;
    let mut counts = Counts::default();
    let mut hung: Option<Hang> = None;
    let mut last = VecDeque::new();
    let mut complaint = None;
    let mut heard = Instant::now();
    loop {
        match lines.recv_timeout(PATIENCE.saturating_sub(heard.elapsed())) {
            Ok(text) => {
                writeln!(log, "{text}")?;
                last.push_back(text.clone());
                if last.len() > LAST_WORDS {
                    last.pop_front();
                }
                let outcome = ["== ", "-- ", "ok ", "FAILED ", "HUNG ", "SKIPPED ", "    "]
                    .iter()
                    .any(|word| text.starts_with(word));
                if everything || outcome {
                    println!("{mark}{text}");
                }
                if outcome {
                    heard = Instant::now();
                }
                complaint = known(&text).or(complaint);
                counts.take_in(&text);
                if ["ok ", "FAILED ", "SKIPPED "].iter().any(|word| text.starts_with(word)) {
                    counts.told.insert(text.clone());
                }
                match (text.strip_prefix("HUNG "), &mut hung) {
                    (Some(case), _) => hung = Some(Hang { what: case.to_owned(), known: None }),
                    // Behind it come the machine's tasks, each with the functions that it is in.
                    (None, Some(hang)) => hang.known = hang.known.or(known(&text)),
                    (None, None) => {}
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                println!("{mark}the machine's last words were");
                last.iter().for_each(|line| println!("{mark}    {line}"));
                let what = format!("nothing of ours was heard for {PATIENCE:?}");
                hung = Some(Hang { what, known: complaint });
                break;
            }
        }
    }
    Ok((counts, hung))
}

fn known(line: &str) -> Option<&'static str> {
    KERNEL_HANGS.into_iter().find_map(|(words, known)| line.contains(words).then_some(known))
}
