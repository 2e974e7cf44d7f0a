//! Questions and changes with a deadline: each runs on a thread, and whoever asked waits so long and no longer.
//!
//! A thread that waits in the kernel cannot be ended, so it is left there and written down; until it comes back nothing
//! else is begun on its card. What it does in the end is seen by whoever looks next.

use super::Failure;
use crate::seam::Refusal;
use crate::unfinished::{self, Unfinished};
use api::{PciAddress, Timestamp};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Deadlines {
    pub(super) patience: Duration,
    shared: Arc<Shared>,
}

/// What the threads share with those who asked.
#[derive(Debug, Default)]
struct Shared {
    begun: Mutex<Begun>,
    ended: Condvar,
}

/// What has begun and not ended, by a number that is used once; some of it is past its deadline.
#[derive(Debug, Default)]
struct Begun {
    next: u64,
    running: BTreeSet<u64>,
    late: BTreeMap<u64, Unfinished>,
}

/// One question or change: it has ended when this is dropped, also by a panic.
struct Running {
    shared: Arc<Shared>,
    number: u64,
}

impl Running {
    fn begin(shared: &Arc<Shared>) -> Self {
        let mut begun = held(&shared.begun);
        begun.next += 1;
        let number = begun.next;
        begun.running.insert(number);
        Self { shared: Arc::clone(shared), number }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut begun = held(&self.shared.begun);
        begun.running.remove(&self.number);
        begun.late.remove(&self.number);
        self.shared.ended.notify_all();
    }
}

impl Deadlines {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, shared: Arc::default() }
    }

    /// What is past its deadline, oldest first.
    pub(super) fn unfinished(&self) -> Vec<Unfinished> {
        held(&self.shared.begun).late.values().cloned().collect()
    }

    /// What is unfinished on the card, or for None on anything that is no card.
    pub(super) fn on(&self, card: Option<PciAddress>) -> Option<Unfinished> {
        held(&self.shared.begun).late.values().find(|late| late.card == card).cloned()
    }

    /// Runs a question or a change of a card, or of no card. `now` is when it was begun.
    pub(super) fn change<T: Send + 'static>(
        &self,
        card: Option<PciAddress>,
        tried: &str,
        now: Timestamp,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Refusal> {
        let answer = Arc::new(Mutex::new(None));
        let place = Arc::clone(&answer);
        self.run(card, tried, now, Box::new(move || *held(&place) = Some(work())))?;
        // No answer: the thread panicked.
        let outcome = held(&answer).take().unwrap_or_else(|| Err(Errno::IO.into()));
        outcome.map_err(|failure| failure.tried(tried.to_owned()))
    }

    /// The same without the answer's type, so that the thread is in the program once and not for each question.
    fn run(
        &self,
        card: Option<PciAddress>,
        tried: &str,
        now: Timestamp,
        work: Box<dyn FnOnce() + Send>,
    ) -> Result<(), Refusal> {
        if let Some(by) = self.on(card) {
            return Err(unfinished::barred(tried, &by));
        }
        let running = Running::begin(&self.shared);
        let number = running.number;
        let spawned = std::thread::Builder::new().name("change".to_owned()).spawn(move || {
            work();
            drop(running);
        });
        if spawned.is_err() {
            return Err(Refusal::new(format!("{tried} on a thread of its own"), Errno::AGAIN));
        }
        let begun = Unfinished { card, tried: tried.to_owned(), since: now };
        match self.ends(number, begun) {
            true => Ok(()),
            false => Err(unfinished::late(tried, self.patience.as_secs())),
        }
    }

    /// False: it is late, and written down. Under one lock: it has either ended or is written down, and never both.
    fn ends(&self, number: u64, unfinished: Unfinished) -> bool {
        let Shared { begun, ended } = &*self.shared;
        let runs = |begun: &mut Begun| begun.running.contains(&number);
        let waited = ended.wait_timeout_while(held(begun), self.patience, runs);
        let (mut begun, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            begun.late.insert(number, unfinished);
        }
        !waited.timed_out()
    }
}

fn held<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
