//! The plugin `ib-sriov`: gives an InfiniBand VF to a pod, with a GUID and its RDMA device where that is asked for.
//!
//! Every rebind and every RDMA move makes devices anew, so all of this plugin happens under the node-wide lock, and
//! the RDMA device goes first: its move destroys the IPoIB interface and makes it again on the host.

use crate::cdi;
use crate::custody;
use crate::failure::{self, Failure};
use crate::frame::Call;
use crate::ipam::{self, Ipam};
use crate::outcome::{Interface, Outcome};
use crate::version::Version;
use crate::{pod, rdma, sriov};
use api::PciAddress;
use api::journal::{LinkState, RdmaCustody, Record, VERSION, VfCustody, VfProfile};
use host::fields::Fields;
use host::seam::{Interest, Link};
use host::vf_profile::{self, VfIdentity, VfProfileError, parse_address};
use host::{function, guid, home, journal};
use serde_json::Value;
use std::time::Duration;

/// What a VF in user space is said to have had before: nobody can read it there.
const UNKNOWN_GUID: &str = "ff:ff:ff:ff:ff:ff:ff:ff";
const INTERFACE_TRIES: u32 = 50;
const INTERFACE_PAUSE: Duration = Duration::from_millis(100);

struct Config {
    device: PciAddress,
    link_state: Option<LinkState>,
    guid: Option<String>,
    rdma_isolation: bool,
    /// `rdmaDeviceName`: what the RDMA device is to be called in the pod.
    rdma_name: Option<String>,
    /// `vfio-pci` is bound: there is no interface, and nothing but the GUID to configure.
    user_space: bool,
    /// None for a whole PF.
    identity: Option<VfIdentity>,
    ipam: Option<Ipam>,
}

fn read(call: &Call) -> Result<Config, Failure> {
    let fields = call.fields();
    let arguments = arguments(&fields)?;
    let managed = fields.flag("ibKubernetesEnabled")?;
    let configured = arguments.text("mellanox.infiniband.app")? == "configured";
    if managed && !configured {
        return Err(Failure::new(
            failure::TRY_AGAIN_LATER,
            "ib-kubernetes has not configured this network for the pod yet (no \
             mellanox.infiniband.app: configured in args.cni)",
        ));
    }
    let device = sriov::device(&fields)?;
    let is_vf = function::physical(call.host, &device)?.is_some();
    let guid = asked_guid(&fields, &arguments)?;
    if managed && is_vf && guid.is_none() {
        return Err(Failure::configuration(format!(
            "ib-kubernetes is enabled, and there is no GUID for {device}; enable the capability \
             infinibandGUID"
        )));
    }
    let rdma_isolation = fields.flag("rdmaIsolation")?;
    let rdma_name = rdma::name_in_pod(call)?.map(str::to_owned);
    if let Some(name) = rdma_name.as_ref().filter(|_| !rdma_isolation) {
        return Err(Failure::configuration(format!(
            "rdmaDeviceName {name:?} needs rdmaIsolation: true; without it the RDMA device stays on the host"
        )));
    }
    let identity = match is_vf {
        true => Some(vf_profile::identify(call.host, &device)?),
        false => None,
    };
    Ok(Config {
        link_state: sriov::link_state(&fields)?,
        guid,
        rdma_isolation,
        rdma_name,
        user_space: user_space(call, &fields, &device)?,
        identity,
        ipam: ipam(call)?,
        device,
    })
}

/// `args.cni`, in which upstream's decoder accepts nothing but texts.
fn arguments<'a>(fields: &Fields<'a>) -> Result<Fields<'a>, Failure> {
    let arguments = fields.nested("args")?.nested("cni")?;
    for name in arguments.names() {
        arguments.text(name)?;
    }
    Ok(arguments)
}

/// The runtime's GUID goes before the one in `args.cni`.
fn asked_guid(fields: &Fields, arguments: &Fields) -> Result<Option<String>, Failure> {
    let runtime = fields.nested("runtimeConfig")?;
    let candidates = [runtime.text("infinibandGUID")?, arguments.text("guid")?];
    let Some(text) = candidates.into_iter().find(|text| !text.is_empty()) else { return Ok(None) };
    let bytes = parse_address(text).filter(|bytes| bytes.len() == 8).ok_or_else(|| {
        Failure::configuration(format!(
            "GUID {text:?} is not eight bytes; write 00:11:22:33:44:55:66:77"
        ))
    })?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(Failure::configuration(format!("GUID {text:?} is zero, which means none")));
    }
    Ok(Some(text.to_lowercase()))
}

fn ipam(call: &Call) -> Result<Option<Ipam>, Failure> {
    let ipam = Ipam::read(call)?;
    if ipam.as_ref().is_some_and(|ipam| ipam.kind == "dhcp") {
        return Err(Failure::configuration(
            "ipam type dhcp does not work on InfiniBand; use another, for example whereabouts",
        ));
    }
    Ok(ipam)
}

fn user_space(call: &Call, fields: &Fields, device: &PciAddress) -> Result<bool, Failure> {
    let driver = function::driver(call.host, device)?;
    let bound = driver.as_deref() == Some("vfio-pci");
    if fields.flag("vfioPciMode")? && !bound {
        return Err(Failure::configuration(format!(
            "vfioPciMode is set, and {device} has {} in place of vfio-pci",
            driver.as_deref().unwrap_or("no driver")
        )));
    }
    Ok(bound)
}

pub fn add(call: &Call) -> Result<Option<Value>, Failure> {
    let config = read(call)?;
    let addressed = config.ipam.as_ref().filter(|_| !config.user_space);
    ipam::refuse_unprintable(call, addressed)?;
    if let Some(ipam) = addressed {
        ipam.find(call)?;
    }
    if config.rdma_isolation {
        rdma::refuse_shared_mode(call)?;
    }
    if config.identity.is_none() && !config.user_space {
        if home::device_is_gone(call.host, &config.device.to_string()) {
            return Err(VfProfileError::NoDevice(config.device).into());
        }
        return Err(Failure::configuration(format!(
            "{} is a whole PF, which can be given to a pod only with the driver vfio-pci",
            config.device
        )));
    }
    let device = config.device.to_string();
    let owner = custody::owner(call)?;
    let _locks = custody::lock(call, &device)?;
    let offered = custody::offered(call, &device)?;
    if custody::record_of(call, &device)?.is_some()
        && let Some(ipam) = addressed
    {
        ipam.del(call)?;
    }
    custody::make_free(call, &device)?;
    let moves = custody::lock_rdma(call)?;
    let profile = offered.as_ref().and_then(|offered| offered.device.profile.as_ref());
    let golden = profile.and_then(|profile| profile.guid.clone());
    if let Some((vf, golden)) = config.identity.as_ref().zip(golden.as_ref()) {
        custody::guid_as_offered(call, vf, golden)?;
    }
    pod::refuse_taken_name(call)?;
    let mut record = Record {
        version: VERSION,
        boot_id: custody::boot_id(call)?,
        device,
        owner,
        since: call.host.now(),
        vf: vf_before(call, &config, golden)?,
        rdma: None,
    };
    journal::write(call.host, &record)?;
    let given = give(call, &config, &mut record).and_then(|given| {
        offered.as_ref().map_or(Ok(()), |offered| cdi::restore(call, offered))?;
        Ok(given)
    });
    // An IPAM plugin may take minutes, and nothing below makes devices anew: other pods must not wait for it.
    drop(moves);
    match given.and_then(|given| address(call, &config, given)) {
        Ok(outcome) => outcome.json(call.version).map(Some),
        Err(failure) => Err(undo(call, &config, &record, failure)),
    }
}

/// What the VF is like before; refuses a VF without a usable GUID when none is asked for.
///
/// Of one in user space nobody but the daemon knows its GUID.
fn vf_before(
    call: &Call,
    config: &Config,
    golden: Option<String>,
) -> Result<Option<VfCustody>, Failure> {
    let Some(identity) = config.identity else { return Ok(None) };
    let (_, mut before) = vf_profile::look(call.host, &identity)?;
    let link = if config.user_space { None } else { Some(interface(call, &config.device)?) };
    if let Some(link) = &link {
        pod::refuse_untraceable(&config.device, link)?;
    }
    let current = link.as_ref().and_then(|link| guid::of_address(&link.address));
    if config.guid.is_none() && !config.user_space {
        let usable = current.as_deref().is_some_and(|guid| {
            guid != UNKNOWN_GUID && guid.bytes().any(|byte| !matches!(byte, b'0' | b':'))
        });
        if !usable {
            return Err(Failure::internal(format!(
                "VF {} GUID is not valid: {}; set a GUID, or let the node policy do it",
                config.device,
                current.as_deref().unwrap_or("its interface is not InfiniBand")
            )));
        }
    }
    before.guid = Some(current.or(golden).unwrap_or_else(|| UNKNOWN_GUID.to_owned()));
    let wanted = VfProfile {
        link_state: config.link_state,
        guid: config.guid.clone(),
        ..VfProfile::default()
    };
    let link = link.as_ref().map(sriov::link_before);
    Ok(Some(VfCustody { pf: identity.pf, index: identity.index, before, wanted, link }))
}

/// The interface on the host; a rebind or an RDMA move makes it anew, and a little late.
fn interface(call: &Call, device: &PciAddress) -> Result<Link, Failure> {
    for attempt in 0..INTERFACE_TRIES {
        if let Some(link) = home::interface_at_home(call.host, device)? {
            return Ok(link);
        }
        if attempt + 1 < INTERFACE_TRIES {
            call.host.wait(&[Interest::Link], INTERFACE_PAUSE);
        }
    }
    Err(Failure::internal(format!("{device} has no interface in the host's network namespace")))
}

fn give(call: &Call, config: &Config, record: &mut Record) -> Result<Outcome, Failure> {
    let interface_entry = Interface {
        name: call.interface.to_owned(),
        sandbox: call.namespace.to_owned(),
        pci_id: match call.version >= Version::V1_1_0 {
            true => config.device.to_string(),
            false => String::new(),
        },
        ..Interface::default()
    };
    let mut bare = Outcome { interfaces: vec![interface_entry], ..Outcome::default() };
    let (Some(identity), Some(vf)) = (&config.identity, record.vf.clone()) else {
        return Ok(bare);
    };
    vf_profile::apply(call.host, identity, &vf.wanted)?;
    if config.user_space {
        return Ok(bare);
    }
    if config.guid.is_some() {
        let had_nodes = has_nodes(call, &record.device);
        guid::rebind(call.host, &config.device)?;
        verify_guid(call, config, identity)?;
        if !config.rdma_isolation {
            wait_for_nodes(call, &record.device, had_nodes);
            rdma::say_nodes(call, &record.device)?;
        }
    }
    if config.rdma_isolation {
        let found = rdma::single_device(call, &record.device)?;
        record.rdma = Some(RdmaCustody { name: found.name.clone(), index: found.index });
        journal::write(call.host, record)?;
        rdma::give(call, &record.device, &found, config.rdma_name.as_deref())?;
    }
    let link = interface(call, &config.device)?;
    let moved = pod::enter(call, &config.device, &link)?;
    pod::up(call, &moved)?;
    bare.interfaces.iter_mut().for_each(|interface| interface.mtu = moved.mtu);
    Ok(bare)
}

/// The addresses of an interface that is in the pod.
fn address(call: &Call, config: &Config, given: Outcome) -> Result<Outcome, Failure> {
    let with_interface = config.identity.is_some() && !config.user_space;
    let Some(ipam) = config.ipam.as_ref().filter(|_| with_interface) else { return Ok(given) };
    let outcome = Outcome { interfaces: given.interfaces, ..ipam.add(call)? };
    let moved = pod::find(call, &config.device)?;
    pod::address(call, &moved, &outcome)?;
    Ok(outcome)
}

fn has_nodes(call: &Call, device: &str) -> bool {
    !host::cdi::rdma_nodes(call.host, device).is_empty()
}

/// The rebind makes the RDMA device anew, whose character devices may come a little after the interface: each is made by
/// a client of its own (drivers/infiniband/core/device.c, enable_device_and_get).
fn wait_for_nodes(call: &Call, device: &str, had_nodes: bool) {
    for _ in 0..INTERFACE_TRIES {
        if !had_nodes || has_nodes(call, device) {
            return;
        }
        call.host.wait(&[Interest::Link], INTERFACE_PAUSE);
    }
}

/// Firmware takes a GUID at the probe, or not at all.
fn verify_guid(call: &Call, config: &Config, vf: &VfIdentity) -> Result<(), Failure> {
    let Some(wanted) = &config.guid else { return Ok(()) };
    interface(call, &config.device)?;
    let seen = guid::seen(call.host, vf)?;
    let other = match seen.iter().find(|(_, found)| found != wanted) {
        None if seen.iter().any(|(what, _)| *what == guid::PORT) => return Ok(()),
        other => {
            other.map_or(format!("no {}", guid::PORT), |(what, found)| format!("{what} {found}"))
        }
    };
    Err(Failure::internal(format!("{} has {other} after {wanted} was set", config.device)))
}

/// Brings a half-given VF home. The caller holds the device's lock.
fn undo(call: &Call, config: &Config, record: &Record, mut failure: Failure) -> Failure {
    if let Some(ipam) = config.ipam.as_ref().filter(|_| !config.user_space)
        && let Err(second) = ipam.del(call)
    {
        failure = failure.and(&second.message);
    }
    custody::undo(call, record, failure)
}

pub fn del(call: &Call) -> Result<Option<Value>, Failure> {
    let released = sriov::release(call);
    let given_back = match call.log.complaint(Ipam::read(call)).flatten() {
        Some(ipam) if ipam.kind != "dhcp" && !in_user_space(call) => ipam.del(call),
        _ => Ok(()),
    };
    match (released, given_back) {
        (Ok(()), given_back) => given_back.map(|()| None),
        (Err(first), Ok(())) => Err(first),
        (Err(first), Err(second)) => Err(first.and(&second.message)),
    }
}

/// A VF in user space was never given addresses.
fn in_user_space(call: &Call) -> bool {
    let device = sriov::device(&call.fields());
    device.is_ok_and(|device| matches!(function::driver(call.host, &device), Ok(Some(driver)) if driver == "vfio-pci"))
}

pub fn check(call: &Call) -> Result<Option<Value>, Failure> {
    let config = read(call)?;
    let previous = pod::must_have_previous(call)?;
    let record = custody::record_of(call, &config.device.to_string())?;
    let Some(record) = record.map_or_else(|| cached(call), |record| Ok(Some(record)))? else {
        return Err(Failure::internal(format!(
            "{} is not in the hands of container {}",
            config.device, call.container
        )));
    };
    if let Some(rdma) = &record.rdma {
        rdma::check_device(call, &record.device, rdma, config.rdma_name.as_deref())?;
    }
    check_settings(call, &config)?;
    if config.user_space {
        return Ok(None);
    }
    let expected = previous.interfaces.iter().find(|found| found.name == call.interface);
    let link = pod::check(call, &config.device, expected)?;
    let found = guid::of_address(&link.address);
    if let Some(wanted) = config.guid.as_ref().filter(|guid| found.as_ref() != Some(*guid)) {
        return Err(Failure::internal(format!(
            "{} in the pod has GUID {} in place of {wanted}",
            config.device,
            found.as_deref().unwrap_or("none")
        )));
    }
    pod::check_addresses(call, &link, &previous)?;
    pod::check_routes(call, &previous)?;
    match config.ipam {
        Some(ipam) => ipam.pass(call).map(|()| None),
        None => Ok(None),
    }
}

/// What the PF holds for the VF.
fn check_settings(call: &Call, config: &Config) -> Result<(), Failure> {
    let Some(identity) = config.identity.filter(|_| config.link_state.is_some()) else {
        return Ok(());
    };
    let wanted = VfProfile { link_state: config.link_state, ..VfProfile::default() };
    let (pf, found) = vf_profile::look(call.host, &identity)?;
    match vf_profile::difference(&wanted, &found) {
        None => Ok(()),
        Some((wanted, found)) => Err(Failure::internal(format!(
            "VF {} of {} has {found} in place of {wanted}",
            identity.index, pf.name
        ))),
    }
}

fn cached(call: &Call) -> Result<Option<Record>, Failure> {
    Ok(crate::legacy::ib_sriov(call)?.map(|cached| cached.record))
}

pub fn gc(call: &Call) -> Result<Option<Value>, Failure> {
    sriov::gc(call)
}

pub fn status(call: &Call) -> Result<Option<Value>, Failure> {
    if call.fields().flag("rdmaIsolation")? {
        rdma::refuse_shared_mode(call)
            .map_err(|failure| Failure { code: failure::NOT_AVAILABLE, ..failure })?;
    }
    sriov::status(call)
}
