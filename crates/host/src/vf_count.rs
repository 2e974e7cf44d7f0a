//! Bringing a PF to a number of VFs.

use crate::autoprobe;
use crate::function::{self, FactError, number};
use crate::seam::{Changed, Host, Interest, Refusal};
use crate::uptime::Patience;
use api::PciAddress;
use rustix::io::Errno;
use std::time::Duration;
use thiserror::Error;

/// How long VFs may take to come to the bus after the kernel has counted them; upstream waits as long.
const LATE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VfCountError {
    #[error("cannot set {wanted} VFs on {pf}: the card allows {allowed}")]
    OverLimit { pf: PciAddress, wanted: u32, allowed: u32 },
    #[error(
        "cannot set {wanted} VFs on {pf}: it has no SR-IOV capability; switch SR-IOV on in the BIOS and in the card's firmware"
    )]
    NoCapability { pf: PciAddress, wanted: u32 },
    #[error("cannot set {wanted} VFs on {pf}: no driver is bound that can make VFs")]
    NoDriver { pf: PciAddress, wanted: u32 },
    #[error(
        "cannot set {wanted} VFs on {pf}: the BIOS reserved no address space for them; boot with pci=realloc or switch SR-IOV on in the BIOS"
    )]
    NoRoom { pf: PciAddress, wanted: u32 },
    #[error("cannot set {wanted} VFs on {pf}: {refusal}")]
    Refused { pf: PciAddress, wanted: u32, refusal: Refusal },
    #[error("asked for {wanted} VFs on {pf}, and its driver made {found}")]
    DriverMadeFewer { pf: PciAddress, wanted: u32, found: u32 },
    #[error("{pf} counts {wanted} VFs, and after {} s VF {missing} is not on the bus", LATE.as_secs())]
    NotOnTheBus { pf: PciAddress, wanted: u32, missing: u32 },
    #[error(transparent)]
    Fact(#[from] FactError),
}

/// Brings the PF to exactly `wanted` VFs, and waits until they are on the bus.
///
/// The kernel refuses to go from one count other than zero to another, so a change passes through zero. With `probe`
/// false the VFs come without drivers, and no driver takes them until `autoprobe::restore`: a driver that udev loads
/// meanwhile (iavf, igbvf: modules of their own) would else probe them before they have their addresses.
pub fn set(
    host: &dyn Host,
    pf: &PciAddress,
    wanted: u32,
    probe: bool,
) -> Result<Changed, VfCountError> {
    let refused = |refusal| VfCountError::Refused { pf: *pf, wanted, refusal };
    // What a crash of an earlier attempt left behind.
    autoprobe::restore(host, pf).map_err(refused)?;
    let allowed = allowed(host, pf, wanted)?;
    if allowed < wanted {
        return Err(VfCountError::OverLimit { pf: *pf, wanted, allowed });
    }
    let count_file = pf.file("sriov_numvfs");
    let current = number(host, &count_file)?;
    if current == wanted {
        wait_for_vfs(host, pf, wanted)?;
        return Ok(Changed::AlreadyRight);
    }
    if current != 0 {
        write_count(host, pf, wanted, 0)?;
    }
    if wanted != 0 {
        if !probe {
            autoprobe::hold(host, pf, false).map_err(refused)?;
        }
        if let Err(error) = make(host, pf, wanted) {
            // While the kernel is still making them this is refused, and must be: VFs to come would be probed too early.
            let _ = autoprobe::restore(host, pf);
            return Err(error);
        }
    }
    Ok(Changed::Yes)
}

fn allowed(host: &dyn Host, pf: &PciAddress, wanted: u32) -> Result<u32, VfCountError> {
    match number(host, &pf.file("sriov_totalvfs")) {
        Err(FactError::Refused(refusal)) if refusal.errno == Errno::NOENT => {
            function::exists(host, pf)?;
            Err(VfCountError::NoCapability { pf: *pf, wanted })
        }
        other => Ok(other?),
    }
}

fn make(host: &dyn Host, pf: &PciAddress, wanted: u32) -> Result<(), VfCountError> {
    write_count(host, pf, wanted, wanted)?;
    let found = number(host, &pf.file("sriov_numvfs"))?;
    if found != wanted {
        return Err(VfCountError::DriverMadeFewer { pf: *pf, wanted, found });
    }
    wait_for_vfs(host, pf, wanted)
}

fn write_count(
    host: &dyn Host,
    pf: &PciAddress,
    wanted: u32,
    count: u32,
) -> Result<(), VfCountError> {
    let written = host.write(&pf.file("sriov_numvfs"), &count.to_string());
    written.map_err(|refusal| match refusal.errno {
        Errno::NOENT => VfCountError::NoDriver { pf: *pf, wanted },
        Errno::NOMEM => VfCountError::NoRoom { pf: *pf, wanted },
        _ => VfCountError::Refused { pf: *pf, wanted, refusal },
    })
}

fn wait_for_vfs(host: &dyn Host, pf: &PciAddress, wanted: u32) -> Result<(), VfCountError> {
    let mut patience = Patience::new(LATE);
    loop {
        let missing = (0..wanted).find(|index| function::vf(host, pf, *index).is_err());
        let Some(missing) = missing else { return Ok(()) };
        let Some(left) = patience.left(host) else {
            return Err(VfCountError::NotOnTheBus { pf: *pf, wanted, missing });
        };
        // A uevent can be lost when its socket is full, so the wait is never long.
        host.wait(&[Interest::Uevent], left.min(Duration::from_secs(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, Machine};
    use crate::testing::{self, PF, pf, worker};
    use expect_test::{Expect, expect};

    /// From `before` VFs to `wanted`, on a machine with this fault.
    fn check(fault: Option<Fault>, before: u32, wanted: u32, probe: bool, expected: Expect) {
        expected
            .assert_eq(&testing::run(with(fault, before), |host| set(host, &pf(), wanted, probe)));
    }

    fn with(fault: Option<Fault>, vfs: u32) -> Machine {
        let mut machine = testing::worker_with_vfs(vfs);
        machine.faults.extend(fault);
        machine
    }

    #[test]
    fn the_right_number_is_left_alone() {
        check(
            None,
            4,
            4,
            true,
            expect![[r#"
            AlreadyRight
        "#]],
        );
    }

    #[test]
    fn growing_passes_through_zero() {
        check(
            None,
            2,
            4,
            true,
            expect![[r#"
            Yes
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 0
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 4
        "#]],
        );
    }

    #[test]
    fn taking_all_away_is_one_write() {
        check(
            None,
            2,
            0,
            true,
            expect![[r#"
            Yes
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 0
        "#]],
        );
    }

    #[test]
    fn vfs_without_drivers_are_made_with_autoprobe_off_and_the_old_value_on_disk() {
        check(
            None,
            0,
            2,
            false,
            expect![[r#"
            Yes
                replace /var/lib/ironrail/autoprobe/0000:03:00.0: c61780c7-4f1e-4f7a-8694-051d0b23abbb 1
                /sys/bus/pci/devices/0000:03:00.0/sriov_drivers_autoprobe <- 0
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 2
        "#]],
        );
    }

    #[test]
    fn more_than_the_card_allows_is_refused_before_any_write() {
        check(
            None,
            2,
            9,
            true,
            expect![[r#"
            cannot set 9 VFs on 0000:03:00.0: the card allows 8
        "#]],
        );
    }

    #[test]
    fn late_vfs_are_waited_for() {
        check(
            Some(Fault::VfsAppearLate),
            0,
            2,
            false,
            expect![[r#"
            Yes
                replace /var/lib/ironrail/autoprobe/0000:03:00.0: c61780c7-4f1e-4f7a-8694-051d0b23abbb 1
                /sys/bus/pci/devices/0000:03:00.0/sriov_drivers_autoprobe <- 0
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 2
        "#]],
        );
    }

    #[test]
    fn a_driver_that_makes_fewer_is_named_and_autoprobe_is_put_back() {
        check(
            Some(Fault::DriverMakesFewerVfs),
            0,
            4,
            false,
            expect![[r#"
            asked for 4 VFs on 0000:03:00.0, and its driver made 3
                replace /var/lib/ironrail/autoprobe/0000:03:00.0: c61780c7-4f1e-4f7a-8694-051d0b23abbb 1
                /sys/bus/pci/devices/0000:03:00.0/sriov_drivers_autoprobe <- 0
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 4
                /sys/bus/pci/devices/0000:03:00.0/sriov_drivers_autoprobe <- 1
                remove /var/lib/ironrail/autoprobe/0000:03:00.0
        "#]],
        );
    }

    #[test]
    fn a_busy_card_is_named() {
        check(
            Some(Fault::VfCountBusy),
            2,
            0,
            true,
            expect![[r#"
            cannot set 0 VFs on 0000:03:00.0: write 0 to /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs: device or resource busy
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 0: device or resource busy
        "#]],
        );
    }

    #[test]
    fn no_address_space_comes_with_the_way_out() {
        check(
            Some(Fault::NoRoomForVfs),
            0,
            2,
            true,
            expect![[r#"
            cannot set 2 VFs on 0000:03:00.0: the BIOS reserved no address space for them; boot with pci=realloc or switch SR-IOV on in the BIOS
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 2: cannot allocate memory
        "#]],
        );
    }

    #[test]
    fn a_pf_without_driver_is_named() {
        let mut machine = worker();
        testing::shell(&mut machine, &[(&format!("{PF}/driver/unbind"), "0000:03:00.0")]);
        let out = testing::run(machine, |host| set(host, &pf(), 2, true));
        expect![[r#"
            cannot set 2 VFs on 0000:03:00.0: no driver is bound that can make VFs
                /sys/bus/pci/devices/0000:03:00.0/sriov_numvfs <- 2: no such file or directory
        "#]]
        .assert_eq(&out);
    }

    #[test]
    fn a_card_without_the_capability_and_a_missing_one_are_told_apart() {
        let lifeline = "0000:01:00.0".parse().unwrap();
        let nobody = "0000:ff:00.0".parse().unwrap();
        let mut out = testing::run(worker(), |host| set(host, &lifeline, 2, true));
        out.push_str(&testing::run(worker(), |host| set(host, &nobody, 2, true)));
        expect![[r#"
            cannot set 2 VFs on 0000:01:00.0: it has no SR-IOV capability; switch SR-IOV on in the BIOS and in the card's firmware
            there is no PCI function 0000:ff:00.0
        "#]].assert_eq(&out);
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        for (before, wanted, probe) in [(0, 4, true), (0, 4, false), (2, 4, false), (4, 0, true)] {
            testing::crash_everywhere(testing::worker_with_vfs(before), |host| {
                let changed = set(host, &pf(), wanted, probe)?;
                autoprobe::restore(host, &pf()).map_err(FactError::from)?;
                Ok::<_, VfCountError>(changed)
            });
        }
    }
}
