//! The guide and other stories, told by a user who has only the API: manifests as they stand in the guide's file, then
//! commands. What a step calls ok is read from the world: RDMA netlink and sysfs through `exec`, boot counters, node
//! status, and the order of events as the API tells it to a watch.

mod blocked_drain;
mod canary_halt;
mod firmware;
mod guide;
mod hands;
mod lifeline;
mod manifests;
mod reboot_did_not_help;
mod record;
mod report;
mod scenario;
mod scene;
mod shared;
mod user;

pub use hands::Hands;
pub use manifests::Manifests;
pub use report::Report;
pub use scenario::Scenario;
pub use user::{User, until};

use scene::Scene;
use std::io::Write;
use std::time::{Duration, Instant};

/// What a demo is run with.
#[derive(Debug, Clone)]
pub struct Options {
    pub scenario: Scenario,
    /// How long any one step may take.
    pub patience: Duration,
    /// `maxUnavailable` of the pool, in place of the guide's 1: a number, or a percentage.
    pub max_unavailable: Option<String>,
    /// A person at the machines, for stories in which one has to be mended.
    pub hands: Option<Hands>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scenario: Scenario::Guide,
            patience: Duration::from_secs(60),
            max_unavailable: None,
            hands: None,
        }
    }
}

/// A story in steps; the first that fails is the last.
trait Story {
    const STEPS: &'static [&'static str];

    /// The sentence of what went wrong, if something did.
    async fn step(&mut self, scene: &mut Scene<'_>, name: &str) -> Result<(), String>;
}

/// Runs a story on a cluster where ironrail is installed, and reports what the world says.
pub async fn run(user: &User, options: &Options, out: &mut dyn Write) -> Report {
    let manifests = match Manifests::read(options.max_unavailable.as_deref()) {
        Ok(manifests) => manifests,
        Err(error) => return Report::broken("guide", format!("{error:#}")),
    };
    let mut scene = Scene::new(user, options, manifests, out);
    match options.scenario {
        Scenario::Guide => tell(guide::Guide, &mut scene).await,
        Scenario::Shared => tell(shared::Shared, &mut scene).await,
        Scenario::BlockedDrain => tell(blocked_drain::BlockedDrain, &mut scene).await,
        Scenario::Lifeline => tell(lifeline::Lifeline, &mut scene).await,
        Scenario::RebootDidNotHelp => tell(reboot_did_not_help::RebootDidNotHelp, &mut scene).await,
        Scenario::CanaryHalt => tell(canary_halt::CanaryHalt::default(), &mut scene).await,
        Scenario::Firmware => tell(firmware::Firmware, &mut scene).await,
    }
    scene.finish().await
}

async fn tell<S: Story>(mut story: S, scene: &mut Scene<'_>) {
    for name in S::STEPS {
        let start = Instant::now();
        let result = story.step(scene, name).await;
        if let Err(problem) = &result {
            scene.tell.detail(&format!("FAILED: {problem}"));
        }
        let failed = result.is_err();
        scene.report.note(name, result.err(), start.elapsed());
        if failed {
            return;
        }
    }
}
