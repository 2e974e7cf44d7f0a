//! A machine behind its lock, with what its files showed since it last changed: a node at rest is looked at again and
//! again, and each look reads the same.

use super::machine::{HOST_NAMESPACE, Machine};
use crate::seam::Metadata;
use api::Timestamp;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;
use std::time::Duration;

pub(super) struct Remembered {
    machine: Machine,
    shown: Shown,
}

/// Answers as the host's network namespace sees it.
#[derive(Default)]
struct Shown {
    contents: Answers<Vec<u8>>,
    names: Answers<Vec<String>>,
    targets: Answers<String>,
    metadata: Answers<Metadata>,
}

/// By a hash of the path that was asked for, with that path: paths are long and alike, and comparing them on the way to
/// one of a thousand would cost more than to walk sysfs. Of two paths with one hash the later is remembered.
type Answers<T> = BTreeMap<u64, (String, Result<T, Errno>)>;

impl Shown {
    fn forget(&mut self) {
        self.contents.clear();
        self.names.clear();
        self.targets.clear();
        self.metadata.clear();
    }
}

impl Remembered {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, shown: Shown::default() }
    }
}

/// The machine, locked. Whoever takes it to change it makes it forget what it showed.
pub struct MachineGuard<'a>(pub(super) MutexGuard<'a, Remembered>);

impl Deref for MachineGuard<'_> {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.0.machine
    }
}

impl DerefMut for MachineGuard<'_> {
    fn deref_mut(&mut self) -> &mut Machine {
        self.0.shown.forget();
        &mut self.0.machine
    }
}

impl MachineGuard<'_> {
    /// Sets clock and uptime. What files show changes only where the kernel had something to do by then.
    pub fn set_time(&mut self, clock: Timestamp, uptime: Duration) {
        if self.next_event().is_some_and(|at| at <= clock) {
            self.0.shown.forget();
        }
        let machine = &mut self.0.machine;
        machine.set_clock(clock);
        machine.uptime = uptime;
    }

    pub(super) fn read(&mut self, space: u64, path: &str) -> Result<Vec<u8>, Errno> {
        let Remembered { machine, shown } = &mut *self.0;
        if let Some(content) = machine.instead(path) {
            return content;
        }
        // The one file that time itself changes.
        let kept = (!path.ends_with("/uptime")).then_some(&mut shown.contents);
        remembered(kept, space, path, || machine.read_path(space, path))
    }

    pub(super) fn list(&mut self, space: u64, path: &str) -> Result<Vec<String>, Errno> {
        let Remembered { machine, shown } = &mut *self.0;
        remembered(Some(&mut shown.names), space, path, || machine.list_path(space, path))
    }

    pub(super) fn link_target(&mut self, space: u64, path: &str) -> Result<String, Errno> {
        let Remembered { machine, shown } = &mut *self.0;
        remembered(Some(&mut shown.targets), space, path, || machine.link_target_of(space, path))
    }

    pub(super) fn metadata(&mut self, space: u64, path: &str) -> Result<Metadata, Errno> {
        let Remembered { machine, shown } = &mut *self.0;
        remembered(Some(&mut shown.metadata), space, path, || machine.metadata_of(space, path))
    }
}

fn remembered<T: Clone>(
    kept: Option<&mut Answers<T>>,
    space: u64,
    path: &str,
    look: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    let Some(kept) = kept.filter(|_| space == HOST_NAMESPACE) else { return look() };
    let mut hasher = DefaultHasher::new();
    hasher.write(path.as_bytes());
    let hash = hasher.finish();
    if let Some((_, known)) = kept.get(&hash).filter(|(of, _)| of == path) {
        return known.clone();
    }
    let found = look();
    kept.insert(hash, (path.to_owned(), found.clone()));
    found
}
