//! What a cluster has before anybody writes: namespaces, and the roles that let clients find their way.

use super::{Store, User};
use api::wire::{Method, ObjectKey, Request};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Creates the objects of an empty cluster.
pub fn fill(store: &mut Store, now: Timestamp) {
    let who = User::control_plane("apiserver");
    for object in objects() {
        let request = Request::new(Method::Post, ObjectKey::of(&object).collection_path())
            .with_query("fieldManager", "kube-apiserver")
            .with_body(object);
        store.handle(now, &who, &request);
    }
    store.take_audit();
}

fn objects() -> Vec<Value> {
    let mut objects: Vec<_> = ["default", "kube-node-lease", "kube-public", "kube-system"]
        .map(
            |name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
        )
        .into();
    let everything = json!([
        { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] },
        { "nonResourceURLs": ["*"], "verbs": ["*"] },
    ]);
    objects.extend(role("cluster-admin", "system:masters", everything));
    let discovery = json!([{
        "nonResourceURLs": [
            "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*",
            "/readyz", "/version", "/version/",
        ],
        "verbs": ["get"],
    }]);
    objects.extend(role("system:discovery", "system:authenticated", discovery));
    let reviews = json!([
        {
            "apiGroups": ["authorization.k8s.io"], "verbs": ["create"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        },
        { "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"], "verbs": ["create"] },
    ]);
    objects.extend(role("system:basic-user", "system:authenticated", reviews));
    let node = json!([
        { "apiGroups": [""], "resources": ["nodes", "nodes/status", "pods", "pods/status"], "verbs": ["*"] },
        { "apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch", "update"] },
        {
            "apiGroups": [""], "verbs": ["get", "list", "watch"],
            "resources": ["configmaps", "secrets", "services", "serviceaccounts", "persistentvolumeclaims"],
        },
        { "apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"] },
    ]);
    objects.extend(role("system:node", "system:nodes", node));
    objects
}

/// A cluster role, bound to a group under its own name.
fn role(name: &str, group: &str, rules: Value) -> [Value; 2] {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let metadata = json!({
        "name": name, "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
    });
    let role =
        json!({ "apiVersion": RBAC, "kind": "ClusterRole", "metadata": metadata, "rules": rules });
    let binding = json!({
        "apiVersion": RBAC, "kind": "ClusterRoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "Group", "name": group }],
    });
    [role, binding]
}
