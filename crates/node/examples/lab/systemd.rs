//! What the lab's program asks of systemd, by its own programs.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// The node's name in the cluster, and where that writes down the node's state.
const NODE: &str = "lab-0";
const STATE: &str = "/run/lab-state.json";
/// Under software emulation everything takes its time.
const PATIENCE: Duration = Duration::from_secs(240);
pub const PRE: &str = "ironrail-boot-pre.service";
pub const POST: &str = "ironrail-boot-post.service";
const RUNTIME: &str = "system_u:system_r:container_engine_t:s0";
const CONTAINER: &str = "system_u:system_r:spc_t:s0";

/// Runs a program and returns all that it says, or fails with it.
pub fn said(program: &str, words: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(words).output().map_err(|e| format!("{program}: {e}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(format!("{program} {}: {}\n{text}", words.join(" "), output.status)),
    }
}

pub fn systemctl(words: &[&str]) -> Result<String, String> {
    said("systemctl", words)
}

/// Runs our program to its end as our DaemonSet does: privileged, in a root of its own, with the host's root below `/host`.
/// Under SELinux the runtime and the container have the domains that the policy has for them.
pub fn ours(words: &[&str]) -> Result<(), String> {
    let unit = format!(
        "[Service]\nType=oneshot\nBindPaths=/:/image/host\nSELinuxContext=-{RUNTIME}\nExecStart=/usr/bin/lab-boot contain {}\n",
        words.join(" ")
    );
    std::fs::write("/run/systemd/system/ours.service", unit).unwrap();
    systemctl(&["daemon-reload"])?;
    systemctl(&["start", "ours"]).map(|_| ()).map_err(|told| {
        let status = systemctl(&["status", "--no-pager", "--full", "ours"]);
        told + &status.unwrap_or_else(|told| told)
    })
}

/// Our daemon as our DaemonSet starts it, in a cluster beside it whose `configurationMode` is this, until `ready` says what
/// it has seen. Then daemon and cluster are ended as a power cut would.
pub fn with_daemon<T>(
    configuration_mode: &str,
    ready: impl Fn(&serde_json::Value) -> Result<T, String>,
) -> Result<T, String> {
    let cluster = format!("--property=Type=exec /usr/sbin/cluster {configuration_mode}");
    let daemon = format!(
        "--property=BindPaths=/:/image/host --property=BindPaths=/proc:/image/proc \
         --property=SELinuxContext=-{RUNTIME} \
         --setenv=NODE_NAME={NODE} --setenv=NAMESPACE={} --setenv=KUBECONFIG=/host/tmp/kubeconfig \
         --setenv=KUBELET_DIRECTORY=/host/var/lib/kubelet --property=Restart=always \
         --property=RestartSec=1 --property=StartLimitIntervalSec=0 /usr/bin/lab-boot contain daemon",
        api::names::NAMESPACE
    );
    let units = [("lab-cluster", cluster), ("lab-daemon", daemon)];
    for (unit, words) in &units {
        let words = words.split_whitespace();
        let words: Vec<&str> = ["--unit", unit].into_iter().chain(words).collect();
        said("systemd-run", &words)?;
    }
    let outcome = waited(ready);
    for (unit, _) in units.iter().rev() {
        let _ = systemctl(&["kill", "--signal=KILL", unit]);
        let _ = systemctl(&["stop", unit]);
    }
    outcome.map_err(|why| {
        let said = ["lab-cluster", "lab-daemon"].map(|unit| {
            said("journalctl", &["--quiet", "--output=cat", "--lines=15", "--unit", unit])
                .unwrap_or_else(|told| told)
        });
        format!("{why}\n{}", said.concat())
    })
}

/// Asks until there is an answer, or the last refusal when patience is over.
fn waited<T>(ready: impl Fn(&serde_json::Value) -> Result<T, String>) -> Result<T, String> {
    let started = Instant::now();
    loop {
        let state = std::fs::read(STATE).unwrap_or_default();
        match ready(&serde_json::from_slice(&state).unwrap_or_default()) {
            Ok(seen) => return Ok(seen),
            Err(why) if started.elapsed() > PATIENCE => {
                return Err(format!("not within {PATIENCE:?}: {why}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// The runtime's part: it becomes the container.
pub fn contain(words: &[&str]) {
    // Where there is no SELinux nobody takes it. A runtime asks for no new file here, and neither may we.
    let domain = std::fs::OpenOptions::new().write(true).open("/proc/self/attr/exec");
    let _ = domain.and_then(|mut file| file.write_all(CONTAINER.as_bytes()));
    std::os::unix::fs::chroot("/image").unwrap();
    std::env::set_current_dir("/").unwrap();
    let error = Command::new("/usr/bin/ironrail-node").args(words).exec();
    panic!("cannot start our program: {error}");
}

pub fn show(unit: &str, property: &str) -> Result<String, String> {
    Ok(systemctl(&["show", "--value", "--property", property, unit])?.trim().to_owned())
}

/// Since the kernel's start.
fn at(unit: &str, property: &str) -> Result<Duration, String> {
    let text = show(unit, property)?;
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{property} of {unit} is {text:?}")),
        Ok(microseconds) => Ok(Duration::from_micros(microseconds)),
    }
}

/// When systemd began to start a unit.
pub fn began(unit: &str) -> Result<Duration, String> {
    at(unit, "InactiveExitTimestampMonotonic")
}

/// When the program of a unit had ended.
pub fn ended(unit: &str) -> Result<Duration, String> {
    at(unit, "ExecMainExitTimestampMonotonic")
}

/// The journal's place now: what comes after it is new.
pub fn now() -> Result<String, String> {
    let shown = said("journalctl", &["--quiet", "--show-cursor", "--lines=1"])?;
    let cursor = shown.lines().find_map(|line| line.strip_prefix("-- cursor: "));
    Ok(cursor.ok_or("the journal has no cursor")?.to_owned())
}

/// What a unit has said since.
pub fn journal(unit: &str, since: &str) -> Result<String, String> {
    said("journalctl", &["--sync"])?;
    let since = format!("--after-cursor={since}");
    said("journalctl", &["--quiet", "--output=cat", "--unit", unit, &since])
}

/// The line with these words.
pub fn line(said: &str, words: &str) -> Result<String, String> {
    let found = said.lines().find(|line| line.contains(words)).map(|line| line.trim().to_owned());
    found.ok_or_else(|| format!("nothing is said of {words:?}:\n{said}"))
}
