//! Scenarios: a node, policies and pools above a line, and below it everything that happens until the node is at its
//! goal. `UPDATE_EXPECT=1 cargo test -p planner --test scenarios` rewrites what is below the line.
//!
//! Every scenario also says what planning again gives, and what the independent audit of every plan on the way found.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and scenarios are files"
)]

mod model;
mod reader;

use api::nodestate::NodeStateSpec;
use model::Machine;
use model::drive::drive;
use planner::merge::{mode_wish, node_state_spec};
use planner::select::NodeFacts;
use planner::{Desired, Turn, policy};
use reader::Scenario;
use std::fmt::Write as _;

#[test]
fn every_scenario_reads_as_it_is_written() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scenarios");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "the scenarios are gone: {} left", files.len());
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = vec![];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (above, below) = text.split_once("----\n").unwrap_or((&text, ""));
        let found = run(reader::read(above));
        if found == below {
            continue;
        }
        match update {
            true => std::fs::write(&file, format!("{above}----\n{found}")).unwrap(),
            false => wrong.push(format!("{}:\n{found}", file.display())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Drives one node to its goal, or to where it waits for a person, and writes down each step.
fn run(scenario: Scenario) -> String {
    let Scenario { mut machine, name, labels, policies, pools, drain_disabled, stubborn } =
        scenario;
    let mut out = String::new();
    let (policies, problems) = policy::parse_all(&policies);
    problems.iter().for_each(|problem| writeln!(out, "problem: {problem}").unwrap());
    let facts = NodeFacts { name: &name, labels: &labels, interfaces: &machine.interfaces() };
    let wish = mode_wish(&labels, &pools);
    let spec = node_state_spec(&facts, &policies, wish, &NodeStateSpec::default());
    let desired = Desired::parse(&spec);
    let turn = if drain_disabled { Turn::DrainDisabled } else { Turn::NotYet };
    let mut number = 0;
    let (turn, findings) = drive(&mut machine, &desired, turn, &stubborn, |what, because| {
        number += 1;
        writeln!(out, "{number}. {what:<44} because {because}").unwrap();
    });
    closing(&mut out, &desired, &machine, turn, &findings);
    out
}

fn closing(
    out: &mut String,
    desired: &Desired,
    machine: &Machine,
    turn: Turn,
    findings: &[String],
) {
    let permission = machine.permission(turn);
    let again = planner::plan(desired, &machine.inventory, &permission, machine.now);
    for blocker in &again.blockers {
        writeln!(out, "waits: {} ({})", blocker, blocker.reason()).unwrap();
    }
    if let Some(because) = &again.mode_missed {
        writeln!(out, "no rdma device is given: {because}").unwrap();
    }
    match again.steps.len() + again.later.len() {
        0 => writeln!(out, "again: nothing to do").unwrap(),
        _ => {
            let steps = again.steps.iter().chain(&again.later);
            let steps: Vec<String> = steps.map(|step| step.action.to_string()).collect();
            writeln!(out, "again: {}", steps.join("; ")).unwrap();
        }
    }
    match findings {
        [] => writeln!(out, "audit: nothing found").unwrap(),
        findings => writeln!(out, "audit: {}", findings.join("; ")).unwrap(),
    }
}
