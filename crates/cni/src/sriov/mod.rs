//! The plugin `sriov`: gives a VF to a pod, configured as its network asks, and brings it home.
//!
//! Differences from upstream's plugin are decisions; each has a test here and a row in `docs/compatibility.md`.

mod config;

use crate::cdi;
use crate::custody::{self, Offered};
use crate::failure::Failure;
use crate::frame::Call;
use crate::ipam::{self, Ipam};
use crate::outcome::{Interface, Outcome};
use crate::version::Version;
use crate::{legacy, pod};
use api::PciAddress;
use api::journal::{LinkBefore, Record, VERSION, VfCustody};
use config::Config;
pub use config::{configure_log, device, link_state};
use host::seam::Link;
use host::vf_profile::{self, PfLink, VfProfileError, show_address};
use host::{home, journal};
use serde_json::Value;

/// Drivers that give a VF to user space: there is no interface to move.
const USER_SPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

impl From<VfProfileError> for Failure {
    fn from(error: VfProfileError) -> Self {
        Self::internal(error.to_string())
    }
}

/// A VF as it is before ADD.
struct Vf {
    pf: PfLink,
    custody: VfCustody,
    /// None while a user-space driver is bound.
    link: Option<Link>,
}

pub fn add(call: &Call) -> Result<Option<Value>, Failure> {
    configure_log(call)?;
    let config = Config::read(call)?;
    ipam::refuse_unprintable(call, config.ipam.as_ref())?;
    if let Some(ipam) = &config.ipam {
        ipam.find(call)?;
    }
    let device = config.device.to_string();
    let owner = custody::owner(call)?;
    let _locks = custody::lock(call, &device)?;
    let offered = custody::offered(call, &device)?;
    let again = custody::record_of(call, &device)?.is_some();
    custody::make_free(call, &device)?;
    if let Some(profile) = offered.as_ref().and_then(|offered| offered.device.profile.as_ref()) {
        custody::as_offered(call, &config.device, profile)?;
    }
    if let Some(ipam) = config.ipam.as_ref().filter(|_| again) {
        // The ADD before this one may have been given an address, which is refused the second time.
        ipam.del(call)?;
    }
    pod::refuse_taken_name(call)?;
    let vf = look(call, &config)?;
    let record = Record {
        version: VERSION,
        boot_id: custody::boot_id(call)?,
        device,
        owner,
        since: call.host.now(),
        vf: Some(vf.custody.clone()),
        rdma: None,
    };
    journal::write(call.host, &record)?;
    match give(call, &config, &vf, offered.as_ref()) {
        Ok(outcome) => outcome.json(call.version).map(Some),
        Err(failure) => Err(undo(call, &config, &record, failure)),
    }
}

/// Everything that ADD wants to know of the VF, and what it was like for the way home.
fn look(call: &Call, config: &Config) -> Result<Vf, Failure> {
    let identity = vf_profile::identify(call.host, &config.device)?;
    let (pf, before) = vf_profile::look(call.host, &identity)?;
    let link = home::interface_at_home(call.host, &config.device)?;
    match &link {
        Some(link) => pod::refuse_untraceable(&config.device, link)?,
        None => refuse_unless_user_space(call, &config.device)?,
    }
    let custody = VfCustody {
        pf: identity.pf,
        index: identity.index,
        before,
        wanted: config.wanted.clone(),
        link: link.as_ref().map(link_before),
    };
    Ok(Vf { pf, custody, link })
}

/// What a link must be like again after DEL.
pub fn link_before(link: &Link) -> LinkBefore {
    LinkBefore {
        name: link.name.clone(),
        address: show_address(&link.address),
        mtu: link.mtu,
        up: link.up,
        alt_names: Some(link.alt_names.clone()),
    }
}

fn refuse_unless_user_space(call: &Call, device: &PciAddress) -> Result<(), Failure> {
    let target = call.host.link_target(&device.file("driver")).map_err(|_| {
        Failure::internal(format!("{device} has neither an interface nor a driver"))
    })?;
    let driver = target.rsplit('/').next().unwrap_or_default();
    if USER_SPACE_DRIVERS.contains(&driver) {
        return Ok(());
    }
    Err(Failure::internal(format!(
        "{device} has no interface in the host's network namespace, and its driver {driver} is none \
         of {}",
        USER_SPACE_DRIVERS.join(", ")
    )))
}

/// The changes of ADD; whatever fails here is undone by the caller.
fn give(
    call: &Call,
    config: &Config,
    vf: &Vf,
    offered: Option<&Offered>,
) -> Result<Outcome, Failure> {
    let identity = vf_profile::identify(call.host, &config.device)?;
    vf_profile::apply(call.host, &identity, &config.wanted)?;
    let mut interface = Interface {
        name: call.interface.to_owned(),
        sandbox: call.namespace.to_owned(),
        ..Interface::default()
    };
    if call.version >= Version::V1_1_0 {
        interface.pci_id = config.device.to_string();
    }
    match &vf.link {
        Some(link) => {
            let moved = enter(call, config, link)?;
            interface.mac =
                config.wanted.mac.clone().unwrap_or_else(|| show_address(&link.address));
            interface.mtu = moved.mtu;
        }
        None => {
            interface.mac = user_space_mac(config, &vf.custody);
            interface.mtu = vf.pf.mtu;
        }
    }
    let mut outcome = match &config.ipam {
        Some(ipam) => ipam.add(call)?,
        None => Outcome::default(),
    };
    outcome.interfaces = vec![interface];
    if vf.link.is_some() {
        let link = pod::find(call, &config.device)?;
        pod::address(call, &link, &outcome)?;
    }
    offered.map_or(Ok(()), |offered| cdi::restore(call, offered))?;
    legacy::allocate(call, &config.device.to_string())?;
    if vf.link.is_some() && !outcome.ips.is_empty() {
        pod::announce(call, &config.device, &outcome);
    }
    call.log
        .info(format!("{} is {} of container {}", config.device, call.interface, call.container));
    Ok(outcome)
}

fn enter(call: &Call, config: &Config, link: &Link) -> Result<Link, Failure> {
    let moved = pod::enter(call, &config.device, link)?;
    if let Some(mac) = config.mac {
        pod::set_mac(call, &config.device, mac)?;
    }
    pod::up(call, &moved)?;
    Ok(moved)
}

/// The address that the VF will have in user space, as far as its PF knows it.
fn user_space_mac(config: &Config, vf: &VfCustody) -> String {
    let admin = config.wanted.mac.clone().or_else(|| vf.before.mac.clone()).unwrap_or_default();
    if admin == "00:00:00:00:00:00" { String::new() } else { admin }
}

/// Gives back what a failed ADD was given, the VF last.
fn undo(call: &Call, config: &Config, record: &Record, failure: Failure) -> Failure {
    let mut failure = failure;
    if let Some(ipam) = &config.ipam
        && let Err(second) = ipam.del(call)
    {
        failure = failure.and(&second.message);
    }
    custody::undo(call, record, failure)
}

pub fn del(call: &Call) -> Result<Option<Value>, Failure> {
    call.log.complaint(configure_log(call));
    let released = release(call);
    // Addresses are given back also when the VF is stuck, and the VF also when the addresses are.
    let given_back = match call.log.complaint(Ipam::read(call)).flatten() {
        Some(ipam) => ipam.del(call),
        None => Ok(()),
    };
    match (released, given_back) {
        (Ok(()), given_back) => given_back.map(|()| None),
        (Err(first), Ok(())) => Err(first),
        (Err(first), Err(second)) => Err(first.and(&second.message)),
    }
}

/// Brings the VF of this attachment home, whoever gave it away; one that nobody knows of is home.
pub fn release(call: &Call) -> Result<(), Failure> {
    // The journal knows better than a configuration that cannot be read.
    let configured = call
        .log
        .complaint(call.fields().text("deviceID").map_err(Failure::from))
        .unwrap_or_default();
    let configured = configured.parse::<PciAddress>().map(|pci| pci.to_string());
    if let Some(device) = custody::device_of(call, &configured.unwrap_or_default())? {
        let _locks = custody::lock(call, &device)?;
        // Somebody may have been faster while we waited for the lock.
        if let Some(record) = custody::record_of(call, &device)? {
            custody::bring_home(call, &record)?;
            call.log.info(format!("{device} is home from container {}", call.container));
        }
    }
    for read in [legacy::sriov, legacy::ib_sriov] {
        release_cached(call, read(call))?;
    }
    Ok(())
}

/// Releases what an upstream plugin gave away, and then removes its file.
fn release_cached(
    call: &Call,
    cached: Result<Option<legacy::Cached>, Failure>,
) -> Result<(), Failure> {
    let mut cached = match cached {
        Ok(Some(cached)) => cached,
        Ok(None) => return Ok(()),
        Err(failure) => {
            call.log.warning(format!("the old plugin's state is left alone: {}", failure.message));
            return Ok(());
        }
    };
    let device = cached.record.device.clone();
    let _locks = custody::lock(call, &device)?;
    // DEL comes again for pods that are long gone; the VF may be another pod's since, by whichever plugin.
    if journal::read(call.host, &device)?.is_none() && !custody::is_anothers(call, &device)? {
        cached.forget_what_was(call.host)?;
        custody::bring_home(call, &cached.record)?;
    }
    Ok(call.host.remove(&cached.file)?)
}

pub fn check(call: &Call) -> Result<Option<Value>, Failure> {
    configure_log(call)?;
    let config = Config::read(call)?;
    let previous = pod::must_have_previous(call)?;
    let device = config.device.to_string();
    let record = match custody::record_of(call, &device)? {
        Some(record) => Some(record),
        None => legacy::sriov(call)?.map(|cached| cached.record),
    };
    let Some(record) = record else {
        return Err(Failure::internal(format!(
            "{device} is not in the hands of container {}",
            call.container
        )));
    };
    let identity = vf_profile::identify(call.host, &config.device)?;
    let (pf, found) = vf_profile::look(call.host, &identity)?;
    if let Some((wanted, found)) = vf_profile::difference(&config.wanted, &found) {
        return Err(Failure::internal(format!(
            "VF {} of {} has {found} in place of {wanted}",
            identity.index, pf.name
        )));
    }
    if record.vf.is_some_and(|vf| vf.link.is_some()) {
        let expected = previous.interfaces.iter().find(|found| found.name == call.interface);
        let link = pod::check(call, &config.device, expected)?;
        pod::check_addresses(call, &link, &previous)?;
        pod::check_routes(call, &previous)?;
    }
    match config.ipam {
        Some(ipam) => ipam.pass(call).map(|()| None),
        None => Ok(None),
    }
}

/// Brings home what belongs to no attachment of this network any more; one failure does not stop the others.
pub fn gc(call: &Call) -> Result<Option<Value>, Failure> {
    configure_log(call)?;
    let mut failures = Vec::new();
    // A whole PF for user space is given with nothing to bring home; what has an RDMA device alone is `rdma`'s.
    let ours = |record: &Record| record.vf.is_some() || record.rdma.is_none();
    for record in custody::stale(call)?.into_iter().filter(ours) {
        let released =
            custody::lock(call, &record.device).and_then(|_locks| {
                match journal::read(call.host, &record.device)? {
                    Some(now) if now.owner == record.owner => custody::bring_home(call, &now),
                    _ => Ok(()),
                }
            });
        match released {
            Ok(()) => call.log.info(format!("{} is home by GC", record.device)),
            Err(failure) => failures.push(failure.message),
        }
    }
    for cached in legacy::stale(call, &custody::valid_attachments(call)?)? {
        failures.extend(release_cached(call, cached).err().map(|failure| failure.message));
    }
    if let Some(ipam) = Ipam::read(call)?
        && let Err(failure) = ipam.pass(call)
    {
        failures.push(failure.message);
    }
    if failures.is_empty() { Ok(None) } else { Err(Failure::internal(failures.join("; "))) }
}

/// Ready when there is an offer to take devices from, and the addresses can be had.
pub fn status(call: &Call) -> Result<Option<Value>, Failure> {
    configure_log(call)?;
    custody::refuse_without_offer(call)?;
    match Ipam::read(call)? {
        Some(ipam) => ipam.pass(call).map(|()| None).map_err(|failure| {
            let code = match failure.code {
                50 | 51 => failure.code,
                _ => crate::failure::NOT_AVAILABLE,
            };
            Failure { code, ..failure }
        }),
        None => Ok(None),
    }
}
