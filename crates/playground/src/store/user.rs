//! Who asks: users, their groups, and the tokens of service accounts.

use serde_json::{Value, json};

/// The one who sends a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    /// A member of `system:masters`, who may do everything.
    pub fn admin() -> Self {
        Self::new("kubernetes-admin", &["system:masters", "system:authenticated"])
    }

    pub fn service_account(namespace: &str, name: &str) -> Self {
        let all = format!("system:serviceaccounts:{namespace}");
        let groups = ["system:serviceaccounts", all.as_str(), "system:authenticated"];
        Self::new(&format!("system:serviceaccount:{namespace}:{name}"), &groups)
    }

    /// The kubelet of a node.
    pub fn node(name: &str) -> Self {
        Self::new(&format!("system:node:{name}"), &["system:nodes", "system:authenticated"])
    }

    /// A part of the control plane, which is not restricted here.
    pub fn control_plane(name: &str) -> Self {
        Self::new(&format!("system:{name}"), &["system:masters", "system:authenticated"])
    }

    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        }
    }

    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }

    /// `authentication.k8s.io/v1` `UserInfo`.
    pub fn info(&self) -> Value {
        json!({ "username": self.name, "groups": self.groups })
    }
}
