//! Giving a PCI function to a driver, and taking it away.

use crate::autoprobe;
use crate::function::{self, FactError, driver, optional, text};
use crate::home::interface_at_home;
use crate::program_error::{ProgramError, kmod};
use crate::seam::{
    Changed, FileKind, Host, Interest, Link, LinkQuery, Namespace, Program, Refusal,
};
use crate::uptime::Patience;
use crate::vf_profile::show_address;
use api::PciAddress;
use std::time::Duration;
use thiserror::Error;

/// Drivers that hand the function to user space; every other one is the kernel's own.
const USER_SPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// PCI class 0200: Ethernet controllers. An InfiniBand function (0207) has an interface only where IPoIB is loaded.
const ETHERNET_CLASS: &str = "0x0200";

/// How long a driver may take to register a VF's interface: iavf does it when the PF has answered. As upstream.
const LATE: Duration = Duration::from_secs(10);

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
    #[error(
        "no driver took {pci}, and no module for it can be loaded: {reason}; install the driver of the card's VFs"
    )]
    NoModuleForIt { pci: PciAddress, reason: ProgramError },
    #[error(
        "{driver} took {pci} twice and made no interface within {} s; look at the kernel log",
        LATE.as_secs()
    )]
    NoInterface { pci: PciAddress, driver: String },
    #[error(
        "{pci} came up with MAC {found}, and its PF {pf} holds {held} for it; look at the kernel log"
    )]
    OtherMac { pci: PciAddress, pf: PciAddress, held: String, found: String },
    #[error("{driver} did not take {pci}; look at the kernel log")]
    NotTaken { pci: PciAddress, driver: String },
    #[error(
        "cannot bind {pci} to {driver}: there is no IOMMU group; switch the IOMMU on in the BIOS and on the kernel command line"
    )]
    NoIommu { pci: PciAddress, driver: String },
    #[error("cannot bind {pci} to {driver}: cannot load module {driver}: {reason}")]
    NoModule { pci: PciAddress, driver: String, reason: ProgramError },
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

/// Gives the function to the driver that the kernel finds for it: no override, then a probe. A VF on Ethernet is there
/// when its interface is, with the MAC that the PF holds for it.
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
    let bound = probed(host, pci)?;
    if let Some(pf) = function::physical(host, pci)?
        && text(host, &pci.file("class"))?.starts_with(ETHERNET_CLASS)
    {
        let interface = comes_up(host, pci, bound)?;
        took_its_mac(host, pci, &pf, &interface)?;
    }
    Ok(Changed::Yes)
}

/// Probes, and names the kernel's driver that took the function.
fn probed(host: &dyn Host, pci: &PciAddress) -> Result<String, DriverError> {
    probe(host, pci)?;
    match driver(host, pci)? {
        Some(found) if !USER_SPACE.contains(&found.as_str()) => Ok(found),
        _ => Err(DriverError::NobodyTookIt { pci: *pci }),
    }
}

/// Waits for the interface; where none comes the driver is started once more, as upstream does.
fn comes_up(host: &dyn Host, pci: &PciAddress, driver: String) -> Result<Link, DriverError> {
    if let Some(interface) = wait_for_interface(host, pci)? {
        return Ok(interface);
    }
    unbind(host, pci)?;
    probed(host, pci)?;
    wait_for_interface(host, pci)?.ok_or(DriverError::NoInterface { pci: *pci, driver })
}

fn wait_for_interface(host: &dyn Host, pci: &PciAddress) -> Result<Option<Link>, Refusal> {
    let mut patience = Patience::new(LATE);
    loop {
        if let Some(interface) = interface_at_home(host, pci)? {
            return Ok(Some(interface));
        }
        let Some(left) = patience.left(host) else { return Ok(None) };
        // A notification can be lost when its socket is full, so the wait is never long.
        host.wait(&[Interest::Link], left.min(Duration::from_secs(1)));
    }
}

/// A driver that makes up a MAC although the PF holds one has not heard of it: the pod would get another at every boot.
fn took_its_mac(
    host: &dyn Host,
    pci: &PciAddress,
    pf: &PciAddress,
    interface: &Link,
) -> Result<(), DriverError> {
    // Without an interface of its own the PF holds nothing.
    let Some(uplink) = interface_at_home(host, pf)? else { return Ok(()) };
    let query = LinkQuery { index: Some(uplink.index), with_vfs: true, ..LinkQuery::default() };
    let links = host.links(&Namespace::Host, &query)?;
    let mut vfs = links.iter().flat_map(|link| &link.vfs);
    let own = |index: u32| function::vf(host, pf, index).is_ok_and(|vf| vf == *pci);
    let held = vfs.find(|vf| own(vf.index)).map(|vf| vf.mac.as_slice()).unwrap_or_default();
    // What the driver started with, where the kernel tells it: NetworkManager may be at work already.
    let found = interface.permanent.as_ref().unwrap_or(&interface.address);
    if held.iter().all(|byte| *byte == 0) || held == found.as_slice() {
        return Ok(());
    }
    let (held, found) = (show_address(held), show_address(found));
    Err(DriverError::OtherMac { pci: *pci, pf: *pf, held, found })
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

/// A VF whose PF has `sriov_drivers_autoprobe` 0 refuses every probe, so the file is 1 meanwhile. The VF's driver may be a
/// module of its own, which udev has not loaded yet, or loads nowhere.
fn probe(host: &dyn Host, pci: &PciAddress) -> Result<(), DriverError> {
    let pf = function::physical(host, pci)?;
    if let Some(pf) = &pf {
        autoprobe::hold(host, pf, true)?;
    }
    let probed = probe_and_load(host, pci);
    if let Some(pf) = &pf {
        autoprobe::restore(host, pf)?;
    }
    probed
}

fn probe_and_load(host: &dyn Host, pci: &PciAddress) -> Result<(), DriverError> {
    write_probe(host, pci)?;
    if driver(host, pci)?.is_some() {
        return Ok(());
    }
    let Some(alias) = optional(text(host, &pci.file("modalias")))? else { return Ok(()) };
    // With -b, as udev: an administrator's blacklist holds.
    let loaded = kmod(host, &Program::Modprobe, &["-b", &alias]);
    loaded.map_err(|reason| DriverError::NoModuleForIt { pci: *pci, reason })?;
    // A driver takes what is there when it is loaded; who was there before has refused once, and may refuse again.
    if driver(host, pci)?.is_none() {
        write_probe(host, pci)?;
    }
    Ok(())
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
    kmod(host, &Program::Modprobe, &[wanted]).map_err(|reason| DriverError::NoModule {
        pci: *pci,
        driver: wanted.to_owned(),
        reason,
    })
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

    /// No driver has ever seen it.
    fn without_driver_from_the_start() -> Machine {
        let host = crate::sim::SimHost::new(worker_with_vfs(0));
        crate::vf_count::set(&host, &testing::pf(), 1, false).unwrap();
        autoprobe::restore(&host, &testing::pf()).unwrap();
        host.snapshot()
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
    fn a_driver_that_is_a_module_of_its_own_is_loaded_by_the_ids_of_the_vf() {
        let igb: PciAddress = "0000:07:00.0".parse().unwrap();
        let bound = |modules: &[&str]| {
            let mut machine = testing::worker();
            let host = crate::sim::SimHost::new(machine.clone());
            crate::vf_count::set(&host, &igb, 1, false).unwrap();
            let vf = function::vf(&host, &igb, 0).unwrap();
            machine = host.snapshot();
            machine.modules.retain(|module| !modules.contains(&module.as_str()));
            testing::run(machine, |host| bind_default(host, &vf))
        };
        // In the second case the VF's driver is installed nowhere.
        let mut out = bound(&["igbvf"]);
        let mut machine = worker_with_vfs(1);
        machine.functions.get_mut(&vf()).unwrap().driver = None;
        machine.functions.get_mut(&vf()).unwrap().vendor = "1af5".to_owned();
        out.push_str(&testing::run(machine, |host| bind_default(host, &vf())));
        expect![[r#"
            Yes
                /sys/bus/pci/devices/0000:07:00.0/sriov_drivers_autoprobe <- 1
                remove /var/lib/ironrail/autoprobe/0000:07:00.0
                /sys/bus/pci/drivers_probe <- 0000:07:10.0
                run modprobe -b pci:v00008086d000010CAsv00008086sd000010CAbc02sc00i00
                /sys/bus/pci/drivers_probe <- 0000:07:10.0
            no driver took 0000:03:00.2, and no module for it can be loaded: modprobe: FATAL: Module pci:v00001AF5d00001018sv00001AF5sd00001018bc02sc00i00 not found in directory /lib/modules/6.12.0; install the driver of the card's VFs
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
                run modprobe -b pci:v00001AF5d00001018sv00001AF5sd00001018bc02sc00i00
        "#]].assert_eq(&out);
    }

    #[test]
    fn an_interface_that_comes_late_is_waited_for_and_one_that_does_not_come_is_asked_for_once_more()
     {
        let late = |fault| {
            let machine = without_driver_from_the_start().with(fault);
            testing::run(machine, |host| {
                let done = bind_default(host, &vf())?;
                let found = interface_at_home(host, &vf())?;
                assert!(found.is_some(), "who sets an MTU next finds it");
                Ok::<_, DriverError>(done)
            })
        };
        let mut out = late(Fault::VfInterfaceLate);
        out.push_str(&late(Fault::VfInterfaceLost));
        expect![[r#"
            Yes
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
            Yes
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
                /sys/bus/pci/drivers/mlx5_core/unbind <- 0000:03:00.2
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn a_driver_that_makes_up_a_mac_although_the_pf_holds_one_is_named() {
        let host = crate::sim::SimHost::new(without_driver_from_the_start());
        crate::vf_settings::set_mac(&host, &testing::pf(), 0, "02:00:00:00:00:0a").unwrap();
        let right = testing::run(host.snapshot(), |host| bind_default(host, &vf()));
        let machine = host.snapshot().with(Fault::VfIgnoresItsMac);
        let wrong = testing::run(machine, |host| bind_default(host, &vf()));
        expect![[r#"
            Yes
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
            0000:03:00.2 came up with MAC c2:28:78:c7:4f:2d, and its PF 0000:03:00.0 holds 02:00:00:00:00:0a for it; look at the kernel log
                /sys/bus/pci/drivers_probe <- 0000:03:00.2
        "#]].assert_eq(&format!("{right}{wrong}"));
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
                run modprobe -b pci:v000015B3d00001018sv000015B3sd00001018bc02sc00i00
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
