//! A boot whose kernel is locked down (integrity) and has no IOMMU: what tools of firmware and vfio-pci meet there.

use super::cards::Cards;
use super::report::{Outcome, equal};
use host::Host;
use host::seam::{Errno, Program};
use std::fs::OpenOptions;
use std::io::Write as _;

/// What the daemon looks at says so, and the way to a card's firmware is shut: its configuration space, through which
/// mstconfig speaks to it.
pub fn firmware(cards: &Cards) -> Outcome {
    let found = host::lockdown::is_on(&cards.host).map_err(|refusal| refusal.to_string())?;
    equal("what the daemon finds", found, true)?;
    let pf = &cards.addresses[0];
    let open = |name: &str| OpenOptions::new().write(true).open(pf.file(name));
    let wrote = open("config").and_then(|mut config| config.write_all(&[0]));
    let errno = |outcome: std::io::Result<()>| outcome.err().and_then(|error| error.raw_os_error());
    equal("a write to its configuration", errno(wrote), Some(Errno::PERM.raw_os_error()))?;
    Ok(format!(
        "{}; a write to the configuration of {pf} is not permitted",
        super::read("/sys/kernel/security/lockdown")
    ))
}

pub fn without_iommu(cards: &Cards) -> Outcome {
    let (host, pf) = (&cards.host, &cards.addresses[0]);
    host::vf_count::set(host, pf, 1, true).map_err(|error| error.to_string())?;
    let vf = host::function::vf(host, pf, 0).map_err(|error| error.to_string())?;
    let said = |refusal: host::seam::Refusal| refusal.to_string();
    equal(
        "its group",
        host.link_target(&vf.file("iommu_group")).map_err(|r| r.errno),
        Err(Errno::NOENT),
    )?;
    let loaded = host.run(&Program::Modprobe, &["vfio-pci"], b"").map_err(said)?;
    equal("modprobe vfio-pci", loaded.status, 0)?;
    host.write(&vf.file("driver_override"), "vfio-pci").map_err(said)?;
    host.write("/sys/bus/pci/drivers/igbvf/unbind", &vf.to_string()).map_err(said)?;
    let refused = host.write("/sys/bus/pci/drivers/vfio-pci/bind", &vf.to_string());
    host::vf_count::set(host, pf, 0, true).map_err(|error| error.to_string())?;
    match refused {
        Err(refusal) if refusal.errno == Errno::INVAL => Ok(said(refusal)),
        other => Err(format!("it was bound: {other:?}")),
    }
}
