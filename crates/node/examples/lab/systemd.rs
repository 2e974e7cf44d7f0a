//! What the lab's program asks of systemd, by its own programs.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

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
