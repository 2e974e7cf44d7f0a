//! OpenShift: whether the machine-config pool of a node lets it be drained now, and when the pool goes on.
//!
//! The Machine Config Operator drains and reboots the nodes of a pool by itself, one after the other, unless the pool
//! is paused. Upstream's annotation on the pool marks a pause as ours; a pause without it is an administrator's, and
//! stays. Nothing is read or written here.

use crate::blocker::Blocker;
use std::collections::BTreeMap;

/// One MachineConfigPool, as far as a drain has to do with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigPool {
    /// `spec.paused`.
    pub paused: bool,
    /// Our annotation says that the pause is ours.
    pub paused_by_us: bool,
    /// `spec.configuration.name`: what its nodes are to have.
    pub wanted: String,
    /// `status.configuration.name`: what all of them have.
    pub applied: String,
}

/// What has to be done before the node is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    Go,
    /// Pause this pool, and look again.
    Pause(String),
    Wait(Blocker),
}

/// The pool that made a rendered configuration: its name is `rendered-<pool>-<hash>`.
pub fn pool_of(config: &str) -> Option<&str> {
    let (pool, _hash) = config.strip_prefix("rendered-")?.rsplit_once('-')?;
    (!pool.is_empty()).then_some(pool)
}

/// May the node be drained? `config` is the configuration that the node is to have; `pools` is None where they cannot
/// be read.
pub fn before_drain(
    node: &str,
    config: &str,
    pools: Option<&BTreeMap<String, ConfigPool>>,
) -> Gate {
    let unknown = |message: String| {
        Gate::Wait(Blocker::MachineConfigUnknown { node: node.to_owned(), message })
    };
    let Some(pools) = pools else {
        return unknown(
            "the machine-config pools cannot be read; apply deploy/openshift.yaml".to_owned(),
        );
    };
    let Some(name) = pool_of(config) else {
        let key = api::annotation::DESIRED_CONFIG;
        return unknown(format!(
            "its annotation {key} is {config:?} and names no rendered configuration"
        ));
    };
    let Some(pool) = pools.get(name) else {
        return unknown(format!(
            "there is no machine-config pool {name}, which its configuration {config} is from"
        ));
    };
    match (pool.paused, pool.paused_by_us) {
        // Whoever paused it, nothing but us disturbs its nodes.
        (true, _) => Gate::Go,
        (false, _) if pool.wanted.is_empty() || pool.wanted != pool.applied => {
            Gate::Wait(Blocker::MachineConfigUpdating {
                node: node.to_owned(),
                pool: name.to_owned(),
            })
        }
        (false, _) => Gate::Pause(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(config: &str, pools: &[(&str, bool, bool, &str, &str)], expected: Expect) {
        let pools = pools.iter().map(|(name, paused, paused_by_us, wanted, applied)| {
            let pool = ConfigPool {
                paused: *paused,
                paused_by_us: *paused_by_us,
                wanted: (*wanted).to_owned(),
                applied: (*applied).to_owned(),
            };
            ((*name).to_owned(), pool)
        });
        let said = match before_drain("worker-0", config, Some(&pools.collect())) {
            Gate::Go => "go".to_owned(),
            Gate::Pause(pool) => format!("pause {pool}"),
            Gate::Wait(blocker) => format!("{}: {blocker}", blocker.reason()),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn a_pool_at_rest_is_paused_first_and_a_paused_one_lets_the_node_go() {
        let config = "rendered-my-workers-0f3a";
        check(config, &[("my-workers", false, false, "a", "a")], expect!["pause my-workers"]);
        check(config, &[("my-workers", true, true, "a", "a")], expect!["go"]);
        // A new configuration came while we hold the pause.
        check(config, &[("my-workers", true, true, "b", "a")], expect!["go"]);
        check(config, &[("my-workers", true, false, "b", "a")], expect!["go"]);
        // Somebody took our pause back.
        check(config, &[("my-workers", false, true, "a", "a")], expect!["pause my-workers"]);
    }

    #[test]
    fn a_pool_that_is_being_updated_or_not_known_is_waited_for() {
        let config = "rendered-worker-0f3a";
        check(
            config,
            &[("worker", false, false, "b", "a")],
            expect![
                "MachineConfigUpdating: worker-0 waits: machine-config pool worker is being updated"
            ],
        );
        check(
            config,
            &[("worker", false, false, "", "")],
            expect![
                "MachineConfigUpdating: worker-0 waits: machine-config pool worker is being updated"
            ],
        );
        check(
            config,
            &[("master", false, false, "a", "a")],
            expect![
                "MachineConfigUnknown: worker-0 waits: there is no machine-config pool worker, which its configuration rendered-worker-0f3a is from"
            ],
        );
        check(
            "",
            &[("worker", false, false, "a", "a")],
            expect![[
                r#"MachineConfigUnknown: worker-0 waits: its annotation machineconfiguration.openshift.io/desiredConfig is "" and names no rendered configuration"#
            ]],
        );
        match before_drain("worker-0", config, None) {
            Gate::Wait(blocker) => expect!["worker-0 waits: the machine-config pools cannot be read; apply deploy/openshift.yaml"].assert_eq(&blocker.to_string()),
            other => panic!("{other:?}"),
        }
    }
}
