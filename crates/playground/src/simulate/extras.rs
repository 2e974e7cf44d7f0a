//! What users ask for beside the guide's objects: how a drain may end, in which steps nodes go, and odd nodes.
//!
//! Drawn from a generator apart, so that a run with none of it is the run that it would be without this file. None of it
//! is a fault; what may keep a node from its goal for good has to be said all the same.

use super::leaving::Leaver;
use api::annotation;
use fastrand::Rng;
use host::sim::Machine;
use serde_json::{Value, json};

#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// `spec.drain` of the pool.
    pub drain: Option<Value>,
    /// `spec.rollout` of the pool.
    pub rollout: Option<Value>,
    /// `disableReboot`, until these seconds.
    pub no_reboots_until: Option<u64>,
    /// `disableDrain`, until these seconds.
    pub no_drains_until: Option<u64>,
    /// The first so many nodes have a control-plane role.
    pub control_plane: usize,
    /// The node whose administrator put the shared mode on its kernel command line.
    pub argument: Option<String>,
    /// A person has this node's closed reboots tried once more.
    pub retried: Option<String>,
    /// The pool selects every node but this one.
    pub without_pool: Option<String>,
    pub leaver: Option<Leaver>,
    /// Seconds at which a person lets the rollout go on that pauses after its canaries.
    pub resumed: Option<u64>,
    /// A pod with a VF that nobody makes again: when it comes, and how long it runs.
    pub batch: Option<(u64, u64)>,
    /// A DaemonSet whose pods ask for a VF comes at this second.
    pub agents: Option<u64>,
    /// The pool begins with `maxUnavailable: 0`, until this second.
    pub frozen_until: Option<u64>,
    /// A node is in a second pool too, from one second to another: before the other pool changes, or its mode would be one
    /// more goal.
    pub second_pool: Option<(String, u64, u64)>,
}

impl Extras {
    pub fn draw(rng: &mut Rng, nodes: &[String]) -> Self {
        let mut one_in = |odds: u32| rng.u32(..odds) == 0;
        let chosen = [one_in(3), one_in(4), one_in(8), one_in(5), one_in(10), one_in(8)];
        let more = [one_in(8), one_in(4), one_in(8), one_in(4), one_in(8)];
        let mut node = || nodes[rng.usize(..nodes.len())].clone();
        let (argument, retried) = (node(), node());
        let policy = ["wait", "skipNode", "force"][rng.usize(..3)];
        let minutes = rng.u32(2..12);
        let [drain, rollout, no_reboots, control_plane, has_argument, retries] = chosen;
        let no_reboots_until = no_reboots.then(|| rng.u64(200..1500));
        let control_plane = if control_plane { rng.usize(1..=3) } else { 0 };
        let [without_pool, leaves, pauses, batch, agents] = more;
        let mut node = || nodes[rng.usize(..nodes.len())].clone();
        let (outside, leaver) = (node(), node());
        let rollout = rollout || pauses;
        let mut steps = json!({ "canary": 1 + minutes % 2, "haltAfterFailures": minutes % 3 });
        if pauses {
            steps["pauseAfterCanary"] = true.into();
        }
        if rng.u32(..6) == 0 {
            steps["countUnavailable"] = true.into();
        }
        let odd = |node: &String| {
            [without_pool.then_some(&outside), leaves.then_some(&leaver)].contains(&Some(node))
        };
        let second = Some(nodes[rng.usize(..nodes.len())].clone()).filter(|node| !odd(node));
        let second_pool = second.filter(|_| rng.u32(..8) == 0);
        let second_pool = second_pool.map(|node| (node, rng.u64(61..100), rng.u64(310..1500)));
        let frozen_until = (rng.u32(..8) == 0).then(|| rng.u64(100..900));
        // Apart again, so that all the rest stays the story that it was.
        let mut apart = Rng::with_seed(rng.clone().u64(..));
        let no_drains_until = (apart.u32(..8) == 0).then(|| apart.u64(200..1500));
        Self {
            no_drains_until,
            frozen_until,
            second_pool,
            without_pool: without_pool.then_some(outside),
            leaver: leaves.then(|| Leaver::draw(leaver, rng)),
            resumed: pauses.then(|| rng.u64(300..1500)),
            batch: batch.then(|| (rng.u64(30..600), rng.u64(20..900))),
            agents: agents.then(|| rng.u64(5..600)),
            drain: drain
                .then(|| json!({ "deadline": format!("{minutes}m"), "onDeadline": policy })),
            rollout: rollout.then_some(steps),
            no_reboots_until,
            control_plane,
            argument: has_argument.then_some(argument),
            retried: retries.then_some(retried),
        }
    }

    /// The administrator's argument is older than we are.
    pub fn settle(&self, name: &str, machine: &mut Machine) {
        if self.argument.as_deref() == Some(name) {
            let word = "ib_core.netns_mode=1".to_owned();
            machine.kernel_arguments.push(word.clone());
            machine.next_kernel_arguments.push(word);
        }
    }
}

/// A node with a control-plane role.
pub fn has_control_plane_role(node: &Value) -> bool {
    node.pointer("/metadata/labels")
        .and_then(|labels| labels.get(api::label::CONTROL_PLANE))
        .is_some()
}

/// Its operator has begun to drain it, and is not done with it.
pub fn is_disturbed(state: &Value) -> bool {
    let current =
        state.pointer("/metadata/annotations").and_then(|all| all.get(annotation::CURRENT_STATE));
    current.and_then(Value::as_str).is_some_and(|current| current != annotation::IDLE)
}
