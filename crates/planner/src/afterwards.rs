//! What a node that is drained still waits for: the operator has done its part, and the daemon its own not yet.
//!
//! A drain that is overdue here is no less a drain that does not end. Only words, and whether it may be given up.

use crate::waves::BACK_WITHIN;
use api::Timestamp;

/// What is known of a node between the end of its drain and the end of its daemon's work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Afterwards {
    /// The Node is Ready.
    pub ready: bool,
    /// A reboot was asked for, and the daemon has seen no other boot since.
    pub reboot_booked: bool,
    /// The node is prepared for a reboot that is left to a person: its levers are pulled.
    pub reboot_left: bool,
    /// The Node reports a boot of which the daemon has said nothing.
    pub boot_is_news: bool,
    /// A pod of the daemon runs there.
    pub daemon_runs: bool,
    /// The daemon's own words for what it waits for.
    pub said: Vec<String>,
    /// Since when the drain is complete.
    pub drained_since: Option<Timestamp>,
}

impl Afterwards {
    /// What the node waits for, as the end of a sentence.
    pub fn waits_for(&self, now: Timestamp) -> String {
        match self {
            Self { ready: false, reboot_booked: true, .. } => {
                "it was asked to reboot and is not Ready again; look at its console".to_owned()
            }
            Self { ready: false, .. } => "it is not Ready".to_owned(),
            Self { daemon_runs: false, .. } => {
                format!("no pod of DaemonSet {} runs there", api::names::DAEMON)
            }
            Self { boot_is_news: true, .. } => {
                "it has booted, and its daemon has said nothing since".to_owned()
            }
            Self { said, .. } if !said.is_empty() => said.join("; "),
            Self { reboot_booked: true, .. } => "it was asked to reboot".to_owned(),
            Self { .. } if self.is_silent(now) => {
                "its daemon runs and has said of nothing that it waits for it since the drain was complete; look at its log"
                    .to_owned()
            }
            Self { .. } => {
                "its daemon is at work and says of nothing that it waits for it".to_owned()
            }
        }
    }

    /// True where undoing the drain takes nothing out of working hands: nobody works there, or who does says that it
    /// waits, or has been silent for longer than any work takes. A reboot that is on its way is no time for pods to come
    /// back, and with the levers pulled the next power cut would change the mode outside the rollout; without one that is
    /// booked, a daemon that finds its tongue again asks for a new turn.
    pub fn may_be_given_up(&self, now: Timestamp) -> bool {
        let idle = !self.daemon_runs || self.boot_is_news || !self.said.is_empty();
        let boots = (self.reboot_booked || self.reboot_left) && !self.boot_is_news;
        self.ready && !boots && (idle || self.is_silent(now))
    }

    /// When a daemon that goes on saying nothing has been silent for too long.
    pub fn silent_at(&self) -> Option<Timestamp> {
        let since = self.drained_since.filter(|_| self.said.is_empty())?;
        since.checked_add(BACK_WITHIN).ok()
    }

    fn is_silent(&self, now: Timestamp) -> bool {
        self.silent_at().is_some_and(|at| at <= now)
    }
}
