//! What one PF and its VFs need: observed function against wanted function, as ordered steps.
//!
//! Also the way back: a PF that ironrail configured and nobody asks for any more loses its VFs. VFs that somebody else
//! made are never touched. Which steps may run now is decided in `order`.

use crate::action::{Action, Disturbance, Lane, Step, VfDriver};
use crate::blocker::Blocker;
use crate::desired::{Desired, DesiredFunction, Group};
pub use crate::guids::NO_GUID;
use crate::guids::{Guids, fingerprint};
use crate::lifeline;
use api::inventory::{Inventory, PhysicalFunction, VirtualFunction};
use api::{DeviceType, EswitchMode, LinkType, PciAddress};
use std::collections::BTreeSet;

/// The same for a MAC address.
pub const NO_MAC: &str = "00:00:00:00:00:00";

/// Drivers that hand a VF to user space; a VF bound to one of them is no netdevice.
const USER_SPACE_DRIVERS: [&str; 3] = ["igb_uio", "vfio-pci", "uio_pci_generic"];

/// Steps and blockers of all PFs: removals first, then the wanted PFs in the order of the node state.
///
/// PFs in `firmware` wait for their firmware; what there is to say of them is said there.
pub(crate) fn plan(
    desired: &Desired,
    inventory: &Inventory,
    firmware: &BTreeSet<PciAddress>,
) -> (Vec<Step>, Vec<Blocker>) {
    let (mut steps, mut blockers) = removals(desired, inventory);
    let guids = Guids::read(inventory.static_guids.as_deref());
    for wanted in desired.functions.iter().filter(|wanted| !firmware.contains(&wanted.pci)) {
        let found = inventory.physical_functions.iter().find(|pf| pf.pci == wanted.pci);
        match found.ok_or_else(|| missing(wanted)).and_then(readable).and_then(|pf| {
            blockers.extend(zero_guids(wanted, pf));
            let steps = configure(wanted, pf, inventory, &guids)?;
            lifeline::guard(pf, steps, inventory, Some(wanted))
        }) {
            Ok(more) => steps.extend(more),
            Err(blocker) => blockers.push(blocker),
        }
    }
    steps.extend(vhost(desired, inventory));
    (steps, blockers)
}

/// The modules of vhost-net, once for the node. The last of its card's steps: where they cannot be loaded, all else is done.
fn vhost(desired: &Desired, inventory: &Inventory) -> Option<Step> {
    if inventory.vhost_missing.is_empty() {
        return None;
    }
    let groups =
        |wanted: &DesiredFunction| wanted.groups.iter().find(|group| group.vhost_net).cloned();
    let (pf, group) =
        desired.functions.iter().find_map(|wanted| Some((wanted.pci, groups(wanted)?)))?;
    let (policy, missing) = (&group.policy, inventory.vhost_missing.join(" and "));
    let because = format!("policy {policy} asks for vhost-net, and there is no {missing}");
    Some(quiet(&pf, Action::LoadVhost, &because))
}

fn missing(wanted: &DesiredFunction) -> Blocker {
    Blocker::MissingCard { pf: wanted.pci, name: wanted.name.clone() }
}

fn readable(pf: &PhysicalFunction) -> Result<&PhysicalFunction, Blocker> {
    match pf.unreadable.clone() {
        Some(why) => Err(Blocker::UnreadableCard { pf: pf.pci, why }),
        None => Ok(pf),
    }
}

/// PFs that are ours (in the PF store) and that nobody asks for.
fn removals(desired: &Desired, inventory: &Inventory) -> (Vec<Step>, Vec<Blocker>) {
    let wanted = |pci: &PciAddress| {
        desired.untouchable.contains(pci) || desired.functions.iter().any(|f| f.pci == *pci)
    };
    let (mut steps, mut blockers) = (vec![], vec![]);
    for pci in inventory.configured.iter().filter(|pci| !wanted(pci)) {
        let because = "no policy asks for VFs on it any more";
        if inventory.external.contains(pci) {
            // Who made its VFs keeps them (upstream's rule).
            steps.push(quiet(pci, Action::ForgetFunction { pf: *pci }, because));
            continue;
        }
        let found = inventory.physical_functions.iter().find(|pf| pf.pci == *pci);
        let guarded = |pf: &PhysicalFunction| {
            lifeline::guard(readable(pf)?, reset(pf, because), inventory, None)
        };
        match found.map(guarded) {
            Some(Ok(more)) => steps.extend(more),
            Some(Err(blocker)) => blockers.push(blocker),
            // The card is gone; only the mark of it is left.
            None => steps.push(quiet(pci, Action::ForgetFunction { pf: *pci }, because)),
        }
    }
    (steps, blockers)
}

fn reset(pf: &PhysicalFunction, because: &str) -> Vec<Step> {
    let mut steps = vec![];
    if !pf.vfs.is_empty() {
        let action = Action::SetVfCount { pf: pf.pci, count: 0, probe: false };
        steps.push(on_function(pf, action, Disturbance::PfHolders, because));
    }
    if pf.eswitch != EswitchMode::Legacy {
        let action = Action::SetEswitchMode { pf: pf.pci, mode: EswitchMode::Legacy };
        steps.push(on_function(pf, action, Disturbance::PfLink, because));
    }
    steps.push(quiet(&pf.pci, Action::ForgetFunction { pf: pf.pci }, because));
    steps
}

fn configure(
    wanted: &DesiredFunction,
    pf: &PhysicalFunction,
    inventory: &Inventory,
    guids: &Guids,
) -> Result<Vec<Step>, Blocker> {
    if let Some(what) = unsupported(wanted, pf) {
        return Err(Blocker::Unsupported { object: format!("{} ({})", pf.pci, wanted.name), what });
    }
    let marked = inventory.configured.contains(&pf.pci);
    let ours = marked && !inventory.external.contains(&pf.pci);
    if wanted.externally_managed {
        check_external(wanted, pf)?;
        let mut steps = vec![];
        if ours {
            // What we made before is somebody else's from now on, also when the policy goes.
            let action = Action::RememberFunction { interface: Box::new(wanted.interface.clone()) };
            steps.push(quiet(&pf.pci, action, "its VFs are managed externally now"));
        }
        steps.extend(virtual_functions(wanted, pf, false, inventory, guids)?);
        return Ok(steps);
    }
    if wanted.num_vfs == 0 {
        // The PF itself is offered. VFs that we made before go; what somebody else made stays.
        let because = format!("{} for the PF itself", who_asks(wanted));
        return Ok(if ours { reset(pf, &because) } else { vec![] });
    }
    let allowed = pf.total_vfs.ok_or(Blocker::SriovDisabled { pf: pf.pci, firmware: None })?;
    if allowed < wanted.num_vfs {
        return Err(Blocker::VfLimit { pf: pf.pci, wanted: wanted.num_vfs, allowed });
    }
    let (count, recreated) = vf_count(wanted, pf);
    let mut steps = vec![];
    // What a policy allows is in the mark too, for the day when the policy is gone.
    let allowed = inventory.lifelines_allowed.contains(&pf.pci);
    if !ours || allowed != wanted.allow_lifeline {
        let action = Action::RememberFunction { interface: Box::new(wanted.interface.clone()) };
        let because = match ours {
            false => "a crash must not make us forget whose VFs these are",
            true => "what its policy allows has changed",
        };
        // Before the first change and not earlier: VFs that somebody else made are not ours while we wait for a drain.
        let touches = count.first().map(|step| step.touches.clone()).unwrap_or_default();
        steps.push(Step { touches, ..quiet(&pf.pci, action, because) });
    }
    steps.extend(count);
    steps.extend(pf_mtu(wanted, pf));
    // Before its VFs are probed: igbvf asks the PF for its address, and makes one up where the PF is down and silent
    // (drivers/net/ethernet/intel/igbvf/netdev.c, igbvf_probe).
    if !pf.admin_up && has_netdev(pf) {
        let because = "the PF is administratively down";
        steps.push(quiet(&pf.pci, Action::SetPfUp { pf: pf.pci }, because));
    }
    steps.extend(virtual_functions(wanted, pf, recreated, inventory, guids)?);
    Ok(steps)
}

fn unsupported(wanted: &DesiredFunction, pf: &PhysicalFunction) -> Option<String> {
    if wanted.groups.iter().any(|group| group.vdpa.is_some()) {
        return Some("making vDPA devices (vdpaType)".to_owned());
    }
    let (asked, found) = (wanted.link_type?, pf.link_type?);
    // On these cards the port type is a firmware setting with a boot of its own.
    (asked != found).then(|| format!("changing the link type from {found} to {asked}"))
}

fn check_external(wanted: &DesiredFunction, pf: &PhysicalFunction) -> Result<(), Blocker> {
    let blocked = |message| Err(Blocker::ExternallyManaged { pf: pf.pci, message });
    let have = pf.vfs.len();
    if have < wanted.num_vfs as usize {
        return blocked(format!("its VF count is {have}, the policy asks for {}", wanted.num_vfs));
    }
    if pf.eswitch != wanted.eswitch {
        let (found, asked) = (pf.eswitch, wanted.eswitch);
        return blocked(format!("its eswitch mode is {found}, the policy asks for {asked}"));
    }
    match wanted.mtu {
        Some(mtu) if mtu > pf.mtu => {
            blocked(format!("its MTU is {}, the policy asks for {mtu}", pf.mtu))
        }
        _ => Ok(()),
    }
}

/// Steps that bring VF count and eswitch mode, and whether the VFs are new after them.
fn vf_count(wanted: &DesiredFunction, pf: &PhysicalFunction) -> (Vec<Step>, bool) {
    let have = u32::try_from(pf.vfs.len()).unwrap_or(u32::MAX);
    let mode_differs = pf.eswitch != wanted.eswitch;
    if have == wanted.num_vfs && !mode_differs {
        return (vec![], false);
    }
    let mut steps = vec![];
    let who = who_asks(wanted);
    if mode_differs {
        let because =
            format!("{who} for eswitch mode {} and the card has {}", wanted.eswitch, pf.eswitch);
        if have > 0 {
            // The mode changes only while there are no VFs.
            let action = Action::SetVfCount { pf: pf.pci, count: 0, probe: false };
            steps.push(on_function(pf, action, Disturbance::PfHolders, &because));
        }
        let action = Action::SetEswitchMode { pf: pf.pci, mode: wanted.eswitch };
        steps.push(on_function(pf, action, Disturbance::PfLink, &because));
    }
    let because = format!("{who} for {} VFs and the card has {have}", wanted.num_vfs);
    let action = Action::SetVfCount { pf: pf.pci, count: wanted.num_vfs, probe: false };
    steps.push(on_function(pf, action, Disturbance::PfHolders, &because));
    (steps, true)
}

/// The MTU of a PF is a floor: it is raised and never lowered (upstream's rule).
fn pf_mtu(wanted: &DesiredFunction, pf: &PhysicalFunction) -> Option<Step> {
    let mtu = wanted.mtu.filter(|mtu| *mtu > pf.mtu && has_netdev(pf))?;
    let because = format!("{} for MTU {mtu} and the PF has {}", who_asks(wanted), pf.mtu);
    let action = Action::SetPfMtu { pf: pf.pci, mtu };
    Some(Step {
        touches: BTreeSet::new(),
        ..on_function(pf, action, Disturbance::PfLink, &because)
    })
}

fn virtual_functions(
    wanted: &DesiredFunction,
    pf: &PhysicalFunction,
    recreated: bool,
    inventory: &Inventory,
    guids: &Guids,
) -> Result<Vec<Step>, Blocker> {
    let held = |vf: &VirtualFunction| {
        inventory.holders.iter().any(|holder| holder.device.parse() == Ok(vf.pci))
    };
    let mut steps = vec![];
    for index in 0..wanted.num_vfs {
        let existing = pf.vfs.iter().find(|vf| vf.index == index).filter(|_| !recreated);
        let lane = Lane::of(&pf.pci);
        let touches: BTreeSet<PciAddress> = existing.iter().map(|vf| vf.pci).collect();
        let disturbs = match existing.and_then(|vf| vf.driver.as_ref()) {
            // A VF without driver serves nobody yet.
            None => Disturbance::Nothing,
            Some(_) => Disturbance::VfHolder,
        };
        let group = wanted.group_of(index);
        let link_type = wanted.link_type.or(pf.link_type);
        let may_mend = !wanted.externally_managed && existing.is_some_and(|vf| !held(vf));
        let needs = Needs { pf, index, existing, group, link_type, may_mend, guids }.list();
        let needs = needs.map_err(|why| Blocker::StaticGuids { pf: pf.pci, why })?;
        steps.extend(needs.into_iter().map(|(action, because)| Step {
            action,
            disturbs,
            touches: touches.clone(),
            because,
            lane,
        }));
    }
    Ok(if recreated { probed_at_last(pf, steps) } else { steps })
}

/// VFs that were just made: all their addresses first, then drivers may take them, and what the drivers make of them is
/// looked at before anything else.
fn probed_at_last(pf: &PhysicalFunction, steps: Vec<Step>) -> Vec<Step> {
    let by_pf =
        |step: &Step| matches!(step.action, Action::SetVfMac { .. } | Action::SetVfGuid { .. });
    let (mut steps, after): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(by_pf);
    let because = match steps.is_empty() {
        true => "its VFs need no addresses of the PF",
        false => "its VFs have their addresses, and drivers may take them",
    };
    steps.push(quiet(&pf.pci, Action::RestoreAutoprobe { pf: pf.pci }, because));
    steps.extend(after);
    steps
}

/// InfiniBand VFs whose RDMA device came up without a GUID although the PF holds one: another start would not help.
fn zero_guids(wanted: &DesiredFunction, pf: &PhysicalFunction) -> Vec<Blocker> {
    let infiniband = wanted.link_type.or(pf.link_type) == Some(LinkType::Infiniband);
    let is_zero = |vf: &&VirtualFunction| {
        infiniband && vf.guid.as_deref() == Some(NO_GUID) && wanted.group_of(vf.index).is_some()
    };
    let refused = |vf: &VirtualFunction| {
        let guid = vf.admin_guid.clone()?;
        Some(Blocker::GuidNotTaken { pf: pf.pci, vf: vf.index, guid })
    };
    pf.vfs.iter().filter(is_zero).filter_map(refused).collect()
}

/// One VF and what is wanted of it. `existing` is `None` for a VF that an earlier step of the plan makes: it will
/// have no driver and no settings.
struct Needs<'a> {
    pf: &'a PhysicalFunction,
    index: u32,
    existing: Option<&'a VirtualFunction>,
    group: Option<&'a Group>,
    link_type: Option<LinkType>,
    /// It is ours, and no pod has it: a pod may want another address for it than it was made with.
    may_mend: bool,
    guids: &'a Guids,
}

impl Needs<'_> {
    /// An error says why no GUID can be given.
    fn list(&self) -> Result<Vec<(Action, String)>, String> {
        let (pf, vf) = (self.pf.pci, self.index);
        let driver = self.existing.and_then(|vf| vf.driver.as_deref());
        let Some(group) = self.group else {
            // VFs outside all groups are left alone, but one that we made is not left without a driver.
            let because = "it belongs to no policy and has no driver".to_owned();
            let bind = Action::BindVf { pf, vf, driver: VfDriver::Default };
            return Ok(if driver.is_none() { vec![(bind, because)] } else { vec![] });
        };
        let wanted = driver_for(group.device_type);
        let defect = driver.and_then(|_| self.defect(group));
        let rebind = defect.is_some();
        let starts_anew = rebind || !driver_fits(driver, wanted);
        let mut needs = vec![];
        if let Some(defect) = defect {
            // First, so that a crash in between leaves a VF without driver, which is taken up again.
            let because = match defect {
                Defect::NoGuid => {
                    "its RDMA device has no GUID, and takes one when its driver starts".to_owned()
                }
                Defect::OtherMac { found, held } => format!(
                    "it has MAC {found} and the PF holds {held}, which it takes when its driver starts"
                ),
            };
            needs.push((Action::UnbindVf { pf, vf }, because));
        }
        if starts_anew {
            needs.extend(self.identity()?);
            let because = match (rebind, driver) {
                (true, _) => "it was unbound for its address".to_owned(),
                (false, None) => format!("policy {} asks for {}", group.policy, group.device_type),
                (false, Some(driver)) => {
                    let (policy, kind) = (&group.policy, group.device_type);
                    format!("policy {policy} asks for {kind} and it has {driver}")
                }
            };
            needs.push((Action::BindVf { pf, vf, driver: wanted }, because));
        }
        needs.extend(self.mtu(group, starts_anew));
        Ok(needs)
    }

    /// MAC on Ethernet, GUID on InfiniBand, held by the PF: without one the VF would get another at every boot.
    ///
    /// Set only while the VF has no driver or is about to lose it; a VF at work keeps what it has.
    fn identity(&self) -> Result<Option<(Action, String)>, String> {
        let (pf, vf) = (self.pf.pci, self.index);
        if !has_netdev(self.pf) {
            return Ok(None);
        }
        if self.link_type == Some(LinkType::Infiniband) {
            let known = self.existing.and_then(|vf| vf.guid.as_deref());
            if known.is_some_and(|known| known != NO_GUID) {
                return Ok(None);
            }
            let guid = self.guids.of(self.pf, vf)?;
            return Ok(Some((Action::SetVfGuid { pf, vf, guid }, "it has no GUID".to_owned())));
        }
        if self.existing.is_some_and(|vf| vf.admin_mac.is_some()) {
            return Ok(None);
        }
        let own = self.existing.and_then(|vf| vf.mac.clone()).filter(|mac| mac != NO_MAC);
        let mac = own.unwrap_or_else(|| derived_mac(&self.pf.mac, vf));
        Ok(Some((Action::SetVfMac { pf, vf, mac }, "the PF holds no MAC for it".to_owned())))
    }

    /// What a new start of the driver would mend.
    fn defect(&self, group: &Group) -> Option<Defect> {
        if self.guid_is_missing(group) {
            return Some(Defect::NoGuid);
        }
        let vf = self.existing.filter(|_| self.may_mend)?;
        let (found, held) = (vf.mac.clone()?, vf.admin_mac.clone()?);
        let at_work = group.device_type == DeviceType::Netdevice
            && self.link_type == Some(LinkType::Ethernet);
        // A driver that was given an address keeps it: where the PF holds another one by now, that one is brought back
        // before the next pod (`profile`). A bond or an administrator may change the interface's address later.
        let made_up = found != held && vf.permanent_mac.is_none();
        (at_work && made_up).then_some(Defect::OtherMac { found, held })
    }

    /// An RDMA device that came up without a GUID needs its driver started again. Only once, after the PF was given a MAC
    /// or GUID for it: a driver that does not take it then will not take it the second time either.
    fn guid_is_missing(&self, group: &Group) -> bool {
        let infiniband = self.link_type == Some(LinkType::Infiniband);
        let zero = |vf: &&VirtualFunction| {
            let held = if infiniband { &vf.admin_guid } else { &vf.admin_mac };
            vf.guid.as_deref() == Some(NO_GUID) && held.is_none()
        };
        self.existing.filter(zero).is_some()
            && (group.rdma || infiniband)
            && group.device_type == DeviceType::Netdevice
            && has_netdev(self.pf)
    }

    fn mtu(&self, group: &Group, starts_anew: bool) -> Option<(Action, String)> {
        let mtu = group.mtu.filter(|_| group.device_type == DeviceType::Netdevice)?;
        let found = self.existing.and_then(|vf| vf.mtu);
        let differs = match starts_anew {
            true => true,
            // A netdev that is inside a pod cannot be seen; its MTU is the pod's.
            false => found.is_some_and(|found| found != mtu),
        };
        let because = format!("policy {} asks for MTU {mtu}", group.policy);
        differs.then_some((Action::SetVfMtu { pf: self.pf.pci, vf: self.index, mtu }, because))
    }
}

/// What is wrong with a VF at work.
enum Defect {
    NoGuid,
    /// Its driver started before the PF held its MAC, and made one up. Bound anew it takes the PF's, or `BindVf` fails and
    /// is not repeated at once.
    OtherMac {
        found: String,
        held: String,
    },
}

/// MACs, GUIDs and MTUs are set through the PF's netdev. There is none while a pod has the PF, or user space does.
fn has_netdev(pf: &PhysicalFunction) -> bool {
    !pf.name.is_empty()
}

pub(crate) fn driver_for(device_type: DeviceType) -> VfDriver {
    match device_type {
        DeviceType::Netdevice => VfDriver::Default,
        DeviceType::VfioPci => VfDriver::VfioPci,
    }
}

pub(crate) fn driver_fits(found: Option<&str>, wanted: VfDriver) -> bool {
    match (found, wanted) {
        (None, _) => false,
        (Some(found), VfDriver::Default) => !USER_SPACE_DRIVERS.contains(&found),
        (Some(found), VfDriver::VfioPci) => found == "vfio-pci",
    }
}

/// `policy train asks`, `policies kernel and dpdk ask`.
fn who_asks(wanted: &DesiredFunction) -> String {
    let mut names: Vec<&str> = wanted.groups.iter().map(|group| group.policy.as_str()).collect();
    names.dedup();
    match names.as_slice() {
        [one] => format!("policy {one} asks"),
        several => format!("policies {} ask", several.join(" and ")),
    }
}

fn on_function(
    pf: &PhysicalFunction,
    action: Action,
    disturbs: Disturbance,
    because: &str,
) -> Step {
    let touches = pf.vfs.iter().map(|vf| vf.pci).chain([pf.pci]).collect();
    // Where there is nothing to lose nobody is disturbed.
    let disturbs = match (pf.vfs.is_empty(), disturbs) {
        (true, Disturbance::PfHolders) => Disturbance::Nothing,
        _ => disturbs,
    };
    Step { action, disturbs, touches, because: because.to_owned(), lane: Lane::of(&pf.pci) }
}

fn quiet(pf: &PciAddress, action: Action, because: &str) -> Step {
    Step {
        action,
        disturbs: Disturbance::Nothing,
        touches: BTreeSet::new(),
        because: because.to_owned(),
        lane: Lane::of(pf),
    }
}

/// A locally administered unicast MAC that is the same after every boot: made of the PF's MAC and the VF's index.
///
/// The PF's MAC plus the index would meet the next PF's: vendors number the ports of a card consecutively.
pub fn derived_mac(pf_mac: &str, vf: u32) -> String {
    let bytes = fingerprint(pf_mac, vf).to_be_bytes();
    let tail: Vec<String> = bytes[3..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("02:{}", tail.join(":"))
}
