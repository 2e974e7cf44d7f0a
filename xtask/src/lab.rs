//! The lab: virtual machines with real kernels and emulated SR-IOV cards, in which our code runs.
//!
//! Everything comes from Debian's packages, found through the machine's own package sources and kept below `target/lab`.
//! Nothing is installed on the machine, and no privilege is needed. The cases are in
//! the programs `examples/lab-*` of the crates; each prints a line a case, with what was seen.

mod builder;
mod disk;
mod initramfs;
mod kernel;
mod machine;
mod packages;

use crate::{image, tools};
use anyhow::{Context, anyhow, bail};
use packages::Track;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only the cases whose name contains one of these
    cases: Vec<String>,
    /// Only this machine
    #[arg(long, value_enum)]
    machine: Option<Name>,
    /// Take our programs as they were built last
    #[arg(long)]
    as_built: bool,
    /// Show all that the machine says, and not only the outcome of each case
    #[arg(long)]
    console: bool,
}

/// One of our programs: kind of target (`shipped`: as it is in our image), its name, and where it lies in the machine.
type Source = (&'static str, &'static str, &'static str);

impl Arguments {
    /// The cases that measure the plugins.
    pub fn speed() -> Self {
        let cases = vec!["speed:".to_owned()];
        Self { cases, machine: Some(Name::Newest), as_built: false, console: false }
    }
}

/// What nodes get: static, without a word for debuggers.
const SHIPPED: &str = "shipped";

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// The release's own kernel
    Stable,
    /// The newest kernel that is made for the release, with the soft RDMA driver that moves
    Newest,
    /// The release's own kernel and systemd, with a root on a disk that it finds again when it is booted again
    Systemd,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stable => "stable",
            Self::Newest => "newest",
            Self::Systemd => "systemd",
        })
    }
}

/// From power on to power off.
struct Boot {
    /// Words for the kernel.
    words: &'static str,
    /// Tells its log from those of the machine's other boots.
    log: &'static str,
}

/// A machine of the lab: its kernel, and what it gets. Process 1 runs what is called `lab-*`, or has systemd run it.
struct Plan {
    name: Name,
    track: Track,
    programs: &'static [Source],
    /// Programs of the distribution in it: path in the packages, place in the machine.
    tools: &'static [(&'static str, &'static str)],
    /// Files as they are.
    files: &'static [(&'static str, &'static str)],
    /// One after the other, with one disk; the root of a machine without a disk is in its memory.
    boots: &'static [Boot],
    has_disk: bool,
    megabytes: u32,
}

const PLANS: [Plan; 3] = [
    Plan {
        name: Name::Stable,
        track: Track::Stable,
        programs: &[
            ("example", "lab-contract", "usr/bin/lab-1-contract"),
            ("example", "lab-custody", "usr/bin/lab-2-custody"),
            ("example", "lab-sweep", "usr/sbin/sweep"),
            ("shipped", "ironrail-cni", "opt/cni/bin/sriov"),
            ("shipped", "ironrail-cni", "opt/cni/bin/rdma"),
        ],
        tools: &[],
        files: &[],
        boots: &[Boot { words: "", log: "" }],
        has_disk: false,
        megabytes: 1024,
    },
    Plan {
        name: Name::Newest,
        track: Track::Newest,
        programs: &[
            ("example", "lab-rdma", "usr/bin/lab-1-rdma"),
            ("example", "lab-custody", "usr/bin/lab-2-custody-rdma"),
            ("example", "lab-sweep", "usr/sbin/sweep"),
            ("example", "lab-speed", "usr/bin/lab-2-speed"),
            ("example", "lab-node", "usr/bin/lab-3-node"),
            ("example", "lab-switch", "usr/bin/lab-4-switch"),
            ("example", "lab-containers", "usr/bin/lab-5-containers"),
            ("bin", "ironrail-node", "usr/bin/ironrail-node"),
            ("shipped", "ironrail-cni", "opt/cni/bin/sriov"),
            ("shipped", "ironrail-cni", "opt/cni/bin/rdma"),
        ],
        tools: &[
            ("usr/lib/cni/host-local", "opt/cni/bin/host-local"),
            ("usr/lib/cni/loopback", "opt/cni/bin/loopback"),
            ("usr/bin/containerd", "usr/bin/containerd"),
            ("usr/bin/containerd-shim-runc-v2", "usr/bin/containerd-shim-runc-v2"),
            ("usr/bin/ctr", "usr/bin/ctr"),
            ("usr/sbin/runc", "usr/bin/runc"),
            ("usr/bin/rdma", "usr/bin/rdma"),
            ("usr/bin/ip", "usr/bin/ip"),
            ("usr/bin/ibv_devices", "usr/bin/ibv_devices"),
            ("usr/bin/ibv_devinfo", "usr/bin/ibv_devinfo"),
            ("usr/bin/ibv_rc_pingpong", "usr/bin/ibv_rc_pingpong"),
            ("usr/bin/rping", "usr/bin/rping"),
        ],
        // The two levers at odds, on a real command line: the first case tells which of them won.
        files: &[("etc/modprobe.d/lab.conf", "options ib_core netns_mode=1\n")],
        boots: &[Boot { words: "ib_core.netns_mode=0", log: "" }],
        has_disk: false,
        megabytes: 2048,
    },
    Plan {
        name: Name::Systemd,
        track: Track::Stable,
        programs: &[
            ("example", "lab-boot", "usr/bin/lab-boot"),
            ("example", "lab-cluster", "usr/sbin/cluster"),
            ("bin", "ironrail-node", "image/usr/bin/ironrail-node"),
        ],
        tools: &[],
        files: disk::FILES,
        boots: &[
            Boot { words: "systemd.show_status=0 LAB_BOOT=install", log: "-1" },
            Boot { words: "systemd.show_status=0 LAB_BOOT=kept", log: "-2" },
            Boot {
                words: "systemd.show_status=0 intel_iommu=off lockdown=integrity LAB_BOOT=locked",
                log: "-3",
            },
            // Debian's last systemd that knows cgroup v1 wants to be asked twice for it.
            Boot {
                words: "systemd.show_status=0 systemd.unified_cgroup_hierarchy=0 \
                    SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 LAB_BOOT=broken",
                log: "-4",
            },
            Boot {
                words: "systemd.show_status=0 security=selinux enforcing=1 LAB_BOOT=selinux",
                log: "-5",
            },
        ],
        has_disk: true,
        megabytes: 1024,
    },
];

/// A machine that is made and was not started.
struct Ready {
    plan: &'static Plan,
    kernel: kernel::Kernel,
    root: machine::Root,
}

impl Ready {
    /// All boots, one after the other.
    fn run(
        &self,
        packages: &packages::Packages,
        arguments: &Arguments,
        step: &dyn Fn(&str),
    ) -> anyhow::Result<machine::Outcome> {
        let Self { plan, kernel, root } = self;
        let machine = machine::Machine { packages, kernel, plan, root };
        let mut outcome = machine::Outcome::default();
        let mut hangs = Vec::new();
        for boot in plan.boots {
            root.save()?;
            step(&format!("{} machine{} with {}", plan.name, boot.log, kernel.version));
            let mut came = machine.run(boot, arguments)?;
            if let Some(hang) = came.hung.take() {
                println!("{}HUNG {}; it is started once more", plan.mark(), hang.what);
                hangs.push(hang);
                root.restore()?;
                came = machine.run(boot, arguments)?;
            }
            let hung = came.hung.take();
            let is_over = hung.is_some();
            hangs.extend(hung);
            outcome.add(came);
            if is_over {
                break;
            }
        }
        // What passes the second time has hung all the same, and only what is known for it excuses that.
        for hang in hangs {
            match hang.known {
                Some(known) => println!("{}lab: {} hung in {known}", plan.mark(), hang.what),
                None => {
                    let problem = format!("the {} machine hung: {}", plan.name, hang.what);
                    let next = machine::Outcome { problem: Some(problem), ..Default::default() };
                    outcome.add(next);
                }
            }
        }
        Ok(outcome)
    }
}

impl Plan {
    fn make(&'static self, packages: &packages::Packages) -> anyhow::Result<Ready> {
        let kernel = kernel::ready(packages, self.track, self.has_disk)?;
        let programs: Vec<Program> = self.programs.iter().map(built).collect();
        let root = self.root(packages, &kernel, &programs)?;
        Ok(Ready { plan: self, kernel, root })
    }

    /// What its lines begin with, since two machines speak at once.
    fn mark(&self) -> String {
        format!("{:<9}", self.name.to_string())
    }

    fn root(
        &self,
        packages: &packages::Packages,
        kernel: &kernel::Kernel,
        programs: &[Program],
    ) -> anyhow::Result<machine::Root> {
        Ok(match self.has_disk {
            false => {
                let initramfs = initramfs::make(packages, kernel, self, programs)?;
                machine::Root { initramfs, disk: None }
            }
            true => {
                let initramfs = initramfs::for_disk(packages, kernel, self)?;
                let disk = disk::make(packages, kernel, self, programs)?;
                machine::Root { initramfs, disk: Some(disk) }
            }
        })
    }
}

/// One of our programs as built, and its place in the machine.
struct Program {
    path: PathBuf,
    place: &'static str,
}

/// Where the refusals of the simulated machine are seen.
const REACH: &str = "crates/host/tests/contract/reach.txt";

/// Where everything of the lab is kept.
fn directory() -> PathBuf {
    tools::root().join("target/lab")
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the lab's machine is x86_64 and so must this computer be; it is {}",
            std::env::consts::ARCH
        )
    }
    let started = Instant::now();
    let step = |what: &str| eprintln!("[{:>3} s] {what}", started.elapsed().as_secs());
    std::fs::create_dir_all(directory())?;
    let plans = PLANS.iter().filter(|plan| arguments.machine.is_none_or(|only| only == plan.name));
    let plans: Vec<&'static Plan> = plans.collect();
    step("our programs");
    if !arguments.as_built {
        build(&plans)?;
    }
    step("packages");
    let packages = packages::ready()?;
    let mut counts = machine::Counts::default();
    let mut problems = Vec::new();
    let mut made = Vec::new();
    for plan in plans {
        step(&format!("{} machine", plan.name));
        match plan.make(&packages) {
            Ok(ready) => made.push(ready),
            // What stops one machine says nothing about the other.
            Err(error) => problems.push(format!("no {} machine: {error:#}", plan.name)),
        }
    }
    // Half of the time a machine waits: the newest, which has most to do, runs beside the other two.
    let run = |ready: &Ready| {
        let came = ready.run(&packages, arguments, &step);
        came.unwrap_or_else(|error| machine::Outcome {
            problem: Some(format!("no {} machine: {error:#}", ready.plan.name)),
            ..machine::Outcome::default()
        })
    };
    let (newest, others): (Vec<Ready>, Vec<Ready>) =
        made.into_iter().partition(|ready| ready.plan.name == Name::Newest);
    let run_all = |machines: &[Ready]| machines.iter().map(run).collect::<Vec<machine::Outcome>>();
    let outcomes = std::thread::scope(|scope| {
        let beside = scope.spawn(|| run_all(&others));
        let newest = run_all(&newest);
        beside.join().map(|others| others.into_iter().chain(newest))
    });
    for outcome in outcomes.map_err(|_| anyhow!("a thread of the lab died"))? {
        counts.add(outcome.counts);
        problems.extend(outcome.problem);
    }
    step("done");
    println!("lab: {} passed, {} failed", counts.passed, counts.failed);
    if counts.passed == 0 && problems.is_empty() {
        problems.push("no case was run".to_owned());
    }
    for words in arguments.cases.iter().filter(|words| !counts.has(words)) {
        problems.push(format!("no case that was run has {words:?} in its name"));
    }
    if arguments.cases.is_empty() && arguments.machine.is_none() {
        problems.extend(not_seen(&counts)?);
    }
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("; ")) }
}

/// What the simulation's list says that this lab shows, and it did not.
fn not_seen(counts: &machine::Counts) -> anyhow::Result<Vec<String>> {
    let list = std::fs::read_to_string(tools::root().join(REACH))
        .with_context(|| format!("cannot read {REACH}"))?;
    let cases = list.lines().filter_map(|line| line.strip_prefix("lab: "));
    let missing = cases.filter(|case| !counts.passed(case));
    Ok(missing.map(|case| format!("{REACH} names {case:?}, which has not passed")).collect())
}

/// Our programs, in one call over the whole workspace: with the features that `cargo test --workspace` has compiled.
fn build(plans: &[&Plan]) -> anyhow::Result<()> {
    let mut cargo = tools::cargo();
    cargo.args(["build", "--quiet", "--workspace"]);
    let programs = || plans.iter().flat_map(|plan| plan.programs);
    for (kind, name, _) in programs().filter(|(kind, _, _)| *kind != SHIPPED) {
        cargo.arg(format!("--{kind}")).arg(name);
    }
    tools::run(&mut cargo)?;
    if programs().any(|(kind, _, _)| *kind == SHIPPED) {
        image::build_cni()?;
    }
    Ok(())
}

fn built((kind, name, place): &Source) -> Program {
    if *kind == SHIPPED {
        return Program { path: image::cni(), place };
    }
    let below = if *kind == "example" { "debug/examples" } else { "debug" };
    Program { path: tools::target().join(below).join(name), place }
}

/// A program or module without what only a debugger reads: the machine's root lies in its memory.
fn without_debug(program: &Path) -> anyhow::Result<Vec<u8>> {
    let stripped = directory().join("stripped");
    let mut strip = Command::new("strip");
    tools::run(strip.args(["--strip-debug", "-o"]).arg(&stripped).arg(program))
        .context("cannot make a program or module small; strip comes with the linker (binutils)")?;
    Ok(std::fs::read(&stripped)?)
}

/// Writes a file only when all of its content is there, so that an interrupted run leaves no half of one.
fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content)
        .with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}
