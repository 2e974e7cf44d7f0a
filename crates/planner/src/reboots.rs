//! All reasons for a reboot that are known at one time, folded into one.
//!
//! Who wants a reboot brings its levers and its cause; whether it may be had is `ledger`'s, when is `order`'s.

use crate::action::{Action, Disturbance, Lane, RebootCause, Step};
use std::collections::BTreeSet;

/// One goal that only a boot brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// What is to be changed on the host before the boot.
    pub levers: Vec<Action>,
    pub cause: RebootCause,
    pub attempt: u32,
    pub because: String,
}

/// The levers of all wishes, each with its own reason, and one reboot for all of them.
pub(crate) fn fold(wishes: Vec<Wish>, by_person: bool) -> Vec<Step> {
    let Some(attempt) = wishes.iter().map(|wish| wish.attempt).max() else { return vec![] };
    let reasons: Vec<&str> = wishes.iter().map(|wish| wish.because.as_str()).collect();
    let because = reasons.join("; and ");
    let causes: Vec<RebootCause> = wishes.iter().map(|wish| wish.cause.clone()).collect();
    let reboot = match by_person {
        true => Action::LeaveReboot { causes },
        false => Action::Reboot { causes, attempt },
    };
    let levers = wishes.into_iter().flat_map(|wish| {
        let because = wish.because;
        wish.levers.into_iter().map(move |lever| (lever, because.clone()))
    });
    levers.chain([(reboot, because)]).map(|(action, because)| step(action, because)).collect()
}

fn step(action: Action, because: String) -> Step {
    Step {
        action,
        disturbs: Disturbance::Node,
        touches: BTreeSet::new(),
        because,
        lane: Lane::Node,
    }
}
