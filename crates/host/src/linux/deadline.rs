//! Questions and changes with a deadline: each runs on a thread, and whoever asked waits so long and no longer.
//!
//! A thread that waits in the kernel cannot be ended, so it is left there and written down; until it comes back nothing
//! else is begun on its card. What it does in the end is seen by whoever looks next.

use super::Failure;
use crate::seam::Refusal;
use crate::unfinished::{self, Unfinished};
use api::{PciAddress, Timestamp};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Deadlines {
    pub(super) patience: Duration,
    late: Arc<Mutex<Late>>,
}

/// What is past its deadline, by a number that is used once.
#[derive(Debug, Default)]
struct Late {
    next: u64,
    by_number: BTreeMap<u64, Unfinished>,
}

impl Deadlines {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, late: Arc::default() }
    }

    /// What is past its deadline, oldest first.
    pub(super) fn unfinished(&self) -> Vec<Unfinished> {
        held(&self.late).by_number.values().cloned().collect()
    }

    /// What is unfinished on the card, or for None on anything that is no card.
    pub(super) fn on(&self, card: Option<PciAddress>) -> Option<Unfinished> {
        held(&self.late).by_number.values().find(|late| late.card == card).cloned()
    }

    /// Runs a question or a change of a card, or of no card. `now` is when it was begun.
    pub(super) fn change<T: Send + 'static>(
        &self,
        card: Option<PciAddress>,
        tried: &str,
        now: Timestamp,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Refusal> {
        if let Some(by) = self.on(card) {
            return Err(unfinished::barred(tried, &by));
        }
        let (sender, answer) = mpsc::sync_channel(1);
        let late = Arc::clone(&self.late);
        let number = next(&self.late);
        let spawned = std::thread::Builder::new().name("change".to_owned()).spawn(move || {
            let outcome = work();
            // Answer and register under one lock: whoever gives up waiting sees either the answer or the change unfinished.
            let mut late = held(&late);
            let _ = sender.send(outcome);
            late.by_number.remove(&number);
        });
        if spawned.is_err() {
            return Err(Refusal::new(format!("{tried} on a thread of its own"), Errno::AGAIN));
        }
        let begun = Unfinished { card, tried: tried.to_owned(), since: now };
        match self.answer(&answer, number, begun) {
            Some(outcome) => outcome.map_err(|failure| failure.tried(tried.to_owned())),
            None => Err(unfinished::late(tried, self.patience.as_secs())),
        }
    }

    /// None: it is late, and written down.
    fn answer<T>(
        &self,
        answer: &Receiver<Result<T, Failure>>,
        number: u64,
        begun: Unfinished,
    ) -> Option<Result<T, Failure>> {
        if let Ok(outcome) = answer.recv_timeout(self.patience) {
            return Some(outcome);
        }
        let mut late = held(&self.late);
        match answer.try_recv() {
            Ok(outcome) => Some(outcome),
            // The thread panicked: it will not come back.
            Err(TryRecvError::Disconnected) => Some(Err(Errno::IO.into())),
            Err(TryRecvError::Empty) => {
                late.by_number.insert(number, begun);
                None
            }
        }
    }
}

fn next(late: &Mutex<Late>) -> u64 {
    let mut late = held(late);
    late.next += 1;
    late.next
}

fn held(late: &Mutex<Late>) -> MutexGuard<'_, Late> {
    late.lock().unwrap_or_else(PoisonError::into_inner)
}
