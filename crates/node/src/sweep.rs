//! The sweeper: brings a device home that a pod left behind and that nobody knows any more.
//!
//! It is our garbage collection, since Multus passes GC to the cluster network only. It acts on positive evidence alone,
//! seen twice and a minute apart: the journal names a sandbox, the container runtime does not know it, the kubelet lists
//! no such pod with that device (or one that has ended, as kubelets before 1.34 do), and the device is in no other namespace
//! than the journal's. Whoever cannot be asked is a reason to touch nothing. What it means to be home is `host::home`'s. What upstream's plugins wrote down counts as their
//! journal.

use crate::holders;
use api::PciAddress;
use api::custody::{Claims, EndedPod, Holder};
use api::files::RDMA_LOCK;
use api::journal::Record;
use api::nodestate::SweepStatus;
use host::old_plugins::{self, Cached, Plugin};
use host::{Host, Namespace, device_lock, home, journal};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// An orphan must be one for so long, by the time since the boot: the clock may be set forward between two looks that
/// are a second apart.
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
    /// Pods that the operator names as ended.
    pub ended: &'a [EndedPod],
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
    suspects: BTreeMap<String, (Note, Duration)>,
    looked: Option<Duration>,
    said: BTreeSet<String>,
    pub counts: SweepStatus,
    /// The counts have taken up what the node state said when we began.
    counts_on: bool,
}

/// A device that somebody was given, and who wrote it down: we, or upstream's plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Note {
    Ours(Record),
    /// The memories of one attachment, in the order of the way home: a chain's `rdma` has its own.
    Upstreams(Cached, Vec<Cached>),
}

impl Note {
    /// The one that speaks for all: of a chain's the interface's, whose file is named after the sandbox alone.
    fn record(&self) -> &Record {
        match self {
            Self::Ours(record) => record,
            Self::Upstreams(first, more) => &more.last().unwrap_or(first).record,
        }
    }

    fn memories(&self) -> Vec<&Cached> {
        match self {
            Self::Ours(_) => Vec::new(),
            Self::Upstreams(first, more) => std::iter::once(first).chain(more).collect(),
        }
    }

    fn records(&self) -> Vec<&Record> {
        match self {
            Self::Ours(record) => vec![record],
            Self::Upstreams(..) => {
                self.memories().into_iter().map(|cached| &cached.record).collect()
            }
        }
    }

    /// True when the runtime knows the sandbox. The name of an old plugin's file joins names by a sign that each may hold:
    /// any sandbox in it may be the one.
    fn is_of_any(&self, sandboxes: &BTreeSet<String>) -> bool {
        let joined = |name: &str| format!("-{name}-");
        let in_name = |cached: &&Cached| {
            sandboxes.iter().any(|sandbox| joined(cached.name()).contains(&joined(sandbox)))
        };
        sandboxes.contains(&self.record().owner.container) || self.memories().iter().any(in_name)
    }
}

/// Why a record is not an orphan's, or cannot be told to be one.
enum Verdict {
    Orphan,
    InUse,
    /// To be told to people, and left alone.
    Doubtful(String),
}

impl Sweeper {
    /// True when it is time to ask the runtime, and there is something to ask about. `uptime` is the time since the
    /// boot.
    pub fn is_due(&self, host: &dyn Host, uptime: Duration) -> bool {
        // Of a look before a boot nothing is known any more.
        let early = |looked| uptime.checked_sub(looked).is_some_and(|ago| ago < EVERY);
        let forgot = |plugin| old_plugins::names(host, plugin).is_ok_and(|names| names.is_empty());
        let nothing =
            journal::is_empty(host).unwrap_or(false) && Plugin::ALL.into_iter().all(forgot);
        !self.looked.is_some_and(early) && !nothing
    }

    /// Looks at every record once, and brings home what is an orphan's for the second time.
    pub fn sweep(&mut self, host: &dyn Host, evidence: &Evidence, now: Duration) -> Vec<Finding> {
        self.looked = Some(now);
        let leftovers = tidy(host);
        let (sandboxes, pods) = match (evidence.sandboxes, evidence.pods) {
            (Ok(sandboxes), Some(pods)) => (sandboxes, pods),
            (Err(why), _) => return self.blind(why.clone()),
            (_, None) => {
                return self.blind("the kubelet's PodResources does not answer".to_owned());
            }
        };
        let notes = match notes(host) {
            Ok(notes) => notes,
            Err(why) => return self.blind(why),
        };
        self.counts.blind = false;
        // Neither journal nor claims speak for a pod that has ended: a sandbox that nobody knows is what is judged.
        let pods = &holders::that_run(pods, evidence.ended, &[], &Claims::default());
        let mut suspects = BTreeMap::new();
        let mut doubts: BTreeSet<String> = leftovers.err().into_iter().collect();
        let mut findings = Vec::new();
        for note in notes {
            let verdict = match &note {
                Ok(note) => judge(host, note, sandboxes, pods),
                Err(why) => Verdict::Doubtful(why.clone()),
            };
            match (verdict, note) {
                (Verdict::Orphan, Ok(note)) => {
                    let since = self.since(&note, now);
                    if now.saturating_sub(since) >= TWICE {
                        findings.extend(self.bring_home(host, &note));
                    }
                    suspects.insert(note.record().device.clone(), (note, since));
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
    fn since(&self, note: &Note, now: Duration) -> Duration {
        let known = self.suspects.get(&note.record().device);
        known.filter(|(before, _)| before == note).map_or(now, |(_, since)| (*since).min(now))
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

    fn bring_home(&mut self, host: &dyn Host, note: &Note) -> Option<Finding> {
        let record = note.record();
        let finding = |is_home, sentence: String| Finding {
            device: record.device.clone(),
            is_home,
            sentence,
        };
        match home_under_lock(host, note) {
            Ok(None) => None,
            Ok(Some(notes)) => {
                self.counts.swept += 1;
                let owner = &record.owner;
                let notes = notes.iter().map(|note| format!("; {note}")).collect::<String>();
                let pod = match note {
                    Note::Ours(_) => format!("pod {}/{}", owner.pod_namespace, owner.pod_name),
                    Note::Upstreams(..) => "a pod of the old plugin".to_owned(),
                };
                let sentence = format!(
                    "brought {} home: sandbox {} of {pod}, which had it as {}, is gone{notes}",
                    record.device, owner.container, owner.interface
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

fn judge(host: &dyn Host, note: &Note, sandboxes: &BTreeSet<String>, pods: &[Holder]) -> Verdict {
    let record = note.record();
    let owner = &record.owner;
    let (device, container) = (&record.device, &owner.container);
    if container.is_empty() {
        return Verdict::Doubtful(format!("the journal of {device} names no sandbox"));
    }
    if note.is_of_any(sandboxes) {
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
    let strangers = note.records().into_iter().flat_map(|record| {
        let away = home::away(host, record).into_iter();
        away.filter(|space| !is_owners(host, record, space)).collect::<Vec<_>>()
    });
    match strangers.into_iter().next() {
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

/// What is written about devices that were given away. Of a device that two attachments are named for, one died without DEL
/// and the other has it: whichever lives is not swept, so neither is.
fn notes(host: &dyn Host) -> Result<Vec<Result<Note, String>>, String> {
    let ours = journal::list(host).map_err(|error| error.to_string())?;
    let ours =
        ours.into_iter().map(|record| record.map(Note::Ours).map_err(|error| error.to_string()));
    let mut notes: Vec<_> = ours.chain(upstreams(host)?).collect();
    let device =
        |note: &Result<Note, String>| note.as_ref().ok().map(|n| n.record().device.clone());
    let all: Vec<String> = notes.iter().filter_map(device).collect();
    notes.retain(|note| match note {
        Ok(note @ Note::Upstreams(..)) => {
            all.iter().filter(|device| **device == note.record().device).count() == 1
        }
        Ok(Note::Ours(_)) | Err(_) => true,
    });
    Ok(notes)
}

/// What upstream's plugins remember, each attachment once.
fn upstreams(host: &dyn Host) -> Result<Vec<Result<Note, String>>, String> {
    let boot = boot_id(host)?;
    let mut notes: Vec<Result<Note, String>> = Vec::new();
    for plugin in Plugin::ALL {
        let names = old_plugins::names(host, plugin);
        for name in names.map_err(|refusal| format!("cannot {refusal}"))? {
            let cached = match old_plugins::remembered(host, plugin, &name, None, boot.clone()) {
                Ok(Some(cached)) => cached,
                Ok(None) => continue,
                Err(error) => {
                    notes.push(Err(error.to_string()));
                    continue;
                }
            };
            let beside = notes.iter_mut().find_map(|note| match note {
                Ok(Note::Upstreams(first, more)) if first.is_beside(&cached) => Some(more),
                Ok(_) | Err(_) => None,
            });
            match beside {
                Some(more) => more.push(cached),
                None => notes.push(Ok(Note::Upstreams(cached, Vec::new()))),
            }
        }
    }
    Ok(notes)
}

fn boot_id(host: &dyn Host) -> Result<String, String> {
    crate::observe::boot_id(host).map_err(|error| format!("{error}: {}", error.source))
}

/// None: somebody is at work on the device, or it is another attachment's by now.
fn home_under_lock(host: &dyn Host, note: &Note) -> Result<Option<home::Notes>, String> {
    let record = note.record();
    let device = &record.device;
    let mut locks = vec![RDMA_LOCK.to_owned()];
    if let Note::Upstreams(..) = note {
        // The old plugins may still be at work.
        locks.insert(0, old_plugins::lock_file(device));
    }
    let _lock = match device.parse::<PciAddress>() {
        Ok(pci) => match device_lock::take(host, &pci, PATIENCE) {
            Ok(lock) => Some(lock),
            Err(device_lock::LockError::Held { .. }) => return Ok(None),
            Err(error) => return Err(format!("cannot bring {device} home: {error}")),
        },
        Err(_) => None,
    };
    let mut held = Vec::new();
    for lock in locks {
        match host.lock(&lock, PATIENCE) {
            Ok(lock) => held.push(lock),
            Err(refusal) if refusal.errno == host::seam::Errno::TIMEDOUT => return Ok(None),
            Err(refusal) => return Err(format!("cannot bring {device} home: {refusal}")),
        }
    }
    if !notes(host)?.iter().any(|now| now.as_ref() == Ok(note)) {
        return Ok(None);
    }
    let records: Vec<Record> = match note {
        Note::Ours(record) => vec![record.clone()],
        Note::Upstreams(..) => {
            let memories = note.memories().into_iter();
            memories.map(|cached| as_left(host, cached)).collect::<Result<_, _>>()?
        }
    };
    let mut told = home::Notes::new();
    match record.boot_id == boot_id(host)? {
        true => {
            for record in &records {
                told.extend(home::bring_home(host, record).map_err(|error| error.to_string())?);
            }
        }
        // The VFs were made anew since.
        false => told.push("it was given away before a reboot".to_owned()),
    }
    for cached in note.memories() {
        host.remove(&cached.file).map_err(|refusal| format!("cannot {refusal}"))?;
    }
    journal::forget(host, device).map_err(|error| error.to_string())?;
    Ok(Some(told))
}

/// Upstream's memory of a VF, as far as it is about the VF that is there now.
fn as_left(host: &dyn Host, cached: &Cached) -> Result<Record, String> {
    let mut cached = cached.clone();
    cached.forget_what_was(host).map_err(|refusal| refusal.to_string())?;
    Ok(cached.record)
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
