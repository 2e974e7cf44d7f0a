//! The reboot ledger: never twice for one (reason, goal), and a person after three reboots in a day.
//!
//! Pure judgement over records; the daemon keeps them on disk and mirrors them in the node state's status *before* it
//! asks for a reboot. A power cut in between counts as the reboot: only the boot id tells.

use crate::action::{RebootCause, RebootReason};
use crate::blocker::Blocker;
use api::Timestamp;
use api::nodestate::{RebootOutcome, RebootRecord};

/// How often one reboot is asked for when the node does not go down.
pub const ATTEMPTS: u32 = 3;
/// How long a reboot that was asked for may take to begin before it is asked for again, in seconds.
pub const PATIENCE_SECONDS: i64 = 120;
/// The backstop: so many reboots within `DAY_SECONDS`, whatever for.
pub const REBOOTS_A_DAY: usize = 3;
const DAY_SECONDS: i64 = 24 * 3600;
/// Older records are dropped, so that file and status stay small.
const KEPT: usize = 32;

/// What the ledger says about one more reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be asked for, as this attempt of the present boot.
    Ask {
        attempt: u32,
    },
    No(Blocker),
}

/// Closes every pending record whose boot is over. `found` tells what is effective now for a reason, as text, or
/// `None` where that cannot be seen yet; such a record stays pending.
pub fn judge(
    records: &[RebootRecord],
    boot_id: &str,
    found: impl Fn(&str) -> Option<String>,
) -> Vec<RebootRecord> {
    let judge_one = |record: &RebootRecord| {
        let over = record.outcome == RebootOutcome::Pending && record.boot_id_before != boot_id;
        let mut judged = record.clone();
        if let (true, Some(found)) = (over, found(&record.reason)) {
            judged.outcome = match found == record.goal {
                true => RebootOutcome::Helped,
                false => RebootOutcome::DidNotHelp { expected: record.goal.clone(), found },
            };
        }
        judged
    };
    records.iter().map(judge_one).collect()
}

/// The newest record for a reason: it alone decides, so that a new goal opens the key again.
pub fn latest(records: &[RebootRecord], reason: RebootReason) -> Option<&RebootRecord> {
    records.iter().rev().find(|record| record.reason == reason.as_str())
}

/// May the node be rebooted for this goal? `records` were judged. `levers_in_place` says that everything we could
/// change for the goal is already as it should be, so that another boot would bring nothing new.
pub fn verdict(
    records: &[RebootRecord],
    (reason, goal): (RebootReason, &str),
    boot_id: &str,
    levers_in_place: bool,
    now: Timestamp,
) -> Verdict {
    let same_goal = latest(records, reason).filter(|record| record.goal == goal);
    match same_goal.map(|record| (record, &record.outcome)) {
        Some((record, RebootOutcome::Pending)) => ask_again(record, reason, boot_id, now),
        Some((record, RebootOutcome::DidNotHelp { expected, found })) => {
            Verdict::No(Blocker::RebootDidNotHelp {
                reason,
                levers: record.levers.clone(),
                expected: expected.clone(),
                found: found.clone(),
            })
        }
        Some((record, RebootOutcome::Helped)) if levers_in_place => {
            // It helped once and the goal is lost again although nothing of ours is missing: a boot is no cure.
            Verdict::No(Blocker::RebootDidNotHelp {
                reason,
                levers: record.levers.clone(),
                expected: goal.to_owned(),
                found: "another value after a later boot".to_owned(),
            })
        }
        Some((_, RebootOutcome::Helped)) | None => first_attempt(records, boot_id, now),
    }
}

fn ask_again(
    record: &RebootRecord,
    reason: RebootReason,
    boot_id: &str,
    now: Timestamp,
) -> Verdict {
    let goal = record.goal.clone();
    let waited = now.as_second() - record.asked_at.as_second();
    // A clock that was set back must not make us wait for ever.
    let patient = (0..PATIENCE_SECONDS).contains(&waited);
    if record.boot_id_before != boot_id || patient {
        return Verdict::No(Blocker::RebootUnderWay { reason, goal });
    }
    match record.attempt < ATTEMPTS {
        true => Verdict::Ask { attempt: record.attempt + 1 },
        false => {
            Verdict::No(Blocker::RebootDidNotHappen { reason, goal, attempts: record.attempt })
        }
    }
}

fn first_attempt(records: &[RebootRecord], boot_id: &str, now: Timestamp) -> Verdict {
    let happened_lately = |record: &&RebootRecord| {
        record.boot_id_before != boot_id
            && now.as_second() - record.asked_at.as_second() < DAY_SECONDS
    };
    // One boot serves several causes: it counts once.
    let boots: std::collections::BTreeSet<&str> =
        records.iter().filter(happened_lately).map(|r| r.boot_id_before.as_str()).collect();
    match boots.len() < REBOOTS_A_DAY {
        true => Verdict::Ask { attempt: 1 },
        false => Verdict::No(Blocker::TooManyReboots { count: boots.len() }),
    }
}

/// The ledger as it must stand, on disk and in the status, before this reboot is asked for.
pub fn book(
    records: &[RebootRecord],
    causes: &[RebootCause],
    attempt: u32,
    boot_id: &str,
    now: Timestamp,
) -> Vec<RebootRecord> {
    let mut ledger = records.to_vec();
    for cause in causes {
        let pending_now = |record: &RebootRecord| {
            record.outcome == RebootOutcome::Pending
                && record.boot_id_before == boot_id
                && record.reason == cause.reason.as_str()
                && record.goal == cause.goal
        };
        let mut levers = cause.levers.clone();
        if let Some(earlier) = ledger.iter().position(pending_now) {
            // A lever that was pulled before the first attempt is still one of this reboot's.
            for lever in ledger.remove(earlier).levers {
                if !levers.contains(&lever) {
                    levers.push(lever);
                }
            }
        }
        ledger.push(RebootRecord {
            reason: cause.reason.as_str().to_owned(),
            goal: cause.goal.clone(),
            boot_id_before: boot_id.to_owned(),
            attempt,
            levers,
            asked_at: now,
            outcome: RebootOutcome::Pending,
        });
    }
    let surplus = ledger.len().saturating_sub(KEPT);
    ledger.split_off(surplus)
}

/// The union of the ledger on the host and its mirror in the status: a host's disk may be new or ephemeral.
///
/// Records of one asking (reason, goal, boot) are one; the one that knows more (closed, or a later attempt) stays.
pub fn union(on_host: &[RebootRecord], mirror: &[RebootRecord]) -> Vec<RebootRecord> {
    let mut all: Vec<RebootRecord> = on_host.to_vec();
    for record in mirror {
        let same = |other: &&mut RebootRecord| {
            (&other.reason, &other.goal, &other.boot_id_before)
                == (&record.reason, &record.goal, &record.boot_id_before)
        };
        let knows = |r: &RebootRecord| (r.outcome != RebootOutcome::Pending, r.attempt);
        match all.iter_mut().find(same) {
            Some(other) if knows(other) < knows(record) => *other = record.clone(),
            Some(_) => {}
            None => all.push(record.clone()),
        }
    }
    all.sort_by_key(|record| record.asked_at);
    all
}
