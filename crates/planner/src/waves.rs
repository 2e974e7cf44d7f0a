//! The steps in which a pool's nodes are taken: canaries first, a halt when nodes come back worse, and the progress.
//!
//! The state of a rollout is in the pool's status, written together with the grants; here is only how it goes on from
//! what is seen. Who is granted is `rollout`'s.

use crate::blocker::Blocker;
use crate::order::DrainRequest;
use crate::pools;
use crate::reason::{Problem, Reason};
use crate::rollout::{FleetNode, PoolRollout, Progress};
use api::Timestamp;
use api::pool::{FailedNode, Grant, RolloutStatus, SriovNetworkPoolConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A node that is not Ready for this long after its drain came back worse; large servers take ten minutes to boot.
pub const BACK_WITHIN: Duration = Duration::from_secs(15 * 60);

pub const CANARY: &str = "Canary";
pub const PAUSED: &str = "PausedAfterCanary";
pub const ROLLING: &str = "Rolling";
pub const HALTED: &str = "Halted";

/// What the rollout of a pool goes by.
pub(crate) struct Waves<'a> {
    pub pool: &'a SriovNetworkPoolConfig,
    /// Managed nodes of the pool.
    pub members: BTreeMap<&'a str, &'a FleetNode>,
    pub now: Timestamp,
}

type Granted<'a> = BTreeSet<&'a str>;

/// What is wrong with `spec.rollout`.
pub(crate) fn problems(pool: &SriovNetworkPoolConfig) -> Vec<Problem> {
    let Some(spec) = &pool.spec.rollout else { return Vec::new() };
    let canary = spec.canary.as_ref();
    let wrong = matches!(pools::limit(canary, 1), pools::Limit::Invalid(_)).then(|| {
        let text = canary.map(ToString::to_string).unwrap_or_default();
        format!("rollout.canary {text:?} is no number of nodes; write for example 1 or 5%")
    });
    let negative = spec.halt_after_failures.filter(|count| *count < 0).map(|count| {
        format!(
            "rollout.haltAfterFailures {count} is no number of nodes; write 0 for never, or more"
        )
    });
    let pauses = (spec.pause_after_canary && canary.is_none()).then(|| {
        "rollout.pauseAfterCanary is set and rollout.canary is not: there is nothing to pause after; write for example canary: 1".to_owned()
    });
    let object = format!("pool {}", pool.metadata.name);
    let messages = wrong.into_iter().chain(negative).chain(pauses);
    messages.map(|message| Problem::new(Reason::InvalidPool, &object, message)).collect()
}

/// The value of the annotation that resumes, and whether it is news.
pub(crate) fn resumed(pool: &SriovNetworkPoolConfig) -> (String, bool) {
    let seen = &pool.status.resumed;
    match pool.metadata.annotations.get(api::annotation::RESUME) {
        Some(value) if !value.is_empty() => (value.clone(), value != seen),
        _ => (seen.clone(), false),
    }
}

impl<'a> Waves<'a> {
    /// The rollout as it stands now; None when nobody has to be disturbed and nobody failed. `next` has the grants
    /// that are kept and those that end.
    pub fn advance(&self, next: &PoolRollout, resumed: bool) -> Option<RolloutStatus> {
        let granted: Granted = next.grants.iter().map(|grant| grant.node.as_str()).collect();
        let moves = |name: &str, node: &FleetNode| asks(node) || granted.contains(name);
        let under_way = self.members.iter().filter(|(name, node)| moves(name, node)).count();
        let old = self.pool.status.rollout.clone();
        let mut rollout = match old {
            Some(old) if !self.goal_changed(&old) => old,
            _ if under_way > 0 => RolloutStatus { started: self.now, ..RolloutStatus::default() },
            _ => return None,
        };
        let before = (rollout.finished, rollout.nodes);
        rollout.finished += self.finished(next);
        self.failures(&mut rollout.failures, resumed);
        if under_way == 0 && rollout.failures.is_empty() {
            return None;
        }
        self.canaries(&mut rollout, next, &granted, resumed);
        let failed = rollout.failures.iter().filter(|failure| {
            let node = self.members.get(failure.node.as_str());
            node.is_some_and(|node| !moves(&failure.node, node))
        });
        rollout.nodes = rollout.finished + number(under_way + failed.count());
        let steady = before == (rollout.finished, rollout.nodes);
        if !(steady && rollout.estimated_end.is_some()) {
            rollout.estimated_end = self.estimate(&rollout, under_way);
        }
        if [HALTED, PAUSED].contains(&rollout.phase.as_str()) {
            rollout.estimated_end = None;
        }
        Some(rollout)
    }

    /// A canary that was done and asks again: what is wanted of the nodes has changed, and canaries go first again.
    fn goal_changed(&self, rollout: &RolloutStatus) -> bool {
        let ask = |name: &String| self.members.get(name.as_str()).is_some_and(|node| asks(node));
        rollout.canaries_passed && rollout.canaries.iter().any(ask)
    }

    fn finished(&self, next: &PoolRollout) -> i64 {
        let ended = next.given_back.iter().filter_map(|(name, _)| self.members.get(name.as_str()));
        number(ended.filter(|node| node.at_goal).count())
    }

    /// Strikes off who has recovered and notes who came back worse.
    fn failures(&self, failures: &mut Vec<FailedNode>, resumed: bool) {
        let recovered = |node: &&FleetNode| node.at_goal && node.ready;
        failures.retain(|failure| {
            self.members.get(failure.node.as_str()).is_some_and(|node| !recovered(node))
        });
        failures.iter_mut().for_each(|failure| failure.accepted |= resumed);
        for grant in &self.pool.status.grants {
            let Some(node) = self.members.get(grant.node.as_str()) else { continue };
            let known = failures.iter().any(|failure| failure.node == grant.node);
            if let (false, Some(because)) = (known, worse(grant, node, self.now)) {
                let node = grant.node.clone();
                failures.push(FailedNode { node, because, accepted: false });
            }
        }
    }

    fn canaries(
        &self,
        rollout: &mut RolloutStatus,
        next: &PoolRollout,
        granted: &Granted,
        resumed: bool,
    ) {
        let wanted = self.wanted_canaries(next.nodes);
        let spec = self.pool.spec.rollout.as_ref();
        let mut done = true;
        if !rollout.canaries_passed {
            let halted = self.is_halted(rollout);
            let failures = &rollout.failures;
            let failed = |name: &String| failures.iter().any(|failure| failure.node == *name);
            let skipped = |name: &String| next.skipped.iter().any(|one| one.node == *name);
            let under_way = |name: &String| {
                let member = self.members.get(name.as_str());
                member.is_some_and(|node| asks(node)) || granted.contains(name.as_str())
            };
            let at_goal =
                |name: &String| self.members.get(name.as_str()).is_some_and(|node| node.at_goal);
            // It had its turn, is no worse than before, and is not at its goal: nobody goes after it until it is, or until
            // a person says so.
            let is_stuck = |name: &String| {
                !at_goal(name) && !under_way(name) && !failed(name) && !skipped(name)
            };
            let in_spite_of = resumed && rollout.canaries.iter().any(is_stuck);
            // While it is what the rollout is halted for, a person may mend it, and then it has gone first. One that was
            // given up, or that somebody resumed in spite of, makes room for another.
            rollout.canaries.retain(|name| {
                let goes_on = under_way(name) || (halted && failed(name));
                let kept = is_stuck(name) || (!resumed && !skipped(name) && goes_on);
                self.members.contains_key(name.as_str()) && (at_goal(name) || kept)
            });
            let rest = |name: &String| at_goal(name) && !under_way(name);
            // Once they are all done a person is waited for, also where one of them leaves the pool meanwhile.
            let enough = rollout.canaries.len() >= wanted || rollout.phase == PAUSED;
            done = in_spite_of || (enough && rollout.canaries.iter().all(rest));
            let pauses = wanted > 0 && spec.is_some_and(|spec| spec.pause_after_canary);
            rollout.canaries_passed = done && (!pauses || resumed);
        }
        rollout.phase = match (self.is_halted(rollout), done, rollout.canaries_passed) {
            (true, _, _) => HALTED,
            (false, false, _) => CANARY,
            (false, true, false) => PAUSED,
            (false, true, true) => ROLLING,
        }
        .to_owned();
    }

    /// How many canaries the pool wants.
    fn wanted_canaries(&self, nodes: usize) -> usize {
        let canary = self.pool.spec.rollout.as_ref().and_then(|spec| spec.canary.as_ref());
        canary.map_or(0, |canary| pools::limit(Some(canary), nodes).nodes())
    }

    fn is_halted(&self, rollout: &RolloutStatus) -> bool {
        let spec = self.pool.spec.rollout.as_ref();
        let allowed = spec.and_then(|spec| spec.halt_after_failures).unwrap_or(1);
        let failed = rollout.failures.iter().filter(|failure| !failure.accepted).count();
        allowed > 0 && number(failed) >= allowed
    }

    /// The end at the present pace, in whole seconds.
    fn estimate(&self, rollout: &RolloutStatus, remaining: usize) -> Option<Timestamp> {
        let elapsed = (self.now.as_second() - rollout.started.as_second()).max(0);
        let (true, true) = (rollout.finished > 0, remaining > 0) else { return None };
        let left = elapsed.checked_mul(number(remaining))? / rollout.finished;
        Timestamp::from_second(self.now.as_second().checked_add(left)?).ok()
    }

    /// The nodes that are not Ready or cordoned, whoever did it.
    pub fn unavailable(&self) -> Vec<(&'a str, &'static str)> {
        let why = |node: &FleetNode| match (node.ready, node.unschedulable) {
            (false, _) => Some("is not Ready"),
            (true, true) => Some("is cordoned by somebody else"),
            (true, false) => None,
        };
        self.members.iter().filter_map(|(name, node)| Some((*name, why(node)?))).collect()
    }

    /// Why a node that is not disturbed yet must wait for the others; None when it may go.
    pub fn refusal(&self, next: &PoolRollout, name: &str) -> Option<Blocker> {
        let (node, pool) = (name.to_owned(), self.pool.metadata.name.clone());
        if let Some(skipped) = next.skipped.iter().find(|skipped| skipped.node == name) {
            return Some(Blocker::DrainSkipped { node, pool, because: skipped.because.clone() });
        }
        let rollout = next.rollout.as_ref()?;
        match rollout.phase.as_str() {
            // What is worse already may be disturbed again: that is how it is mended.
            HALTED if rollout.failures.iter().any(|failure| failure.node == name) => None,
            HALTED => {
                let failures = rollout.failures.iter().filter(|failure| !failure.accepted);
                let failed = failures.map(|failure| failure.node.clone()).collect();
                Some(Blocker::RolloutHalted { node, pool, failed })
            }
            PAUSED => Some(Blocker::PausedAfterCanary { node, pool }),
            CANARY => {
                let full = rollout.canaries.len() >= self.wanted_canaries(next.nodes);
                let is_one = rollout.canaries.iter().any(|canary| canary == name);
                (full && !is_one).then(|| {
                    let left = |canary: &&String| {
                        self.members
                            .get(canary.as_str())
                            .is_some_and(|node| !node.at_goal || asks(node))
                    };
                    let left: Vec<&String> = rollout.canaries.iter().filter(left).collect();
                    let granted = |canary: &String| next.grants.iter().any(|g| g.node == *canary);
                    let rests = |canary: &&&String| {
                        let member = self.members.get(canary.as_str());
                        !granted(canary) && member.is_some_and(|node| !asks(node) && !node.stale)
                    };
                    let stuck = left.iter().filter(rests).map(|canary| (*canary).clone()).collect();
                    let canaries = left.into_iter().cloned().collect();
                    Blocker::WaitingForCanary { node, pool, canaries, stuck }
                })
            }
            _ => None,
        }
    }
}

/// Notes that a node was granted now: while canaries go, it is one.
pub(crate) fn granted(next: &mut PoolRollout, name: &str) {
    let Some(rollout) = next.rollout.as_mut().filter(|rollout| rollout.phase == CANARY) else {
        return;
    };
    if !rollout.canaries.iter().any(|canary| canary == name) {
        rollout.canaries.push(name.to_owned());
    }
}

/// Why a node is worse than it was when it was granted, if it is.
fn worse(grant: &Grant, node: &FleetNode, now: Timestamp) -> Option<String> {
    if node.current == Progress::Draining || !node.grant_used {
        // Nothing was changed yet.
        return None;
    }
    let useless = node.reboot_useless && !grant.reboot_useless;
    if let Some(error) = node.failing.as_ref().filter(|_| !node.stale)
        && (useless || !grant.failing)
    {
        return Some(error.clone());
    }
    let late = |since: &Timestamp| now.duration_since(*since).as_secs() >= number_of(BACK_WITHIN);
    if let Some(since) = node.not_ready_since {
        return late(&since).then(|| format!("it is not Ready since {}", whole(since)));
    }
    node.silent_since.filter(late).map(|since| {
        let daemon = api::names::DAEMON;
        let since = whole(since);
        format!("its daemon {daemon} has said nothing of the boot that is Ready since {since}")
    })
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn number_of(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn asks(node: &FleetNode) -> bool {
    node.wants != DrainRequest::Idle
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
