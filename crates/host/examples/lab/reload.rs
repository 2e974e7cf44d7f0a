//! The reload rung on a real kernel: what stands on the RDMA core, who uses it, and the core in another mode while another
//! namespace exists and the cards' interfaces stay.

use super::bench::{HOME, Runner, cards, live_switch, modprobe, said, soft_device};
use super::cases::Pods;
use super::report::{Outcome, equal};
use api::RdmaMode;
use host::linux::LinuxHost;
use host::seam::{Changed, Host, LinkQuery, RdmaOwner};
use host::{rdma_mode, rdma_reload};
use std::fs::File;

pub fn run(host: &LinuxHost, pods: &dyn Pods, case: Runner<'_>) {
    case(
        "what stands on the rdma core is told leaves first, with who uses its devices",
        &mut || told(host),
    );
    case(
        "an rdma device that a process has open keeps the modules, and none is touched",
        &mut || opened(host),
    );
    case("the rdma modules are reloaded in the other mode, with a pod there", &mut || {
        reloaded(host, pods)
    });
}

/// Soft devices go with a reload, so each case makes its own.
fn device(host: &LinuxHost) -> Result<(), String> {
    for module in ["rdma_rxe", "ib_uverbs", "ib_umad", "rdma_ucm"] {
        modprobe(host, &[module])?;
    }
    if said("devices", host.rdma_devices(&HOME))?.is_empty() {
        soft_device(host, cards(host).0);
    }
    Ok(())
}

fn modules(host: &LinuxHost) -> Result<Vec<String>, String> {
    let found = said("look", rdma_reload::look(host))?;
    Ok(found.stack.into_iter().map(|module| module.name).collect())
}

fn told(host: &LinuxHost) -> Outcome {
    device(host)?;
    let found = said("look", rdma_reload::look(host))?;
    let names: Vec<&str> = found.stack.iter().map(|module| module.name.as_str()).collect();
    equal("the last", names.last().copied(), Some("ib_core"))?;
    for holder in ["ib_umad", "ib_uverbs", "rdma_cm", "rdma_rxe", "rdma_ucm"] {
        if !names.contains(&holder) {
            return Err(format!("{holder} is not among {names:?}"));
        }
    }
    let foreign = found.stack.iter().filter(|module| module.out_of_tree);
    let foreign: Vec<&str> = foreign.map(|module| module.name.as_str()).collect();
    equal("out of tree", foreign.join(" ").as_str(), "rdma_rxe")?;
    if !found.kernel_users.contains_key("ib_core") {
        return Err(format!("the core is not among the users {:?}", found.kernel_users));
    }
    Ok(format!("{}; users: {:?}", names.join(" "), found.kernel_users))
}

fn opened(host: &LinuxHost) -> Outcome {
    device(host)?;
    let names = said("uverbs", host.list("/sys/class/infiniband_verbs"))?;
    let name = names.into_iter().find(|name| name.starts_with("uverbs"));
    let path = format!("/dev/infiniband/{}", name.ok_or("there is no uverbs device")?);
    let held = File::open(&path).map_err(|error| format!("open {path}: {error}"))?;
    let before = modules(host)?;
    let wanted = other(said("mode", host.rdma_mode())?);
    let outcome = rdma_reload::reload(host, wanted, &before);
    drop(held);
    equal("the modules", modules(host)?.join(" ").as_str(), before.join(" ").as_str())?;
    match outcome {
        Err(error @ rdma_reload::ReloadError::InUse { .. }) => Ok(error.to_string()),
        other => Err(format!("with {path} open: {other:?}")),
    }
}

fn reloaded(host: &LinuxHost, pods: &dyn Pods) -> Outcome {
    said("shared", live_switch(host, RdmaMode::Shared))?;
    device(host)?;
    let interfaces = || {
        let links = said("links", host.links(&HOME, &LinkQuery::default()))?;
        let told = links.into_iter().filter(|link| link.parent.is_some());
        let told = told.map(|link| format!("{} {} up {}", link.index, link.name, link.up));
        Ok::<_, String>(told.collect::<Vec<_>>().join("; "))
    };
    let before = interfaces()?;
    let all = modules(host)?;
    pods.start();
    let refused = rdma_mode::switch(host, RdmaMode::Exclusive);
    let outcome = rdma_reload::reload(host, RdmaMode::Exclusive, &all);
    let after = interfaces();
    pods.end();
    if refused.is_ok() {
        return Err("the live switch was taken with a pod there".to_owned());
    }
    equal("the reload", outcome.map_err(|error| error.to_string())?, Changed::Yes)?;
    equal("the mode", said("mode", host.rdma_mode())?, RdmaMode::Exclusive)?;
    equal("the interfaces", after?.as_str(), before.as_str())?;
    equal("the modules", modules(host)?.len(), all.len())?;
    let users = said("users", host.rdma_users(&HOME))?;
    let processes = users.iter().filter(|user| matches!(user.owner, RdmaOwner::Process(_)));
    equal("processes", processes.count(), 0)?;
    Ok(format!("{} modules; {before}", all.len()))
}

fn other(mode: RdmaMode) -> RdmaMode {
    match mode {
        RdmaMode::Shared => RdmaMode::Exclusive,
        RdmaMode::Exclusive => RdmaMode::Shared,
    }
}
