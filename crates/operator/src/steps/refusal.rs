//! What the API server answered about one pod that a drain sends away, told apart from what it says of the operator.
//!
//! What follows from a refusal is `planner::drain`'s choice.

use crate::controllers::is_about_one_pod;
use crate::kinds;
use crate::objects::{Budget, Place};
use crate::world::{Answered, World};
use api::wire::Answer;
use planner::drain::Refusal;

/// What the API said of one pod that was to go, by its uid; None for an answer about anything else.
pub(crate) fn refusal(world: &World, answered: &Answered) -> Option<(String, Refusal)> {
    let target = &answered.target;
    if target.kind != kinds::POD {
        return None;
    }
    let pod = world.pods.get(&Place::new(&target.namespace, &target.name))?;
    // The API's sentence does not name the budget; a person wants to know which to look at.
    let name = |budget: &Budget| {
        let name = &budget.metadata.name;
        format!(" PodDisruptionBudget {name} allows {} disruptions.", budget.disruptions_allowed)
    };
    let budgets: String = world.budgets.values().filter(|b| b.forbids(pod)).map(name).collect();
    let refusal = match &answered.answer {
        Answer::TooManyRequests(message) => Refusal::Budget(format!("{message}{budgets}")),
        answer if !is_about_one_pod(answer) => return None,
        answer if answered.evict => Refusal::Eviction(format!("{answer}{budgets}")),
        answer => Refusal::Deletion(answer.to_string()),
    };
    Some((pod.metadata.uid.clone(), refusal))
}
