//! Reads what stands above the line of a scenario: one line each for node, policy and pool, or plain upstream YAML.

use crate::model::{self, Machine};
use api::custody::Holder;
use api::inventory::{
    FirmwareFacts, FirmwareSource, FirmwareSriov, PhysicalFunction, RdmaModule, RdmaModules,
    RdmaSubsystem, ReloadFacts, Setting,
};
use api::lifeline::{Carries, Lifeline};
use api::nodestate::RebootOutcome;
use api::policy::SriovNetworkNodePolicy;
use api::pool::SriovNetworkPoolConfig;
use api::primitives::IntOrString;
use api::{EswitchMode, LinkType, RdmaMode, Timestamp};
use std::collections::BTreeMap;

pub struct Scenario {
    pub name: String,
    pub machine: Machine,
    pub labels: BTreeMap<String, String>,
    pub policies: Vec<SriovNetworkNodePolicy>,
    pub pools: Vec<SriovNetworkPoolConfig>,
    pub drain_disabled: bool,
    /// Pods that no drain moves.
    pub stubborn: Vec<String>,
}

/// Panics with the line that it does not understand: a scenario is code.
pub fn read(text: &str) -> Scenario {
    let mut scenario = Scenario {
        name: "worker-0".to_owned(),
        machine: Machine::default(),
        labels: BTreeMap::new(),
        policies: vec![],
        pools: vec![],
        drain_disabled: false,
        stubborn: vec![],
    };
    let mut yaml = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with("apiVersion:") || !yaml.is_empty() {
            match line {
                "---" => document(&std::mem::take(&mut yaml), &mut scenario),
                line => yaml.push_str(&format!("{line}\n")),
            }
            continue;
        }
        match line.split_once(' ').and_then(|(kind, rest)| Some((kind, rest.split_once(": ")?))) {
            Some(("node", (name, rest))) => node(name, rest, &mut scenario),
            Some(("policy", (name, rest))) => scenario.policies.push(policy(name, rest)),
            Some(("pool", (name, rest))) => scenario.pools.push(pool(name, rest)),
            _ if line.is_empty() || line == "---" => {}
            _ => panic!("no node, policy or pool: {line}"),
        }
    }
    if !yaml.is_empty() {
        document(&yaml, &mut scenario);
    }
    scenario
}

fn document(yaml: &str, scenario: &mut Scenario) {
    let value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    match value["kind"].as_str() {
        Some("SriovNetworkNodePolicy") => {
            scenario.policies.push(serde_json::from_value(value).unwrap());
        }
        Some("SriovNetworkPoolConfig") => {
            scenario.pools.push(serde_json::from_value(value).unwrap());
        }
        kind => panic!("a scenario cannot use kind {kind:?}"),
    }
}

/// `cx5 at 0000:3b:00.0 (enp3s0f0) with 4 vfs; rdma shared; pod nccl-0 holds vf 2; …`
fn node(name: &str, text: &str, scenario: &mut Scenario) {
    scenario.name = name.to_owned();
    let machine = &mut scenario.machine;
    machine.now = Timestamp::from_second(1_800_000_000).unwrap();
    machine.default_mode = Some(RdmaMode::Shared);
    let inventory = &mut machine.inventory;
    inventory.boot_id = "boot-0".to_owned();
    inventory.rdma.mode = Some(RdmaMode::Shared);
    inventory.rdma.modprobe_writable = true;
    inventory.rdma.other_namespaces = 3;
    inventory.initial_rdma_mode = Some(RdmaMode::Shared);
    for part in text.split(';').map(str::trim) {
        let words: Vec<&str> = part.split_whitespace().collect();
        let rdma = &mut machine.inventory.rdma;
        match words.as_slice() {
            [card @ ("cx5" | "cx7" | "bluefield2" | "e810"), "at", pci, name, rest @ ..] => {
                let function = card_function(card, pci, name, rest, machine);
                machine.inventory.physical_functions.push(function);
            }
            ["rdma", "none"] => rdma.mode = None,
            ["rdma", mode] => rdma.mode = Some(mode.parse().unwrap()),
            ["initial", mode] => machine.inventory.initial_rdma_mode = Some(mode.parse().unwrap()),
            ["modprobe", "option", mode] => rdma.modprobe_option = Some(mode.parse().unwrap()),
            ["kernel", "argument", mode] => {
                rdma.kernel_argument = Some(mode.parse().unwrap());
                machine.next_argument = rdma.kernel_argument;
            }
            ["grub", "file", path, "has", mode] => {
                let mode = mode.parse().unwrap();
                rdma.kernel_argument_elsewhere = Some((mode, (*path).to_owned()));
            }
            ["next", "argument", mode] => machine.next_argument = Some(mode.parse().unwrap()),
            // Of the record before it.
            ["booked", "lever", words @ ..] => {
                machine.inventory.reboots.last_mut().unwrap().levers.push(words.join(" "));
            }
            ["settled"] => machine.inventory.reboots.last_mut().unwrap().undone = true,
            ["reload", "gate"] => {
                machine.mode_reload = true;
                rdma.reload = Some(ReloadFacts::Known(model::rdma_modules()));
            }
            ["reload", "is", "blind"] => {
                rdma.reload = Some(ReloadFacts::Unreadable("cannot list the users".to_owned()));
            }
            ["boot", "unit"] => rdma.boot_unit = true,
            ["module", "stays"] => machine.module_stays = true,
            ["modules", "load", "no", "more"] => machine.loads_no_more = true,
            ["refuses", "the", "switch"] => machine.refuses_switch = true,
            ["ib_core", "is", "built", "in"] => modules(rdma).stack.clear(),
            ["nobody", "is", "told"] => modules(rdma).kernel_users.clear(),
            ["module", module, "needs", "ib_core"] => {
                let module = RdmaModule { name: (*module).to_owned(), out_of_tree: false };
                modules(rdma).stack.insert(0, module);
            }
            ["module", module, "out", "of", "tree"] => {
                let module = RdmaModule { name: (*module).to_owned(), out_of_tree: true };
                modules(rdma).stack.insert(0, module);
            }
            ["module", module, "uses", device] => {
                let devices = vec![(*device).to_owned()];
                modules(rdma).kernel_users.insert((*module).to_owned(), devices);
            }
            ["ipoib", name, "has", "an", "address"] => {
                modules(rdma).addressed_ipoib.push((*name).to_owned());
            }
            ["reloaded", "for", goal, "in", boot, outcome] => {
                let mode = goal.parse().unwrap();
                let at = Timestamp::from_second(1_800_000_000 - 3600).unwrap();
                let records = &machine.inventory.reboots;
                let booked = planner::reload::book(records, (mode, vec![]), boot, "", at);
                machine.inventory.reboots = match *outcome {
                    "pending" => booked,
                    "refused" => planner::reload::fail(booked, "the kernel said no"),
                    "helped" => {
                        let mut booked = booked;
                        booked.last_mut().unwrap().outcome = RebootOutcome::Helped;
                        booked
                    }
                    other => panic!("no outcome of a reload: {other}"),
                };
            }
            ["tool", tool] => rdma.kernel_argument_tool = Some((*tool).to_owned()),
            ["upstream's", "file"] => rdma.managed_before = true,
            ["driver", "container"] => rdma.driver_container = true,
            ["no", "modprobe.d"] => rdma.modprobe_writable = false,
            ["alone"] => rdma.other_namespaces = 0,
            ["ignores", "levers"] => machine.ignores_levers = true,
            ["ignores", "reboot"] => machine.ignores_reboot = true,
            ["reboot", "disabled"] => machine.leave.by_person = true,
            ["a", "person", "reboots"] => machine.person_reboots = true,
            ["retry", value] => machine.leave.retry = (*value).to_owned(),
            ["firmware", "ignores", "writes"] => machine.firmware_ignores = true,
            ["bios", "off"] => machine.bios_off = true,
            ["locked", "down"] => machine.inventory.locked_down = true,
            ["no", node] if node.starts_with("/dev/") => {
                machine.inventory.vhost_missing.push((*node).to_owned());
            }
            ["plugin", "mellanox", "disabled"] => machine.no_firmware_writes = true,
            // Of the card before it: `firmware off 0 by mstconfig`, `firmware without tool`, …
            ["firmware", words @ ..] => {
                let pf = machine.inventory.physical_functions.last().unwrap().pci;
                machine.inventory.firmware.insert(pf, firmware(words));
            }
            // Of the card before it: `carries the default route over bond0`, `vf 1 carries the default route`, …
            ["carries", words @ ..] => {
                let pf = machine.inventory.physical_functions.last().unwrap();
                let (pci, name) = (pf.pci, pf.name.clone());
                let lifeline = lifeline(&name, words);
                machine.inventory.lifelines.entry(pci).or_default().push(lifeline);
            }
            ["vf", index, "carries", words @ ..] => {
                let pf = machine.inventory.physical_functions.last().unwrap();
                let vf = &pf.vfs[index.parse::<usize>().unwrap()];
                let lifeline = lifeline(vf.name.as_deref().unwrap(), words);
                machine.inventory.lifelines.entry(vf.pci).or_default().push(lifeline);
            }
            ["in", "roce", "lag", bond] => {
                let pci = machine.inventory.physical_functions.last().unwrap().pci;
                machine.inventory.roce_lags.insert(pci, (*bond).to_owned());
            }
            ["lifeline", "allowed", "before"] => {
                let pci = machine.inventory.physical_functions.last().unwrap().pci;
                machine.inventory.lifelines_allowed.insert(pci);
            }
            ["drain", "disabled"] => scenario.drain_disabled = true,
            ["label", label] => {
                let (key, value) = label.split_once('=').unwrap();
                scenario.labels.insert(key.to_owned(), value.to_owned());
            }
            ["pod", pod, how @ ("holds" | "clings-to"), "vf", index] => {
                let pf = machine.inventory.physical_functions.last().unwrap().pci;
                let device = model::vf_address(&pf, index.parse().unwrap()).to_string();
                machine.inventory.holders.push(Holder {
                    device,
                    namespace: "default".to_owned(),
                    pod: (*pod).to_owned(),
                    ..Holder::default()
                });
                if *how == "clings-to" {
                    scenario.stubborn.push((*pod).to_owned());
                }
            }
            ["rebooted", "for", goal, "in", boot, outcome @ ..] => {
                let outcome = match outcome {
                    ["pending"] => RebootOutcome::Pending,
                    ["helped"] => RebootOutcome::Helped,
                    ["void"] => RebootOutcome::Void,
                    ["refused"] => RebootOutcome::Refused { found: "the card said no".to_owned() },
                    ["did", "not", "help"] => RebootOutcome::DidNotHelp {
                        expected: (*goal).to_owned(),
                        found: if *goal == "shared" { "exclusive" } else { "shared" }.to_owned(),
                    },
                    other => panic!("no outcome of a reboot: {other:?}"),
                };
                // A firmware goal has blanks in it, written as underscores here.
                let mut record = match goal.contains(':') {
                    true => model::record(&firmware_goal(goal), boot, outcome),
                    false => model::record(goal, boot, outcome),
                };
                record.asked_at = Timestamp::from_second(1_800_000_000 - 3600).unwrap();
                machine.inventory.reboots.push(record);
            }
            _ => panic!("no part of a node: {part}"),
        }
    }
}

fn modules(rdma: &mut RdmaSubsystem) -> &mut RdmaModules {
    match &mut rdma.reload {
        Some(ReloadFacts::Known(known)) => known,
        _ => panic!("the gate comes first: reload gate"),
    }
}

/// `the default route over bond0`, `nfs4 from 10.0.0.5`.
fn lifeline(interface: &str, words: &[&str]) -> Lifeline {
    let above = |words: &[&str]| match words {
        ["over", names @ ..] => names.iter().map(|name| (*name).to_owned()).collect(),
        [] => Vec::new(),
        other => panic!("no interfaces above: {other:?}"),
    };
    let (carries, detail, rest) = match words {
        ["the", "default", "route", rest @ ..] => (Carries::DefaultRoute, String::new(), rest),
        [kind, "from", address, rest @ ..] => {
            (Carries::NetworkMount, format!("{kind} from {address}"), rest)
        }
        other => panic!("nothing that a host lives by: {other:?}"),
    };
    let over = [vec![interface.to_owned()], above(rest)].concat();
    Lifeline { carries, detail, gone_since: None, over }
}

/// `0000:3b:00.0_SRIOV_EN=True_NUM_OF_VFS=4`: the first and the second-named blank.
fn firmware_goal(text: &str) -> String {
    text.replacen('_', " ", 1).replacen("_NUM", " NUM", 1)
}

fn firmware(words: &[&str]) -> FirmwareFacts {
    let known = |on: bool, vfs: &str, source| {
        let vfs = vfs.parse().unwrap();
        FirmwareSriov {
            source,
            enabled: Setting { current: on, next: on },
            vfs: Setting { current: vfs, next: vfs },
            dpu_mode: false,
        }
    };
    match words {
        [on @ ("on" | "off"), vfs, "by", "mstconfig"] => {
            FirmwareFacts::Known(known(*on == "on", vfs, FirmwareSource::Mstconfig))
        }
        [on @ ("on" | "off"), vfs, "by", "devlink"] => {
            FirmwareFacts::Known(known(*on == "on", vfs, FirmwareSource::Devlink))
        }
        ["of", "a", "dpu"] => FirmwareFacts::Known(FirmwareSriov {
            dpu_mode: true,
            ..known(false, "0", FirmwareSource::Mstconfig)
        }),
        ["without", "tool"] => FirmwareFacts::ToolMissing,
        ["unreadable"] => FirmwareFacts::Unreadable("mstconfig ended with status 1".to_owned()),
        other => panic!("no firmware: {other:?}"),
    }
}

fn card_function(
    card: &str,
    pci: &str,
    name: &str,
    rest: &[&str],
    machine: &mut Machine,
) -> PhysicalFunction {
    let (vendor, device) = match card {
        "cx5" => ("15b3", "1017"),
        "cx7" => ("15b3", "1021"),
        "bluefield2" => ("15b3", "a2d6"),
        _ => ("8086", "1592"),
    };
    let name = name.trim_matches(|c| c == '(' || c == ')');
    let mut pf = model::pf(pci, name, vendor, device);
    let mut vfs = (0, "");
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let mut next = || *words.next().unwrap();
        match *word {
            "with" => {
                vfs.0 = next().parse().unwrap();
                vfs.1 = "ready";
                assert_eq!(next(), "vfs");
                machine.inventory.configured.push(pf.pci);
            }
            // VFs that somebody else made: no entry in the PF store, the PF holds no MAC for them.
            "foreign" => {
                vfs = (next().parse().unwrap(), "foreign");
                assert_eq!(next(), "vfs");
            }
            // Its mark in the PF store says that somebody else makes its VFs.
            "external" => {
                machine.inventory.configured.push(pf.pci);
                machine.inventory.external.insert(pf.pci);
            }
            "unreadable" => {
                let file = pf.pci.file("sriov_totalvfs");
                pf.unreadable = Some(format!("read {file}: input/output error"));
            }
            // Their drivers started before the PF held a MAC for them.
            "randommac" => vfs.1 = "randommac",
            "noguid" => vfs.1 = "noguid",
            "driver" => pf.driver = Some(next().to_owned()),
            "total" => pf.total_vfs = Some(next().parse().unwrap()),
            "nosriov" => pf.total_vfs = None,
            "altname" => pf.alt_names.push(next().to_owned()),
            "mtu" => pf.mtu = next().parse().unwrap(),
            "down" => pf.admin_up = false,
            "ib" => pf.link_type = Some(LinkType::Infiniband),
            "switchdev" => pf.eswitch = EswitchMode::Switchdev,
            other => panic!("no word about a card: {other}"),
        }
    }
    pf.vfs = (0..vfs.0).map(|index| model::ready_vf(&pf, index)).collect();
    if vfs.1 == "randommac" {
        for vf in &mut pf.vfs {
            (vf.mac, vf.permanent_mac) = (Some(format!("8a:00:00:00:00:{:02x}", vf.index)), None);
        }
    } else if vfs.1 != "ready" {
        pf.vfs.iter_mut().for_each(|vf| vf.admin_mac = None);
    }
    if vfs.1 == "noguid" {
        let zero = Some(planner::functions::NO_GUID.to_owned());
        pf.vfs.iter_mut().for_each(|vf| vf.guid = zero.clone());
    }
    if vfs.1 != "foreign" {
        machine.offered.extend(pf.vfs.iter().map(|vf| vf.pci));
    }
    pf
}

/// `pf enp3s0f0, 8 vfs, rdma, mtu 9000, priority 10, on rdma-capable=true`
fn policy(name: &str, text: &str) -> SriovNetworkNodePolicy {
    let mut policy = SriovNetworkNodePolicy::default();
    policy.metadata.name = name.to_owned();
    let spec = &mut policy.spec;
    spec.resource_name = name.replace('-', "_");
    for part in text.split(',').map(str::trim) {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words.as_slice() {
            ["pf", pf] => spec.nic_selector.pf_names.push((*pf).to_owned()),
            ["root", pci] => spec.nic_selector.root_devices.push((*pci).to_owned()),
            ["vendor", vendor] => spec.nic_selector.vendor = (*vendor).to_owned(),
            ["device", device] => spec.nic_selector.device_id = (*device).to_owned(),
            [count, "vfs"] => spec.num_vfs = count.parse().unwrap(),
            ["rdma"] => spec.is_rdma = true,
            ["vhost"] => spec.need_vhost_net = true,
            ["vfio-pci"] => spec.device_type = "vfio-pci".to_owned(),
            ["switchdev"] => spec.eswitch_mode = "switchdev".to_owned(),
            ["allow", "lifeline"] => spec.allow_lifeline = true,
            ["external"] => spec.externally_managed = true,
            ["mtu", mtu] => spec.mtu = mtu.parse().unwrap(),
            ["link", link] => spec.link_type = (*link).to_owned(),
            ["vdpa", kind] => spec.vdpa_type = (*kind).to_owned(),
            ["priority", priority] => spec.priority = Some(priority.parse().unwrap()),
            ["resource", resource] => spec.resource_name = (*resource).to_owned(),
            ["on", label] => {
                let (key, value) = label.split_once('=').unwrap();
                spec.node_selector.insert(key.to_owned(), value.to_owned());
            }
            _ => panic!("no part of a policy: {part}"),
        }
    }
    policy
}

/// `exclusive, max 1, on rdma-capable=true`
fn pool(name: &str, text: &str) -> SriovNetworkPoolConfig {
    let mut pool = SriovNetworkPoolConfig::default();
    pool.metadata.name = name.to_owned();
    for part in text.split(',').map(str::trim) {
        let words: Vec<&str> = part.split_whitespace().collect();
        match words.as_slice() {
            ["max", limit] => {
                pool.spec.max_unavailable = Some(match limit.parse() {
                    Ok(number) => IntOrString::Int(number),
                    Err(_) => IntOrString::String((*limit).to_owned()),
                });
            }
            ["on", label] => {
                let (key, value) = label.split_once('=').unwrap();
                let selector = pool.spec.node_selector.get_or_insert_default();
                selector.match_labels.insert(key.to_owned(), value.to_owned());
            }
            ["all", "nodes"] => {}
            [mode] => pool.spec.rdma_mode = (*mode).to_owned(),
            _ => panic!("no part of a pool: {part}"),
        }
    }
    pool
}
