//! Shell: what wakes a process that has nothing to do. The kernel's events on a real node, a timer on a simulated one,
//! whose clock would run away if somebody waited on it.

use host::Host;
use host::seam::Interest;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How a process learns that the node changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// By `Host::wait`, on a thread of its own.
    Events,
    /// By looking so often.
    Every(Duration),
}

/// Wakes that come one after the other; any number of causes between two looks is one.
pub struct Wakes {
    events: Option<mpsc::Receiver<()>>,
    every: Duration,
}

/// A quiet node is looked at so often all the same.
const AT_LEAST_EVERY: Duration = Duration::from_secs(30);

impl Wakes {
    /// The thread ends with the process that it serves, at its next event.
    pub fn new(host: Arc<dyn Host>, interests: Vec<Interest>, pace: Pace) -> std::io::Result<Self> {
        let every = match pace {
            Pace::Every(every) => return Ok(Self { events: None, every }),
            Pace::Events => AT_LEAST_EVERY,
        };
        let (sender, events) = mpsc::channel(1);
        std::thread::Builder::new().name("wakes".to_owned()).spawn(move || {
            while !sender.is_closed() {
                host.wait(&interests, every);
                // A full queue already holds a wake.
                let _ = sender.try_send(());
            }
        })?;
        Ok(Self { events: Some(events), every })
    }

    /// Returns at the next cause to look.
    pub async fn next(&mut self) {
        match &mut self.events {
            Some(events) => drop(events.recv().await),
            None => tokio::time::sleep(self.every).await,
        }
    }
}
