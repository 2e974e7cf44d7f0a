//! Lanes over simulated machines: cards at the same time, failures that stay in their lane, and deaths on any thread.

use super::*;
use api::{PciAddress, Timestamp};
use expect_test::expect;
use host::crashing::{Crash, Crashing, Death, Side, survive};
use host::device_lock;
use host::sim::{Fault, Flavour, FunctionKind, Machine, SimHost};
use planner::Action;
use planner::action::Disturbance;
use std::time::{Duration, Instant};

fn machine() -> Machine {
    Machine::rdma_worker("worker-0", Flavour::Rhel, Timestamp::UNIX_EPOCH)
}

fn pci(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// Brings a PF to so many VFs; `touches` is locked meanwhile.
fn count(pf: &str, count: u32, touches: &[&str]) -> Step {
    let pf = pci(pf);
    Step {
        action: Action::SetVfCount { pf, count, probe: true },
        disturbs: Disturbance::Nothing,
        touches: touches.iter().map(|device| pci(device)).collect(),
        because: "a test".to_owned(),
        lane: Lane::of(&pf),
    }
}

/// PFs that have VFs, and how many.
fn vfs(host: &SimHost) -> String {
    let machine = host.machine();
    let counts = machine.functions.iter().filter_map(|(pci, function)| match &function.kind {
        FunctionKind::Physical(part) if part.num_vfs > 0 => {
            Some(format!("{pci}: {}", part.num_vfs))
        }
        _ => None,
    });
    counts.collect::<Vec<_>>().join(", ")
}

fn steps() -> [Step; 2] {
    [count("0000:03:00.0", 2, &["0000:03:00.2"]), count("0000:3b:00.0", 3, &[])]
}

fn ran(host: &dyn Host, steps: &[Step], order: Order) -> String {
    let mut failed = Failed::new();
    let steps: Vec<&Step> = steps.iter().collect();
    let done = run(host, &steps, order, &mut failed);
    let done: Vec<String> = done.iter().map(|step| step.action.to_string()).collect();
    format!(
        "done: {}; failed: {:?}",
        done.join(", "),
        failed.values().map(ToString::to_string).collect::<Vec<_>>()
    )
}

#[test]
#[allow(clippy::disallowed_methods)] // Two threads can only be seen side by side in real time.
fn a_card_that_waits_does_not_keep_another_one_waiting() {
    let host = SimHost::threaded(machine());
    let held = device_lock::take(&host, &pci("0000:03:00.2"), Duration::ZERO).unwrap();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| ran(&host, &steps(), Order::SideBySide));
        // Less than the five seconds for which the first card waits.
        let deadline = Instant::now() + Duration::from_secs(4);
        while !vfs(&host).contains("0000:3b:00.0: 3") && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(vfs(&host), "0000:3b:00.0: 3");
        drop(held);
        expect!["done: set vf count 0000:03:00.0 2, set vf count 0000:3b:00.0 3; failed: []"]
            .assert_eq(&running.join().unwrap());
    });
    assert_eq!(vfs(&host), "0000:03:00.0: 2, 0000:3b:00.0: 3");
}

#[test]
fn a_lane_ends_with_its_failure_and_the_others_go_on() {
    for order in [Order::OneByOne, Order::SideBySide] {
        let host = SimHost::threaded(machine());
        let steps = [
            count("0000:03:00.0", 999, &[]),
            count("0000:03:00.1", 1, &[]),
            count("0000:3b:00.0", 3, &[]),
        ];
        let said = ran(&host, &steps, order);
        let wanted = "done: set vf count 0000:3b:00.0 3; failed: \
                      [\"cannot set 999 VFs on 0000:03:00.0: the card allows 8\"]";
        assert_eq!(said, wanted, "{order:?}");
        assert_eq!(vfs(&host), "0000:3b:00.0: 3", "{order:?}");
    }
}

#[test]
fn what_the_kernel_is_still_at_has_not_failed() {
    let host = SimHost::new(machine());
    ran(&host, &steps(), Order::OneByOne);
    host.machine().faults.insert(Fault::VfRemovalBlocks);
    let fewer = [count("0000:03:00.0", 0, &[]), count("0000:03:00.1", 1, &[])];
    expect!["done: ; failed: []"].assert_eq(&ran(&host, &fewer, Order::OneByOne));
    assert_eq!(vfs(&host), "0000:03:00.0: 2, 0000:3b:00.0: 3");
    host.wait(&[], Duration::from_secs(60));
    assert_eq!(vfs(&host), "0000:3b:00.0: 3");
}

#[test]
fn a_death_in_one_lane_is_the_death_of_all_and_the_next_run_reaches_the_goal() {
    let clean = Crashing::new(SimHost::threaded(machine()), Death::Unwind);
    ran(&clean, &steps(), Order::SideBySide);
    let goal = vfs(clean.inner());
    for primitive in 1..=clean.count() {
        for side in [Side::Before, Side::After] {
            let crash = Crash { primitive, side };
            let host = Crashing::new(SimHost::threaded(machine()), Death::Unwind);
            host.arm(crash);
            survive(|| ran(&host, &steps(), Order::SideBySide)).expect_err("it dies");
            let after = host.inner();
            ran(after, &steps(), Order::SideBySide);
            assert_eq!(vfs(after), goal, "{crash:?}");
        }
    }
}
