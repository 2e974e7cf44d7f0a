//! Watches inside the loop: what changed is delivered to whoever asked for it, in its time, late, twice or never.

use super::fate::SECOND_OPERATOR;
use super::faults::Fault;
use super::process::{Informer, News};
use super::queue::Event;
use super::run::Simulation;
use crate::cluster::objects::{self, text};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

impl Simulation {
    /// Every watch of a new process begins with a list.
    pub(super) fn subscribe(&mut self, process: &str) {
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        let interests: Vec<(String, String)> =
            worker.informers().iter().map(Informer::interest).collect();
        for (watch, interest) in interests.into_iter().enumerate() {
            let subscriber = (process.to_owned(), watch);
            self.subscribers.entry(interest).or_default().insert(subscriber);
            self.schedule_delivery(process, watch);
        }
    }

    /// Has the changes delivered to every watch that they concern.
    pub(super) fn schedule_deliveries(&mut self, changes: &[Arc<Value>]) {
        let mut due = BTreeSet::new();
        for object in changes {
            for named in [objects::name(object), ""] {
                let interest = (text(object, "/kind").to_owned(), named.to_owned());
                if let Some(subscribers) = self.subscribers.get_mut(&interest) {
                    subscribers
                        .retain(|(process, _)| self.containers.workers.contains_key(process));
                    due.extend(subscribers.iter().cloned());
                }
            }
        }
        for (process, watch) in due {
            self.schedule_delivery(&process, watch);
        }
    }

    fn schedule_delivery(&mut self, process: &str, watch: usize) {
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        let Some(informer) = worker.informers().get_mut(watch) else { return };
        if std::mem::replace(&mut informer.scheduled, true) {
            return;
        }
        // An operator that lost its lease and does not know is one that hears late: else both would see the same.
        let odds = if process == SECOND_OPERATOR { 3 } else { 100 };
        let late = self.strikes(Fault::LateWatch, odds);
        let delay = if late { self.jitter(2_000, 20_000) } else { self.jitter(1, 60) };
        let process = process.to_owned();
        if late {
            // It matters when the process takes a step before it hears.
            self.faults.fired(Fault::LateWatch, false);
            self.unheard.insert(process.clone(), Fault::LateWatch);
        }
        self.queue.add(self.now + delay, Event::Deliver { process, watch });
    }

    pub(super) fn deliver(&mut self, process: &str, watch: usize) {
        let lost = self.strikes(Fault::LostWatch, 150);
        let twice = self.strikes(Fault::DoubledWatch, 100);
        let local = self.local_time(process);
        let outage = self.now < self.outage_until;
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        let user = worker.user();
        let Some(informer) = worker.informers().get_mut(watch) else { return };
        if lost {
            informer.lose();
            self.faults.fired(Fault::LostWatch, false);
            self.unheard.insert(process.to_owned(), Fault::LostWatch);
        } else {
            self.unheard.remove(process);
        }
        if outage && !std::mem::replace(&mut self.outage_felt, true) {
            self.faults.mattered(Fault::Outage);
        }
        if outage || lost {
            // The client notices the broken connection after a while and lists again.
            informer.scheduled = true;
            let at = self.now.max(self.outage_until) + self.jitter(500, 8_000);
            self.queue.add(at, Event::Deliver { process: process.to_owned(), watch });
            return;
        }
        let news = informer.deliver(&mut self.store, &user, self.now);
        let kind = informer.kind;
        let Some(mut news) = news else {
            if !informer.is_listed() {
                informer.scheduled = true;
                let at = self.now + Duration::from_secs(1);
                self.queue.add(at, Event::Deliver { process: process.to_owned(), watch });
            }
            return;
        };
        let count = match &news {
            News::Listed(objects) => objects.len(),
            News::Events(events) => events.len(),
        };
        if let Some(mutation) = self.options.mutation {
            mutation.hear(self.boot_of(process).as_deref(), &mut news);
        }
        let Some(worker) = self.containers.workers.get_mut(process) else { return };
        self.trace.line(
            self.now,
            &format!("{} hears {count} of {}", worker.name(), worker.kind_name(kind)),
        );
        let again = matches!(news, News::Events(_)) && twice;
        if again {
            worker.hear(kind, news.clone(), local);
        }
        worker.hear(kind, news, local);
        if again {
            // It matters when the next step has something to say.
            self.faults.fired(Fault::DoubledWatch, false);
            self.told_twice.insert(process.to_owned());
        }
        self.wake_when_due(process, Duration::ZERO);
    }
}
