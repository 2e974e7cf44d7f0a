//! SR-IOV in the firmware of a card: what it has now, what the next boot brings, and raising it. Never lowering it.
//!
//! The kernel's interface first (devlink's permanent parameters), else NVIDIA's `mstconfig`. A value that was set is for
//! the next boot only; whether it came is seen in `sriov_totalvfs` after it. Whether to raise it is the planner's.

use crate::function::number;
use crate::program_error::{ProgramError, mstconfig};
use crate::seam::{Changed, DevlinkChange, DevlinkDevice, Host};
use api::PciAddress;
use api::inventory::{FirmwareFacts, FirmwareSource, FirmwareSriov, Setting};
use thiserror::Error;

const ENABLE: &str = "enable_sriov";
const TOTAL: &str = "total_vfs";
const PERMANENT: &str = "permanent";
/// Settings that only a BlueField has; with this value its own processor owns the ports.
const DPU_KEYS: [&str; 3] =
    ["INTERNAL_CPU_PAGE_SUPPLIER", "INTERNAL_CPU_ESWITCH_MANAGER", "INTERNAL_CPU_IB_VPORT0"];

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FirmwareError {
    #[error("cannot set {setting} in the firmware of {pf}: {why}")]
    Refused { pf: PciAddress, setting: String, why: ProgramError },
    #[error("the firmware of {pf} took {setting}, and still has {found} for the next boot")]
    NotTaken { pf: PciAddress, setting: String, found: String },
}

/// What the firmware says. Never fails: what cannot be read is a fact too.
pub fn read(host: &dyn Host, pf: &PciAddress) -> FirmwareFacts {
    match (listed(host, pf), by_program(host, pf)) {
        // Devlink lists the next boot's values alone, and nothing of who owns a BlueField: without these a card that is
        // switched off in the BIOS looks like one that waits for its boot. The program tells them, where there is one.
        (Some(listed), Ok(told)) => FirmwareFacts::Known(FirmwareSriov {
            enabled: Setting { current: told.enabled.current, ..listed.enabled },
            vfs: Setting { current: told.vfs.current, ..listed.vfs },
            dpu_mode: told.dpu_mode,
            ..listed
        }),
        (Some(listed), Err(_)) => FirmwareFacts::Known(listed),
        (None, Ok(told)) => FirmwareFacts::Known(told),
        (None, Err(ProgramError::NotThere(_))) => FirmwareFacts::ToolMissing,
        (None, Err(why)) => FirmwareFacts::Unreadable(why.to_string()),
    }
}

fn listed(host: &dyn Host, pf: &PciAddress) -> Option<FirmwareSriov> {
    let shown = number(host, &pf.file("sriov_totalvfs")).unwrap_or_default();
    in_devlink(&host.devlink(pf).unwrap_or_default(), shown)
}

fn by_program(host: &dyn Host, pf: &PciAddress) -> Result<FirmwareSriov, ProgramError> {
    let said = mstconfig(host, &["-e", "-d", &pf.to_string(), "q"])?;
    table(&said).map_err(ProgramError::Failed)
}

/// What devlink lists of it. That is the value of the next boot alone; that of this boot is what the card shows.
pub fn in_devlink(devlink: &DevlinkDevice, shown: u32) -> Option<FirmwareSriov> {
    let (enabled, vfs) = permanent(devlink)?;
    Some(FirmwareSriov {
        source: FirmwareSource::Devlink,
        enabled: Setting { current: shown > 0, next: enabled },
        vfs: Setting { current: shown, next: vfs },
        dpu_mode: false,
    })
}

/// Has SR-IOV on and room for at least `vfs` VFs at the next boot.
pub fn raise(
    host: &dyn Host,
    pf: &PciAddress,
    source: FirmwareSource,
    vfs: u32,
) -> Result<Changed, FirmwareError> {
    let refused =
        |setting: &str, why| FirmwareError::Refused { pf: *pf, setting: setting.to_owned(), why };
    let wanted = setting(source, true, vfs);
    let before = known(host, pf).map_err(|why| refused(&wanted, why))?;
    if before.enabled.next && before.vfs.next >= vfs {
        return Ok(Changed::AlreadyRight);
    }
    let wanted = setting(source, true, vfs.max(before.vfs.next));
    match source {
        FirmwareSource::Devlink => by_devlink(host, pf, vfs.max(before.vfs.next)),
        FirmwareSource::Mstconfig => {
            let mut arguments = vec!["-d".to_owned(), pf.to_string(), "-y".into(), "set".into()];
            arguments.extend(wanted.split(' ').map(str::to_owned));
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            mstconfig(host, &arguments).map(drop)
        }
    }
    .map_err(|why| refused(&wanted, why))?;
    let after = known(host, pf).map_err(|why| refused(&wanted, why))?;
    match after.enabled.next && after.vfs.next >= vfs {
        true => Ok(Changed::Yes),
        false => {
            let found = setting(source, after.enabled.next, after.vfs.next);
            Err(FirmwareError::NotTaken { pf: *pf, setting: wanted, found })
        }
    }
}

/// Both settings under the names of their source.
fn setting(source: FirmwareSource, enabled: bool, vfs: u32) -> String {
    match source {
        FirmwareSource::Devlink => format!("{ENABLE}={enabled} {TOTAL}={vfs}"),
        FirmwareSource::Mstconfig => {
            format!("SRIOV_EN={} NUM_OF_VFS={vfs}", if enabled { "True" } else { "False" })
        }
    }
}

/// What is set for the next boot, as its source has it.
fn known(host: &dyn Host, pf: &PciAddress) -> Result<FirmwareSriov, ProgramError> {
    listed(host, pf).map_or_else(|| by_program(host, pf), Ok)
}

fn permanent(devlink: &DevlinkDevice) -> Option<(bool, u32)> {
    let value = |name: &str| {
        let mut found = devlink.parameters.iter();
        found.find(|p| p.name == name && p.mode == PERMANENT).map(|p| p.value.as_str())
    };
    Some((value(ENABLE)? == "true", value(TOTAL)?.parse().ok()?))
}

/// SR-IOV first: the driver keeps the number with it (mlx5/core/lib/nv_param.c).
fn by_devlink(host: &dyn Host, pf: &PciAddress, vfs: u32) -> Result<(), ProgramError> {
    for (name, value) in [(ENABLE, "true".to_owned()), (TOTAL, vfs.to_string())] {
        let (name, mode) = (name.to_owned(), PERMANENT.to_owned());
        host.change_devlink(pf, &DevlinkChange::Parameter { name, mode, value })?;
    }
    Ok(())
}

/// The rows of `mstconfig -e q`: a marker where the values differ, name, default, current, next boot.
fn table(said: &str) -> Result<FirmwareSriov, String> {
    let row = |name: &str| {
        let mut rows = said.lines().map(|line| line.trim_start_matches('*').split_whitespace());
        let mut row = rows.find_map(|mut words| (words.next()? == name).then_some(words))?;
        let (_default, current, next) = (row.next()?, row.next()?, row.next()?);
        Some(Setting { current: current.to_owned(), next: next.to_owned() })
    };
    let missing = |name: &str| {
        format!("mstconfig shows no row {name} with a value for this boot and the next")
    };
    let enabled = row("SRIOV_EN").ok_or_else(|| missing("SRIOV_EN"))?;
    let vfs = row("NUM_OF_VFS").ok_or_else(|| missing("NUM_OF_VFS"))?;
    let on = |text: &str| text.starts_with("True");
    let count =
        |text: &str| text.parse().map_err(|_| format!("mstconfig says NUM_OF_VFS is {text:?}"));
    let is_dpu = |name: &&str| row(name).is_some_and(|value| value.current.starts_with("ECPF"));
    Ok(FirmwareSriov {
        source: FirmwareSource::Mstconfig,
        enabled: Setting { current: on(&enabled.current), next: on(&enabled.next) },
        vfs: Setting { current: count(&vfs.current)?, next: count(&vfs.next)? },
        dpu_mode: DPU_KEYS.iter().all(is_dpu),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, Flavour, FunctionKind, Machine, SimHost};
    use crate::testing;
    use api::Timestamp;
    use expect_test::{Expect, expect};

    const PF: &str = "0000:03:00.0";

    /// A worker whose card at bus 3 comes with this firmware.
    fn worker(flavour: Flavour, sriov: bool, vfs: u32) -> Machine {
        let mut machine = Machine::new("worker-0", flavour, Timestamp::UNIX_EPOCH);
        machine.add_connectx5(0x03, 0);
        machine.deliver_firmware(0x03, sriov, vfs, true);
        machine.boot();
        machine
    }

    fn raise_to(vfs: u32) -> impl Fn(&dyn Host) -> Result<Changed, FirmwareError> {
        move |host| {
            let pf: PciAddress = PF.parse().unwrap();
            let source = match read(host, &pf) {
                FirmwareFacts::Known(known) => known.source,
                FirmwareFacts::ToolMissing | FirmwareFacts::Unreadable(_) => {
                    FirmwareSource::Mstconfig
                }
            };
            raise(host, &pf, source, vfs)
        }
    }

    fn check(machine: Machine, vfs: u32, expected: Expect) {
        expected.assert_eq(&testing::run_twice(machine, raise_to(vfs)));
    }

    #[test]
    fn sriov_is_switched_on_and_the_next_boot_shows_it() {
        let host = SimHost::new(worker(Flavour::Rhel, false, 0));
        let pf = PF.parse().unwrap();
        assert!(host.read(&format!("/sys/bus/pci/devices/{PF}/sriov_totalvfs")).is_err());
        raise(&host, &pf, FirmwareSource::Mstconfig, 4).unwrap();
        let FirmwareFacts::Known(known) = read(&host, &pf) else { panic!("it was read") };
        assert_eq!((known.enabled.current, known.enabled.next), (false, true));
        assert_eq!((known.vfs.current, known.vfs.next), (0, 4));
        host.machine().boot();
        let total = host.read(&format!("/sys/bus/pci/devices/{PF}/sriov_totalvfs")).unwrap();
        assert_eq!(total, b"4\n");
    }

    #[test]
    fn a_value_is_raised_once_and_never_lowered() {
        check(
            worker(Flavour::Rhel, true, 2),
            4,
            expect![[r#"
            Yes
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -d 0000:03:00.0 -y set SRIOV_EN=True NUM_OF_VFS=4
                run mstconfig -e -d 0000:03:00.0 q
            AlreadyRight
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
        "#]],
        );
        check(
            worker(Flavour::Rhel, true, 16),
            4,
            expect![[r#"
            AlreadyRight
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
            AlreadyRight
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
        "#]],
        );
        // More in firmware than asked stays: only SR-IOV itself is switched on.
        check(
            worker(Flavour::Rhel, false, 16),
            4,
            expect![[r#"
            Yes
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -d 0000:03:00.0 -y set SRIOV_EN=True NUM_OF_VFS=16
                run mstconfig -e -d 0000:03:00.0 q
            AlreadyRight
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
        "#]],
        );
    }

    #[test]
    fn where_the_driver_lists_the_parameters_no_program_is_run() {
        let mut machine = worker(Flavour::Immutable, true, 2);
        machine.list_firmware_in_devlink(0x03);
        check(
            machine,
            4,
            expect![[r#"
                Yes
                    run mstconfig -e -d 0000:03:00.0 q: no such file or directory
                    devlink 0000:03:00.0: set permanent parameter enable_sriov to true
                    devlink 0000:03:00.0: set permanent parameter total_vfs to 4
                AlreadyRight
                    run mstconfig -e -d 0000:03:00.0 q: no such file or directory
            "#]],
        );
    }

    #[test]
    fn where_the_driver_lists_the_parameters_the_program_tells_of_this_boot() {
        let mut machine = worker(Flavour::Rhel, true, 8);
        machine.list_firmware_in_devlink(0x03);
        // SR-IOV is off in the BIOS: the firmware has all that is asked, and the card shows nothing of it.
        let pf: PciAddress = PF.parse().unwrap();
        let Some(FunctionKind::Physical(part)) =
            machine.functions.get_mut(&pf).map(|function| &mut function.kind)
        else {
            panic!("the card is there")
        };
        part.total_vfs = 0;
        let host = SimHost::new(machine);
        let FirmwareFacts::Known(known) = read(&host, &pf) else { panic!("it was read") };
        assert_eq!(known.source, FirmwareSource::Devlink);
        assert_eq!((known.enabled.current, known.vfs.current), (true, 8));
        // Without the program nobody can tell, and the boot is tried.
        let mut machine = worker(Flavour::Immutable, true, 8);
        machine.list_firmware_in_devlink(0x03);
        let Some(FunctionKind::Physical(part)) =
            machine.functions.get_mut(&pf).map(|function| &mut function.kind)
        else {
            panic!("the card is there")
        };
        part.total_vfs = 0;
        let FirmwareFacts::Known(known) = read(&SimHost::new(machine), &pf) else {
            panic!("it was read")
        };
        assert_eq!((known.enabled.current, known.enabled.next), (false, true));
    }

    #[test]
    fn a_missing_tool_a_locked_kernel_and_a_refused_value_are_sentences() {
        check(
            worker(Flavour::Immutable, true, 2),
            4,
            expect![[r#"
            cannot set SRIOV_EN=True NUM_OF_VFS=4 in the firmware of 0000:03:00.0: this host has no mstconfig
                run mstconfig -e -d 0000:03:00.0 q: no such file or directory
                run mstconfig -e -d 0000:03:00.0 q: no such file or directory
            cannot set SRIOV_EN=True NUM_OF_VFS=4 in the firmware of 0000:03:00.0: this host has no mstconfig
                run mstconfig -e -d 0000:03:00.0 q: no such file or directory
                run mstconfig -e -d 0000:03:00.0 q: no such file or directory
        "#]],
        );
        check(
            worker(Flavour::Rhel, true, 2).with(Fault::LockedDown),
            4,
            expect![[r#"
            cannot set SRIOV_EN=True NUM_OF_VFS=4 in the firmware of 0000:03:00.0: mstconfig ended with status 1: -E- Failed to open the device: operation not permitted
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
            cannot set SRIOV_EN=True NUM_OF_VFS=4 in the firmware of 0000:03:00.0: mstconfig ended with status 1: -E- Failed to open the device: operation not permitted
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
        "#]],
        );
        check(
            worker(Flavour::Rhel, true, 2),
            1000,
            expect![[r#"
            cannot set SRIOV_EN=True NUM_OF_VFS=1000 in the firmware of 0000:03:00.0: mstconfig ended with status 1: -E- Failed to set NUM_OF_VFS: 1000 is over the limit 127
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -d 0000:03:00.0 -y set SRIOV_EN=True NUM_OF_VFS=1000
            cannot set SRIOV_EN=True NUM_OF_VFS=1000 in the firmware of 0000:03:00.0: mstconfig ended with status 1: -E- Failed to set NUM_OF_VFS: 1000 is over the limit 127
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -e -d 0000:03:00.0 q
                run mstconfig -d 0000:03:00.0 -y set SRIOV_EN=True NUM_OF_VFS=1000
        "#]],
        );
    }

    #[test]
    fn a_card_that_its_own_processor_owns_is_known() {
        let said = |mode: &str| {
            let rows = DPU_KEYS.map(|key| format!("  {key}  ECPF(0) {mode} {mode}\n")).concat();
            table(&format!("{rows}*  SRIOV_EN False(0) True(1) True(1)\n  NUM_OF_VFS 0 8 8\n"))
        };
        assert!(said("ECPF(0)").unwrap().dpu_mode);
        assert!(!said("EXT_HOST_PF(1)").unwrap().dpu_mode);
        assert_eq!(
            table("SRIOV_EN False(0) True(1) True(1)").unwrap_err(),
            "mstconfig shows no row NUM_OF_VFS with a value for this boot and the next"
        );
    }

    #[test]
    fn from_every_crash_the_next_run_reaches_the_goal() {
        testing::crash_everywhere(worker(Flavour::Rhel, false, 2), raise_to(4));
        let mut machine = worker(Flavour::Rhel, false, 2);
        machine.list_firmware_in_devlink(0x03);
        testing::crash_everywhere(machine, raise_to(4));
    }
}
