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

/// The rendered configurations of a node, as its annotations name them.
#[derive(Debug, Clone, Copy)]
pub struct Configs<'a> {
    /// What it is to have.
    pub wanted: &'a str,
    /// What it has; None where its Machine Config Daemon has not said.
    pub current: Option<&'a str>,
}

/// May the node be drained? `pools` is None where they cannot be read.
pub fn before_drain(
    node: &str,
    configs: Configs,
    pools: Option<&BTreeMap<String, ConfigPool>>,
) -> Gate {
    let config = configs.wanted;
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
    let updating = || {
        Gate::Wait(Blocker::MachineConfigUpdating { node: node.to_owned(), pool: name.to_owned() })
    };
    // A pause lets the node that an update has begun with come to its end.
    let is_under_way = configs.current.is_some_and(|current| current != config);
    match (pool.paused, pool.paused_by_us) {
        (true, false) if is_under_way => updating(),
        // Whoever paused it, nothing but us disturbs its nodes.
        (true, _) => Gate::Go,
        (false, _) if pool.wanted.is_empty() || pool.wanted != pool.applied => updating(),
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
        let pools = pools.collect();
        expected.assert_eq(&say(Configs { wanted: config, current: Some(config) }, &pools));
    }

    fn say(configs: Configs, pools: &BTreeMap<String, ConfigPool>) -> String {
        match before_drain("worker-0", configs, Some(pools)) {
            Gate::Go => "go".to_owned(),
            Gate::Pause(pool) => format!("pause {pool}"),
            Gate::Wait(blocker) => format!("{}: {blocker}", blocker.reason()),
        }
    }

    #[test]
    fn an_administrators_pause_in_the_middle_of_an_update_lets_its_node_finish() {
        let paused = |by_us| {
            let (wanted, applied) = ("b".to_owned(), "a".to_owned());
            let pool = ConfigPool { paused: true, paused_by_us: by_us, wanted, applied };
            BTreeMap::from([("worker".to_owned(), pool)])
        };
        let half = Configs { wanted: "rendered-worker-b", current: Some("rendered-worker-a") };
        expect![
            "MachineConfigUpdating: worker-0 waits: machine-config pool worker is being updated"
        ]
        .assert_eq(&say(half, &paused(false)));
        // Ours began with a pool at rest.
        expect!["go"].assert_eq(&say(half, &paused(true)));
        let unsaid = Configs { current: None, ..half };
        expect!["go"].assert_eq(&say(unsaid, &paused(false)));
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
        match before_drain("worker-0", Configs { wanted: config, current: None }, None) {
            Gate::Wait(blocker) => expect!["worker-0 waits: the machine-config pools cannot be read; apply deploy/openshift.yaml"].assert_eq(&blocker.to_string()),
            other => panic!("{other:?}"),
        }
    }
}
