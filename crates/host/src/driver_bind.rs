//! Giving a PCI function to a driver, and taking it away.

use crate::autoprobe;
use crate::function::{self, FactError, driver, text};
use crate::seam::{Changed, FileKind, Host, Program, Refusal};
use api::PciAddress;
use thiserror::Error;

/// Drivers that hand the function to user space; every other one is the kernel's own.
const USER_SPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

const PROBE: &str = "/sys/bus/pci/drivers_probe";

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DriverError {
    #[error("cannot unbind {pci} from {driver}: {refusal}")]
    CannotUnbind { pci: PciAddress, driver: String, refusal: Refusal },
    #[error("{pci} is still bound to {driver} after it was unbound")]
    StillBound { pci: PciAddress, driver: String },
    #[error("cannot bind {pci} to {driver}: {refusal}")]
    CannotBind { pci: PciAddress, driver: String, refusal: Refusal },
    #[error("no driver took {pci}; load the module for its device id, and look at the kernel log")]
    NobodyTookIt { pci: PciAddress },
    #[error("{driver} did not take {pci}; look at the kernel log")]
    NotTaken { pci: PciAddress, driver: String },
    #[error(
        "cannot bind {pci} to {driver}: there is no IOMMU group; switch the IOMMU on in the BIOS and on the kernel command line"
    )]
    NoIommu { pci: PciAddress, driver: String },
    #[error("cannot bind {pci} to {driver}: cannot load module {driver}: {reason}")]
    NoModule { pci: PciAddress, driver: String, reason: String },
    #[error(transparent)]
    Fact(#[from] FactError),
}

impl From<Refusal> for DriverError {
    fn from(refusal: Refusal) -> Self {
        Self::Fact(refusal.into())
    }
}

/// Takes the function away from its driver, whichever that is.
pub fn unbind(host: &dyn Host, pci: &PciAddress) -> Result<Changed, DriverError> {
    function::exists(host, pci)?;
    let Some(bound) = driver(host, pci)? else { return Ok(Changed::AlreadyRight) };
    let written = host.write(&format!("/sys/bus/pci/drivers/{bound}/unbind"), &pci.to_string());
    written.map_err(|refusal| DriverError::CannotUnbind {
        pci: *pci,
        driver: bound.clone(),
        refusal,
    })?;
    match driver(host, pci)? {
        Some(driver) => Err(DriverError::StillBound { pci: *pci, driver }),
        None => Ok(Changed::Yes),
    }
}

/// Gives the function to the driver that the kernel finds for it: no override, then a probe.
pub fn bind_default(host: &dyn Host, pci: &PciAddress) -> Result<Changed, DriverError> {
    function::exists(host, pci)?;
    // What a crash of an earlier attempt left behind, also where the driver was bound before it.
    if let Some(pf) = function::physical(host, pci)? {
        autoprobe::restore(host, &pf)?;
    }
    let cleared = set_override(host, pci, None)?;
    let bound = driver(host, pci)?;
    if let Some(bound) = &bound {
        if !USER_SPACE.contains(&bound.as_str()) {
            return Ok(cleared);
        }
        unbind(host, pci)?;
    }
    probe(host, pci)?;
    match driver(host, pci)? {
        Some(found) if !USER_SPACE.contains(&found.as_str()) => Ok(Changed::Yes),
        _ => Err(DriverError::NobodyTookIt { pci: *pci }),
    }
}

/// Gives the function to this driver, away from another one if need be: override, probe, and no override again, so that
/// a later probe finds the default driver.
pub fn bind(host: &dyn Host, pci: &PciAddress, wanted: &str) -> Result<Changed, DriverError> {
    function::exists(host, pci)?;
    if driver(host, pci)?.as_deref() == Some(wanted) {
        return Ok(set_override(host, pci, None)?);
    }
    if USER_SPACE.contains(&wanted)
        && host.link_target(&pci.file("iommu_group")).is_err()
        && wanted == "vfio-pci"
    {
        return Err(DriverError::NoIommu { pci: *pci, driver: wanted.to_owned() });
    }
    load_module(host, pci, wanted)?;
    set_override(host, pci, Some(wanted))?;
    unbind(host, pci)?;
    let probed = write_probe(host, pci);
    let found = driver(host, pci)?;
    set_override(host, pci, None)?;
    probed.map_err(|refusal| DriverError::CannotBind {
        pci: *pci,
        driver: wanted.to_owned(),
        refusal,
    })?;
    if found.as_deref() != Some(wanted) {
        return Err(DriverError::NotTaken { pci: *pci, driver: wanted.to_owned() });
    }
    Ok(Changed::Yes)
}

/// A VF whose PF has `sriov_drivers_autoprobe` 0 refuses every probe, so the file is 1 meanwhile.
fn probe(host: &dyn Host, pci: &PciAddress) -> Result<(), DriverError> {
    let pf = function::physical(host, pci)?;
    if let Some(pf) = &pf {
        autoprobe::hold(host, pf, true)?;
    }
    let probed = write_probe(host, pci);
    if let Some(pf) = &pf {
        autoprobe::restore(host, pf)?;
    }
    Ok(probed?)
}

fn write_probe(host: &dyn Host, pci: &PciAddress) -> Result<(), Refusal> {
    host.write(PROBE, &pci.to_string())
}

fn set_override(
    host: &dyn Host,
    pci: &PciAddress,
    wanted: Option<&str>,
) -> Result<Changed, Refusal> {
    let file = pci.file("driver_override");
    let current = text(host, &file)?;
    if current == wanted.unwrap_or("(null)") {
        return Ok(Changed::AlreadyRight);
    }
    // A newline alone takes the override away (drivers/base/driver.c, driver_set_override).
    host.write(&file, wanted.unwrap_or("\n"))?;
    Ok(Changed::Yes)
}

fn load_module(host: &dyn Host, pci: &PciAddress, wanted: &str) -> Result<(), DriverError> {
    let directory = format!("/sys/bus/pci/drivers/{wanted}");
    if host.metadata(&directory).is_ok_and(|found| found.kind == FileKind::Directory) {
        return Ok(());
    }
    let no_module =
        |reason: String| DriverError::NoModule { pci: *pci, driver: wanted.to_owned(), reason };
    let output = host
        .run(&Program::Modprobe, &[wanted], b"")
        .map_err(|refusal| no_module(refusal.to_string()))?;
    if output.status != 0 {
        return Err(no_module(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, Machine};
    use crate::testing::{self, PF, worker_with_vfs};
    use expect_test::expect;

    fn vf() -> PciAddress {
        "0000:03:00.2".parse().unwrap()
    }

    /// A worker whose VF is bound to vfio-pci already.
    fn in_user_space() -> Machine {
        let host = crate::sim::SimHost::new(worker_with_vfs(1));
        bind(&host, &vf(), "vfio-pci").unwrap();
        host.snapshot()
    }

    fn without_driver() -> Machine {
        let mut machine = worker_with_vfs(1);
        testing::shell(&mut machine, &[(&format!("{PF}/virtfn0/driver/unbind"), "0000:03:00.2")]);
        machine
    }

    #[test]
    fn a_vf_without_driver_is_probed_once() {
        let out = testing::run(without_driver(), |host| bind_default(host, &vf()));
        expect![[r#"
            Yes
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn a_vf_with_its_own_driver_is_left_alone() {
        let out = testing::run(worker_with_vfs(1), |host| bind_default(host, &vf()));
        expect![[r#"
            AlreadyRight
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn a_vf_goes_to_user_space_by_override_and_the_override_does_not_stay() {
        let out = testing::run(worker_with_vfs(1), |host| bind(host, &vf(), "vfio-pci"));
        expect![[r#"
            Yes
                run modprobe vfio-pci
                /sys/bus/pci/devices/0000:03:00.2/driver_override <- vfio-pci
                /sys/bus/pci/drivers/mlx5_core/unbind <- 0000:03:00.2
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
                /sys/bus/pci/devices/0000:03:00.2/driver_override <- nothing
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn a_vf_comes_back_from_user_space() {
        let out = testing::run(in_user_space(), |host| bind_default(host, &vf()));
        expect![[r#"
            Yes
                /sys/bus/pci/drivers/vfio-pci/unbind <- 0000:03:00.2
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn an_autoprobe_that_somebody_switched_off_is_on_for_the_probe_alone() {
        let mut machine = without_driver();
        testing::shell(&mut machine, &[(&format!("{PF}/sriov_drivers_autoprobe"), "0")]);
        let out = testing::run(machine, |host| bind_default(host, &vf()));
        expect![[r#"
            Yes
                replace /var/lib/ironrail/autoprobe/0000:03:00.0: c61780c7-4f1e-4f7a-8694-051d0b23abbb 0
                /sys/bus/pci/devices/0000:03:00.0/sriov_drivers_autoprobe <- 1
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
                /sys/bus/pci/devices/0000:03:00.0/sriov_drivers_autoprobe <- 0
                remove /var/lib/ironrail/autoprobe/0000:03:00.0
        "#]].assert_eq(&out);
    }

    #[test]
    fn what_cannot_be_bound_is_said_with_the_way_out() {
        let mut out = String::new();
        let mut add = |machine: Machine, driver: &str| {
            out.push_str(&testing::run(machine, |host| match driver {
                "default" => bind_default(host, &vf()),
                driver => bind(host, &vf(), driver),
            }));
        };
        add(worker_with_vfs(1).with(Fault::NoIommu), "vfio-pci");
        add(worker_with_vfs(1), "no-such-driver");
        add(without_driver().with(Fault::VfProbeFails), "default");
        add(testing::worker(), "default");
        expect![[r#"
            cannot bind 0000:03:00.2 to vfio-pci: there is no IOMMU group; switch the IOMMU on in the BIOS and on the kernel command line
            cannot bind 0000:03:00.2 to no-such-driver: cannot load module no-such-driver: modprobe: FATAL: Module no-such-driver not found in directory /lib/modules/6.12.0
                run modprobe no-such-driver
            no driver took 0000:03:00.2; load the module for its device id, and look at the kernel log
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
            there is no PCI function 0000:03:00.2
        "#]].assert_eq(&out);
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        testing::crash_everywhere(worker_with_vfs(1), |host| bind(host, &vf(), "vfio-pci"));
        testing::crash_everywhere(in_user_space(), |host| bind_default(host, &vf()));
        testing::crash_everywhere(worker_with_vfs(1), |host| unbind(host, &vf()));
        let mut off = without_driver();
        testing::shell(&mut off, &[(&format!("{PF}/sriov_drivers_autoprobe"), "0")]);
        testing::crash_everywhere(off, |host| bind_default(host, &vf()));
    }
}
