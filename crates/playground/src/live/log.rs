//! What containers wrote: kept in memory, bounded, for `kubectl logs`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The newest bytes that are kept of one container.
const KEPT: usize = 4 << 20;

/// The log of one container; clones write to the same log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    bytes: Vec<u8>,
    /// Bytes that were dropped in front.
    dropped: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Where the log ends now, and what came after `from`.
    pub fn since(&self, from: usize) -> (usize, Vec<u8>) {
        let written = locked(&self.0);
        let start = from.saturating_sub(written.dropped).min(written.bytes.len());
        (written.dropped + written.bytes.len(), written.bytes[start..].to_vec())
    }
}

impl io::Write for Log {
    fn write(&mut self, new: &[u8]) -> io::Result<usize> {
        let mut written = locked(&self.0);
        written.bytes.extend_from_slice(new);
        let surplus = written.bytes.len().saturating_sub(KEPT);
        written.bytes.drain(..surplus);
        written.dropped += surplus;
        Ok(new.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All logs, by namespace, pod and container.
#[derive(Debug, Clone, Default)]
pub struct Logs(Arc<Mutex<BTreeMap<Key, Log>>>);

/// Namespace, pod and container.
type Key = (String, String, String);

impl Logs {
    /// The log of a container, made when it is first asked for.
    pub fn of(&self, namespace: &str, pod: &str, container: &str) -> Log {
        let key = (namespace.to_owned(), pod.to_owned(), container.to_owned());
        locked(&self.0).entry(key).or_default().clone()
    }
}
