//! Parts of a pod that are written by POST: eviction under disruption budgets, and binding to a node.

use super::call::{Call, DeleteOptions};
use super::object::{self, as_map, at, text};
use super::stored::Stored;
use super::write::Booking;
use super::{Refusal, Response, Selector, Store};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a disruption budget allows at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Pods that the budget counts on.
    pub expected: i64,
    pub healthy: i64,
    /// Pods that must stay healthy.
    pub desired: i64,
}

impl Allowance {
    /// Evictions that the budget bears now.
    pub fn disruptions(&self) -> i64 {
        match self.expected {
            0 => 0,
            _ => (self.healthy - self.desired).max(0),
        }
    }
}

impl Store {
    pub(super) fn evict(&mut self, call: &Call) -> Result<Response, Refusal> {
        let pod = self.target(call)?;
        let options =
            DeleteOptions::of_body(call.body.get("deleteOptions").unwrap_or(&Value::Null));
        let phase = text(&pod, &["status", "phase"]);
        let free = object::is_terminating(&pod)
            || matches!(phase, "Succeeded" | "Failed" | "Pending" | "");
        if !free {
            self.check_budgets(&pod)?;
        }
        let pod = match free || options.dry_run || call.options.dry_run {
            true => pod,
            false => self.mark_disrupted(call, &pod)?,
        };
        self.delete_object(call, &pod, &options)?;
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        Ok(Response { status: 201, body })
    }

    fn check_budgets(&self, pod: &Arc<Value>) -> Result<(), Refusal> {
        let namespace = object::namespace(pod);
        let budgets: Vec<_> = self
            .objects("policy/v1", "PodDisruptionBudget")
            .filter(|budget| {
                object::namespace(budget) == namespace && selector(budget).matches(pod)
            })
            .collect();
        let budget = match budgets.as_slice() {
            [] => return Ok(()),
            [budget] => budget,
            _ => {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Refusal::internal(message));
            }
        };
        let allowance = self.allowance(budget);
        if !is_ready(pod) {
            // A pod that is not ready does no service; by default it may go while the budget is met without it.
            let always = text(budget, &["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
            if always || (allowance.healthy >= allowance.desired && allowance.desired > 0) {
                return Ok(());
            }
        }
        if allowance.disruptions() > 0 {
            return Ok(());
        }
        Err(Refusal::budget(format!(
            "The disruption budget {} needs {} healthy pods and has {} currently",
            object::name(budget),
            allowance.desired,
            allowance.healthy
        )))
    }

    /// What the disruption controller would write into the status of a budget.
    pub fn allowance(&self, budget: &Value) -> Allowance {
        let namespace = object::namespace(budget);
        let selector = selector(budget);
        let pods: Vec<_> = self
            .objects("v1", "Pod")
            .filter(|pod| object::namespace(pod) == namespace && selector.matches(pod))
            .filter(|pod| !matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed"))
            .collect();
        let healthy =
            pods.iter().filter(|pod| is_ready(pod) && !object::is_terminating(pod)).count();
        let expected = self.expected(&pods);
        let amount = |field: &str| at(budget, &["spec", field]).filter(|value| !value.is_null());
        let desired = match (amount("maxUnavailable"), amount("minAvailable")) {
            (Some(most), _) => expected - scaled(most, expected),
            (None, Some(least)) => scaled(least, expected),
            (None, None) => expected,
        };
        Allowance { expected, healthy: healthy as i64, desired: desired.max(0) }
    }

    /// The pods that the owners of these pods want; a pod without a countable owner counts for itself.
    fn expected(&self, pods: &[&Arc<Value>]) -> i64 {
        let mut owners: Vec<&str> = Vec::new();
        let mut expected = 0;
        for pod in pods {
            let references = at(pod, &["metadata", "ownerReferences"]).and_then(Value::as_array);
            let owner = references.into_iter().flatten().find(|owner| owner["controller"] == true);
            let replicas = owner.and_then(|owner| {
                let kind = text(owner, &["kind"]);
                let namespace = object::namespace(pod);
                let key = api::wire::ObjectKey::new(
                    text(owner, &["apiVersion"]),
                    kind,
                    namespace,
                    text(owner, &["name"]),
                );
                at(self.object(&key)?, &["spec", "replicas"])?.as_i64()
            });
            match (owner, replicas) {
                (Some(owner), Some(replicas)) => {
                    let uid = text(owner, &["uid"]);
                    if !owners.contains(&uid) {
                        owners.push(uid);
                        expected += replicas;
                    }
                }
                _ => expected += 1,
            }
        }
        expected
    }

    /// The condition that tells why the pod goes.
    fn mark_disrupted(&mut self, call: &Call, pod: &Stored) -> Result<Stored, Refusal> {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": object::time(call.now),
        });
        let mut new = Value::clone(pod);
        set_condition(&mut new, condition);
        let mut call = call.clone();
        call.address.subresource = "status".to_owned();
        self.update_object(&call, pod.clone(), new, "evict", Booking::Body)
    }

    /// Puts a pod on a node.
    pub(super) fn bind(&mut self, call: &Call) -> Result<Response, Refusal> {
        let pod = self.target(call)?;
        let name = object::name(&pod);
        let have = text(&pod, &["spec", "nodeName"]);
        if !have.is_empty() {
            let why = format!("pod {name} is already assigned to node {have:?}");
            let mut refusal = Refusal::conflict(&call.kind, name, &why);
            refusal.message = refusal.message.replace("on pods ", "on pods/binding ");
            return Err(refusal);
        }
        if object::is_terminating(&pod) {
            let why = format!("pod {name} is being deleted, cannot be assigned to a host");
            return Err(Refusal::conflict(&call.kind, name, &why));
        }
        let node = text(call.body, &["target", "name"]);
        if node.is_empty() {
            let error = super::FieldError::required("target.name", "");
            return Err(Refusal::invalid(&call.kind, name, &[error]));
        }
        let mut new = Value::clone(&pod);
        object::child(as_map(&mut new), "spec").insert("nodeName".to_owned(), Value::from(node));
        set_condition(
            &mut new,
            json!({
                "type": "PodScheduled", "status": "True", "lastProbeTime": null,
                "lastTransitionTime": object::time(call.now),
            }),
        );
        self.record(call, "bind", name, true);
        if !call.options.dry_run {
            self.commit(call.id, Some(Arc::clone(&pod)), new, None);
        }
        let body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        Ok(Response { status: 201, body })
    }
}

fn selector(budget: &Value) -> Selector {
    let selector = at(budget, &["spec", "selector"]).unwrap_or(&Value::Null);
    // A selector that cannot be read was refused when the budget was written.
    Selector::of_labels(selector).unwrap_or_default()
}

/// True when the pod's condition Ready is True.
fn is_ready(pod: &Value) -> bool {
    let conditions = at(pod, &["status", "conditions"]).and_then(Value::as_array);
    let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
    conditions.is_some_and(|conditions| conditions.iter().any(ready))
}

/// A number, or a percentage of `whole` rounded up.
fn scaled(amount: &Value, whole: i64) -> i64 {
    match amount.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok()) {
        Some(percent) => (whole * percent + 99) / 100,
        None => amount.as_i64().unwrap_or_default(),
    }
}

fn set_condition(object: &mut Value, condition: Value) {
    let status = object::child(as_map(object), "status");
    let list = status.entry("conditions").or_insert_with(|| json!([]));
    let Value::Array(list) = list else { return };
    match list.iter_mut().find(|old| old["type"] == condition["type"]) {
        Some(old) => *old = condition,
        None => list.push(condition),
    }
}
