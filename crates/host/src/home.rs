//! Bringing a device home: from whatever namespace it is in to the host's, named and configured as before.
//!
//! A state is sought, no steps are replayed: the device is found by its PCI address, so it does not matter how
//! far an ADD or an earlier attempt came, nor what the pod did. Callers hold the device's lock, know from the
//! journal what the device was like, and remove the record afterwards. Nothing here judges whether it is time.

use crate::alt_names;
use crate::function;
use crate::guid;
use crate::journal;
use crate::processes;
use crate::seam::{
    Host, Interest, Link, LinkChange, LinkQuery, Namespace, RdmaChange, RdmaDevice, Refusal,
};
use crate::uptime::Patience;
use crate::vf_profile::{self, VfIdentity, VfProfileError, parse_address, show_address};
use api::PciAddress;
use api::journal::{LinkBefore, RdmaCustody, Record, VfCustody, VfProfile};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::time::Duration;
use thiserror::Error;

/// What firmware starts with.
const NO_GUID: &str = "ff:ff:ff:ff:ff:ff:ff:ff";
/// A namespace that has just died is taken apart by a kernel thread; its devices come back a moment later.
/// A driver that was bound again makes its interface as late.
const LATE: Duration = Duration::from_secs(5);
const LATE_PAUSE: Duration = Duration::from_millis(100);

/// Waits for the next change of this kind, or a moment; false when what is late has had its time. Time is counted and not
/// wakes: on a busy node strangers' interfaces and RDMA devices wake us many times a second.
fn may_still_come(host: &dyn Host, patience: &mut Patience, interest: Interest) -> bool {
    let Some(left) = patience.left(host) else { return false };
    host.wait(&[interest], left.min(LATE_PAUSE));
    true
}

/// Some drivers take an address late, and refuse one while they reset the VF: asked again for two seconds, as ADD does.
const ADDRESS_TRIES: u32 = 20;
const ADDRESS_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HomeError {
    #[error("cannot bring {device} home: {refusal}")]
    Refused { device: String, refusal: Refusal },
    #[error("the interface of {0} is in no network namespace that can be seen")]
    InterfaceLost(String),
    #[error("the RDMA device {name} of {device} is in no network namespace that can be seen")]
    RdmaDeviceLost { device: String, name: String },
    #[error("{device} came home with {what} {found} in place of {wanted}")]
    NotAsBefore { device: String, what: &'static str, wanted: String, found: String },
    #[error(transparent)]
    Profile(#[from] VfProfileError),
}

/// What was done, and what could not be as before without it being a failure; sentences for the log.
pub type Notes = Vec<String>;

/// Brings everything of a record home: the RDMA device first, because its move recreates IPoIB interfaces.
pub fn bring_home(host: &dyn Host, record: &Record) -> Result<Notes, HomeError> {
    let mut notes = Notes::new();
    probe_if_orphaned(host, record, &mut notes);
    if let Some(rdma) = &record.rdma {
        notes.extend(rdma_home(host, record, rdma)?);
    }
    if let Some(vf) = &record.vf {
        notes.extend(unless_gone(host, record, vf_home(host, record, vf))?);
    }
    Ok(notes)
}

/// A device that vanishes on its way home, since somebody changes the VFs of its card, has none: that is no failure.
fn unless_gone(
    host: &dyn Host,
    record: &Record,
    done: Result<Notes, HomeError>,
) -> Result<Notes, HomeError> {
    match done {
        Err(_) if device_is_gone(host, &record.device) => Ok(vec![no_more(&record.device)]),
        done => done,
    }
}

fn no_more(device: impl std::fmt::Display) -> String {
    format!("{device} does not exist any more")
}

/// A death between the two halves of a rebind leaves a VF without the driver that it had.
fn probe_if_orphaned(host: &dyn Host, record: &Record, notes: &mut Notes) {
    let had_interface = record.vf.as_ref().is_some_and(|vf| vf.link.is_some());
    let Ok(pci) = record.device.parse::<PciAddress>() else { return };
    let bare = matches!(function::driver(host, &pci), Ok(None));
    if !had_interface || !bare || device_is_gone(host, &record.device) {
        return;
    }
    match host.write("/sys/bus/pci/drivers_probe", &pci.to_string()) {
        Ok(()) => notes.push(format!("{pci} had no driver and was probed")),
        Err(refusal) => notes.push(format!("{pci} has no driver: {}", refusal.reason())),
    }
}

/// Brings the RDMA device of a record home.
pub fn rdma_home(host: &dyn Host, record: &Record, rdma: &RdmaCustody) -> Result<Notes, HomeError> {
    unless_gone(host, record, seek_rdma_home(host, record, rdma))
}

fn seek_rdma_home(
    host: &dyn Host,
    record: &Record,
    rdma: &RdmaCustody,
) -> Result<Notes, HomeError> {
    let device = record.device.as_str();
    if device_is_gone(host, device) {
        return Ok(vec![no_more(device)]);
    }
    let refused = |refusal| HomeError::Refused { device: device.to_owned(), refusal };
    let mut patience = Patience::new(LATE);
    loop {
        if !rdma_devices_at_home(host, device).map_err(refused)?.is_empty() {
            // It may have come by itself, with the end of its namespace, and under the name that it had there.
            return verify_rdma_home(host, record, rdma);
        }
        if let Some((space, found)) = find_rdma_away(host, record, rdma) {
            move_rdma_home(host, &space, &found, rdma).map_err(refused)?;
            return verify_rdma_home(host, record, rdma);
        }
        if function::optional(host.link_target(&driver_link(device))).map_err(refused)?.is_none() {
            return Ok(vec![format!("{device} has no driver, so it has no RDMA device")]);
        }
        if !may_still_come(host, &mut patience, Interest::Rdma) {
            let name = rdma.name.clone();
            return Err(HomeError::RdmaDeviceLost { device: device.to_owned(), name });
        }
    }
}

/// Since Linux 7.3 a pod can give its device a name that is taken at home, under which it cannot go there: it goes under
/// its old name or, where that one is taken too, under the one that the kernel gives to a device from a dying namespace.
fn move_rdma_home(
    host: &dyn Host,
    space: &Namespace,
    found: &RdmaDevice,
    rdma: &RdmaCustody,
) -> Result<(), Refusal> {
    let home = RdmaChange::Move { device: found.index, to: Namespace::Host };
    let mut outcome = host.change_rdma(space, &home);
    for name in [rdma.name.clone(), format!("ibdev{}", found.index)] {
        match &outcome {
            Err(refusal) if refusal.errno == Errno::EXIST => {}
            _ => break,
        }
        host.change_rdma(space, &RdmaChange::Rename { device: found.index, name })?;
        outcome = host.change_rdma(space, &home);
    }
    outcome
}

fn verify_rdma_home(
    host: &dyn Host,
    record: &Record,
    rdma: &RdmaCustody,
) -> Result<Notes, HomeError> {
    let device = record.device.clone();
    let refused = |refusal| HomeError::Refused { device: device.clone(), refusal };
    let Some(found) = rdma_devices_at_home(host, &device).map_err(refused)?.into_iter().next()
    else {
        return Err(HomeError::RdmaDeviceLost { device, name: rdma.name.clone() });
    };
    if found.name == rdma.name {
        return Ok(Notes::new());
    }
    // The pod renamed it. The old name may be another device's by now; then the new one is as good.
    let change = RdmaChange::Rename { device: found.index, name: rdma.name.clone() };
    match host.change_rdma(&Namespace::Host, &change) {
        Ok(()) => Ok(vec![format!("{} of {device} is called {} again", found.name, rdma.name)]),
        Err(refusal) => {
            Ok(vec![format!("{} of {device} keeps its name: {}", found.name, refusal.reason())])
        }
    }
}

/// The RDMA devices of a PCI or auxiliary device that the host's namespace sees.
pub fn rdma_devices_at_home(host: &dyn Host, device: &str) -> Result<Vec<RdmaDevice>, Refusal> {
    let names = match host.list(&format!("{}/infiniband", directory(device))) {
        Ok(names) => names,
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(Vec::new()),
        Err(refusal) => return Err(refusal),
    };
    let mut devices = host.rdma_devices(&Namespace::Host)?;
    devices.retain(|device| names.contains(&device.name));
    Ok(devices)
}

/// The RDMA device in the owner's namespace, or, by index and name, in any other.
fn find_rdma_away(
    host: &dyn Host,
    record: &Record,
    rdma: &RdmaCustody,
) -> Option<(Namespace, RdmaDevice)> {
    let seen_in = |space: &Namespace| host.rdma_devices(space).unwrap_or_default();
    if journal::owner_lives(host, record) {
        let space = Namespace::At(record.owner.namespace.clone());
        // In the pod itself the index is enough: the pod may have renamed the device.
        let found = seen_in(&space).into_iter().find(|device| device.index == rdma.index);
        if let Some(found) = found {
            return Some((space, found));
        }
    }
    other_namespaces(host).find_map(|space| {
        let found = seen_in(&space)
            .into_iter()
            .find(|device| device.index == rdma.index && device.name == rdma.name)?;
        Some((space, found))
    })
}

/// Brings the interface and the settings of a VF home.
fn vf_home(host: &dyn Host, record: &Record, vf: &VfCustody) -> Result<Notes, HomeError> {
    let Ok(pci) = record.device.parse::<PciAddress>() else {
        return Ok(vec![format!("{} is not a PCI address", record.device)]);
    };
    if device_is_gone(host, &record.device) {
        return Ok(vec![no_more(pci)]);
    }
    let mut notes = Notes::new();
    if let Some(before) = &vf.link {
        notes.extend(interface_home(host, record, &pci, before)?);
    }
    let identity = vf_profile::identify(host, &pci)?;
    if (identity.pf, identity.index) != (vf.pf, vf.index) {
        notes.push(format!(
            "{pci} is now VF {} of {} and was VF {} of {}: its settings are left alone",
            identity.index, identity.pf, vf.index, vf.pf
        ));
        return Ok(notes);
    }
    match settings_home(host, &identity, vf) {
        Ok(more) => notes.extend(more),
        // Nobody can set what has no way to it, and a pod must not stay for that.
        Err(HomeError::Profile(error @ VfProfileError::NoPfLink { .. })) => {
            notes.push(format!("the settings of {pci} are as the pod left them: {error}"));
        }
        Err(error) => return Err(error),
    }
    if vf.wanted.guid.is_some() {
        notes.extend(guid_home(host, &identity, vf)?);
        if let Some(before) = &vf.link {
            notes.extend(interface_home(host, record, &pci, before)?);
        }
    }
    Ok(notes)
}

/// Gives a VF its old GUID again. Of a node GUID that does not come back there is only a note: what the VF is offered with
/// is asked for before the next pod.
fn guid_home(host: &dyn Host, identity: &VfIdentity, vf: &VfCustody) -> Result<Notes, HomeError> {
    let Some(before) = &vf.before.guid else { return Ok(Notes::new()) };
    let port = guid::seen(host, identity)?.into_iter().find(|(what, _)| *what == guid::PORT);
    if port.is_some_and(|(_, found)| found == *before) {
        return Ok(Notes::new());
    }
    // Zeros are no GUID that the kernel takes; all ones are what firmware starts with. Neither is looked for again.
    let had = |digits: [u8; 2]| before.bytes().all(|byte| digits.contains(&byte));
    let had_none = had([b'0', b':']) || had([b'f', b':']);
    let wanted = if had_none { NO_GUID } else { before };
    let others = guid::give(host, identity, wanted)?;
    if had_none {
        return Ok(Notes::new());
    }
    let device = identity.pci.to_string();
    if let Some((what, found)) = others.iter().find(|(what, _)| *what == guid::PORT) {
        let (found, wanted) = (found.clone(), wanted.to_owned());
        return Err(HomeError::NotAsBefore { device, what, wanted, found });
    }
    let note = |(what, found)| format!("{device} came home with {what} {found}, not {wanted}");
    Ok(others.into_iter().map(note).collect())
}

/// Settings on the PF, then the VF's own address, which an untrusted VF may not change on some cards. Its interface, where it
/// has one, is in the host's namespace.
pub fn settings_home(
    host: &dyn Host,
    identity: &VfIdentity,
    vf: &VfCustody,
) -> Result<Notes, HomeError> {
    let mut notes = Notes::new();
    let mut before = vf.before.clone();
    let trust = before.trust.take_if(|trust| !*trust);
    // GUIDs are put back by whoever changed them, with the rebind that they need.
    before.guid = None;
    if let Err(error) = vf_profile::apply(host, identity, &before) {
        // Some drivers do not unset an address. The rest of the profile must not suffer from it.
        let unset = before.mac.take_if(|mac| mac.as_str() == "00:00:00:00:00:00");
        if unset.is_none() || !is_of_the_driver(&error) {
            return Err(error.into());
        }
        vf_profile::apply(host, identity, &before)?;
        notes.push(format!("the admin MAC stays: {error}"));
    }
    if let Some(link) = &vf.link {
        notes.extend(patiently(host, || address_home(host, &identity.pci, vf, link))?);
    }
    if trust.is_some() {
        let last = VfProfile { trust, ..Default::default() };
        vf_profile::apply(host, identity, &last)?;
    }
    Ok(notes)
}

/// True for what a driver says of a setting that it does not take; all else may go well the next time.
fn is_of_the_driver(error: &VfProfileError) -> bool {
    let refusals = [Errno::INVAL, Errno::OPNOTSUPP, Errno::PERM, Errno::ADDRNOTAVAIL];
    match error {
        VfProfileError::NotTaken { .. } => true,
        VfProfileError::Refused { refusal, .. } => refusals.contains(&refusal.errno),
        VfProfileError::NoDevice(_)
        | VfProfileError::NotAVf(_)
        | VfProfileError::NoIndex { .. }
        | VfProfileError::NoPfLink { .. }
        | VfProfileError::NotAnAddress(_)
        | VfProfileError::Unreadable(_) => false,
    }
}

/// Seeks a state again while what keeps it away is of the kind that passes.
fn patiently<T>(host: &dyn Host, seek: impl Fn() -> Result<T, HomeError>) -> Result<T, HomeError> {
    for _ in 1..ADDRESS_TRIES {
        match seek() {
            Err(error) if passes(&error) => drop(host.wait(&[], ADDRESS_PAUSE)),
            found => return found,
        }
    }
    seek()
}

fn passes(error: &HomeError) -> bool {
    match error {
        HomeError::Refused { refusal, .. } => {
            [Errno::AGAIN, Errno::BUSY, Errno::NODEV].contains(&refusal.errno)
        }
        HomeError::NotAsBefore { .. } => true,
        HomeError::InterfaceLost(_) | HomeError::RdmaDeviceLost { .. } | HomeError::Profile(_) => {
            false
        }
    }
}

/// Switches off what a pod has switched on for the interface and what moves with it: nothing free hears what is for others.
pub fn make_plain(host: &dyn Host, link: &Link) -> Result<(), Refusal> {
    let changes = [
        (link.promiscuous, LinkChange::Promiscuous { link: link.index, on: false }),
        (link.all_multicast, LinkChange::AllMulticast { link: link.index, on: false }),
    ];
    for (_, change) in changes.iter().filter(|(is_on, _)| *is_on) {
        host.change_link(&Namespace::Host, change)?;
    }
    Ok(())
}

/// MAC, MTU and up or down of the interface, once it is in the host's namespace.
fn address_home(
    host: &dyn Host,
    pci: &PciAddress,
    vf: &VfCustody,
    before: &LinkBefore,
) -> Result<Notes, HomeError> {
    let device = pci.to_string();
    let refused = |refusal| HomeError::Refused { device: device.clone(), refusal };
    let Some(link) = interface_at_home(host, pci).map_err(refused)? else {
        return Ok(Notes::new());
    };
    make_plain(host, &link).map_err(refused)?;
    let change = |change| host.change_link(&Namespace::Host, &change).map_err(refused);
    let (mut before, mut notes) = (before.clone(), Notes::new());
    let address = parse_address(&before.address).filter(|address| address.len() == 6);
    if let Some(address) = address.filter(|address| *address != link.address) {
        if link.up {
            change(LinkChange::Down { link: link.index })?;
        }
        let taken = change_address(host, link.index, address, vf).map_err(refused)?;
        if let Some(admin) = taken {
            notes.push(format!(
                "{pci} has the address {admin} that its card has for it; {} as before is not allowed",
                before.address
            ));
            before.address = admin;
        }
    }
    if before.mtu != 0 && link.mtu != before.mtu {
        change(LinkChange::Mtu { link: link.index, mtu: before.mtu })?;
    }
    let now = interface_at_home(host, pci).map_err(refused)?.unwrap_or(link);
    if now.up != before.up {
        let link = now.index;
        change(if before.up { LinkChange::Up { link } } else { LinkChange::Down { link } })?;
    }
    verify_address(&device, &now, &before)?;
    Ok(notes)
}

/// A VF that was probed before its card had an address for it takes the card's one as soon as it was up once, and may
/// have no other from then on (igbvf: EADDRNOTAVAIL). Then the card's is the right one; answers it.
fn change_address(
    host: &dyn Host,
    link: u32,
    address: Vec<u8>,
    vf: &VfCustody,
) -> Result<Option<String>, Refusal> {
    let set = |address| host.change_link(&Namespace::Host, &LinkChange::Address { link, address });
    let refusal = match set(address) {
        Ok(()) => return Ok(None),
        Err(refusal) => refusal,
    };
    let admin = vf.before.mac.as_deref().and_then(parse_address);
    match admin
        .filter(|admin| refusal.errno == Errno::ADDRNOTAVAIL && admin.iter().any(|b| *b != 0))
    {
        Some(admin) => set(admin.clone()).map(|()| Some(show_address(&admin))),
        None => Err(refusal),
    }
}

fn verify_address(device: &str, link: &Link, before: &LinkBefore) -> Result<(), HomeError> {
    let differs = |what, wanted: String, found: String| HomeError::NotAsBefore {
        device: device.to_owned(),
        what,
        wanted,
        found,
    };
    let address = show_address(&link.address);
    let known = parse_address(&before.address).is_some();
    if known && link.address.len() == 6 && address != before.address {
        return Err(differs("MAC", before.address.clone(), address));
    }
    if before.mtu != 0 && link.mtu != before.mtu {
        return Err(differs("MTU", before.mtu.to_string(), link.mtu.to_string()));
    }
    for (mode, is_on) in [("promiscuous", link.promiscuous), ("allmulticast", link.all_multicast)] {
        if is_on {
            return Err(differs(mode, "off".to_owned(), "on".to_owned()));
        }
    }
    Ok(())
}

/// The interface in the host's namespace under its old name, if it has an interface at all.
fn interface_home(
    host: &dyn Host,
    record: &Record,
    pci: &PciAddress,
    before: &LinkBefore,
) -> Result<Notes, HomeError> {
    let device = pci.to_string();
    let refused = |refusal| HomeError::Refused { device: device.clone(), refusal };
    let mut patience = Patience::new(LATE);
    loop {
        if let Some(link) = interface_at_home(host, pci).map_err(refused)? {
            return rename_home(host, &link, before).map_err(refused);
        }
        if let Some((space, link)) = find_interface_away(host, record, pci) {
            move_home(host, &space, &link, before, pci).map_err(refused)?;
            if let Some(link) = interface_at_home(host, pci).map_err(refused)? {
                return rename_home(host, &link, before).map_err(refused);
            }
        }
        if function::driver(host, pci).map_err(refused)?.is_none() {
            return Ok(vec![format!("{pci} has no driver, so it has no interface")]);
        }
        if !may_still_come(host, &mut patience, Interest::Link) {
            return Err(HomeError::InterfaceLost(device));
        }
    }
}

/// The interface of a PCI function in the host's namespace. Child interfaces (IPoIB with a partition key) and, at a PF
/// in switchdev mode, the representors of its VFs stand in the same directory.
pub fn interface_at_home(host: &dyn Host, pci: &PciAddress) -> Result<Option<Link>, Refusal> {
    let mut links = Vec::new();
    for name in interface_names(host, pci)? {
        let query = LinkQuery { name: Some(name), ..LinkQuery::default() };
        match host.links(&Namespace::Host, &query) {
            Ok(found) => links.extend(found),
            // Renamed or gone between the two looks.
            Err(refusal) if refusal.errno == Errno::NODEV => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(Link::own_of(&links).cloned())
}

/// Names of the interfaces of a PCI function that the host's namespace sees. Those of virtio stand one level deeper, below
/// the virtio device (drivers/virtio/virtio_pci_common.c makes it the child of the PCI function).
pub fn interface_names(host: &dyn Host, pci: &PciAddress) -> Result<Vec<String>, Refusal> {
    let names = function::optional(host.list(&pci.file("net")))?.unwrap_or_default();
    if !names.is_empty() || function::driver(host, pci)?.as_deref() != Some("virtio-pci") {
        return Ok(names);
    }
    let entries = function::optional(host.list(&pci.directory()))?.unwrap_or_default();
    let mut names = Vec::new();
    for entry in entries.iter().filter(|entry| entry.starts_with("virtio")) {
        let below = host.list(&pci.file(&format!("{entry}/net")));
        names.extend(function::optional(below)?.unwrap_or_default());
    }
    Ok(names)
}

/// The interface of a PCI function in a namespace where sysfs does not show it.
pub fn interface_in(
    host: &dyn Host,
    space: &Namespace,
    pci: &PciAddress,
) -> Result<Option<Link>, Refusal> {
    let address = pci.to_string();
    let mut links = host.links(space, &LinkQuery::default())?;
    links.retain(|link| link.parent.as_deref() == Some(address.as_str()));
    Ok(Link::own_of(&links).cloned())
}

fn find_interface_away(
    host: &dyn Host,
    record: &Record,
    pci: &PciAddress,
) -> Option<(Namespace, Link)> {
    let look = |space: Namespace| {
        let link = interface_in(host, &space, pci).ok().flatten()?;
        Some((space, link))
    };
    if journal::owner_lives(host, record)
        && let Some(found) = look(Namespace::At(record.owner.namespace.clone()))
    {
        return Some(found);
    }
    other_namespaces(host).find_map(look)
}

/// The namespaces, other than the host's, in which interface and RDMA device of a record are now.
pub fn away(host: &dyn Host, record: &Record) -> Vec<Namespace> {
    let mut spaces = Vec::new();
    let has_interface = record.vf.as_ref().is_some_and(|vf| vf.link.is_some());
    if let (true, Ok(pci)) = (has_interface, record.device.parse::<PciAddress>())
        && !matches!(interface_at_home(host, &pci), Ok(Some(_)))
    {
        spaces.extend(find_interface_away(host, record, &pci).map(|(space, _)| space));
    }
    if let Some(rdma) = &record.rdma
        && rdma_devices_at_home(host, &record.device).map_or(true, |found| found.is_empty())
    {
        spaces.extend(find_rdma_away(host, record, rdma).map(|(space, _)| space));
    }
    spaces
}

/// Moves an interface home under its old name; where another interface has that name now, under the one that
/// the kernel itself would give to an interface from a dying namespace.
fn move_home(
    host: &dyn Host,
    space: &Namespace,
    link: &Link,
    before: &LinkBefore,
    pci: &PciAddress,
) -> Result<(), Refusal> {
    alt_names::shed(host, space, link, before)?;
    let to =
        |name: String| LinkChange::Move { link: link.index, to: Namespace::Host, name: Some(name) };
    match host.change_link(space, &to(before.name.clone())) {
        Err(refusal) if refusal.errno == Errno::EXIST => {}
        done => return done,
    }
    // The kernel moves first and renames second: the refusal may have been of the name alone.
    if interface_at_home(host, pci)?.is_some() {
        return Ok(());
    }
    host.change_link(space, &to(format!("dev{}", link.index)))
}

/// Gives an interface at home its old names again, unless they are another's now.
fn rename_home(host: &dyn Host, link: &Link, before: &LinkBefore) -> Result<Notes, Refusal> {
    let mut notes = Notes::new();
    let change = |change| host.change_link(&Namespace::Host, &change);
    alt_names::remove_foreign(host, link, before)?;
    if link.name != before.name {
        // Kernels before 6.2 rename only what is down.
        change(LinkChange::Down { link: link.index })?;
        match change(LinkChange::Rename { link: link.index, name: before.name.clone() }) {
            Err(refusal) if refusal.errno == Errno::EXIST => notes.push(format!(
                "{} keeps its name: another interface is called {}",
                link.name, before.name
            )),
            done => done?,
        }
    }
    notes.extend(alt_names::restore(host, link, before)?);
    Ok(notes)
}

/// Namespaces other than the host's that can be named: those that a runtime mounted, then those of processes.
pub fn other_namespaces(host: &dyn Host) -> impl Iterator<Item = Namespace> {
    let identity = |path: &str| host.metadata(path).ok().map(|found| (found.device, found.inode));
    let mut seen: BTreeSet<(u64, u64)> = identity("/proc/1/ns/net").into_iter().collect();
    let mounted = host.list("/var/run/netns").unwrap_or_default();
    let mounted = mounted.into_iter().map(|name| format!("/var/run/netns/{name}"));
    let processes = processes::directories(host).into_iter().flatten();
    let processes = processes.map(|process| format!("{process}/ns/net"));
    mounted.chain(processes).filter_map(move |path| {
        let identity = identity(&path)?;
        seen.insert(identity).then_some(Namespace::At(path))
    })
}

/// Where sysfs has a PCI or auxiliary device.
pub fn directory(device: &str) -> String {
    match device.parse::<PciAddress>() {
        Ok(pci) => pci.directory(),
        Err(_) => format!("/sys/bus/auxiliary/devices/{device}"),
    }
}

fn driver_link(device: &str) -> String {
    format!("{}/driver", directory(device))
}

/// True when the kernel has no such device (any more).
pub fn device_is_gone(host: &dyn Host, device: &str) -> bool {
    host.metadata(&directory(device)).is_err_and(|refusal| refusal.errno == Errno::NOENT)
}
