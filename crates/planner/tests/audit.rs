//! The audit against plans that no guard has seen: made for a host that lives by nothing, then held against one that does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod model;
mod reader;

use expect_test::{Expect, expect};
use planner::merge::{ModeWish, node_state_spec};
use planner::select::NodeFacts;
use planner::{Desired, Turn, audit, policy};

/// The lines of a scenario, as in its files.
fn check(text: &str, expected: Expect) {
    let mut scenario = reader::read(text);
    let (policies, problems) = policy::parse_all(&scenario.policies);
    assert_eq!(problems, vec![]);
    let machine = &mut scenario.machine;
    let (labels, interfaces) = (&scenario.labels, &machine.interfaces());
    let facts = NodeFacts { name: "worker-0", labels, interfaces };
    let spec = node_state_spec(&facts, &policies, ModeWish::Is(None), &Default::default());
    let desired = Desired::parse(&spec);
    machine.offered.clear();
    let permission = machine.permission(Turn::NotYet);
    let lifelines = std::mem::take(&mut machine.inventory.lifelines);
    let plan = planner::plan(&desired, &machine.inventory, &permission, machine.now);
    let blind = audit::plan(&desired, &machine.inventory, &permission, &plan);
    assert_eq!(blind, Vec::<String>::new());
    machine.inventory.lifelines = lifelines;
    let findings = audit::plan(&desired, &machine.inventory, &permission, &plan);
    expected.assert_eq(&findings.join("\n"));
}

#[test]
fn a_plan_that_would_cut_the_host_off_is_found() {
    let card = "node w: cx7 at 0000:3b:00.0 (enp59s0)";
    let lives = "carries the default route over bond0";
    check(
        &format!("{card}; {lives}\npolicy p: pf enp59s0, 1 vfs, switchdev, mtu 9000"),
        expect![[r#"
            step "set eswitch mode 0000:3b:00.0 switchdev" cuts what the host lives by
            step "set pf mtu 0000:3b:00.0 9000" cuts what the host lives by"#]],
    );
    check(
        &format!("{card} driver i40e; {lives}\npolicy p: pf enp59s0, 1 vfs"),
        expect![[
            r#"step "set vf count 0000:3b:00.0 1 without drivers" cuts what the host lives by"#
        ]],
    );
    check(
        &format!("{card} driver bnxt_en with 1 vfs; {lives}\npolicy p: pf enp59s0, 2 vfs"),
        expect![[
            r#"step "set vf count 0000:3b:00.0 2 without drivers" cuts what the host lives by"#
        ]],
    );
    check(
        &format!("{card}; {lives}; in roce lag bond0\npolicy p: pf enp59s0, 1 vfs"),
        expect![[
            r#"step "set vf count 0000:3b:00.0 1 without drivers" cuts what the host lives by"#
        ]],
    );
    let with_vfs = format!("{card} with 2 vfs; vf 1 carries the default route");
    check(
        &format!("{with_vfs}\npolicy p: pf enp59s0, 3 vfs"),
        expect![[
            r#"step "set vf count 0000:3b:00.0 3 without drivers" cuts what the host lives by"#
        ]],
    );
    check(
        &format!("{with_vfs}\npolicy p: pf enp59s0, 2 vfs, vfio-pci"),
        expect![[r#"step "bind 0000:3b:00.0 vf 1 to vfio-pci" cuts what the host lives by"#]],
    );
    // Nobody asks for it any more.
    check(
        &format!("{card} with 1 vfs switchdev; {lives}"),
        expect![[r#"step "set eswitch mode 0000:3b:00.0 legacy" cuts what the host lives by"#]],
    );
}

#[test]
fn what_keeps_the_link_up_and_what_is_allowed_are_not_found() {
    let card = "node w: cx7 at 0000:3b:00.0 (enp59s0)";
    let lives = "carries the default route over bond0";
    for text in [
        format!("{card}; {lives}\npolicy p: pf enp59s0, 1 vfs"),
        format!("{card} driver bnxt_en; {lives}\npolicy p: pf enp59s0, 1 vfs"),
        format!("{card} with 1 vfs; {lives}; in roce lag bond0"),
        format!("{card}; {lives}\npolicy p: pf enp59s0, 1 vfs, switchdev, allow lifeline"),
        format!("{card} with 1 vfs switchdev; {lives}; lifeline allowed before"),
    ] {
        check(&text, expect![[""]]);
    }
}
