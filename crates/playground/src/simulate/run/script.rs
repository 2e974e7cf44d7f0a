//! A cluster without faults that does as it is told: requests of a user, and time until nothing happens any more.
//!
//! For tests of what comes after what. Nothing is drawn here but delays.

use super::{LONGEST, Options, REST, START, Simulation};
use crate::cluster::cluster::Cluster;
use crate::install;
use crate::simulate::queue::{Event, Queue};
use crate::store::{Store, User};
use api::Timestamp;
use api::wire::{Request, Response};
use std::collections::BTreeSet;
use std::time::Duration;

pub struct Script {
    simulation: Simulation,
    /// What is asked after every event; its sentence ends the story.
    always: fn(&Store) -> Result<(), String>,
}

impl Simulation {
    /// One event and what follows from it, without a look at the invariants.
    fn one(&mut self, at: Timestamp, event: Event) {
        self.now = self.now.max(at);
        self.happen(event);
        self.after_event();
        self.touched.clear();
        self.store.take_audit();
    }
}

impl Script {
    /// So many machines, with ironrail installed and at rest.
    pub fn start(nodes: usize, always: fn(&Store) -> Result<(), String>) -> Result<Self, String> {
        let start = Timestamp::from_second(START).unwrap_or_default();
        let of_seed = |seed| {
            let options = Options { faults: BTreeSet::new(), ..Options::new(seed) };
            Simulation::new(&options, start)
        };
        let fits = |simulation: &Simulation| {
            let story = &simulation.story;
            let extras = story.extras.argument.is_none();
            let plain = story.small_card.is_none() && story.lives.is_none() && extras;
            plain && simulation.cluster.nodes.len() == nodes
        };
        // The second: in the first the daemon is always quicker than the operator after a boot, and no taint is seen.
        let simulation = (1..1000).map(of_seed).filter(fits).nth(1);
        let mut simulation = simulation.ok_or(format!("no seed makes {nodes} nodes"))?;
        simulation.story.acts.clear();
        simulation.queue = Queue::default();
        install::into(&mut simulation.store, start).map_err(|error| format!("{error:#}"))?;
        install::node_agent(&mut simulation.store, start);
        simulation.wake_cluster(start);
        let mut script = Self { simulation, always };
        script.rest()?;
        Ok(script)
    }

    /// A request of the admin, answered now.
    pub fn send(&mut self, request: &Request) -> Response {
        let simulation = &mut self.simulation;
        let response = simulation.store.handle(simulation.now, &User::admin(), request);
        simulation.last_write = simulation.now;
        simulation.after_event();
        simulation.store.take_audit();
        simulation.wake_cluster(simulation.now + Duration::from_millis(1));
        response
    }

    /// Lets time pass until nobody has anything to do.
    pub fn rest(&mut self) -> Result<(), String> {
        let simulation = &mut self.simulation;
        let began = simulation.now;
        simulation.last_write = began;
        while let Some((at, event)) = simulation.queue.next() {
            simulation.one(at, event);
            (self.always)(&simulation.store).map_err(|why| simulation.at(why))?;
            if simulation.now > simulation.last_write + REST {
                return Ok(());
            }
            if simulation.now > began + LONGEST {
                return Err(simulation.at("the world does not come to rest".to_owned()));
            }
        }
        Ok(())
    }

    /// Lets this much time pass, whatever happens.
    pub fn pass(&mut self, time: Duration) -> Result<(), String> {
        let simulation = &mut self.simulation;
        let until = simulation.now + time;
        while simulation.now < until
            && let Some((at, event)) = simulation.queue.next()
        {
            simulation.one(at, event);
            (self.always)(&simulation.store).map_err(|why| simulation.at(why))?;
        }
        Ok(())
    }

    /// The machine loses its power for so long; nobody had the time to say goodbye.
    pub fn cut_power(&mut self, node: &str, time: Duration) {
        let simulation = &mut self.simulation;
        simulation.cut(node, simulation.now + time);
        simulation.last_write = simulation.now;
        simulation.wake_cluster(simulation.now + Duration::from_millis(1));
    }

    /// The kubelet ends and starts again; containers do not notice.
    pub fn restart_kubelet(&mut self, node: &str) {
        let simulation = &mut self.simulation;
        simulation.restart_kubelet(node);
        simulation.last_write = simulation.now;
        simulation.wake_cluster(simulation.now + Duration::from_millis(1));
    }

    pub fn store(&self) -> &Store {
        &self.simulation.store
    }

    pub fn cluster(&self) -> &Cluster {
        &self.simulation.cluster
    }
}
