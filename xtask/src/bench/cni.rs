//! The CNI binary as a runtime starts it: wall and CPU time, system calls, peak memory, size.
//!
//! VERSION is whole. ADD for a pod with a namespace of its own is refused, because this machine has no such device (of
//! `rdma`, whatever comes first: no RDMA subsystem, its mode), and DEL finds nothing to undo: both are all that a call costs
//! around its work. System calls and peak memory need strace. The work itself is measured in the lab,
//! where there are VFs, and without a kernel by the crate's own benchmark; `ib-sriov` by that alone, since the lab has no
//! InfiniBand.
//!
//! The first line is a process that only begins and ends, which is the kernel's work and the C library's. What a verb
//! needs more than that stands in the column `ours`; the kernel's own split into user and system time is made by ticks
//! of its clock, and says nothing of processes as short as these.

use crate::{image, lab, tools};
use anyhow::{Context, bail};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The kernel tells the CPU time of children in hundredths of a second: only many of them have a mean.
const RUNS: u32 = 400;
/// How long a program is held before it ends, so that its peak can be read.
const HELD: Duration = Duration::from_millis(300);

pub fn run() -> anyhow::Result<()> {
    let binary = image::build_cni()?;
    let size = fs::metadata(&binary).context("no CNI binary was built")?.len();
    println!("binary: {size} bytes, static");
    let has_strace = Command::new("strace").arg("-V").output().is_ok();
    if !has_strace {
        println!("NOT MEASURED: system calls and peak memory, because strace is not installed");
    }
    let directory = tools::target().join("bench/cni");
    fs::create_dir_all(&directory).context("cannot make a directory for the benchmark")?;
    println!("{:<18} {:>9} {:>9} {:>9} {:>9} {:>9}", "", "wall", "CPU", "ours", "syscalls", "peak");
    let pod = Pod::start()?;
    let mut start = None;
    for plugin in ["sriov", "ib-sriov", "rdma"] {
        let program = directory.join(plugin);
        // Left there by the run before.
        let _ = fs::remove_file(&program);
        symlink(&binary, &program).context("cannot link a plugin")?;
        let verbs: &[&str] = match start {
            None => &[START, "VERSION", "ADD", "DEL"],
            Some(_) => &["VERSION", "ADD", "DEL"],
        };
        let call = |verb| Call { program: &program, plugin, verb, namespace: &pod.namespace };
        call("ADD").must_be_refused_for_its_device()?;
        for verb in verbs {
            let call = call(verb);
            let (wall, cpu) = call.times()?;
            let bare = *start.get_or_insert(cpu);
            let traced = if has_strace { call.traced()? } else { ("-".to_owned(), "-".to_owned()) };
            println!(
                "{:<18} {wall:>9.1?} {cpu:>9.1?} {:>9.1?} {:>9} {:>9}",
                format!("{plugin} {verb}"),
                cpu.saturating_sub(bare),
                traced.0,
                traced.1
            );
        }
    }
    println!(
        "ADD and DEL that do their work, in an emulated machine, which is some ten times slower:"
    );
    lab::run(&lab::Arguments::speed())
}

/// Not a verb: what the program is asked for that it answers without looking at anything.
const START: &str = "--version";

/// A process with a network namespace of its own, which is a pod's for whoever asks for it by its path.
struct Pod {
    process: Child,
    namespace: String,
}

impl Pod {
    fn start() -> anyhow::Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo ready && exec sleep infinity"]);
        let process = command.stdout(Stdio::piped()).spawn().context("cannot start unshare")?;
        let namespace = format!("/proc/{}/ns/net", process.id());
        let mut pod = Self { process, namespace };
        let mut word = String::new();
        if let Some(pipe) = pod.process.stdout.take() {
            BufReader::new(pipe).read_line(&mut word).context("the pod says nothing")?;
        }
        match word.trim() {
            "ready" => Ok(pod),
            _ => bail!("cannot make a network namespace for the pod: it takes root"),
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What ADD may be refused for, each plugin's first look at the device or at what it takes.
fn expected(plugin: &str) -> &'static [&'static str] {
    match plugin {
        "rdma" => &[
            "cannot find out the mode of the RDMA subsystem of this node",
            "the RDMA subsystem of this node is in mode shared",
            "no RDMA devices found for ffff:ff:1f.7",
        ],
        _ => &["there is no PCI device ffff:ff:1f.7 on this node"],
    }
}

struct Call<'a> {
    program: &'a Path,
    plugin: &'a str,
    verb: &'a str,
    namespace: &'a str,
}

impl Call<'_> {
    /// Runs the call to its end under `command`, which starts the program.
    fn end(&self, mut command: Command) -> anyhow::Result<()> {
        let mut child = self.begin(command.stdout(Stdio::null()))?;
        child.wait().context("cannot wait for the plugin")?;
        Ok(())
    }

    /// What is measured is a call that comes as far as the device.
    fn must_be_refused_for_its_device(&self) -> anyhow::Result<()> {
        let mut said = String::new();
        let mut command = Command::new(self.program);
        let mut child = self.begin(command.stdout(Stdio::piped()))?;
        if let Some(mut pipe) = child.stdout.take() {
            pipe.read_to_string(&mut said).context("the plugin cannot be heard")?;
        }
        child.wait().context("cannot wait for the plugin")?;
        let answer: Value = serde_json::from_str(&said).unwrap_or_default();
        let message = answer["msg"].as_str().unwrap_or_default();
        if answer["code"] != 999 || !expected(self.plugin).iter().any(|w| message.starts_with(w)) {
            bail!("ADD of {} is refused for something else: {said:?}", self.plugin);
        }
        Ok(())
    }

    fn begin(&self, command: &mut Command) -> anyhow::Result<Child> {
        let environment = [
            ("CNI_COMMAND", self.verb),
            ("CNI_CONTAINERID", "bench"),
            ("CNI_NETNS", self.namespace),
            ("CNI_IFNAME", "net1"),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        if self.verb == START {
            command.arg(START);
        }
        command.env_clear().envs(environment).stdin(Stdio::piped());
        let mut child = command
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let plugin = self.plugin;
        // `rdma` is asked after another plugin, whose result it is given.
        let stdin = format!(
            r#"{{"cniVersion":"1.1.0","name":"bench","type":"{plugin}","deviceID":"ffff:ff:1f.7","prevResult":{{"cniVersion":"1.1.0","interfaces":[]}}}}"#
        );
        if let Some(mut pipe) = child.stdin.take() {
            // VERSION reads nothing.
            let _ = pipe.write_all(stdin.as_bytes());
        }
        Ok(child)
    }

    /// Wall and CPU time of one run, on average.
    fn times(&self) -> anyhow::Result<(Duration, Duration)> {
        let before = children()?;
        let begun = Instant::now();
        for _ in 0..RUNS {
            self.end(Command::new(self.program))?;
        }
        let wall = begun.elapsed();
        Ok((wall / RUNS, children()?.saturating_sub(before) / RUNS))
    }

    /// How many system calls, and the largest resident size.
    fn traced(&self) -> anyhow::Result<(String, String)> {
        let counts = self.program.with_extension("calls");
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&counts).arg(self.program);
        self.end(command)?;
        let table = fs::read_to_string(&counts).context("strace left no table")?;
        let total = table.lines().find(|line| line.ends_with(" total"));
        let calls = total.and_then(|line| line.split_whitespace().nth(3)).unwrap_or("-");
        Ok((calls.to_owned(), self.peak()?))
    }

    /// Read while the program is held at its end.
    fn peak(&self) -> anyhow::Result<String> {
        let delay = format!("exit_group:delay_enter={}", HELD.as_micros() * 2);
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", "trace=exit_group", "-e"]);
        command.arg(format!("inject={delay}")).arg(self.program);
        let mut child = self.begin(command.stdout(Stdio::null()))?;
        std::thread::sleep(HELD);
        let tasks = format!("/proc/{0}/task/{0}/children", child.id());
        let children = fs::read_to_string(tasks).unwrap_or_default();
        let traced = children.split_whitespace().next().unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{traced}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.map_or("-".to_owned(), |peak| peak.trim().replace(" kB", " KiB"));
        child.wait().context("cannot wait for strace")?;
        Ok(peak)
    }
}

/// User and system time of the children that have ended, in the kernel's hundredths of a second.
fn children() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat").context("cannot read our own times")?;
    // The name in brackets may hold blanks; cutime and cstime are the 14th and 15th field behind it.
    let fields: Vec<&str> =
        text.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Ok(Duration::from_millis((ticks(13) + ticks(14)) * 10))
}
