//! Leader election over one Lease, by client-go's rules, as steps without clock and client.
//!
//! Times that count are monotonic times of this process, passed in; the times inside the Lease are for people. Nothing
//! safe rests on this: grants are compare-and-swap, so that two leaders are slow and not wrong.

use api::wire::{Answer, Method, ObjectKey, Request, Write};
use api::{Timestamp, names};
use serde_json::{Value, json};
use std::time::Duration;

/// The times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// A candidate that saw no change of the record for this long takes the Lease.
    pub lease: Duration,
    /// The holder that could not renew for this long stops. Shorter than `lease`, or two would lead.
    pub renew_deadline: Duration,
    pub retry: Duration,
}

impl Default for Terms {
    /// client-go's recommended values.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// One candidate's view of the election. Times are durations since the start of its own monotonic clock.
#[derive(Debug, Clone)]
pub struct Election {
    identity: String,
    namespace: String,
    terms: Terms,
    /// The record as last seen, and when it was first seen so.
    seen: Option<(Value, Duration)>,
    /// When the last renewal that succeeded was sent.
    renewed: Option<Duration>,
}

/// What an election's step comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// Write this, then hand the answer to `written`.
    Write(Box<Write>),
    /// Somebody else holds the Lease.
    Wait { holder: String },
    /// We held the Lease and do so no more: the process has to end.
    Lost,
}

/// Name of the Lease.
pub const LEASE: &str = names::OPERATOR;

impl Election {
    /// `identity` must name this process alone; the name of its pod does, since a pod runs one at a time.
    pub fn new(identity: &str, namespace: &str, terms: Terms) -> Self {
        Self {
            identity: identity.to_owned(),
            namespace: namespace.to_owned(),
            terms,
            seen: None,
            renewed: None,
        }
    }

    pub fn retry(&self) -> Duration {
        self.terms.retry
    }

    fn key(&self) -> ObjectKey {
        ObjectKey::new("coordination.k8s.io/v1", "Lease", &self.namespace, LEASE)
    }

    /// What to ask before each step.
    pub fn read(&self) -> Request {
        Request::new(Method::Get, self.key().path())
    }

    /// Until when writes may be sent; None while we do not lead.
    pub fn may_write_until(&self) -> Option<Duration> {
        Some(self.renewed? + self.terms.renew_deadline)
    }

    pub fn leads(&self, now: Duration) -> bool {
        self.may_write_until().is_some_and(|end| now < end)
    }

    /// Looks at the answer to `read` and decides. `now` is the time at which the reading was asked for.
    pub fn step(&mut self, answer: &Answer, now: Duration, wall: Timestamp) -> Turn {
        if self.renewed.is_some() && !self.leads(now) {
            return Turn::Lost;
        }
        let lease = match answer {
            Answer::Done(lease) => lease,
            Answer::NotFound(_) => {
                let object = self.lease(wall, wall, 0, None);
                return Turn::Write(Box::new(Write::Create { object }));
            }
            // Nothing is known: a holder goes on until its deadline, a candidate waits.
            refused => return Turn::Wait { holder: format!("nobody known: {refused}") },
        };
        let spec = lease.get("spec").cloned().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        let ours = holder == self.identity;
        if !ours && self.renewed.is_some() {
            return Turn::Lost;
        }
        if !ours && !holder.is_empty() && now < since + self.terms.lease {
            return Turn::Wait { holder: holder.to_owned() };
        }
        let transitions = spec["leaseTransitions"].as_i64().unwrap_or_default();
        let acquired = spec["acquireTime"].as_str().and_then(|text| text.parse().ok());
        let (transitions, acquired) = match ours {
            true => (transitions, acquired.unwrap_or(wall)),
            false => (transitions + 1, wall),
        };
        let version = lease.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let object = self.lease(acquired, wall, transitions, version);
        Turn::Write(Box::new(Write::Update { object, subresource: "" }))
    }

    /// Takes in the answer to the write of a step that was decided at `now`. True means that we lead.
    pub fn written(&mut self, answer: &Answer, now: Duration) -> bool {
        if let Answer::Done(lease) = answer {
            let spec = lease.get("spec").cloned().unwrap_or_default();
            self.seen = Some((spec, now));
            // The renewal counts from before it was sent: others may have seen it that early.
            self.renewed = Some(now);
        }
        self.leads(now)
    }

    /// Gives the Lease away at an orderly end, so that the next holder need not wait.
    pub fn release(&mut self, answer: &Answer, wall: Timestamp) -> Option<Write> {
        self.renewed.take()?;
        let Answer::Done(lease) = answer else { return None };
        if lease.pointer("/spec/holderIdentity").and_then(Value::as_str) != Some(&self.identity) {
            return None;
        }
        let version = lease.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64);
        let mut object = self.lease(wall, wall, transitions.unwrap_or_default(), version);
        object["spec"]["holderIdentity"] = "".into();
        object["spec"]["leaseDurationSeconds"] = 1.into();
        Some(Write::Update { object, subresource: "" })
    }

    fn lease(
        &self,
        acquired: Timestamp,
        renewed: Timestamp,
        transitions: i64,
        version: Option<&str>,
    ) -> Value {
        // The API's MicroTime has exactly six digits.
        let micro = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let mut metadata = json!({ "name": LEASE, "namespace": self.namespace });
        if let Some(version) = version {
            metadata["resourceVersion"] = version.into();
        }
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self.terms.lease.as_secs(),
                "acquireTime": micro(acquired), "renewTime": micro(renewed),
                "leaseTransitions": transitions,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// Steps candidates `a` and `b` in turn over one Lease; each line of the script is a second and what happens.
    fn check(script: &[(u64, &str, &str)], expected: Expect) {
        let mut candidates = [
            ("a", Election::new("a", "ours", Terms::default())),
            ("b", Election::new("b", "ours", Terms::default())),
        ];
        let mut lease: Option<Value> = None;
        let mut version = 0;
        let mut lines = Vec::new();
        for (second, who, what) in script {
            let election = &mut candidates.iter_mut().find(|(name, _)| name == who).unwrap().1;
            let now = Duration::from_secs(*second);
            let wall = Timestamp::from_second(1_700_000_000 + *second as i64).unwrap();
            let read = match (*what, &lease) {
                ("cut off", _) => Answer::Unreachable("no route".to_owned()),
                (_, Some(lease)) => Answer::Done(lease.clone()),
                (_, None) => Answer::NotFound("no lease".to_owned()),
            };
            let turn = match *what {
                "release" => match election.release(&read, wall) {
                    Some(write) => Turn::Write(Box::new(write)),
                    None => Turn::Lost,
                },
                _ => election.step(&read, now, wall),
            };
            let said = match turn {
                Turn::Write(write) => {
                    let answer = match (*what, *write) {
                        ("conflict", _) => Answer::Conflict("somebody wrote".to_owned()),
                        (_, Write::Create { mut object } | Write::Update { mut object, .. }) => {
                            version += 1;
                            object["metadata"]["resourceVersion"] = version.to_string().into();
                            lease = Some(object.clone());
                            Answer::Done(object)
                        }
                        (_, write) => panic!("an election writes no {write:?}"),
                    };
                    match *what {
                        "release" => "releases".to_owned(),
                        _ if election.written(&answer, now) => "leads".to_owned(),
                        _ => format!("does not lead: {answer}"),
                    }
                }
                Turn::Wait { holder } => {
                    let leads = if election.leads(now) { "leads still" } else { "waits" };
                    format!("{leads}, holder {holder}")
                }
                Turn::Lost => "lost".to_owned(),
            };
            lines.push(format!("{second} {who} {said}"));
        }
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_candidate_waits_a_full_lease_from_the_last_change_that_it_saw() {
        check(
            &[(0, "a", ""), (1, "b", ""), (2, "a", ""), (3, "b", ""), (17, "b", ""), (18, "b", "")],
            expect![[r#"
                0 a leads
                1 b waits, holder a
                2 a leads
                3 b waits, holder a
                17 b waits, holder a
                18 b leads"#]],
        );
    }

    #[test]
    fn a_holder_without_an_answer_leads_until_its_renew_deadline_and_no_longer() {
        check(
            &[(0, "a", ""), (9, "a", "cut off"), (10, "a", "cut off"), (11, "a", "")],
            expect![[r#"
                0 a leads
                9 a leads still, holder nobody known: the API server did not answer: no route
                10 a lost
                11 a lost"#]],
        );
    }

    #[test]
    fn a_holder_that_finds_another_name_has_lost_at_once() {
        check(
            &[(0, "a", ""), (1, "b", ""), (8, "a", "conflict"), (16, "b", ""), (9, "a", "")],
            expect![[r#"
                0 a leads
                1 b waits, holder a
                8 a leads
                16 b leads
                9 a lost"#]],
        );
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        check(
            &[(0, "a", ""), (1, "b", ""), (2, "a", "release"), (3, "b", "")],
            expect![[r#"
                  0 a leads
                  1 b waits, holder a
                  2 a releases
                  3 b leads"#]],
        );
    }

    #[test]
    fn the_lease_reads_as_client_go_writes_it() {
        let mut election = Election::new("a", "ours", Terms::default());
        let wall: Timestamp = "2026-11-22T12:00:00.5Z".parse().unwrap();
        let Turn::Write(write) =
            election.step(&Answer::NotFound(String::new()), Duration::ZERO, wall)
        else {
            panic!("a free lease is taken");
        };
        expect![[r#"{"holderIdentity":"a","leaseDurationSeconds":15,"acquireTime":"2026-11-22T12:00:00.500000Z","renewTime":"2026-11-22T12:00:00.500000Z","leaseTransitions":0}"#]]
        .assert_eq(&match *write {
            Write::Create { object } => object["spec"].to_string(),
            other => panic!("{other:?}"),
        });
    }
}
