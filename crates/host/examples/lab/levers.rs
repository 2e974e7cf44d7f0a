//! Which lever sets the RDMA mode: the kernel's command line, `modprobe.d`, or netlink. The machine boots with the first
//! two at odds.

use super::bench::{Runner, modprobe, read, refused, said, unload};
use super::cases::Pods;
use super::report::{Outcome, equal};
use api::RdmaMode;
use host::Host;
use host::linux::LinuxHost;
use rustix::io::Errno;

/// What the machine was made with (xtask, lab).
const OPTIONS: &str = "/etc/modprobe.d/lab.conf";
const PARAMETER: &str = "/sys/module/ib_core/parameters/netns_mode";

pub fn run(host: &LinuxHost, pods: &dyn Pods, case: Runner<'_>) {
    case("of a command line and a modprobe.d at odds, the command line sets the mode", &mut || {
        at_odds(host)
    });
    case("an option written out at loading beats both, even with a pod there", &mut || {
        written_out(host, pods)
    });
    case("a switched mode is forgotten by a reload of the module", &mut || reload(host));
}

fn mode(host: &LinuxHost) -> Result<RdmaMode, String> {
    said("mode", host.rdma_mode())
}

fn at_odds(host: &LinuxHost) -> Outcome {
    let line = read(host, "/proc/cmdline")?;
    let word = line.split(' ').find(|word| word.starts_with("ib_core."));
    let word = word.ok_or("the machine was booted without a word for ib_core")?;
    equal("the command line", word, "ib_core.netns_mode=0")?;
    equal("modprobe.d", read(host, OPTIONS)?.as_str(), "options ib_core netns_mode=1")?;
    refused("ib_core", host.list("/sys/module/ib_core"), Errno::NOENT)?;
    modprobe(host, &["ib_core"])?;
    equal("mode", mode(host)?, RdmaMode::Exclusive)?;
    equal("the parameter", read(host, PARAMETER)?.as_str(), "N")?;
    unload(host)?;
    Ok("modprobe.d said shared and the command line exclusive: exclusive".to_owned())
}

fn written_out(host: &LinuxHost, pods: &dyn Pods) -> Outcome {
    pods.start();
    modprobe(host, &["ib_core", "netns_mode=1"])?;
    let found = mode(host);
    pods.end();
    unload(host)?;
    equal("mode", found?, RdmaMode::Shared)?;
    Ok("modprobe ib_core netns_mode=1: shared, with another namespace there".to_owned())
}

fn reload(host: &LinuxHost) -> Outcome {
    modprobe(host, &["ib_core"])?;
    equal("mode", mode(host)?, RdmaMode::Exclusive)?;
    said("shared", super::bench::live_switch(host, RdmaMode::Shared))?;
    equal("mode after the switch", mode(host)?, RdmaMode::Shared)?;
    unload(host)?;
    modprobe(host, &["ib_core"])?;
    let found = mode(host)?;
    unload(host)?;
    equal("mode after the reload", found, RdmaMode::Exclusive)?;
    Ok("netlink said shared; unloaded and loaded again: exclusive, as the command line has it"
        .to_owned())
}
