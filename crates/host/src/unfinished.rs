//! Changes that the kernel has not finished by their deadline: which card a write is for, and what is said of them.
//!
//! A write to `sriov_numvfs` can wait in the kernel for a minute and more, in a state that no signal reaches (spec/lab.md,
//! section 3). It cannot be taken back, only waited for elsewhere: `linux` does so on a thread, `sim` plays it.

use crate::seam::{DEADLINE, Refusal};
use api::PciAddress;
pub use api::inventory::Unfinished;
use rustix::io::Errno;

/// Attributes of a function whose readers wait for its writers (drivers/pci/iov.c, sriov_numvfs_show takes the device's lock).
const WAIT_FOR_WRITERS: [&str; 2] = ["sriov_numvfs", "driver_override"];

/// The PCI function that a write is for: named in the path, or, for `bind`, `unbind` and `drivers_probe`, by the content.
/// None: this is no file of sysfs, and whoever wrote it need not fear to wait.
pub fn function_of(path: &str, content: &str) -> Option<PciAddress> {
    let below = path.strip_prefix("/sys/")?;
    let named = below.split('/').rev().find_map(|part| part.parse().ok());
    named.or_else(|| content.trim_end().parse().ok())
}

/// True for a file that keeps its reader waiting while a write to its function is unfinished, be it ours, that of the boot
/// phases, or that of a person at a shell.
pub fn waits(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| WAIT_FOR_WRITERS.contains(&name))
}

/// The first function of a card, by which all of them are known.
pub fn card(function: &PciAddress) -> PciAddress {
    PciAddress { function: 0, ..*function }
}

/// The deadline has passed.
pub fn late(tried: impl Into<String>, seconds: u64) -> Refusal {
    let note = format!(
        "after {seconds} s the kernel is still at it and cannot be stopped; a process or a connection uses a device of the \
         card: end it (see /dev/infiniband, rdma resource show), or reboot the node"
    );
    Refusal { tried: tried.into(), errno: Errno::TIMEDOUT, note }
}

/// As `late`, with the deadline of the seam.
pub fn past_deadline(tried: impl Into<String>) -> Refusal {
    late(tried, DEADLINE.as_secs())
}

/// Something on the card is unfinished, so this is not even begun.
pub fn barred(tried: impl Into<String>, by: &Unfinished) -> Refusal {
    let note = format!("the kernel has been at \"{}\" since {:.0}", by.tried, by.since);
    Refusal { tried: tried.into(), errno: Errno::ALREADY, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_sysfs_is_for_the_function_that_its_path_or_its_content_names() {
        let of = |path: &str, content: &str| {
            function_of(path, content).map_or("none".to_owned(), |function| function.to_string())
        };
        assert_eq!(of("/sys/bus/pci/devices/0000:3b:00.1/sriov_numvfs", "4"), "0000:3b:00.1");
        assert_eq!(
            of("/sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/reset", "1"),
            "0000:3b:00.1"
        );
        assert_eq!(of("/sys/bus/pci/drivers/mlx5_core/bind", "0000:3b:00.4\n"), "0000:3b:00.4");
        assert_eq!(of("/sys/bus/pci/drivers_probe", "0000:3b:00.4"), "0000:3b:00.4");
        assert_eq!(of("/sys/module/x/parameters/y", "1"), "none");
        assert_eq!(of("/etc/modprobe.d/0000:3b:00.4", "1"), "none");
    }
}
