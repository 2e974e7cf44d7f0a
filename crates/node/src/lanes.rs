//! Runs the steps of a plan lane by lane: cards side by side on a real host, in order where time is played.
//!
//! Which steps may run, and in which lanes, is the planner's. A lane's own steps keep their order, and what is the node's
//! runs alone: after all that stands before it in the plan, and before all that stands behind it.

use crate::apply;
use crate::failures::{Failed, Why};
use host::Host;
use planner::{Lane, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;

/// How lanes of different cards are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// In the order of the plan, so that a run can be repeated event by event.
    #[default]
    OneByOne,
    /// Each lane on a thread: the node takes as long as its slowest card.
    SideBySide,
}

/// What became of one lane's steps.
#[derive(Debug, Default)]
struct Ran<'a> {
    done: Vec<&'a Step>,
    /// Of the step that failed.
    failed: Option<Why>,
    /// The rest relies on a look that nobody has taken yet.
    stale: bool,
}

/// Runs the steps: a failure ends its lane, and so does what asks for a fresh look. Answers what was done.
pub fn run<'a>(
    host: &dyn Host,
    steps: &[&'a Step],
    order: Order,
    failed: &mut Failed,
) -> Vec<&'a Step> {
    let (mut stale, mut done) = (BTreeSet::new(), Vec::new());
    for stretch in stretches(steps) {
        let barred = |step: &Step| bars(stale.iter(), step) || bars(failed.keys(), step);
        let open = stretch.into_iter().filter(|step| !barred(step));
        for (lane, ran) in side_by_side(host, by_lane(open), order) {
            done.extend(ran.done);
            failed.extend(ran.failed.map(|why| (lane, why)));
            stale.extend(ran.stale.then_some(lane));
        }
    }
    done
}

/// A lane keeps back its own steps; the node's own keep back all, since what comes after them relies on them.
pub fn bars<'a>(mut lanes: impl Iterator<Item = &'a Lane>, step: &Step) -> bool {
    lanes.any(|lane| *lane == step.lane || *lane == Lane::Node)
}

/// The plan cut where one step of the node stands: cards between two cuts do not care for each other.
fn stretches<'a>(steps: &[&'a Step]) -> Vec<Vec<&'a Step>> {
    let together = |a: &&Step, b: &&Step| a.lane != Lane::Node && b.lane != Lane::Node;
    steps.chunk_by(together).map(<[&Step]>::to_vec).collect()
}

/// Lanes in the order in which the plan names them first.
fn by_lane<'a>(steps: impl Iterator<Item = &'a Step>) -> Vec<(Lane, Vec<&'a Step>)> {
    let mut lanes: Vec<(Lane, Vec<&Step>)> = Vec::new();
    let mut places = BTreeMap::new();
    for step in steps {
        let place = *places.entry(step.lane).or_insert(lanes.len());
        match lanes.get_mut(place) {
            Some((_, steps)) => steps.push(step),
            None => lanes.push((step.lane, vec![step])),
        }
    }
    lanes
}

fn side_by_side<'a>(
    host: &dyn Host,
    lanes: Vec<(Lane, Vec<&'a Step>)>,
    order: Order,
) -> Vec<(Lane, Ran<'a>)> {
    if order == Order::OneByOne || lanes.len() < 2 {
        return lanes.into_iter().map(|(lane, steps)| (lane, one(host, &steps))).collect();
    }
    // The log is that of this process, also on another thread.
    let log = &tracing::dispatcher::get_default(tracing::Dispatch::clone);
    let joined: Vec<_> = std::thread::scope(|scope| {
        let begin = |(lane, steps): (Lane, Vec<&'a Step>)| {
            let work = move || tracing::dispatcher::with_default(log, || one(host, &steps));
            (lane, scope.spawn(work))
        };
        let running: Vec<_> = lanes.into_iter().map(begin).collect();
        // All are waited for before a panic of one goes on.
        running.into_iter().map(|(lane, thread)| (lane, thread.join())).collect()
    });
    let ran = |(lane, ran): (Lane, Result<_, _>)| (lane, ran.unwrap_or_else(|p| resume_unwind(p)));
    joined.into_iter().map(ran).collect()
}

/// The steps of one lane, up to the first that fails or asks for a fresh look.
fn one<'a>(host: &dyn Host, steps: &[&'a Step]) -> Ran<'a> {
    let mut ran = Ran::default();
    for step in steps {
        match apply::step(host, step) {
            Ok(()) => {
                tracing::info!(because = step.because, "{}", step.action);
                ran.done.push(step);
            }
            Err(error) => {
                tracing::warn!(because = step.because, "{error}");
                // What the kernel is still at has not failed: the next look shows that it is waited for.
                ran.failed = (!is_unfinished(host, step.lane)).then_some(error);
                ran.stale = true;
            }
        }
        ran.stale |= step.action.needs_fresh_eyes();
        if ran.stale {
            break;
        }
    }
    ran
}

/// True while the kernel is still at a change in the lane.
fn is_unfinished(host: &dyn Host, lane: Lane) -> bool {
    host.unfinished().iter().any(|late| late.card.map(Lane::Card) == Some(lane))
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
