//! The reboot ledger: never twice for one (reason, goal), and a person after three reboots in a day.
//!
//! Pure judgement over records; the daemon keeps them on disk and mirrors them in the node state's status *before* it
//! asks for a reboot. A power cut in between counts as the reboot: only the boot id tells.

use crate::action::{RebootCause, RebootReason};
use crate::blocker::Blocker;
use crate::order::Leave;
use api::nodestate::{RDMA_RELOAD, RebootOutcome, RebootRecord};
use api::{RdmaMode, Timestamp};

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

/// What is effective now of a goal that a reboot was to bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It cannot be seen yet; the record stays pending.
    Unknown,
    Reached,
    Other(String),
}

/// May the node be rebooted for this goal?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub reason: RebootReason,
    pub goal: &'a str,
    pub boot_id: &'a str,
    /// Everything we could change for the goal is already as it should be: another boot would bring nothing new.
    pub levers_in_place: bool,
    pub leave: &'a Leave,
    pub now: Timestamp,
}

/// Closes every pending record whose boot is over, by what `found` says of it.
pub fn judge(
    records: &[RebootRecord],
    boot_id: &str,
    found: impl Fn(&RebootRecord) -> Found,
) -> Vec<RebootRecord> {
    let judge_one = |record: &RebootRecord| {
        let mut judged = record.clone();
        if record.outcome == RebootOutcome::Pending && record.boot_id_before != boot_id {
            judged.outcome = match found(record) {
                Found::Unknown => RebootOutcome::Pending,
                Found::Reached => RebootOutcome::Helped,
                Found::Other(found) => {
                    RebootOutcome::DidNotHelp { expected: record.goal.clone(), found }
                }
            };
        }
        judged
    };
    records.iter().map(judge_one).collect()
}

/// What a goal is about: cards have goals of their own, which begin with the card's address; the node has one RDMA mode.
pub fn subject<'a>(reason: &str, goal: &'a str) -> &'a str {
    match reason == RebootReason::Firmware.as_str() {
        true => goal.split_whitespace().next().unwrap_or_default(),
        false => "",
    }
}

/// True when two goals of a reason are one, however they are brought about: firmware is set by devlink where the driver
/// lists the parameters, else by a program, which call them differently.
pub fn is_same_goal(reason: &str, one: &str, other: &str) -> bool {
    let wants = |goal: &str| match reason == RebootReason::Firmware.as_str() {
        true => (
            subject(reason, goal).to_owned(),
            goal.rsplit('=').next().unwrap_or_default().to_owned(),
        ),
        false => (String::new(), goal.to_owned()),
    };
    wants(one) == wants(other)
}

/// The newest record for a reason and the subject of this goal: it alone decides, so that a new goal opens the key.
pub fn latest<'a>(
    records: &'a [RebootRecord],
    reason: RebootReason,
    goal: &str,
) -> Option<&'a RebootRecord> {
    let about = subject(reason.as_str(), goal);
    let same = |record: &&RebootRecord| {
        record.reason == reason.as_str() && subject(&record.reason, &record.goal) == about
    };
    records.iter().rev().find(same)
}

/// True when a person has set the annotation to a value under which this was not asked for yet.
pub fn is_reopened(record: &RebootRecord, leave: &Leave) -> bool {
    !leave.retry.is_empty() && record.retry != leave.retry
}

/// True when it was asked for within the last 24 hours.
pub(crate) fn is_of_this_day(record: &RebootRecord, now: Timestamp) -> bool {
    now.as_second() - record.asked_at.as_second() < DAY_SECONDS
}

/// Without the oldest, so that file and status stay small.
pub(crate) fn keep(mut ledger: Vec<RebootRecord>) -> Vec<RebootRecord> {
    let surplus = ledger.len().saturating_sub(KEPT);
    ledger.split_off(surplus)
}

/// Judges one question by records that were judged.
pub fn verdict(records: &[RebootRecord], question: &Question<'_>) -> Verdict {
    let Question { reason, goal, leave, .. } = *question;
    let is_same = |record: &&RebootRecord| is_same_goal(reason.as_str(), &record.goal, goal);
    let same_goal = latest(records, reason, goal).filter(is_same);
    let Some(record) = same_goal else { return first_attempt(records, question) };
    let did_not_help = |expected: &str, found: &str| {
        Verdict::No(Blocker::RebootDidNotHelp {
            reason,
            levers: record.levers.clone(),
            expected: expected.to_owned(),
            found: found.to_owned(),
        })
    };
    match &record.outcome {
        RebootOutcome::Pending => ask_again(record, question),
        RebootOutcome::Void => first_attempt(records, question),
        _ if is_reopened(record, leave) => first_attempt(records, question),
        RebootOutcome::DidNotHelp { expected, found } => did_not_help(expected, found),
        RebootOutcome::Refused { found } => {
            let goal = goal.to_owned();
            Verdict::No(Blocker::LeverRefused { reason, goal, why: found.clone() })
        }
        // It helped once and the goal is lost again although nothing of ours is missing: a boot is no cure.
        RebootOutcome::Helped if question.levers_in_place => {
            did_not_help(goal, "another value after a later boot")
        }
        RebootOutcome::Helped => first_attempt(records, question),
    }
}

fn ask_again(record: &RebootRecord, question: &Question<'_>) -> Verdict {
    let (reason, goal) = (question.reason, record.goal.clone());
    let waited = question.now.as_second() - record.asked_at.as_second();
    // A clock that was set back must not make us wait for ever.
    let patient = (0..PATIENCE_SECONDS).contains(&waited);
    let same_boot = record.boot_id_before == question.boot_id;
    if same_boot && question.leave.by_person {
        return Verdict::No(Blocker::RebootDisabled { reason, goal });
    }
    if !same_boot || (patient && record.attempt > 0) {
        return Verdict::No(Blocker::RebootUnderWay { reason, goal });
    }
    match record.attempt < ATTEMPTS {
        true => Verdict::Ask { attempt: record.attempt + 1 },
        false if is_reopened(record, question.leave) => Verdict::Ask { attempt: 1 },
        false => {
            Verdict::No(Blocker::RebootDidNotHappen { reason, goal, attempts: record.attempt })
        }
    }
}

fn first_attempt(records: &[RebootRecord], question: &Question<'_>) -> Verdict {
    let happened_lately = |record: &&RebootRecord| {
        record.boot_id_before != question.boot_id
            && !matches!(record.outcome, RebootOutcome::Refused { .. } | RebootOutcome::Void)
            && record.reason != RDMA_RELOAD
            && is_of_this_day(record, question.now)
            // A person who sets the annotation has seen those before it.
            && !is_reopened(record, question.leave)
    };
    // One boot serves several causes: it counts once.
    let boots: std::collections::BTreeSet<&str> =
        records.iter().filter(happened_lately).map(|r| r.boot_id_before.as_str()).collect();
    match boots.len() < REBOOTS_A_DAY {
        true => Verdict::Ask { attempt: 1 },
        false => Verdict::No(Blocker::TooManyReboots { count: boots.len() }),
    }
}

/// The ledger as it must stand, on disk and in the status, before this reboot is asked for. Attempt 0 is left to a person.
pub fn book(
    records: &[RebootRecord],
    (causes, attempt): (&[RebootCause], u32),
    boot_id: &str,
    retry: &str,
    now: Timestamp,
) -> Vec<RebootRecord> {
    let mut ledger = records.to_vec();
    for cause in causes {
        let open_now = |record: &RebootRecord| {
            matches!(record.outcome, RebootOutcome::Pending | RebootOutcome::Void)
                && record.boot_id_before == boot_id
                && record.reason == cause.reason.as_str()
                && is_same_goal(&record.reason, &record.goal, &cause.goal)
        };
        let mut levers = cause.levers.clone();
        if let Some(earlier) = ledger.iter().position(open_now) {
            // A lever that was pulled before the first attempt is still one of this reboot's.
            let RebootRecord { levers: before, undone, .. } = ledger.remove(earlier);
            for lever in before {
                if !undone && !levers.contains(&lever) {
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
            retry: retry.to_owned(),
            outcome: RebootOutcome::Pending,
            undone: false,
        });
    }
    keep(ledger)
}

/// The ledger while levers are pulled for what `booked` has pending and `before` had not: where it ends there, no reboot
/// was asked for. `left` are levers that were not touched.
pub fn not_asked(
    before: &[RebootRecord],
    booked: &[RebootRecord],
    left: &[String],
) -> Vec<RebootRecord> {
    let pending = |record: &RebootRecord| record.outcome == RebootOutcome::Pending;
    let one = |record: &RebootRecord| {
        let mut record = record.clone();
        // An earlier attempt may still come.
        if pending(&record) && !before.iter().any(|old| pending(old) && is_same(old, &record)) {
            record.outcome = RebootOutcome::Void;
            record.levers.retain(|lever| !left.contains(lever));
        }
        record
    };
    booked.iter().map(one).collect()
}

/// The ledger after the levers for any other RDMA mode than this one were taken back; with none, for any.
pub fn settle(records: &[RebootRecord], keeps: Option<RdmaMode>) -> Vec<RebootRecord> {
    let keeps = keeps.map(|mode| mode.to_string());
    let one = |record: &RebootRecord| {
        let mut record = record.clone();
        if is_about_mode(&record) && Some(&record.goal) != keeps.as_ref() {
            record.undone = true;
            if record.outcome == RebootOutcome::Pending {
                record.outcome = RebootOutcome::Void;
            }
        }
        record
    };
    records.iter().map(one).collect()
}

/// True for a reboot for the RDMA mode and for a reload of its modules.
pub(crate) fn is_about_mode(record: &RebootRecord) -> bool {
    [RebootReason::RdmaMode.as_str(), RDMA_RELOAD].contains(&record.reason.as_str())
}

/// True when something that was done for an RDMA mode still stands on the host: then it is ours to undo.
pub fn has_mode_levers(records: &[RebootRecord]) -> bool {
    records.iter().any(|record| is_about_mode(record) && !record.undone)
}

/// One asking, whatever became of it.
pub fn is_same(a: &RebootRecord, b: &RebootRecord) -> bool {
    (&a.reason, &a.goal, &a.boot_id_before) == (&b.reason, &b.goal, &b.boot_id_before)
}

/// The ledger after a lever was refused: its goal is closed, and the reboot goes on without it.
pub fn refuse(
    records: &[RebootRecord],
    cause: &RebootCause,
    why: &str,
    boot_id: &str,
    retry: &str,
    now: Timestamp,
) -> Vec<RebootRecord> {
    let mut ledger = book(records, (std::slice::from_ref(cause), 1), boot_id, retry, now);
    if let Some(record) = ledger.last_mut() {
        record.outcome = RebootOutcome::Refused { found: why.to_owned() };
    }
    ledger
}

/// The union of the ledger on the host and its mirror in the status: a host's disk may be new or ephemeral.
///
/// Records of one asking (reason, goal, boot) are one; the one that knows more (closed, or a later attempt) stays. Both are
/// in the order in which they were booked, and so is the union: the times in them are a clock's, and clocks are set back.
pub fn union(on_host: &[RebootRecord], mirror: &[RebootRecord]) -> Vec<RebootRecord> {
    let mut all: Vec<RebootRecord> = on_host.to_vec();
    // Where what stands in the mirror only goes: behind what stands before it there.
    let mut place = 0;
    for record in mirror {
        let knows = |record: &RebootRecord| {
            let outcome = match record.outcome {
                RebootOutcome::Void => 0,
                RebootOutcome::Pending => 1,
                RebootOutcome::Helped
                | RebootOutcome::Refused { .. }
                | RebootOutcome::DidNotHelp { .. } => 2,
            };
            (outcome, record.attempt)
        };
        match all.iter().position(|other| is_same(other, record)) {
            Some(at) => {
                if knows(&all[at]) < knows(record) {
                    all[at] = record.clone();
                }
                place = place.max(at + 1);
            }
            None => {
                all.insert(place, record.clone());
                place += 1;
            }
        }
    }
    all
}
