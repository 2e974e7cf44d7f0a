//! Cards of a node of which nobody has said that they work: a warning in the node state, and no more.

use crate::conditions::{Status, Verdict};
use crate::world::World;
use api::names;
use api::nodestate::SriovNetworkNodeState;
use planner::reason::Reason;

/// Condition of the node state that the operator owns: `supported-nic-ids` names every card that the node configures.
pub const TESTED: &str = "CardsTested";

/// What the condition is to say; None where there was never anything to say.
pub(crate) fn condition(world: &World, state: &SriovNetworkNodeState) -> Option<Verdict> {
    let verdict = |status, reason, message| Verdict { kind: TESTED, status, reason, message };
    let tested = world.config_maps.get(names::SUPPORTED_NIC_IDS).map(|map| &map.tested);
    if let Some(warning) = tested.and_then(|tested| tested.warning_on(state)) {
        return Some(verdict(Status::False, Reason::NotTested.as_str(), warning));
    }
    let said = state.status.conditions.iter().any(|condition| condition.kind == TESTED);
    let message = "the ConfigMap supported-nic-ids names every card that is configured".to_owned();
    said.then(|| verdict(Status::True, "AsExpected", message))
}
