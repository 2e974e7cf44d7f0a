//! Canaries, halts, skipped nodes and who else uses up the limit: a cluster in a few lines, moment by moment.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fleet;

use api::Timestamp;
use expect_test::{Expect, expect};
use fleet::fleet;
use planner::explain;
use planner::rollout::{Fleet, next};

/// What happens at one moment: minutes after the start, words that a node gets and loses, and annotations of the pool.
type Moment<'a> = (i64, &'a [(&'a str, &'a str)]);

/// Plays the moments one after the other; after each the pool's new status is stored, as the operator does.
fn check(text: &str, moments: &[Moment], expected: Expect) {
    let mut now = fleet(text);
    let mut said = String::new();
    for (minute, changes) in moments {
        for (name, words) in *changes {
            change(&mut now, name, words);
        }
        let at = Timestamp::from_second(minute * 60).unwrap();
        let rollout = next(&now, at);
        said.push_str(&format!("{minute} min\n{}", explain::rollout(&rollout)));
        store(&mut now, &rollout);
        let again = next(&now, at);
        for (name, pool) in &again.pools {
            assert!(
                pool.added.is_empty() && pool.given_back.is_empty(),
                "pool {name} is not at rest"
            );
            assert_eq!(pool.rollout, now.pools[0].status.rollout, "pool {name} is not at rest");
        }
    }
    expected.assert_eq(&said);
}

fn change(now: &mut Fleet, name: &str, words: &str) {
    if let Some(value) = words.strip_prefix("resume ") {
        let annotations = &mut now.pools[0].metadata.annotations;
        annotations.insert(api::annotation::RESUME.to_owned(), value.to_owned());
        return;
    }
    let parsed = fleet(&format!("{name} {words}"));
    now.nodes.extend(parsed.nodes);
}

fn store(now: &mut Fleet, rollout: &planner::rollout::Rollout) {
    for pool in &mut now.pools {
        let Some(next) = rollout.pools.get(&pool.metadata.name) else { continue };
        pool.status.grants.clone_from(&next.grants);
        pool.status.skipped.clone_from(&next.skipped);
        pool.status.rollout.clone_from(&next.rollout);
        pool.status.resumed.clone_from(&next.resumed);
    }
}

const FIVE: &str = "pool rdma max 2 on p=1 canary 1 pause yes
    w1 p=1 asks\n w2 p=1 asks\n w3 p=1 asks\n w4 p=1 asks\n w5 p=1 asks";

#[test]
fn a_canary_goes_first_then_a_person_says_go_on_then_the_rest_and_the_end_is_estimated() {
    check(
        FIVE,
        &[
            (0, &[]),
            (10, &[("w1", "p=1 done used")]),
            (20, &[("", "resume monday")]),
            (30, &[("w2", "p=1 done used"), ("w3", "p=1 done used")]),
            (40, &[("w4", "p=1 done used"), ("w5", "p=1 done used")]),
        ],
        expect![[r#"
            0 min
            pool rdma: 0 of 5 nodes ready
              canaries first, 0 of 5 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits until w1 has reached the goal: canaries go first
              w3 waits until w1 has reached the goal: canaries go first
              w4 waits until w1 has reached the goal: canaries go first
              w5 waits until w1 has reached the goal: canaries go first
            10 min
            pool rdma: 1 of 5 nodes ready
              paused after the canaries, 1 of 5 nodes finished
              grant ends: w1 asks for nothing more and is uncordoned
              w2 waits: the canaries reached the goal and pauseAfterCanary is set; give the annotation ironrail.dev/resume of pool rdma a new value to go on
              w3 waits: the canaries reached the goal and pauseAfterCanary is set; give the annotation ironrail.dev/resume of pool rdma a new value to go on
              w4 waits: the canaries reached the goal and pauseAfterCanary is set; give the annotation ironrail.dev/resume of pool rdma a new value to go on
              w5 waits: the canaries reached the goal and pauseAfterCanary is set; give the annotation ironrail.dev/resume of pool rdma a new value to go on
            20 min
            pool rdma: 1 of 5 nodes ready
              rolling, 1 of 5 nodes finished, ends about 1970-01-01T01:40:00Z
              new grant: w2 for Reboot_Required
              new grant: w3 for Reboot_Required
              w4 waits: 2 of 2 allowed nodes (w2, w3) are draining
              w5 waits: 2 of 2 allowed nodes (w2, w3) are draining
            30 min
            pool rdma: 3 of 5 nodes ready
              rolling, 3 of 5 nodes finished, ends about 1970-01-01T00:50:00Z
              grant ends: w2 asks for nothing more and is uncordoned
              grant ends: w3 asks for nothing more and is uncordoned
              new grant: w4 for Reboot_Required
              new grant: w5 for Reboot_Required
            40 min
            pool rdma: 5 of 5 nodes ready
              grant ends: w4 asks for nothing more and is uncordoned
              grant ends: w5 asks for nothing more and is uncordoned
        "#]],
    );
}

#[test]
fn a_node_that_comes_back_worse_halts_the_rollout_until_it_recovers() {
    check(
        "pool rdma on p=1\n w1 p=1 asks\n w2 p=1 asks",
        &[(0, &[]), (10, &[("w1", "p=1 used failing")]), (20, &[("w1", "p=1 done")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            10 min
            pool rdma: 0 of 2 nodes ready
              halted, 0 of 2 nodes finished; w1 is worse: the card does not answer
              grant ends: w1 asks for nothing more and is uncordoned
              w2 waits: the rollout is halted because w1 is worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
            20 min
            pool rdma: 1 of 2 nodes ready
              rolling, 0 of 1 nodes finished
              new grant: w2 for Reboot_Required
        "#]],
    );
}

#[test]
fn a_halted_rollout_is_resumed_in_spite_of_the_failure_and_halts_at_the_next_one() {
    check(
        "pool rdma on p=1\n w1 p=1 asks\n w2 p=1 asks\n w3 p=1 asks",
        &[
            (0, &[]),
            (10, &[("w1", "p=1 used failing")]),
            (20, &[("", "resume anyway")]),
            (30, &[("w2", "p=1 used failing")]),
        ],
        expect![[r#"
            0 min
            pool rdma: 0 of 3 nodes ready
              rolling, 0 of 3 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
              w3 waits: 1 of 1 allowed nodes (w1) is draining
            10 min
            pool rdma: 0 of 3 nodes ready
              halted, 0 of 3 nodes finished; w1 is worse: the card does not answer
              grant ends: w1 asks for nothing more and is uncordoned
              w2 waits: the rollout is halted because w1 is worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
              w3 waits: the rollout is halted because w1 is worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
            20 min
            pool rdma: 0 of 3 nodes ready
              rolling, 0 of 3 nodes finished; w1 is worse, accepted: the card does not answer
              new grant: w2 for Reboot_Required
              w3 waits: 1 of 1 allowed nodes (w2) is draining
            30 min
            pool rdma: 0 of 3 nodes ready
              halted, 0 of 3 nodes finished; w1 is worse, accepted: the card does not answer; w2 is worse: the card does not answer
              grant ends: w2 asks for nothing more and is uncordoned
              w3 waits: the rollout is halted because w2 is worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
        "#]],
    );
}

#[test]
fn what_a_node_reports_of_an_older_order_is_before_the_grant_and_never_after_it() {
    check(
        "pool rdma on p=1\n w1 p=1 asks failing stale\n w2 p=1 asks",
        &[(0, &[]), (10, &[("w1", "p=1 used failing")]), (20, &[("w2", "p=1 used failing stale")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            10 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 1 nodes finished
              grant ends: w1 asks for nothing more and is uncordoned
              new grant: w2 for Reboot_Required
            20 min
            pool rdma: 0 of 2 nodes ready
              grant ends: w2 asks for nothing more and is uncordoned
        "#]],
    );
}

#[test]
fn a_node_that_was_failing_before_is_no_worse_and_two_failures_may_be_allowed() {
    check(
        "pool rdma on p=1\n w1 p=1 asks failing\n w2 p=1 asks",
        &[(0, &[]), (10, &[("w1", "p=1 used failing")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            10 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 1 nodes finished
              grant ends: w1 asks for nothing more and is uncordoned
              new grant: w2 for Reboot_Required
        "#]],
    );
    check(
        "pool rdma on p=1 halt 2\n w1 p=1 asks\n w2 p=1 asks\n w3 p=1 asks",
        &[(0, &[]), (10, &[("w1", "p=1 used failing")]), (20, &[("w2", "p=1 used failing")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 3 nodes ready
              rolling, 0 of 3 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
              w3 waits: 1 of 1 allowed nodes (w1) is draining
            10 min
            pool rdma: 0 of 3 nodes ready
              rolling, 0 of 3 nodes finished; w1 is worse: the card does not answer
              grant ends: w1 asks for nothing more and is uncordoned
              new grant: w2 for Reboot_Required
              w3 waits: 1 of 1 allowed nodes (w2) is draining
            20 min
            pool rdma: 0 of 3 nodes ready
              halted, 0 of 3 nodes finished; w1 is worse: the card does not answer; w2 is worse: the card does not answer
              grant ends: w2 asks for nothing more and is uncordoned
              w3 waits: the rollout is halted because w1, w2 are worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
        "#]],
    );
}

#[test]
fn a_canary_that_fails_and_is_mended_has_gone_first() {
    let mut now = fleet("pool rdma on p=1 canary 1 pause yes\n w1 p=1 asks\n w2 p=1 asks");
    let moments = ["p=1 asks", "p=1 used failing", "p=1 asks failing", "p=1 done used"];
    let phases = [0, 10, 20, 30].into_iter().zip(moments).map(|(minute, words)| {
        change(&mut now, "w1", words);
        let rollout = next(&now, Timestamp::from_second(minute * 60).unwrap());
        store(&mut now, &rollout);
        let rollout = now.pools[0].status.rollout.clone().unwrap();
        format!("{} {}", rollout.phase, rollout.canaries.join(" "))
    });
    let phases: Vec<String> = phases.collect();
    assert_eq!(phases, ["Canary w1", "Halted w1", "Halted w1", "PausedAfterCanary w1"]);
}

#[test]
fn a_canary_that_fails_is_replaced_when_somebody_resumes() {
    check(
        "pool rdma on p=1 canary 1\n w1 p=1 asks\n w2 p=1 asks\n w3 p=1 asks",
        &[
            (0, &[]),
            (10, &[("w1", "p=1 used failing")]),
            (20, &[("", "resume 2")]),
            (30, &[("w2", "p=1 done used")]),
        ],
        expect![[r#"
            0 min
            pool rdma: 0 of 3 nodes ready
              canaries first, 0 of 3 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits until w1 has reached the goal: canaries go first
              w3 waits until w1 has reached the goal: canaries go first
            10 min
            pool rdma: 0 of 3 nodes ready
              halted, 0 of 3 nodes finished; w1 is worse: the card does not answer
              grant ends: w1 asks for nothing more and is uncordoned
              w2 waits: the rollout is halted because w1 is worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
              w3 waits: the rollout is halted because w1 is worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
            20 min
            pool rdma: 0 of 3 nodes ready
              canaries first, 0 of 3 nodes finished; w1 is worse, accepted: the card does not answer
              new grant: w2 for Reboot_Required
              w3 waits until w2 has reached the goal: canaries go first
            30 min
            pool rdma: 1 of 3 nodes ready
              rolling, 1 of 3 nodes finished, ends about 1970-01-01T01:00:00Z; w1 is worse, accepted: the card does not answer
              grant ends: w2 asks for nothing more and is uncordoned
              new grant: w3 for Reboot_Required
        "#]],
    );
}

#[test]
fn a_new_goal_starts_with_the_canaries_again() {
    check(
        "pool rdma on p=1 canary 1\n w1 p=1 asks\n w2 p=1 asks\n w3 p=1 asks",
        &[
            (0, &[]),
            (10, &[("w1", "p=1 done used")]),
            (20, &[("w1", "p=1 asks"), ("w2", "p=1 done used")]),
        ],
        expect![[r#"
            0 min
            pool rdma: 0 of 3 nodes ready
              canaries first, 0 of 3 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits until w1 has reached the goal: canaries go first
              w3 waits until w1 has reached the goal: canaries go first
            10 min
            pool rdma: 1 of 3 nodes ready
              rolling, 1 of 3 nodes finished, ends about 1970-01-01T00:30:00Z
              grant ends: w1 asks for nothing more and is uncordoned
              new grant: w2 for Reboot_Required
              w3 waits: 1 of 1 allowed nodes (w2) is draining
            20 min
            pool rdma: 1 of 3 nodes ready
              canaries first, 1 of 3 nodes finished, ends about 1970-01-01T00:20:00Z
              grant ends: w2 asks for nothing more and is uncordoned
              new grant: w1 for Reboot_Required
              w3 waits until w1 has reached the goal: canaries go first
        "#]],
    );
}

#[test]
fn a_node_that_is_not_drained_in_time_is_skipped_listed_and_taken_up_when_somebody_asks() {
    check(
        "pool rdma on p=1 deadline 5m then skipNode\n w1 p=1 asks\n w2 p=1 asks",
        &[
            (0, &[]),
            (4, &[("w1", "p=1 asks draining used cordoned-by-us")]),
            (5, &[]),
            // Its drain is undone: the grant of it is spent, and it still asks.
            (6, &[("w1", "p=1 spent used")]),
            (7, &[("w2", "p=1 done used"), ("w1", "p=1 asks")]),
            (8, &[("", "resume now")]),
        ],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            4 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            5 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            6 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant ends: the drain of w1 was undone; it waits for another turn
              new grant: w2 for Reboot_Required
            7 min
            pool rdma: 1 of 2 nodes ready
              rolling, 1 of 2 nodes finished, ends about 1970-01-01T00:14:00Z
              grant ends: w2 asks for nothing more and is uncordoned
              w1 waits: its drain was given up (not drained after 5m); give the annotation ironrail.dev/resume of pool rdma a new value to go on
            8 min
            pool rdma: 1 of 2 nodes ready
              rolling, 1 of 2 nodes finished, ends about 1970-01-01T00:14:00Z
              new grant: w1 for Reboot_Required
        "#]],
    );
}

#[test]
fn a_node_that_finished_its_drain_at_the_last_moment_is_not_skipped() {
    check(
        "pool rdma on p=1 deadline 5m then skipNode\n w1 p=1 asks\n w2 p=1 asks",
        &[
            (0, &[]),
            (5, &[("w1", "p=1 asks draining used cordoned-by-us")]),
            (6, &[("w1", "p=1 asks drained used cordoned-by-us")]),
        ],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            5 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            6 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
        "#]],
    );
}

#[test]
fn nodes_that_somebody_else_disturbs_count_only_when_the_pool_says_so_and_are_named() {
    check(
        "pool rdma max 2 on p=1\n w1 p=1 done notready\n w2 p=1 done cordoned\n w3 p=1 asks",
        &[(0, &[])],
        expect![[r#"
            0 min
            pool rdma: 2 of 3 nodes ready
              rolling, 0 of 1 nodes finished
              new grant: w3 for Reboot_Required
        "#]],
    );
    check(
        "pool rdma max 2 on p=1 unavailable count
         w1 p=1 done notready\n w2 p=1 done cordoned\n w3 p=1 asks",
        &[(0, &[]), (1, &[("w1", "p=1 done")])],
        expect![[r#"
            0 min
            pool rdma: 2 of 3 nodes ready
              rolling, 0 of 1 nodes finished
              w3 waits: the 2 allowed nodes are used up (w1 is not Ready, w2 is cordoned by somebody else)
            1 min
            pool rdma: 2 of 3 nodes ready
              rolling, 0 of 1 nodes finished
              new grant: w3 for Reboot_Required
        "#]],
    );
}

#[test]
fn a_node_that_is_done_and_not_ready_keeps_its_grant() {
    check(
        "pool rdma on p=1\n w1 p=1 asks\n w2 p=1 asks",
        &[(0, &[]), (1, &[("w1", "p=1 done used notready")]), (2, &[("w1", "p=1 done used")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            1 min
            pool rdma: 1 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            2 min
            pool rdma: 1 of 2 nodes ready
              rolling, 1 of 2 nodes finished, ends about 1970-01-01T00:04:00Z
              grant ends: w1 asks for nothing more and is uncordoned
              new grant: w2 for Reboot_Required
        "#]],
    );
}

#[test]
fn a_node_that_does_not_come_back_from_its_reboot_halts_the_rollout_after_a_quarter_of_an_hour() {
    let gone = "p=1 asks drained used gone cordoned-by-us";
    check(
        "pool rdma max 2 on p=1\n w1 p=1 asks\n w2 p=1 asks\n w3 p=1 asks",
        &[(0, &[]), (14, &[("w1", gone), ("w2", "p=1 done used")]), (15, &[])],
        expect![[r#"
            0 min
            pool rdma: 0 of 3 nodes ready
              rolling, 0 of 3 nodes finished
              new grant: w1 for Reboot_Required
              new grant: w2 for Reboot_Required
              w3 waits: 2 of 2 allowed nodes (w1, w2) are draining
            14 min
            pool rdma: 1 of 3 nodes ready
              rolling, 1 of 3 nodes finished, ends about 1970-01-01T00:42:00Z
              grant ends: w2 asks for nothing more and is uncordoned
              grant: w1 for Reboot_Required
              new grant: w3 for Reboot_Required
            15 min
            pool rdma: 1 of 3 nodes ready
              halted, 1 of 3 nodes finished; w1 is worse: it is not Ready since 1970-01-01T00:00:00Z
              grant: w1 for Reboot_Required
              grant: w3 for Reboot_Required
        "#]],
    );
}

#[test]
fn what_nobody_understands_is_named() {
    check(
        "pool rdma on p=1 canary some halt -1 deadline soon then kill\n w1 p=1 done",
        &[(0, &[])],
        expect![[r#"
            0 min
            pool rdma: 1 of 1 nodes ready
              problem: pool rdma: drain.deadline "soon" is no time; write for example 90s, 30m or 1h30m
              problem: pool rdma: drain.onDeadline "kill" is no policy; write wait, skipNode or force
              problem: pool rdma: rollout.canary "some" is no number of nodes; write for example 1 or 5%
              problem: pool rdma: rollout.haltAfterFailures -1 is no number of nodes; write 0 for never, or more
        "#]],
    );
}

#[test]
fn a_node_whose_daemon_does_not_come_back_with_it_halts_the_rollout_after_a_quarter_of_an_hour() {
    let silent = "p=1 asks drained used silent cordoned-by-us";
    check(
        "pool rdma on p=1\n w1 p=1 asks\n w2 p=1 asks",
        &[(0, &[]), (14, &[("w1", silent)]), (15, &[]), (16, &[("w1", "p=1 done used")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            14 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            15 min
            pool rdma: 0 of 2 nodes ready
              halted, 0 of 2 nodes finished; w1 is worse: its daemon sriov-network-config-daemon has said nothing of the boot that is Ready since 1970-01-01T00:00:00Z
              grant: w1 for Reboot_Required
              w2 waits: the rollout is halted because w1 is worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
            16 min
            pool rdma: 1 of 2 nodes ready
              rolling, 1 of 2 nodes finished, ends about 1970-01-01T00:32:00Z
              grant ends: w1 asks for nothing more and is uncordoned
              new grant: w2 for Reboot_Required
        "#]],
    );
}

#[test]
fn a_canary_that_had_its_turn_and_is_not_at_its_goal_keeps_the_others_until_a_person_says_go_on() {
    check(
        "pool rdma on p=1 canary 1 pause yes\n w1 p=1 asks failing\n w2 p=1 asks\n w3 p=1 asks",
        &[(0, &[]), (10, &[("w1", "p=1 used failing")]), (20, &[("", "resume so")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 3 nodes ready
              canaries first, 0 of 3 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits until w1 has reached the goal: canaries go first
              w3 waits until w1 has reached the goal: canaries go first
            10 min
            pool rdma: 0 of 3 nodes ready
              canaries first, 0 of 2 nodes finished
              grant ends: w1 asks for nothing more and is uncordoned
              w2 waits until w1 has reached the goal: canaries go first; w1 had a turn and did not get there: mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
              w3 waits until w1 has reached the goal: canaries go first; w1 had a turn and did not get there: mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
            20 min
            pool rdma: 0 of 3 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w2 for Reboot_Required
              w3 waits: 1 of 1 allowed nodes (w2) is draining
        "#]],
    );
}

#[test]
fn a_pause_after_the_canaries_stays_when_a_canary_has_something_new_to_do() {
    check(
        "pool rdma max 2 on p=1 canary 1 pause yes\n w1 p=1 asks\n w2 p=1 asks",
        &[
            (0, &[]),
            (10, &[("w1", "p=1 done used")]),
            // A policy was edited: its daemon has not reported of the new order yet, then has.
            (20, &[("w1", "p=1 stale")]),
            (21, &[("w1", "p=1 done")]),
        ],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              canaries first, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits until w1 has reached the goal: canaries go first
            10 min
            pool rdma: 1 of 2 nodes ready
              paused after the canaries, 1 of 2 nodes finished
              grant ends: w1 asks for nothing more and is uncordoned
              w2 waits: the canaries reached the goal and pauseAfterCanary is set; give the annotation ironrail.dev/resume of pool rdma a new value to go on
            20 min
            pool rdma: 0 of 2 nodes ready
              canaries first, 1 of 2 nodes finished, ends about 1970-01-01T00:40:00Z
              w2 waits until w1 has reached the goal: canaries go first
            21 min
            pool rdma: 1 of 2 nodes ready
              paused after the canaries, 1 of 2 nodes finished
              w2 waits: the canaries reached the goal and pauseAfterCanary is set; give the annotation ironrail.dev/resume of pool rdma a new value to go on
        "#]],
    );
}

#[test]
fn a_canary_that_leaves_the_pool_during_the_pause_makes_no_room_for_another() {
    check(
        "pool rdma max 2 on p=1 canary 1 pause yes\n w1 p=1 asks\n w2 p=1 asks",
        &[(0, &[]), (10, &[("w1", "p=1 done used")]), (20, &[("w1", "p=2 done")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              canaries first, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits until w1 has reached the goal: canaries go first
            10 min
            pool rdma: 1 of 2 nodes ready
              paused after the canaries, 1 of 2 nodes finished
              grant ends: w1 asks for nothing more and is uncordoned
              w2 waits: the canaries reached the goal and pauseAfterCanary is set; give the annotation ironrail.dev/resume of pool rdma a new value to go on
            20 min
            pool rdma: 0 of 1 nodes ready
              paused after the canaries, 1 of 2 nodes finished
              w2 waits: the canaries reached the goal and pauseAfterCanary is set; give the annotation ironrail.dev/resume of pool rdma a new value to go on
            nodes without a pool: 1 of 1 nodes ready
        "#]],
    );
}

#[test]
fn a_reboot_of_no_use_halts_also_where_the_node_reported_another_error_before() {
    check(
        "pool rdma on p=1\n w1 p=1 asks failing\n w2 p=1 asks",
        &[(0, &[]), (10, &[("w1", "p=1 used useless")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            10 min
            pool rdma: 0 of 2 nodes ready
              halted, 0 of 2 nodes finished; w1 is worse: the reboot did not help
              grant ends: w1 asks for nothing more and is uncordoned
              w2 waits: the rollout is halted because w1 is worse than before; mend it, or give the annotation ironrail.dev/resume of pool rdma a new value to go on
        "#]],
    );
    check(
        "pool rdma on p=1\n w1 p=1 asks useless\n w2 p=1 asks",
        &[(0, &[]), (10, &[("w1", "p=1 used useless")])],
        expect![[r#"
            0 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
            10 min
            pool rdma: 0 of 2 nodes ready
              rolling, 0 of 1 nodes finished
              grant ends: w1 asks for nothing more and is uncordoned
              new grant: w2 for Reboot_Required
        "#]],
    );
}

#[test]
fn nobody_goes_while_nobody_understands_who_is_to_go_first() {
    for rollout in ["canary some", "pause yes", "halt -1"] {
        let now = fleet(&format!("pool rdma max 2 on p=1 {rollout}\n w1 p=1 asks\n w2 p=1 asks"));
        let rollout = next(&now, Timestamp::UNIX_EPOCH);
        assert!(rollout.pools["rdma"].added.is_empty(), "{}", explain::rollout(&rollout));
        let waits = rollout.waits("w1").unwrap().to_string();
        assert!(waits.contains("rollout."), "{waits}");
    }
}
