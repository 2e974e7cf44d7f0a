//! `sriov_drivers_autoprobe` of a PF, set for a while and put back, also after a crash in between.
//!
//! While it is 0, a VF refuses every probe and every bind with ENODEV unless `driver_override` is set, so a value that
//! stays behind would leave VFs without drivers for ever. The old value is on disk before the file is changed.

use crate::function::{optional, text};
use crate::seam::{Host, Refusal};
use api::{PciAddress, files};

/// Sets the value, after the present one is on disk. A kernel without the file (before 4.12) probes always.
pub fn hold(host: &dyn Host, pf: &PciAddress, wanted: bool) -> Result<(), Refusal> {
    restore(host, pf)?;
    let file = pf.file("sriov_drivers_autoprobe");
    let wanted = if wanted { "1" } else { "0" };
    let Some(current) = optional(text(host, &file))? else { return Ok(()) };
    if current == wanted {
        return Ok(());
    }
    let record = format!("{} {current}\n", boot_id(host)?);
    host.replace(&record_of(pf), record.as_bytes(), 0o600)?;
    host.write(&file, wanted)
}

/// Puts the value back that `hold` found; nothing where nothing is held. A boot has put it back by itself.
pub fn restore(host: &dyn Host, pf: &PciAddress) -> Result<(), Refusal> {
    let record = record_of(pf);
    let Some(held) = optional(text(host, &record))? else { return Ok(()) };
    if let Some((boot, value)) = held.split_once(' ')
        && boot == boot_id(host)?
    {
        let file = pf.file("sriov_drivers_autoprobe");
        let current = optional(text(host, &file))?;
        if current.is_some_and(|current| current != value) {
            host.write(&file, value)?;
        }
    }
    host.remove(&record)
}

/// PFs whose value is held: those that a crash left behind, when nobody is at work.
pub fn held(host: &dyn Host) -> Result<Vec<PciAddress>, Refusal> {
    let names = optional(host.list(&directory()))?.unwrap_or_default();
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

fn boot_id(host: &dyn Host) -> Result<String, Refusal> {
    text(host, "/proc/sys/kernel/random/boot_id")
}

fn directory() -> String {
    format!("{}/autoprobe", files::STATE)
}

fn record_of(pf: &PciAddress) -> String {
    format!("{}/{pf}", directory())
}
