//! Grants, limits and drains: a cluster in a few lines, and who may be disturbed next.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fleet;

use api::Timestamp;
use api::custody::Holder;
use api::nodestate::DrainStatus;
use api::primitives::IntOrString;
use expect_test::{Expect, expect};
use fleet::fleet;
use planner::drain::{DrainFacts, DrainPod, Refusal};
use planner::pools::limit;
use planner::rollout::next;
use planner::{DrainRequest, explain};

fn check(text: &str, expected: Expect) {
    let fleet = fleet(text);
    let rollout = next(&fleet, Timestamp::UNIX_EPOCH);
    for (name, pool) in &rollout.pools {
        let before = fleet.pools.iter().find(|pool| pool.metadata.name == *name).unwrap();
        let kept = before.status.grants.len() - pool.given_back.len();
        assert!(
            pool.added.is_empty() || pool.grants.len() <= pool.limit.nodes().max(kept),
            "a grant over the limit"
        );
    }
    // Deciding again on what was stored changes nothing.
    let mut stored = fleet.clone();
    for pool in &mut stored.pools {
        if let Some(next) = rollout.pools.get(&pool.metadata.name) {
            pool.status.grants.clone_from(&next.grants);
        }
    }
    stored.grants_without_pool.clone_from(&rollout.without_pool.grants);
    let again = next(&stored, Timestamp::UNIX_EPOCH);
    assert!(again.pools.values().all(|pool| pool.added.is_empty() && pool.given_back.is_empty()));
    expected.assert_eq(&explain::rollout(&rollout));
}

#[test]
fn max_unavailable_means_what_the_table_says() {
    let text = |text: &str| Some(IntOrString::String(text.to_owned()));
    let number = |number: i64| Some(IntOrString::Int(number));
    let cases = [
        (number(1), 1),
        (text("bla"), 10),
        (text("33%"), 10),
        (number(-1), 10),
        (number(0), 10),
        (text("0%"), 10),
        (text("99999999999999999."), 10),
        (text("10000%"), 10),
        (text("5"), 10),
        (None, 10),
        (text("30%"), 1),
        (text("100%"), 3),
        (text("10%"), 0),
    ];
    let lines: Vec<String> = cases
        .iter()
        .map(|(value, nodes)| {
            let shown = value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            format!("{shown} of {nodes} nodes: {:?}", limit(value.as_ref(), *nodes))
        })
        .collect();
    expect![[r#"
        1 of 1 nodes: Nodes(1)
        bla of 10 nodes: Invalid("maxUnavailable \"bla\" is no limit; write a number of nodes, or a percentage from 1% to 100%")
        33% of 10 nodes: Nodes(3)
        -1 of 10 nodes: Invalid("maxUnavailable -1 is no limit; write a number of nodes, or a percentage from 1% to 100%")
        0 of 10 nodes: Paused
        0% of 10 nodes: Paused
        99999999999999999. of 10 nodes: Invalid("maxUnavailable \"99999999999999999.\" is no limit; write a number of nodes, or a percentage from 1% to 100%")
        10000% of 10 nodes: Invalid("maxUnavailable \"10000%\" is no limit; write a number of nodes, or a percentage from 1% to 100%")
        5 of 10 nodes: Invalid("maxUnavailable \"5\" is no limit; write a number of nodes, or a percentage from 1% to 100%")
        nothing of 10 nodes: Nodes(1)
        30% of 1 nodes: Nodes(1)
        100% of 3 nodes: Nodes(3)
        10% of 0 nodes: Nodes(1)"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn one_at_a_time_when_nothing_is_said() {
    check(
        "pool fast on p=1\n w1 p=1 asks\n w2 p=1 asks\n w3 p=1 done",
        expect![[r#"
            pool fast: 1 of 3 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
        "#]],
    );
}

#[test]
fn two_in_parallel_and_the_third_waits() {
    check(
        "pool fast max 2 on p=1\n w1 p=1 asks\n w2 p=1 asks-drain\n w3 p=1 asks",
        expect![[r#"
            pool fast: 0 of 3 nodes ready
              rolling, 0 of 3 nodes finished
              new grant: w1 for Reboot_Required
              new grant: w2 for Drain_Required
              w3 waits: 2 of 2 allowed nodes (w1, w2) are draining
        "#]],
    );
}

#[test]
fn a_granted_node_keeps_its_grant_until_it_is_idle_and_uncordoned() {
    check(
        "pool fast max 1 on p=1 granted w1
         w1 p=1 asks drained cordoned-by-us
         w2 p=1 asks",
        expect![[r#"
            pool fast: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
        "#]],
    );
    check(
        "pool fast max 1 on p=1 granted w1
         w1 p=1 cordoned-by-us
         w2 p=1 asks",
        expect![[r#"
            pool fast: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              grant: w1 for Reboot_Required
              w2 waits: 1 of 1 allowed nodes (w1) is draining
        "#]],
    );
    check(
        "pool fast max 1 on p=1 granted w1\n w1 p=1 done\n w2 p=1 asks",
        expect![[r#"
            pool fast: 1 of 2 nodes ready
              rolling, 1 of 2 nodes finished, ends about 1970-01-01T00:00:00Z
              grant ends: w1 asks for nothing more and is uncordoned
              new grant: w2 for Reboot_Required
        "#]],
    );
}

#[test]
fn a_node_counts_only_when_its_order_carries_the_mode_that_the_pool_wants() {
    check(
        "pool fast mode exclusive on p=1
         w1 p=1 done
         w2 p=1 done ordered-exclusive",
        expect![[r#"
            pool fast: 1 of 2 nodes ready
        "#]],
    );
    // The mode was taken back, and the order of w2 does not know it yet.
    check(
        "pool fast on p=1
         w1 p=1 done
         w2 p=1 done ordered-exclusive",
        expect![[r#"
            pool fast: 1 of 2 nodes ready
        "#]],
    );
}

#[test]
fn a_node_that_is_gone_gives_its_grant_back() {
    check(
        "pool fast max 1 on p=1 granted gone\n w2 p=1 asks",
        expect![[r#"
            pool fast: 0 of 1 nodes ready
              rolling, 0 of 1 nodes finished
              grant ends: gone is gone
              new grant: w2 for Reboot_Required
        "#]],
    );
}

#[test]
fn zero_is_paused() {
    check(
        "pool fast max 0 on p=1\n w1 p=1 asks",
        expect![[r#"
            pool fast: 0 of 1 nodes ready
              rolling, 0 of 1 nodes finished
              w1 waits: pool fast is paused by maxUnavailable: 0
        "#]],
    );
}

#[test]
fn a_limit_that_nobody_understands_disturbs_nobody() {
    check(
        "pool fast max bla on p=1\n w1 p=1 asks",
        expect![[r#"
            pool fast: 0 of 1 nodes ready
              rolling, 0 of 1 nodes finished
              w1 waits: pool fast: maxUnavailable "bla" is no limit; write a number of nodes, or a percentage from 1% to 100%
              problem: pool fast: maxUnavailable "bla" is no limit; write a number of nodes, or a percentage from 1% to 100%
        "#]],
    );
}

#[test]
fn a_lowered_limit_takes_nothing_away_and_adds_nothing() {
    check(
        "pool fast max 1 on p=1 granted w1,w2
         w1 p=1 asks draining
         w2 p=1 asks draining
         w3 p=1 asks",
        expect![[r#"
            pool fast: 0 of 3 nodes ready
              rolling, 0 of 3 nodes finished
              grant: w1 for Reboot_Required
              grant: w2 for Reboot_Required
              w3 waits: 2 of 1 allowed nodes (w1, w2) are draining
        "#]],
    );
}

#[test]
fn a_node_in_two_pools_waits_and_both_say_so() {
    check(
        "pool one max 5 on p=1\n pool two max 5 on q=1\n w1 p=1 q=1 asks\n w2 p=1 asks",
        expect![[r#"
            pool one: 0 of 2 nodes ready
              rolling, 0 of 1 nodes finished
              new grant: w2 for Reboot_Required
              w1 waits: it is in 2 pools (one, two); change the node selectors so that one is left
              problem: pool one: w1 waits: it is in 2 pools (one, two); change the node selectors so that one is left
            pool two: 0 of 1 nodes ready
              w1 waits: it is in 2 pools (one, two); change the node selectors so that one is left
              problem: pool two: w1 waits: it is in 2 pools (one, two); change the node selectors so that one is left
        "#]],
    );
}

#[test]
fn nodes_without_a_pool_go_one_at_a_time_and_pools_are_independent() {
    check(
        "pool fast max 1 on p=1\n w1 p=1 asks\n w2 asks\n w3 asks",
        expect![[r#"
            pool fast: 0 of 1 nodes ready
              rolling, 0 of 1 nodes finished
              new grant: w1 for Reboot_Required
            nodes without a pool: 0 of 2 nodes ready
              new grant: w2 for Reboot_Required
              w3 waits: 1 of 1 allowed nodes (w2) is draining
        "#]],
    );
}

#[test]
fn an_empty_selector_takes_all_nodes() {
    check(
        "pool all max 2\n w1 asks\n w2 asks\n w3 unmanaged",
        expect![[r#"
            pool all: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w1 for Reboot_Required
              new grant: w2 for Reboot_Required
        "#]],
    );
}

#[test]
fn a_pool_for_hardware_offload_has_no_members() {
    check(
        "pool mcp offload worker\n w1 asks",
        expect![[r#"
        nodes without a pool: 0 of 1 nodes ready
          new grant: w1 for Reboot_Required
    "#]],
    );
}

#[test]
fn an_empty_cordoned_node_is_taken_first() {
    check(
        "pool fast max 1 on p=1\n w1 p=1 asks\n w2 p=1 asks cordoned empty",
        expect![[r#"
            pool fast: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w2 for Reboot_Required
              w1 waits: 1 of 1 allowed nodes (w2) is draining
        "#]],
    );
}

#[test]
fn a_node_that_upstream_was_draining_is_adopted_first() {
    check(
        "pool fast max 1 on p=1\n w1 p=1 asks\n w2 p=1 asks draining",
        expect![[r#"
            pool fast: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w2 for Reboot_Required
              w1 waits: 1 of 1 allowed nodes (w2) is draining
        "#]],
    );
}

#[test]
fn a_node_that_is_not_ready_is_skipped_and_listed() {
    check(
        "pool fast max 1 on p=1\n w1 p=1 asks notready\n w2 p=1 asks",
        expect![[r#"
            pool fast: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w2 for Reboot_Required
              w1 waits: it is not Ready; repair it, the others go on
        "#]],
    );
}

#[test]
fn a_foreign_drainer_keeps_its_node() {
    check(
        "pool fast max 2 on p=1\n w1 p=1 asks external\n w2 p=1 asks",
        expect![[r#"
            pool fast: 0 of 2 nodes ready
              rolling, 0 of 2 nodes finished
              new grant: w2 for Reboot_Required
              w1 waits for somebody else's drain: its node state has sriovnetwork.openshift.io/use-external-drainer
        "#]],
    );
}

#[test]
fn control_plane_nodes_go_one_at_a_time_whatever_the_pools_say() {
    check(
        "pool one max 5 on p=1\n pool two max 5 on q=1
         c1 p=1 control-plane asks
         c2 q=1 control-plane asks
         c3 q=1 control-plane done",
        expect![[r#"
            pool one: 0 of 1 nodes ready
              rolling, 0 of 1 nodes finished
              new grant: c1 for Reboot_Required
            pool two: 1 of 2 nodes ready
              rolling, 0 of 1 nodes finished
              c2 waits: control-plane nodes go one at a time, and c1 is draining
        "#]],
    );
    check(
        "pool one max 5 on p=1
         c1 p=1 control-plane asks
         c2 control-plane unmanaged notready",
        expect![[r#"
            pool one: 0 of 1 nodes ready
              rolling, 0 of 1 nodes finished
              c1 waits: control-plane nodes go only while the others are Ready, and c2 is not
        "#]],
    );
}

/// Lines: `app uid1 holds 0000:3b:00.2`, `agent ds`, `dns refused:<sentence>`, …
fn drain(request: DrainRequest, nodes_in_cluster: usize, text: &str, expected: Expect) {
    let mut facts = DrainFacts {
        node: "worker-0".to_owned(),
        request,
        nodes_in_cluster,
        resource_prefix: "openshift.io".to_owned(),
        ..DrainFacts::default()
    };
    let mut fence = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        if name == "fence:" {
            fence = Some(words.map(str::to_owned).collect::<Vec<_>>());
            continue;
        }
        let mut pod = DrainPod {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            ..DrainPod::default()
        };
        while let Some(word) = words.next() {
            match word {
                "holds" => facts.holders.push(Holder {
                    device: words.next().unwrap().to_owned(),
                    namespace: pod.namespace.clone(),
                    pod: pod.name.clone(),
                    uid: pod.uid.clone(),
                    ..Holder::default()
                }),
                "requests" => {
                    pod.resources.insert(words.next().unwrap().to_owned());
                }
                "ds" => pod.daemon_set = true,
                "mirror" => pod.mirror = true,
                "claims" => pod.has_claims = true,
                "finished" => pod.finished = true,
                "terminating" => pod.terminating = true,
                "finalizer" => pod.finalizers.push(words.next().unwrap().to_owned()),
                "of" => pod.owner = format!("ReplicaSet {}", words.next().unwrap()),
                "operator" => facts.operator_pod = pod.key(),
                "stranded" => facts.operator_has_no_place = true,
                "moving" => facts.operator_moves = true,
                "refused" => {
                    let sentence: Vec<&str> = words.by_ref().collect();
                    let refusal = Refusal::Budget(sentence.join(" "));
                    facts.refusals.insert(pod.uid.clone(), refusal);
                }
                other => panic!("no word about a pod: {other}"),
            }
        }
        facts.pods.push(pod);
    }
    let devices = facts.holders.iter().map(|holder| holder.device.clone()).collect();
    facts.fence = match fence.unwrap_or(devices).as_slice() {
        [word] if word == "none" => None,
        [word] if word == "late" => {
            facts.fence_is_late = true;
            None
        }
        devices => Some(DrainStatus { fenced: true, devices: devices.to_vec() }),
    };
    expected.assert_eq(&explain::drain("worker-0", &planner::drain::plan(&facts)));
}

#[test]
fn the_operator_stays_where_no_other_node_could_take_it_and_all_others_with_it() {
    drain(
        DrainRequest::Reboot,
        2,
        "manager operator stranded
         web",
        expect![[r#"
            worker-0:
              cordon
              waits: the drain of worker-0 waits: the operator's own pod default/manager runs there, and no other node is Ready, schedulable and without a taint that keeps it away; uncordon one, or wait until one is back
        "#]],
    );
}

#[test]
fn the_last_node_that_could_take_an_operator_on_its_way_is_not_cordoned() {
    drain(
        DrainRequest::Reboot,
        2,
        "manager operator moving stranded
         web",
        expect![[r#"
            worker-0:
              waits: the drain of worker-0 waits: the operator's own pod default/manager leaves its node, and no node but worker-0 could take it; it goes on when the operator runs again and another node is back
        "#]],
    );
    drain(
        DrainRequest::Reboot,
        3,
        "manager operator moving",
        expect![[r#"
            worker-0:
              cordon
              evict default/manager  because it is the operator, which moves before it drains the rest
        "#]],
    );
}

#[test]
fn pods_with_devices_are_held_back_until_nobody_can_be_given_one_any_more() {
    for (fence, request) in [
        ("none", DrainRequest::Drain),
        ("late", DrainRequest::Drain),
        ("none", DrainRequest::Reboot),
    ] {
        let text = format!(
            "fence: {fence}
             app holds 0000:3b:00.2
             soon requests openshift.io/rdma
             web"
        );
        let expected = match (fence, request) {
            ("late", _) => expect![[r#"
                worker-0:
                  cordon
                  leave default/web  because it holds no device
                  waits: the pods with devices stay: the daemon of worker-0 has not said for a minute that its devices are withdrawn; see whether its pod sriov-network-config-daemon runs there, and in the version of this operator
            "#]],
            (_, DrainRequest::Drain) => expect![[r#"
                worker-0:
                  cordon
                  leave default/web  because it holds no device
                  waits: the pods with devices stay until the daemon of worker-0 says that nobody can be given one any more
            "#]],
            _ => expect![[r#"
                worker-0:
                  cordon
                  evict default/web  because the node is drained for a reboot
                  waits: the pods with devices stay until the daemon of worker-0 says that nobody can be given one any more
            "#]],
        };
        drain(request, 3, &text, expected);
    }
}

#[test]
fn only_those_go_whose_device_is_in_the_way() {
    drain(
        DrainRequest::Drain,
        3,
        "fence: 0000:3b:00.2
         app holds 0000:3b:00.2
         other holds 0000:5e:00.1
         soon requests openshift.io/rdma",
        expect![[r#"
            worker-0:
              cordon
              evict default/app  because it holds 0000:3b:00.2
              leave default/other  because 0000:5e:00.1 stays as it is
              leave default/soon  because it holds no device
        "#]],
    );
}

#[test]
fn a_device_whose_pod_nobody_names_yet_is_waited_for() {
    let device = "0000:3b:00.2".to_owned();
    let facts = DrainFacts {
        request: DrainRequest::Drain,
        nodes_in_cluster: 3,
        holders: vec![Holder { device: device.clone(), ..Holder::default() }],
        fence: Some(DrainStatus { fenced: true, devices: vec![device] }),
        ..DrainFacts::default()
    };
    let plan = planner::drain::plan(&facts);
    assert!(!plan.is_complete());
    expect![[r#"
        worker-0:
          cordon
          waits: 0000:3b:00.2 was given to a pod that the kubelet does not name yet
    "#]]
    .assert_eq(&explain::drain("worker-0", &plan));
}

#[test]
fn a_drain_for_devices_moves_holders_and_those_who_may_become_one() {
    drain(
        DrainRequest::Drain,
        3,
        "app holds 0000:3b:00.2
         agent ds holds 0000:3b:00.3
         soon requests openshift.io/rdma
         other requests nvidia.com/gpu
         done finished holds 0000:3b:00.4
         static mirror",
        expect![[r#"
            worker-0:
              cordon
              evict default/agent  because it holds 0000:3b:00.3
              evict default/app  because it holds 0000:3b:00.2
              leave default/other  because it holds no device
              leave default/soon  because it holds no device
              leave default/static  because it is a static pod, which the API cannot evict
        "#]],
    );
}

#[test]
fn a_drain_for_a_reboot_moves_all_but_daemon_sets_and_static_pods() {
    drain(
        DrainRequest::Reboot,
        3,
        "app
         agent ds holds 0000:3b:00.3
         static mirror
         going terminating
         dns refused Cannot evict pod as it would violate the pod's disruption budget.",
        expect![[r#"
            worker-0:
              cordon
              evict default/app  because the node is drained for a reboot
              evict default/dns  because the node is drained for a reboot
              leave default/agent  because its DaemonSet would make it again on this node
              leave default/static  because it is a static pod, which the API cannot evict
              waits: cannot evict pod default/dns: Cannot evict pod as it would violate the pod's disruption budget.
              waits: pod default/going is still shutting down
        "#]],
    );
}

#[test]
fn a_single_node_reboots_undrained_and_is_never_cordoned() {
    drain(
        DrainRequest::Reboot,
        1,
        "app holds 0000:3b:00.2",
        expect![[r#"
        worker-0:
          complete
    "#]],
    );
    drain(
        DrainRequest::Drain,
        1,
        "app holds 0000:3b:00.2\n web",
        expect![[r#"
        worker-0:
          evict default/app  because it holds 0000:3b:00.2
          leave default/web  because it holds no device
    "#]],
    );
}

#[test]
fn a_pod_that_took_the_name_of_a_holder_is_not_the_holder() {
    let facts = DrainFacts {
        request: DrainRequest::Drain,
        nodes_in_cluster: 3,
        pods: vec![DrainPod {
            namespace: "default".to_owned(),
            name: "app".to_owned(),
            uid: "new".to_owned(),
            ..DrainPod::default()
        }],
        holders: vec![Holder {
            device: "0000:3b:00.2".to_owned(),
            namespace: "default".to_owned(),
            pod: "app".to_owned(),
            uid: "old".to_owned(),
            ..Holder::default()
        }],
        ..DrainFacts::default()
    };
    assert!(planner::drain::plan(&facts).is_complete());
}

#[test]
fn where_not_all_holders_are_listed_everybody_goes_who_may_hold_a_device() {
    let holds = |index| format!(" holds 0000:{index:02x}:00.1");
    let holders: String = (0..api::nodestate::HOLDERS_LISTED).map(holds).collect();
    let listed = format!("fence: 0000:3b:00.2\n agent{holders}\n");
    let rest = " plugin requests openshift.io/rdma\n dra claims\n web";
    let expected = expect![[r#"
        worker-0:
          cordon
          evict default/agent  because it holds 0000:00:00.1, 0000:01:00.1, 0000:02:00.1, 0000:03:00.1, 0000:04:00.1 and 251 more
          evict default/dra  because it has a resource claim, and the node lists no more than 256 of its devices with their pods
          evict default/plugin  because it asks for openshift.io/rdma
          leave default/web  because it holds no device
    "#]];
    drain(DrainRequest::Drain, 3, &format!("{listed}{rest}"), expected);
    // With a list that is whole a claim is no reason to go.
    let expected = expect![[r#"
        worker-0:
          cordon
          leave default/dra  because it holds no device
          leave default/plugin  because it holds no device
          leave default/web  because it holds no device
          complete
    "#]];
    drain(DrainRequest::Drain, 3, &format!("fence: 0000:3b:00.2\n{rest}"), expected);
}

#[test]
fn a_static_pod_that_holds_what_is_to_change_is_named_and_the_drain_is_not_over() {
    let text = "static mirror holds 0000:3b:00.2\n other mirror";
    drain(
        DrainRequest::Drain,
        3,
        text,
        expect![[r#"
        worker-0:
          cordon
          leave default/other  because it is a static pod, which the API cannot evict
          leave default/static  because it is a static pod, which the API cannot evict
          waits: cannot evict pod default/static: it holds 0000:3b:00.2 and is a static pod, which the API cannot end; take its manifest off the node
    "#]],
    );
    // A boot stops it.
    drain(
        DrainRequest::Reboot,
        3,
        text,
        expect![[r#"
        worker-0:
          cordon
          leave default/other  because it is a static pod, which the API cannot evict
          leave default/static  because it is a static pod, which the API cannot evict
          complete
    "#]],
    );
}

#[test]
fn people_are_told_of_the_first_pods_that_stay_and_not_of_those_that_hold_nothing() {
    let pods = ["a", "b", "c", "d"].map(|name| DrainPod {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        daemon_set: true,
        ..DrainPod::default()
    });
    let mut facts = DrainFacts {
        request: DrainRequest::Reboot,
        nodes_in_cluster: 3,
        pods: pods.to_vec(),
        ..DrainFacts::default()
    };
    let said = planner::drain::plan(&facts).staying().unwrap_or_default();
    expect!["pod default/a stays: its DaemonSet would make it again on this node; pod default/b stays: its DaemonSet would make it again on this node; pod default/c stays: its DaemonSet would make it again on this node; 1 more stay"].assert_eq(&said);
    facts.request = DrainRequest::Drain;
    assert_eq!(planner::drain::plan(&facts).staying(), None);
}

#[test]
fn a_pools_list_of_those_that_wait_begins_with_those_that_wait_for_a_person() {
    let many: String = (0..60).map(|index| format!(" n{index:02} p=1 asks\n")).collect();
    let fleet = fleet(&format!("pool fast on p=1\n{many} z p=1 asks notready"));
    let rollout = next(&fleet, Timestamp::UNIX_EPOCH);
    let listed = rollout.pools["fast"].waiting_status();
    assert_eq!(
        (listed.len(), &*listed[0].because),
        (50, "z waits: it is not Ready; repair it, the others go on")
    );
}
