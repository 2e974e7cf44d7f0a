//! SR-IOV in the firmware of NVIDIA's cards: a PF that shows fewer VFs than asked, and the way to more.
//!
//! Upwards only: more VFs in firmware than asked is fine. What counts is `sriov_totalvfs`; the firmware's own values say
//! what a boot could bring. Every obstacle names parameter, value and the command to type. When is `order`'s.

use crate::action::{Action, RebootCause, RebootReason};
use crate::blocker::{self, Blocker, Obstacle};
use crate::desired::{Desired, DesiredFunction};
use crate::ledger::{self, Found, Question, Verdict};
use crate::order::Permission;
use crate::reboots::Wish;
use api::inventory::{FirmwareFacts, FirmwareSource, FirmwareSriov, Inventory, PhysicalFunction};
use api::nodestate::RebootRecord;
use api::{PciAddress, Timestamp};
use std::collections::BTreeSet;

/// The network controllers of BlueField, BlueField-2, BlueField-3 and BlueField-4 (pci.ids, vendor 15b3). The id says
/// nothing of the mode.
const BLUEFIELDS: [&str; 4] = ["a2d2", "a2d6", "a2dc", "a2df"];

/// What the firmware of all cards needs.
#[derive(Debug, Default)]
pub(crate) struct FirmwarePlan {
    pub wishes: Vec<Wish>,
    pub blockers: Vec<Blocker>,
    /// PFs that are spoken of here, so that nobody else complains of too few VFs.
    pub handled: BTreeSet<PciAddress>,
}

/// Plans every PF that shows fewer VFs than asked and whose firmware can be asked. `records` is the judged ledger.
pub(crate) fn plan(
    desired: &Desired,
    inventory: &Inventory,
    permission: &Permission,
    records: &[RebootRecord],
    now: Timestamp,
) -> FirmwarePlan {
    let mut plan = FirmwarePlan::default();
    for wanted in desired.functions.iter().filter(|wanted| !wanted.externally_managed) {
        let found = inventory.physical_functions.iter().find(|pf| pf.pci == wanted.pci);
        let Some(pf) = found.filter(|pf| shown(pf) < wanted.num_vfs) else { continue };
        let Some(facts) = inventory.firmware.get(&pf.pci) else { continue };
        plan.handled.insert(pf.pci);
        let card = Card { wanted, pf, inventory, permission };
        match card.wish(facts, records, now) {
            Ok(wish) => plan.wishes.push(wish),
            Err(blocker) => plan.blockers.push(blocker),
        }
    }
    plan
}

/// What is effective of a firmware goal: `0000:03:00.0 SRIOV_EN=True NUM_OF_VFS=8`.
pub(crate) fn found(goal: &str, inventory: &Inventory) -> Found {
    let pf = ledger::subject(RebootReason::Firmware.as_str(), goal);
    let vfs = goal.rsplit('=').next().and_then(|text| text.parse::<u32>().ok());
    let function = inventory.physical_functions.iter().find(|f| f.pci.to_string() == pf);
    let Some((function, vfs)) = function.zip(vfs) else { return Found::Unknown };
    if shown(function) >= vfs {
        return Found::Reached;
    }
    Found::Other(match inventory.firmware.get(&function.pci) {
        Some(FirmwareFacts::Known(known)) => values(known),
        _ => format!("{} VFs in sriov_totalvfs", shown(function)),
    })
}

/// True when somebody still asks for what a firmware goal says.
pub(crate) fn is_asked(goal: &str, desired: &Desired) -> bool {
    let pf = ledger::subject(RebootReason::Firmware.as_str(), goal);
    let vfs = goal.rsplit('=').next().and_then(|text| text.parse::<u32>().ok());
    desired.functions.iter().any(|f| f.pci.to_string() == pf && Some(f.num_vfs) == vfs)
}

struct Card<'a> {
    wanted: &'a DesiredFunction,
    pf: &'a PhysicalFunction,
    inventory: &'a Inventory,
    permission: &'a Permission,
}

impl Card<'_> {
    fn wish(
        &self,
        facts: &FirmwareFacts,
        records: &[RebootRecord],
        now: Timestamp,
    ) -> Result<Wish, Blocker> {
        let known = self.known(facts)?;
        if known.enabled.current && known.vfs.current >= self.wanted.num_vfs {
            return Err(self.bios(known));
        }
        if self.permission.no_firmware_writes {
            return Err(self.obstacle(known.source, Obstacle::WritesDisabled));
        }
        let goal = format!("{} {}", self.pf.pci, setting(known.source, self.wanted.num_vfs));
        let in_place = known.enabled.next && known.vfs.next >= self.wanted.num_vfs;
        let question = Question {
            reason: RebootReason::Firmware,
            goal: &goal,
            boot_id: &self.inventory.boot_id,
            levers_in_place: in_place,
            leave: &self.permission.reboots,
            now,
        };
        let attempt = match ledger::verdict(records, &question) {
            Verdict::Ask { attempt } => attempt,
            Verdict::No(Blocker::LeverRefused { why, .. }) => {
                return Err(self.obstacle(known.source, Obstacle::Refused(why)));
            }
            // Devlink says nothing of who owns the ports.
            Verdict::No(Blocker::RebootDidNotHelp { reason, levers, expected, found })
                if self.is_bluefield() && known.source == FirmwareSource::Devlink =>
            {
                let found = format!("{found} ({})", blocker::may_be_dpu(&self.pf.pci));
                return Err(Blocker::RebootDidNotHelp { reason, levers, expected, found });
            }
            Verdict::No(blocker) => return Err(blocker),
        };
        let lever = Action::RaiseFirmware {
            pf: self.pf.pci,
            source: known.source,
            vfs: self.wanted.num_vfs,
        };
        let levers = lever.lever().into_iter().collect();
        Ok(Wish {
            levers: vec![lever],
            cause: RebootCause { reason: RebootReason::Firmware, goal, levers },
            attempt,
            because: self.because(known),
        })
    }

    fn known<'f>(&self, facts: &'f FirmwareFacts) -> Result<&'f FirmwareSriov, Blocker> {
        let obstacle = match facts {
            FirmwareFacts::Known(known) if known.dpu_mode => Obstacle::DpuMode,
            FirmwareFacts::Known(known) => return Ok(known),
            FirmwareFacts::ToolMissing => Obstacle::ToolMissing,
            FirmwareFacts::Unreadable(_) if self.inventory.locked_down => {
                let setting = setting(FirmwareSource::Mstconfig, self.wanted.num_vfs);
                let what = format!("set {setting} in the firmware of {}", self.pf.pci);
                let command = command(&self.pf.pci, FirmwareSource::Mstconfig, &setting);
                return Err(Blocker::Lockdown { what, command });
            }
            FirmwareFacts::Unreadable(why) => Obstacle::Unreadable(why.clone()),
        };
        let obstacle = match obstacle {
            Obstacle::ToolMissing | Obstacle::Unreadable(_) if self.is_bluefield() => {
                Obstacle::MayBeDpu { pf: self.pf.pci, why: Box::new(obstacle) }
            }
            obstacle => obstacle,
        };
        Err(self.obstacle(FirmwareSource::Mstconfig, obstacle))
    }

    fn is_bluefield(&self) -> bool {
        self.pf.vendor == "15b3" && BLUEFIELDS.contains(&self.pf.device.as_str())
    }

    fn obstacle(&self, source: FirmwareSource, obstacle: Obstacle) -> Blocker {
        let setting = setting(source, self.wanted.num_vfs);
        let command = command(&self.pf.pci, source, &setting);
        Blocker::Firmware { pf: self.pf.pci, setting, obstacle, command }
    }

    /// The firmware has done its part, and the kernel still shows too few.
    fn bios(&self, known: &FirmwareSriov) -> Blocker {
        let setting = setting(known.source, known.vfs.current);
        self.pf.total_vfs.map_or_else(
            || Blocker::SriovDisabled { pf: self.pf.pci, firmware: Some(setting.clone()) },
            |allowed| Blocker::VfLimit { pf: self.pf.pci, wanted: self.wanted.num_vfs, allowed },
        )
    }

    fn because(&self, known: &FirmwareSriov) -> String {
        let policies: BTreeSet<&str> =
            self.wanted.groups.iter().map(|group| group.policy.as_str()).collect();
        let policies: Vec<&str> = policies.into_iter().collect();
        let (verb, wanted) =
            (if policies.len() == 1 { "asks" } else { "ask" }, self.wanted.num_vfs);
        let noun = if policies.len() == 1 { "policy" } else { "policies" };
        format!(
            "{noun} {} {verb} for {wanted} VFs and the firmware of {} has {}",
            policies.join(" and "),
            self.pf.pci,
            values(known)
        )
    }
}

fn shown(pf: &PhysicalFunction) -> u32 {
    pf.total_vfs.unwrap_or_default()
}

/// The names of the two settings.
fn names(source: FirmwareSource) -> (&'static str, &'static str) {
    match source {
        FirmwareSource::Devlink => ("enable_sriov", "total_vfs"),
        FirmwareSource::Mstconfig => ("SRIOV_EN", "NUM_OF_VFS"),
    }
}

fn truth(source: FirmwareSource, value: bool) -> &'static str {
    match (source, value) {
        (FirmwareSource::Devlink, true) => "true",
        (FirmwareSource::Devlink, false) => "false",
        (FirmwareSource::Mstconfig, true) => "True",
        (FirmwareSource::Mstconfig, false) => "False",
    }
}

fn setting(source: FirmwareSource, vfs: u32) -> String {
    let (enable, total) = names(source);
    format!("{enable}={} {total}={vfs}", truth(source, true))
}

/// `SRIOV_EN=False (next boot True), NUM_OF_VFS=0 (next boot 8)`.
fn values(known: &FirmwareSriov) -> String {
    let (enable, total) = names(known.source);
    let text = |value| truth(known.source, value);
    format!(
        "{enable}={} (next boot {}), {total}={} (next boot {})",
        text(known.enabled.current),
        text(known.enabled.next),
        known.vfs.current,
        known.vfs.next
    )
}

/// What a person types on the host.
fn command(pf: &PciAddress, source: FirmwareSource, setting: &str) -> String {
    match source {
        FirmwareSource::Mstconfig => format!("mstconfig -d {pf} -y set {setting}"),
        FirmwareSource::Devlink => {
            let one = |pair: &str| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                format!("devlink dev param set pci/{pf} name {name} value {value} cmode permanent")
            };
            setting.split(' ').map(one).collect::<Vec<_>>().join(" && ")
        }
    }
}
