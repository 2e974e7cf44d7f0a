//! How long the drain of a node may take, and what is done when it takes longer: `spec.drain` of its pool.
//!
//! The time runs from the grant. Here is only what was written and what it means; `drain` and `rollout` act on it.

use crate::reason::{Problem, Reason};
use api::Timestamp;
use api::pool::{Grant, SriovNetworkPoolConfig};
use std::time::Duration;

/// What is done with a drain that is not over at its deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDeadline {
    /// Go on trying, and say so loudly.
    #[default]
    Wait,
    /// Take the cordon back, give the grant to another node, and list this one.
    SkipNode,
    /// Delete what a disruption budget protects.
    Force,
}

/// `spec.drain` of a pool, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainPolicy {
    pub deadline: Duration,
    pub on_deadline: OnDeadline,
}

impl Default for DrainPolicy {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(30 * 60), on_deadline: OnDeadline::Wait }
    }
}

impl DrainPolicy {
    /// What a pool says; what it does not say, or says in a way that nobody understands, is the default, which harms
    /// nobody.
    pub fn of(pool: &SriovNetworkPoolConfig) -> Self {
        let default = Self::default();
        let Some(spec) = &pool.spec.drain else { return default };
        Self {
            deadline: deadline(&spec.deadline).unwrap_or(default.deadline),
            on_deadline: on_deadline(&spec.on_deadline).unwrap_or(default.on_deadline),
        }
    }

    /// When a drain under this grant is overdue.
    pub fn end_of(&self, grant: &Grant) -> Timestamp {
        grant.since.checked_add(self.deadline).unwrap_or(Timestamp::MAX)
    }
}

/// What is wrong with `spec.drain`.
pub(crate) fn problems(pool: &SriovNetworkPoolConfig) -> Vec<Problem> {
    let Some(spec) = &pool.spec.drain else { return Vec::new() };
    let object = format!("pool {}", pool.metadata.name);
    let wrong = [deadline(&spec.deadline).err(), on_deadline(&spec.on_deadline).err()];
    let wrong = wrong.into_iter().flatten();
    wrong.map(|message| Problem::new(Reason::InvalidPool, &object, message)).collect()
}

fn on_deadline(text: &str) -> Result<OnDeadline, String> {
    match text {
        "" | "wait" => Ok(OnDeadline::Wait),
        "skipNode" => Ok(OnDeadline::SkipNode),
        "force" => Ok(OnDeadline::Force),
        other => {
            Err(format!("drain.onDeadline {other:?} is no policy; write wait, skipNode or force"))
        }
    }
}

/// A duration as Go writes whole ones: `90s`, `30m`, `1h30m`. Zero would skip or force every drain at once, so it is
/// refused.
fn deadline(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Ok(DrainPolicy::default().deadline);
    }
    match seconds(text) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => {
            Err(format!("drain.deadline {text:?} is no time; write for example 90s, 30m or 1h30m"))
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u64 = rest[..end].parse().ok()?;
        let unit = match rest.as_bytes()[end] {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[end + 1..];
    }
    Some(total)
}

/// A deadline as a sentence says it.
pub(crate) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::pool::DrainSpec;
    use expect_test::expect;

    #[test]
    fn a_deadline_is_a_time_and_anything_else_is_named_and_means_the_default() {
        let cases = [
            "",
            "90s",
            "1h30m",
            "0s",
            "30",
            "m",
            "1d",
            "1.5h",
            "-5m",
            "99999999999999999999h",
            "5µ",
        ];
        let said = cases.map(|text| {
            let mut pool = SriovNetworkPoolConfig::default();
            pool.metadata.name = "rdma".to_owned();
            let spec = DrainSpec { deadline: text.to_owned(), on_deadline: "kill".to_owned() };
            pool.spec.drain = Some(spec);
            let policy = DrainPolicy::of(&pool);
            let wrong = problems(&pool).first().map(ToString::to_string).unwrap_or_default();
            format!("{text:?}: {} {:?} {wrong}", in_words(policy.deadline), policy.on_deadline)
        });
        expect![[r#"
            "": 30m Wait pool rdma: drain.onDeadline "kill" is no policy; write wait, skipNode or force
            "90s": 1m30s Wait pool rdma: drain.onDeadline "kill" is no policy; write wait, skipNode or force
            "1h30m": 1h30m Wait pool rdma: drain.onDeadline "kill" is no policy; write wait, skipNode or force
            "0s": 30m Wait pool rdma: drain.deadline "0s" is no time; write for example 90s, 30m or 1h30m
            "30": 30m Wait pool rdma: drain.deadline "30" is no time; write for example 90s, 30m or 1h30m
            "m": 30m Wait pool rdma: drain.deadline "m" is no time; write for example 90s, 30m or 1h30m
            "1d": 30m Wait pool rdma: drain.deadline "1d" is no time; write for example 90s, 30m or 1h30m
            "1.5h": 30m Wait pool rdma: drain.deadline "1.5h" is no time; write for example 90s, 30m or 1h30m
            "-5m": 30m Wait pool rdma: drain.deadline "-5m" is no time; write for example 90s, 30m or 1h30m
            "99999999999999999999h": 30m Wait pool rdma: drain.deadline "99999999999999999999h" is no time; write for example 90s, 30m or 1h30m
            "5µ": 30m Wait pool rdma: drain.deadline "5µ" is no time; write for example 90s, 30m or 1h30m"#]].assert_eq(&said.join("\n"));
    }
}
