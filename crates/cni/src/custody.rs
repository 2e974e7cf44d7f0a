//! Who has a device: locks, the daemon's offer, the journal, and the files by which upstream's `sriov` knows.
//!
//! Every change of a device happens between `lock` and the end of the call, after the journal was written.

use crate::failure::{self, Failure};
use crate::frame::Call;
use crate::{arguments, legacy};
use api::PciAddress;
use api::custody::{Claims, Offer, OfferState, OfferedDevice, OfferedResource, VERSION};
use api::files::{CLAIMS, OFFER, RDMA_LOCK, RUN, VF_LOCKS};
use api::journal::{LinkBefore, LinkState, Owner, Rate, Record, VfCustody, VfProfile, VlanTag};
use host::journal::JournalError;
use host::seam::Errno;
use host::seam::{LinkQuery, Lock};
use host::vf_profile::{self, VfIdentity, show_address};
use host::{Namespace, guid, home, journal};
use std::time::Duration;

/// How long a runtime waits for another program to finish with a device; upstream's number.
const PATIENCE: Duration = Duration::from_secs(60);

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Self::new(failure::IO, error.to_string())
    }
}

/// Takes the locks of one device: upstream's, so that an old plugin still at work is waited for, and the one that
/// we share with our daemon, where there is a daemon.
pub fn lock(call: &Call, device: &str) -> Result<Vec<Lock>, Failure> {
    let mut paths = vec![legacy::lock_file(device)];
    if daemon_is_here(call) {
        paths.push(format!("{VF_LOCKS}/{device}"));
    }
    paths.iter().map(|path| take(call, path, device)).collect()
}

/// Takes the node-wide lock of RDMA moves: each one frees character device numbers and takes the lowest free
/// ones, so two at once could swap them.
pub fn lock_rdma(call: &Call) -> Result<Lock, Failure> {
    take(call, RDMA_LOCK, "the RDMA devices of this node")
}

fn take(call: &Call, path: &str, what: &str) -> Result<Lock, Failure> {
    call.host.lock(path, PATIENCE).map_err(|refusal| {
        if refusal.errno == Errno::TIMEDOUT {
            let waited = PATIENCE.as_secs();
            return Failure::new(
                failure::TRY_AGAIN_LATER,
                format!(
                    "another program has been changing {what} for {waited} s ({path} is locked)"
                ),
            );
        }
        Failure::new(failure::IO, format!("cannot lock {what} by {path}: {}", refusal.reason()))
    })
}

fn daemon_is_here(call: &Call) -> bool {
    call.host.metadata(RUN).is_ok()
}

/// The attachment of this call; refuses a namespace that is not there.
pub fn owner(call: &Call) -> Result<Owner, Failure> {
    let bad = |refusal: host::Refusal| {
        let why = match refusal.errno {
            Errno::INVAL => "it is not a network namespace".to_owned(),
            _ => refusal.reason(),
        };
        Failure::new(failure::NAMESPACE, format!("cannot use CNI_NETNS {}: {why}", call.namespace))
    };
    let file = call.host.metadata(call.namespace).map_err(bad)?;
    let any = LinkQuery { name: Some("lo".to_owned()), ..LinkQuery::default() };
    match call.host.links(&call.pod(), &any) {
        Err(refusal) if refusal.errno != Errno::NODEV => return Err(bad(refusal)),
        _ => {}
    }
    // Whether unknown keys are an error is for the plugin to say; here only the pod's name matters.
    let arguments = arguments::read(call, &["MAC"]).unwrap_or_default();
    let argument = |key: &str| arguments.get(key).copied().unwrap_or_default().to_owned();
    Ok(Owner {
        container: call.container.to_owned(),
        interface: call.interface.to_owned(),
        network: call.network.to_owned(),
        namespace: call.namespace.to_owned(),
        namespace_device: file.device,
        namespace_inode: file.inode,
        pod_namespace: argument("K8S_POD_NAMESPACE"),
        pod_name: argument("K8S_POD_NAME"),
        pod_uid: argument("K8S_POD_UID"),
    })
}

/// True when the record is about the attachment of this call.
pub fn is_ours(call: &Call, record: &Record) -> bool {
    (record.owner.container.as_str(), record.owner.interface.as_str())
        == (call.container, call.interface)
}

/// A device as the daemon offers it.
#[derive(Debug, Clone)]
pub struct Offered {
    pub device: OfferedDevice,
    /// What goes for all devices of its resource; they themselves are left out.
    pub resource: OfferedResource,
    /// Device nodes are given by path, and CDI names no one.
    pub by_path: bool,
}

impl Offered {
    /// As often as the offer has the device.
    fn all(offer: Offer, device: &str) -> impl Iterator<Item = Self> {
        let by_path = offer.by_path;
        offer.resources.into_values().flat_map(move |mut resource| {
            let mut devices = std::mem::take(&mut resource.devices);
            devices.retain(|found| found.pci.to_string() == device);
            let one = move |device| Self { device, resource: resource.clone(), by_path };
            devices.into_iter().map(one)
        })
    }
}

/// The device as the daemon offers it; None without a daemon. Refuses one that it does not offer now: it is about to be
/// changed, or cannot be used. None for a device on the auxiliary bus (an SF) too: the daemon has PCI functions alone,
/// so that such a device is somebody else's to offer.
pub fn offered(call: &Call, device: &str) -> Result<Option<Offered>, Failure> {
    if !daemon_is_here(call) || device.parse::<PciAddress>().is_err() {
        return Ok(None);
    }
    let later = |because: String| {
        Failure::new(failure::TRY_AGAIN_LATER, format!("{device} is not offered: {because}"))
    };
    let offer = read_offer(call).map_err(later)?;
    let mut reason = "no policy of this node asks for it".to_owned();
    for offered in Offered::all(offer, device) {
        match &offered.device.state {
            OfferState::Ready => {
                same_device(call, &offered.device).map_err(later)?;
                return Ok(Some(offered));
            }
            OfferState::Unverified { because } => {
                reason = format!("it is not verified since the boot, {because}")
            }
            OfferState::Withdrawn { because } => reason = format!("it is withdrawn, {because}"),
            OfferState::Broken { because } => reason = format!("it is broken, {because}"),
        }
    }
    Err(later(reason))
}

/// The device in the daemon's offer, whatever its state. None without a daemon.
pub fn in_offer(call: &Call, device: &str) -> Result<Option<Offered>, Failure> {
    if !daemon_is_here(call) {
        return Ok(None);
    }
    let offer =
        read_offer(call).map_err(|because| Failure::new(failure::TRY_AGAIN_LATER, because))?;
    Ok(Offered::all(offer, device).next())
}

/// PCI addresses are given anew when VFs are made anew: the address of the offer must still be the VF that was offered.
fn same_device(call: &Call, offered: &OfferedDevice) -> Result<(), String> {
    if offered.pci == offered.parent {
        return Ok(());
    }
    let found = vf_profile::identify(call.host, &offered.pci).map_err(|error| error.to_string())?;
    if found.pf == offered.parent && offered.vf.is_none_or(|index| index == found.index) {
        return Ok(());
    }
    let index = offered.vf.map_or_else(String::new, |index| format!(" {index}"));
    Err(format!(
        "it was offered as VF{index} of {}, and is VF {} of {} now; the node daemon makes a new offer",
        offered.parent, found.index, found.pf
    ))
}

/// STATUS while there is a daemon whose offer no ADD could use.
pub fn refuse_without_offer(call: &Call) -> Result<(), Failure> {
    if !daemon_is_here(call) {
        return Ok(());
    }
    read_offer(call).map(drop).map_err(|because| {
        Failure::new(failure::NOT_AVAILABLE, format!("no device is offered to pods: {because}"))
    })
}

fn read_offer(call: &Call) -> Result<Offer, String> {
    let bytes = call.host.read(OFFER).map_err(|refusal| {
        format!("the node daemon has made no offer yet ({OFFER}: {})", refusal.reason())
    })?;
    let offer: Offer =
        parse(&bytes).map_err(|error| format!("the offer in {OFFER} cannot be read ({error})"))?;
    if offer.version > VERSION {
        return Err(format!(
            "the offer in {OFFER} has version {} and this plugin knows {VERSION}",
            offer.version
        ));
    }
    if offer.boot_id != boot_id(call).map_err(|failure| failure.message)? {
        return Err(format!("the offer in {OFFER} is from an earlier boot"));
    }
    Ok(offer)
}

/// Every reader goes by way of `Value`, so that there is one of serde's in the program and not two.
fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(serde_json::from_slice(bytes)?)
}

/// The device nodes that the device plugin gave by path for a device in this boot; none where it gave a CDI name.
pub fn given_by_path(call: &Call, device: &str) -> Result<Vec<String>, Failure> {
    let bytes = match call.host.read(CLAIMS) {
        Ok(bytes) => bytes,
        Err(refusal) if refusal.errno == Errno::NOENT => return Ok(Vec::new()),
        Err(refusal) => return Err(refusal.into()),
    };
    let unreadable = |why: String| {
        Failure::new(failure::IO, format!("the device plugin's {CLAIMS} cannot be read: {why}"))
    };
    let claims: Claims = parse(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if claims.version > VERSION {
        let version = claims.version;
        return Err(unreadable(format!(
            "it has version {version} and this plugin knows {VERSION}"
        )));
    }
    if claims.boot_id != boot_id(call)? {
        return Ok(Vec::new());
    }
    let claim = claims.claims.into_iter().find(|(pci, _)| pci.to_string() == device);
    Ok(claim.map(|(_, claim)| claim.nodes).unwrap_or_default())
}

/// The identity of this boot. Nothing is done without it: a record of another boot, or of none, is only a memory, and what
/// it is about would stay in its pod.
pub fn boot_id(call: &Call) -> Result<String, Failure> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    let told = |why: String| {
        Failure::new(failure::IO, format!("cannot tell which boot this is by {FILE}: {why}"))
    };
    let bytes = call.host.read(FILE).map_err(|refusal| told(refusal.reason()))?;
    let id = String::from_utf8_lossy(&bytes).trim().to_owned();
    let is_one = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if is_one { Ok(id) } else { Err(told(format!("{id:?} is none"))) }
}

/// Makes sure that nobody has the device. One that a dead or an earlier owner left is brought home first, which
/// also verifies that the VF is as it was before that owner.
pub fn make_free(call: &Call, device: &str) -> Result<(), Failure> {
    if let Some(record) = journal::read(call.host, device)? {
        if !is_ours(call, &record) && journal::owner_lives(call.host, &record) {
            let owner = &record.owner;
            return Err(taken(device, &owner.container, &owner.interface));
        }
        call.log.info(format!(
            "{device} was left by container {} and is brought home first",
            record.owner.container
        ));
        bring_home(call, &record)?;
    }
    let Some(path) = legacy::allocated_to(call, device)? else { return Ok(()) };
    if may_live(call, &path) {
        return Err(Failure::new(
            failure::TRY_AGAIN_LATER,
            format!("{device} is already allocated to the network namespace {path}"),
        ));
    }
    put_right(call, device, &path)?;
    Ok(call.host.remove(&legacy::allocation_file(device))?)
}

/// True unless nothing is at the path, or what is no namespace any more. What cannot be looked at may live.
fn may_live(call: &Call, path: &str) -> bool {
    let found = call.host.links(&Namespace::At(path.to_owned()), &LinkQuery::default());
    !found.is_err_and(|refusal| [Errno::NOENT, Errno::INVAL].contains(&refusal.errno))
}

/// True when upstream's allocator gave the device to a namespace that is not this call's and lives.
pub fn is_anothers(call: &Call, device: &str) -> Result<bool, Failure> {
    let path = legacy::allocated_to(call, device)?;
    Ok(path.is_some_and(|path| path != call.namespace && may_live(call, &path)))
}

/// A pod of upstream's plugin that died without DEL has left its settings on the VF, which would be the next pod's, and
/// be restored as if they had been the VF's own. What that plugin remembers is put back; where it remembers nothing, a VF
/// has what the kernel gives to a new one.
fn put_right(call: &Call, device: &str, path: &str) -> Result<(), Failure> {
    call.log.info(format!(
        "{device} was left by the network namespace {path}, which is gone, and is put right first"
    ));
    let Ok(pci) = device.parse::<PciAddress>() else { return Ok(()) };
    let Some(mut cached) = legacy::sriov_of(call, device)? else { return as_new(call, &pci) };
    cached.record.owner = Owner { namespace: path.to_owned(), ..Owner::default() };
    let link = home::interface_at_home(call.host, &pci)?;
    cached.forget_address_unless(&link.map(|link| show_address(&link.address)).unwrap_or_default());
    bring_home(call, &cached.record)?;
    Ok(call.host.remove(&cached.file)?)
}

/// What a driver has for a VF that nobody has configured; it is not asked for what it does not tell.
fn as_new(call: &Call, pci: &PciAddress) -> Result<(), Failure> {
    let identity = vf_profile::identify(call.host, pci)?;
    let (_, found) = vf_profile::look(call.host, &identity)?;
    let plain = VfProfile {
        vlan: found.vlan.map(|_| VlanTag { id: 0, qos: 0, protocol: 0x8100 }),
        rate: found.rate.map(|_| Rate { min: 0, max: 0 }),
        trust: found.trust.map(|_| false),
        link_state: found.link_state.map(|_| LinkState::Auto),
        ..VfProfile::default()
    };
    vf_profile::apply(call.host, &identity, &plain)?;
    Ok(())
}

/// Brings a free VF to the settings that it is offered with. Whatever differs is of somebody who wrote nothing down, and
/// would be the next pod's, and after it be taken for the VF's own. Nothing is written here either: a death in the middle
/// leaves what the next ADD finds.
pub fn as_offered(call: &Call, pci: &PciAddress, profile: &VfProfile) -> Result<(), Failure> {
    let identity = vf_profile::identify(call.host, pci)?;
    let (_, found) = vf_profile::look(call.host, &identity)?;
    let golden = as_told(profile, &found);
    let link = home::interface_at_home(call.host, pci)?;
    let own = link.as_ref().map(|link| show_address(&link.address));
    let address = own.as_ref().map(|own| profile.mac.clone().unwrap_or_else(|| own.clone()));
    let mut differences = vf_profile::differences(&golden, &found);
    if let Some((address, own)) = address.as_ref().zip(own).filter(|(address, own)| *address != own)
    {
        differences
            .push((format!("interface address {address}"), format!("interface address {own}")));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let differences: Vec<String> =
        differences.iter().map(|(golden, found)| format!("{found} in place of {golden}")).collect();
    let differences = differences.join(", ");
    let link = link.zip(address).map(|(link, address)| LinkBefore {
        name: link.name,
        address,
        mtu: link.mtu,
        up: link.up,
        alt_names: None,
    });
    let vf = VfCustody {
        pf: identity.pf,
        index: identity.index,
        before: golden,
        wanted: VfProfile::default(),
        link,
    };
    let notes = home::settings_home(call.host, &identity, &vf).map_err(|error| {
        Failure::internal(format!(
            "{pci} has {differences}, which no journal knows of, and cannot be brought back to what it is \
             offered with: {error}"
        ))
    })?;
    call.log.warning(format!(
        "{pci} had {differences}, which no journal knows of, and was brought back to what it is offered with; \
         settings for pods belong into their network, and a PF whose VFs others set up is externallyManaged in its policy"
    ));
    notes.iter().for_each(|note| call.log.warning(note));
    Ok(())
}

/// The same for node and port GUID of an InfiniBand VF. The caller holds the lock of RDMA moves.
pub fn guid_as_offered(call: &Call, vf: &VfIdentity, golden: &str) -> Result<(), Failure> {
    let shown = |others: Vec<(&str, String)>| {
        let others = others.iter().map(|(what, found)| format!("{what} {found}"));
        others.collect::<Vec<_>>().join(" and ")
    };
    let others = shown(guid::others(call.host, vf, golden)?);
    if others.is_empty() {
        return Ok(());
    }
    let pci = vf.pci;
    let had = format!("{others} in place of {golden}, which no journal knows of");
    let kept = guid::give(call.host, vf, golden).and_then(|_| guid::others(call.host, vf, golden));
    let why = match kept.map(shown) {
        Ok(none) if none.is_empty() => {
            call.log.warning(format!(
                "{pci} had {had}, and was brought back to what it is offered with; a GUID for a pod belongs into its \
                 network or its annotation"
            ));
            return Ok(());
        }
        Ok(kept) => format!("it has {kept} after {golden} was set"),
        Err(error) => error.to_string(),
    };
    Err(Failure::internal(format!(
        "{pci} has {had}, and cannot be brought back to what it is offered with: {why}"
    )))
}

/// What there is of a profile: a driver that does not tell a setting has none, and a VF whose PF holds no MAC was given
/// none.
fn as_told(profile: &VfProfile, found: &VfProfile) -> VfProfile {
    let has_mac = found.mac.as_deref().is_some_and(|mac| mac != "00:00:00:00:00:00");
    VfProfile {
        mac: profile.mac.clone().filter(|_| has_mac),
        vlan: profile.vlan.filter(|_| found.vlan.is_some()),
        rate: profile.rate.filter(|_| found.rate.is_some()),
        spoof_check: profile.spoof_check.filter(|_| found.spoof_check.is_some()),
        trust: profile.trust.filter(|_| found.trust.is_some()),
        link_state: profile.link_state.filter(|_| found.link_state.is_some()),
        guid: None,
    }
}

fn taken(device: &str, container: &str, interface: &str) -> Failure {
    Failure::new(
        failure::TRY_AGAIN_LATER,
        format!("{device} is already allocated to interface {interface} of container {container}"),
    )
}

/// The device that the journal knows for the attachment of this call: usually the configured one.
pub fn device_of(call: &Call, configured: &str) -> Result<Option<String>, Failure> {
    if !configured.is_empty() {
        let record = journal::read(call.host, configured)?;
        if record.is_some_and(|record| is_ours(call, &record)) {
            return Ok(Some(configured.to_owned()));
        }
    }
    let records = journal::list(call.host)?.into_iter().flatten();
    Ok(records.into_iter().find(|record| is_ours(call, record)).map(|record| record.device))
}

/// The record of a device that is locked, if it is still about this call's attachment.
pub fn record_of(call: &Call, device: &str) -> Result<Option<Record>, Failure> {
    Ok(journal::read(call.host, device)?.filter(|record| is_ours(call, record)))
}

/// Brings everything of a record home and forgets it. Callers hold the device's lock.
pub fn bring_home(call: &Call, record: &Record) -> Result<(), Failure> {
    let rebinds = record.vf.as_ref().is_some_and(|vf| vf.wanted.guid.is_some());
    let renumbers = rebinds || record.rdma.is_some();
    let _rdma = renumbers.then(|| lock_rdma(call)).transpose()?;
    if record.boot_id == boot_id(call)? {
        let notes = home::bring_home(call.host, record)
            .map_err(|error| Failure::internal(error.to_string()))?;
        notes.iter().for_each(|note| call.log.warning(note));
    } else {
        // The VFs were made anew since; the daemon has configured them.
        call.log.info(format!("{} was given away before a reboot", record.device));
    }
    forget(call, &record.device)
}

/// Brings a half-given device home. What cannot be undone now stays in the journal, for DEL and the sweeper.
pub fn undo(call: &Call, record: &Record, failure: Failure) -> Failure {
    match bring_home(call, record) {
        Ok(()) => explained(call, &record.device, failure),
        Err(second) => failure.and(&second.message),
    }
}

/// Of a device that is not there any more the kernel's refusals say nothing.
pub fn explained(call: &Call, device: &str, mut failure: Failure) -> Failure {
    if home::device_is_gone(call.host, device) {
        failure.message +=
            &format!("; {device} is gone since: somebody has changed the VFs of its card");
    }
    failure
}

/// Removes the traces of a device that is at home, the journal last.
pub fn forget(call: &Call, device: &str) -> Result<(), Failure> {
    Ok(journal::forget(call.host, device)?)
}

/// The attachments of this network that GC must not touch: both keys that runtimes use.
pub fn valid_attachments(call: &Call) -> Result<Vec<(String, String)>, Failure> {
    let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let mut lists = keys.iter().filter_map(|key| call.configuration.get(*key)).peekable();
    if lists.peek().is_none() {
        // An absent list must not be read as an empty one: everything would be taken away.
        return Err(Failure::configuration(
            "GC needs the list cni.dev/valid-attachments, and the configuration has none",
        ));
    }
    let mut valid = Vec::new();
    for entry in lists.filter(|list| !list.is_null()) {
        let entries = entry.as_array().ok_or_else(|| not_a_list(entry))?;
        for entry in entries {
            let text = |key: &str| entry[key].as_str().map(str::to_owned);
            let pair = text("containerID").zip(text("ifname")).ok_or_else(|| not_a_list(entry))?;
            valid.push(pair);
        }
    }
    Ok(valid)
}

fn not_a_list(found: &serde_json::Value) -> Failure {
    Failure::new(
        failure::DECODE,
        format!(
            "cni.dev/valid-attachments must be a list of containerID and ifname, but holds {found}"
        ),
    )
}

/// Records of this network that belong to none of the attachments in the list.
pub fn stale(call: &Call) -> Result<Vec<Record>, Failure> {
    let valid = valid_attachments(call)?;
    let records = journal::list(call.host)?.into_iter().flatten();
    Ok(records
        .into_iter()
        .filter(|record| record.owner.network == call.network)
        .filter(|record| {
            let owner = &record.owner;
            !valid.iter().any(|(container, interface)| {
                (container, interface) == (&owner.container, &owner.interface)
            })
        })
        .collect())
}
