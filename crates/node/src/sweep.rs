//! The sweeper: brings a device home that a pod left behind and that nobody knows any more.
//!
//! It is our garbage collection, since Multus passes GC to the cluster network only. It acts on positive evidence alone,
//! seen twice and a minute apart: the journal names a sandbox, the container runtime does not know it, the kubelet lists
//! no such pod with that device, and the device is in no other namespace than the journal's. Whoever cannot be asked is a
//! reason to touch nothing. What it means to be home is `host::home`'s.

use api::custody::Holder;
use api::files::RDMA_LOCK;
use api::journal::Record;
use api::nodestate::SweepStatus;
use api::{PciAddress, Timestamp};
use host::{Host, Namespace, device_lock, home, journal};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An orphan must be one for so long.
const TWICE: Duration = Duration::from_secs(60);
/// The journal is looked at so often.
const EVERY: Duration = Duration::from_secs(30);
/// A device or the node's RDMA devices in somebody's hands are left for the next time.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the runtime and the kubelet said just now; an error is the sentence why they did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<'a> {
    pub sandboxes: &'a Result<BTreeSet<String>, String>,
    pub pods: Option<&'a [Holder]>,
}

/// What a sweep did or could not do, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub device: String,
    /// True when the device is home now.
    pub is_home: bool,
    pub sentence: String,
}

/// The memory of the sweeper. A daemon that forgets it waits a minute more, and that is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sweeper {
    suspects: BTreeMap<String, (Record, Timestamp)>,
    looked: Option<Timestamp>,
    said: BTreeSet<String>,
    pub counts: SweepStatus,
    /// The counts have taken up what the node state said when we began.
    counts_on: bool,
}

/// Why a record is not an orphan's, or cannot be told to be one.
enum Verdict {
    Orphan,
    InUse,
    /// To be told to people, and left alone.
    Doubtful(String),
}

impl Sweeper {
    /// True when it is time to ask the runtime, and there is something to ask about.
    pub fn is_due(&self, host: &dyn Host, now: Timestamp) -> bool {
        // A clock that was set back must not put the sweep off.
        let early = |looked: Timestamp| now.duration_since(looked).unsigned_abs() < EVERY;
        !self.looked.is_some_and(early) && !journal::is_empty(host).unwrap_or(false)
    }

    /// Looks at every record once, and brings home what is an orphan's for the second time.
    pub fn sweep(&mut self, host: &dyn Host, evidence: &Evidence, now: Timestamp) -> Vec<Finding> {
        self.looked = Some(now);
        let leftovers = tidy(host);
        let (sandboxes, pods) = match (evidence.sandboxes, evidence.pods) {
            (Ok(sandboxes), Some(pods)) => (sandboxes, pods),
            (Err(why), _) => return self.blind(why.clone()),
            (_, None) => {
                return self.blind("the kubelet's PodResources does not answer".to_owned());
            }
        };
        let records = match journal::list(host) {
            Ok(records) => records,
            Err(error) => return self.blind(error.to_string()),
        };
        self.counts.blind = false;
        let mut suspects = BTreeMap::new();
        let mut doubts: BTreeSet<String> = leftovers.err().into_iter().collect();
        let mut findings = Vec::new();
        for record in records {
            let verdict = match &record {
                Ok(record) => judge(host, record, sandboxes, pods),
                Err(error) => Verdict::Doubtful(error.to_string()),
            };
            match (verdict, record) {
                (Verdict::Orphan, Ok(record)) => {
                    let since = self.since(&record, now);
                    if is_proved(since, now) {
                        findings.extend(self.bring_home(host, &record));
                    }
                    suspects.insert(record.device.clone(), (record, since));
                }
                (Verdict::Doubtful(why), _) => drop(doubts.insert(why)),
                (Verdict::Orphan | Verdict::InUse, _) => {}
            }
        }
        suspects.retain(|device, _| !findings.iter().any(|f| f.is_home && f.device == *device));
        self.suspects = suspects;
        self.counts.suspects = self.suspects.len() as u64;
        self.say(doubts);
        findings
    }

    /// What the node state is to say. A new daemon counts on from what it says already.
    pub fn status(&mut self, before: Option<SweepStatus>) -> Option<SweepStatus> {
        let known = before.unwrap_or_default();
        if !std::mem::replace(&mut self.counts_on, true) {
            self.counts.swept += known.swept;
            self.counts.failed += known.failed;
        }
        (before.is_some() || self.counts != SweepStatus::default()).then_some(self.counts)
    }

    /// Since when the same record is an orphan's.
    fn since(&self, record: &Record, now: Timestamp) -> Timestamp {
        let known = self.suspects.get(&record.device);
        known.filter(|(before, _)| before == record).map_or(now, |(_, since)| *since)
    }

    /// Nobody can be asked: whatever was seen once is to be seen twice anew.
    fn blind(&mut self, why: String) -> Vec<Finding> {
        self.suspects.clear();
        self.counts.suspects = 0;
        self.counts.blind = true;
        self.say(BTreeSet::from([format!(
            "devices of pods that are gone stay where they are: {why}"
        )]));
        Vec::new()
    }

    /// Tells what was not told last time.
    fn say(&mut self, sentences: BTreeSet<String>) {
        for sentence in sentences.difference(&self.said) {
            tracing::warn!("sweep: {sentence}");
        }
        self.said = sentences;
    }

    fn bring_home(&mut self, host: &dyn Host, record: &Record) -> Option<Finding> {
        let finding = |is_home, sentence: String| Finding {
            device: record.device.clone(),
            is_home,
            sentence,
        };
        match home_under_lock(host, record) {
            Ok(None) => None,
            Ok(Some(notes)) => {
                self.counts.swept += 1;
                let owner = &record.owner;
                let notes = notes.iter().map(|note| format!("; {note}")).collect::<String>();
                let sentence = format!(
                    "brought {} home: sandbox {} of pod {}/{}, which had it as {}, is gone{notes}",
                    record.device,
                    owner.container,
                    owner.pod_namespace,
                    owner.pod_name,
                    owner.interface
                );
                Some(finding(true, sentence))
            }
            Err(why) => {
                self.counts.failed += 1;
                Some(finding(false, why))
            }
        }
    }
}

/// Seen as an orphan's long enough; a look from the future is as good as none.
fn is_proved(since: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(since)).is_ok_and(|age| age >= TWICE)
}

fn judge(
    host: &dyn Host,
    record: &Record,
    sandboxes: &BTreeSet<String>,
    pods: &[Holder],
) -> Verdict {
    let owner = &record.owner;
    let (device, container) = (&record.device, &owner.container);
    if container.is_empty() {
        return Verdict::Doubtful(format!("the journal of {device} names no sandbox"));
    }
    if sandboxes.contains(container) {
        return Verdict::InUse;
    }
    // A record without a pod's name may be anybody's.
    let is_its = |holder: &&Holder| {
        owner.pod_name.is_empty()
            || (&holder.namespace, &holder.pod) == (&owner.pod_namespace, &owner.pod_name)
    };
    if pods.iter().filter(|holder| holder.device == *device).any(|holder| is_its(&holder)) {
        return Verdict::InUse;
    }
    let stranger =
        home::away(host, record).into_iter().find(|space| !is_owners(host, record, space));
    match stranger {
        Some(Namespace::At(path)) => Verdict::Doubtful(format!(
            "{device} was given to sandbox {container}, which is gone, and is now in the network namespace {path}, which is not the one it was given to; look whose that is, and call the plugin's DEL or remove the journal"
        )),
        _ => Verdict::Orphan,
    }
}

/// By device and inode number: a path is used again, an inode of a living namespace is not.
fn is_owners(host: &dyn Host, record: &Record, space: &Namespace) -> bool {
    let Namespace::At(path) = space else { return true };
    let owner = &record.owner;
    host.metadata(path).is_ok_and(|found| {
        (found.device, found.inode) == (owner.namespace_device, owner.namespace_inode)
    })
}

/// Removes records that were never finished. No evidence is needed: under the device's lock nobody writes them.
fn tidy(host: &dyn Host) -> Result<(), String> {
    for device in journal::unfinished(host).map_err(|error| error.to_string())? {
        let Ok(pci) = device.parse::<PciAddress>() else { continue };
        match device_lock::take(host, &pci, Duration::ZERO) {
            Ok(_lock) => journal::tidy(host, &device).map_err(|error| error.to_string())?,
            Err(device_lock::LockError::Held { .. }) => {}
            Err(error) => return Err(format!("cannot tidy the journal of {device}: {error}")),
        }
    }
    Ok(())
}

/// None: somebody is at work on the device, or it is another attachment's by now.
fn home_under_lock(host: &dyn Host, record: &Record) -> Result<Option<home::Notes>, String> {
    let device = &record.device;
    let _lock = match device.parse::<PciAddress>() {
        Ok(pci) => match device_lock::take(host, &pci, PATIENCE) {
            Ok(lock) => Some(lock),
            Err(device_lock::LockError::Held { .. }) => return Ok(None),
            Err(error) => return Err(format!("cannot bring {device} home: {error}")),
        },
        Err(_) => None,
    };
    let _moves = match host.lock(RDMA_LOCK, PATIENCE) {
        Ok(lock) => lock,
        Err(refusal) if refusal.errno == host::seam::Errno::TIMEDOUT => return Ok(None),
        Err(refusal) => return Err(format!("cannot bring {device} home: {refusal}")),
    };
    let now = journal::read(host, device).map_err(|error| error.to_string())?;
    if now.as_ref() != Some(record) {
        return Ok(None);
    }
    let boot =
        crate::observe::boot_id(host).map_err(|error| format!("{error}: {}", error.source))?;
    let notes = match record.boot_id == boot {
        true => home::bring_home(host, record).map_err(|error| error.to_string())?,
        // The VFs were made anew since.
        false => vec!["it was given away before a reboot".to_owned()],
    };
    journal::forget(host, device).map_err(|error| error.to_string())?;
    Ok(Some(notes))
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
