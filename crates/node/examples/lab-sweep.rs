//! The lab's node sweeper as a program: looks until what is written about a device is gone, as the daemon does.
//!
//! `sweep DEVICE`; the sandboxes that the container runtime knows are the names in a directory. A minute lies between two
//! looks, which nobody waits for here.

#![allow(
    clippy::disallowed_methods,
    reason = "it is the outside, with arguments and a directory of its own"
)]

use host::journal;
use host::linux::LinuxHost;
use node::sweep::{Evidence, Sweeper};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

const SANDBOXES: &str = "/run/lab-sandboxes";
/// A lock that somebody holds puts it off to the next look.
const LOOKS: u64 = 100;
const PERIOD: Duration = Duration::from_secs(61);

fn sandboxes() -> Result<BTreeSet<String>, String> {
    let entries = std::fs::read_dir(SANDBOXES).map_err(|error| error.to_string())?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// True when nothing is written about the device any more.
fn swept(host: &LinuxHost, device: &str) -> Result<bool, String> {
    let mut sweeper = Sweeper::default();
    let mut now = Duration::ZERO;
    for _ in 0..LOOKS {
        let sandboxes = sandboxes();
        let evidence = Evidence { sandboxes: &sandboxes, pods: Some(&[]), ended: &[] };
        for finding in sweeper.sweep(host, &evidence, now) {
            println!("{}", finding.sentence);
        }
        if journal::read(host, device).map_err(|error| error.to_string())?.is_none() {
            return Ok(true);
        }
        now += PERIOD;
    }
    Ok(false)
}

fn main() -> ExitCode {
    let device = std::env::args().nth(1).unwrap_or_default();
    let host = LinuxHost::new("/").map_err(|refusal| refusal.to_string());
    match host.and_then(|host| swept(&host, &device)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("{device} is still away after {LOOKS} looks");
            ExitCode::FAILURE
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}
