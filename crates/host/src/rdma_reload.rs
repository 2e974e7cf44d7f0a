//! Reloading the modules of the RDMA subsystem, so that `ib_core` comes in another mode without a reboot.
//!
//! Only modules of RDMA go: the card's own driver, and with it the Ethernet interface, stays. What is to go is written
//! down first, so that whoever comes after a crash loads it again (`finish`). Whether a reload may be is the planner's.

use crate::function::optional;
use crate::program_error::{ProgramError, kmod};
use crate::rdma_mode::{effective, parameter};
use crate::seam::{Changed, Host, LinkQuery, Namespace, Program, RdmaOwner, Refusal};
use api::inventory::{RdmaModule, RdmaModules};
use api::journal::{Reload, VERSION};
use api::{RdmaMode, files};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

const CORE: &str = "ib_core";
/// ARPHRD_INFINIBAND.
const INFINIBAND: u16 = 32;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReloadError {
    #[error("cannot reload the RDMA modules for mode {wanted}: {module} is in use by {users}")]
    InUse { wanted: RdmaMode, module: String, users: String },
    #[error(
        "cannot reload the RDMA modules for mode {wanted}: {module} needs ib_core too, and was not to be unloaded"
    )]
    Unexpected { wanted: RdmaMode, module: String },
    #[error(
        "cannot reload the RDMA modules for mode {wanted}: {said}; the modules are loaded as they were"
    )]
    Stays { wanted: RdmaMode, said: ProgramError },
    #[error("the RDMA mode is {found} after the modules were reloaded for {wanted}")]
    NotTaken { wanted: RdmaMode, found: String },
    #[error(
        "cannot load the RDMA modules again: {}; load them by hand (modprobe), or reboot the host",
        in_words(said)
    )]
    NotLoaded { said: Vec<ProgramError> },
    #[error(
        "the record of a reload in {} cannot be understood: {said}; load the host's RDMA modules by hand and remove it",
        files::RELOAD
    )]
    Garbled { said: String },
    #[error("cannot {0}")]
    Refused(#[from] Refusal),
}

/// What a reload would meet now.
pub fn look(host: &dyn Host) -> Result<RdmaModules, Refusal> {
    let mut kernel_users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for user in host.rdma_users(&Namespace::Host)? {
        if let RdmaOwner::Kernel(module) = user.owner {
            kernel_users.entry(module).or_default().push(user.device);
        }
    }
    let devices = host.rdma_devices(&Namespace::Host)?.into_iter().map(|device| device.name);
    Ok(RdmaModules {
        stack: stack(host)?.into_iter().map(|name| module(host, name)).collect::<Result<_, _>>()?,
        kernel_users,
        devices: devices.collect(),
        addressed_ipoib: addressed_ipoib(host)?,
    })
}

fn module(host: &dyn Host, name: String) -> Result<RdmaModule, Refusal> {
    let taint = optional(host.read(&format!("/sys/module/{name}/taint")))?.unwrap_or_default();
    Ok(RdmaModule { out_of_tree: taint.contains(&b'O'), name })
}

fn addressed_ipoib(host: &dyn Host) -> Result<Vec<String>, Refusal> {
    let mut names = Vec::new();
    for link in host.links(&Namespace::Host, &LinkQuery::default())? {
        let is_ipoib = link.hardware == INFINIBAND;
        if is_ipoib && !host.addresses(&Namespace::Host, Some(link.index))?.is_empty() {
            names.push(link.name);
        }
    }
    Ok(names)
}

/// `ib_core` and everything above it, each behind those that hold it. Empty where `ib_core` is no module.
fn stack(host: &dyn Host) -> Result<Vec<String>, Refusal> {
    let mut order = Vec::new();
    // What is built into the kernel has no count of references (kernel/module/sysfs.c).
    if optional(host.read(&format!("/sys/module/{CORE}/refcnt")))?.is_some() {
        put(host, CORE, &mut BTreeSet::new(), &mut order)?;
    }
    Ok(order)
}

fn put(
    host: &dyn Host,
    module: &str,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<String>,
) -> Result<(), Refusal> {
    if !seen.insert(module.to_owned()) {
        return Ok(());
    }
    for holder in holders(host, module)? {
        put(host, &holder, seen, order)?;
    }
    order.push(module.to_owned());
    Ok(())
}

fn holders(host: &dyn Host, module: &str) -> Result<Vec<String>, Refusal> {
    Ok(optional(host.list(&format!("/sys/module/{module}/holders")))?.unwrap_or_default())
}

fn is_loaded(host: &dyn Host, module: &str) -> Result<bool, Refusal> {
    Ok(optional(host.list(&format!("/sys/module/{module}")))?.is_some())
}

/// Unloads `modules`, which end with `ib_core`, and loads them again with `ib_core` in the wanted mode.
pub fn reload(
    host: &dyn Host,
    wanted: RdmaMode,
    modules: &[String],
) -> Result<Changed, ReloadError> {
    finish(host)?;
    let before = effective(host)?;
    if before == Some(wanted) {
        return Ok(Changed::AlreadyRight);
    }
    refuse_users(host, wanted, modules)?;
    let journal = Reload { version: VERSION, mode: wanted, modules: modules.to_vec() };
    write_down(host, &journal)?;
    for module in modules {
        if let Err(said) = unload(host, module)? {
            // Nothing below it has gone, ib_core least of all: what is loaded again comes in the old mode.
            finish(host)?;
            return Err(ReloadError::Stays { wanted, said });
        }
    }
    if let Err(said) = load(host, CORE, Some(wanted))? {
        // The mode that it had must come back, or the host is without RDMA.
        write_down(host, &Reload { mode: before.unwrap_or(wanted), ..journal })?;
        finish(host)?;
        return Err(ReloadError::Stays { wanted, said });
    }
    finish(host)?;
    match effective(host)? {
        Some(found) if found == wanted => Ok(Changed::Yes),
        found => {
            let found = found.map_or("none".to_owned(), |mode| mode.to_string());
            Err(ReloadError::NotTaken { wanted, found })
        }
    }
}

/// Loads what a reload has unloaded and not loaded again, whoever began it.
pub fn finish(host: &dyn Host) -> Result<Changed, ReloadError> {
    let Some(text) = optional(host.read(files::RELOAD))? else { return Ok(Changed::AlreadyRight) };
    let garbled = |said: String| ReloadError::Garbled { said };
    let journal: Reload =
        serde_json::from_slice(&text).map_err(|error| garbled(error.to_string()))?;
    if journal.version != VERSION {
        return Err(garbled(format!("version {}, and {VERSION} is known", journal.version)));
    }
    let mut failed = Vec::new();
    for module in journal.modules.iter().rev() {
        let mode = (module == CORE).then_some(journal.mode);
        if let Err(said) = load(host, module, mode)? {
            failed.push(said);
        }
    }
    if !failed.is_empty() {
        return Err(ReloadError::NotLoaded { said: failed });
    }
    host.remove(files::RELOAD)?;
    Ok(Changed::Yes)
}

/// Refuses while nothing is touched: a module that the plan does not know, or one that is used by no module.
fn refuse_users(host: &dyn Host, wanted: RdmaMode, modules: &[String]) -> Result<(), ReloadError> {
    for module in stack(host)? {
        if !modules.contains(&module) {
            return Err(ReloadError::Unexpected { wanted, module });
        }
        let path = format!("/sys/module/{module}/refcnt");
        let text = String::from_utf8_lossy(&host.read(&path)?).trim().to_owned();
        let references: usize = text.parse().unwrap_or(usize::MAX);
        if references > holders(host, &module)?.len() {
            let users = processes(host)?;
            return Err(ReloadError::InUse { wanted, module, users });
        }
    }
    Ok(())
}

/// The processes with resources on devices, by number and name.
fn processes(host: &dyn Host) -> Result<String, Refusal> {
    let users = host.rdma_users(&Namespace::Host)?.into_iter();
    let processes: BTreeSet<u32> = users
        .filter_map(|user| match user.owner {
            RdmaOwner::Process(number) => Some(number),
            RdmaOwner::Kernel(_) => None,
        })
        .collect();
    let named = processes.into_iter().map(|number| {
        let name = host.read(&format!("/proc/{number}/comm")).unwrap_or_default();
        match String::from_utf8_lossy(&name).trim() {
            "" => format!("process {number}"),
            name => format!("process {number} ({name})"),
        }
    });
    let named: Vec<String> = named.collect();
    Ok(match named.is_empty() {
        true => "a process that has one of its devices open".to_owned(),
        false => named.join(", "),
    })
}

fn write_down(host: &dyn Host, journal: &Reload) -> Result<(), Refusal> {
    // Plain data with text keys always becomes JSON.
    let text = serde_json::to_vec(journal).unwrap_or_default();
    host.replace(files::RELOAD, &text, 0o644)
}

/// One module, and no other: `modprobe -r` would take the card's Ethernet driver with its RDMA driver. The inner error is
/// what the program said.
fn unload(host: &dyn Host, module: &str) -> Result<Result<(), ProgramError>, Refusal> {
    match is_loaded(host, module)? {
        true => said(host, &Program::Rmmod, &[module]),
        false => Ok(Ok(())),
    }
}

fn load(
    host: &dyn Host,
    module: &str,
    mode: Option<RdmaMode>,
) -> Result<Result<(), ProgramError>, Refusal> {
    if is_loaded(host, module)? {
        return Ok(Ok(()));
    }
    // Written out at loading, the parameter wins over modprobe.d and the kernel command line (lab).
    let option = mode.map(|mode| format!("netns_mode={}", parameter(mode)));
    let arguments: Vec<&str> = [module].into_iter().chain(option.as_deref()).collect();
    said(host, &Program::Modprobe, &arguments)
}

fn said(
    host: &dyn Host,
    program: &Program,
    arguments: &[&str],
) -> Result<Result<(), ProgramError>, Refusal> {
    match kmod(host, program, arguments) {
        Err(ProgramError::Kernel(refusal)) => Err(refusal),
        came => Ok(came),
    }
}

fn in_words(said: &[ProgramError]) -> String {
    said.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[path = "rdma_reload_tests.rs"]
mod tests;
