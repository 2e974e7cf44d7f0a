//! Who may do what: roles and bindings, read from the store and asked as a pure function.
//!
//! Every right that was used is recorded, so that a test can show that none is spare.

use super::call::Call;
use super::object::{self, at, text};
use super::{Refusal, Selector, Store, User};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What somebody wants to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Set instead of the resource for `/version`, `/healthz` and the like.
    pub path: String,
}

impl Attributes {
    /// `pods/eviction`.
    fn full_resource(&self) -> String {
        match self.subresource.is_empty() {
            true => self.resource.clone(),
            false => format!("{}/{}", self.resource, self.subresource),
        }
    }
}

/// One rule of one role, as it reaches its subjects through one binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `ClusterRole/name` or `Role/namespace/name`, of the role that holds the rule.
    pub role: String,
    pub index: usize,
    /// Only in this namespace; empty means everywhere.
    pub namespace: String,
    pub subjects: Arc<Vec<Subject>>,
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub urls: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    User(String),
    Group(String),
}

/// A right that somebody made use of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedRule {
    pub role: String,
    /// Place of the rule in its role.
    pub index: usize,
    pub verb: String,
    /// `pods/eviction`, `daemonsets.apps`, or a path.
    pub what: String,
}

impl fmt::Display for UsedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}: {} {}", self.role, self.index, self.verb, self.what)
    }
}

/// The first rule that allows the request.
pub fn authorize<'a>(rules: &'a [Rule], who: &User, wanted: &Attributes) -> Option<&'a Rule> {
    rules.iter().find(|rule| rule.reaches(who) && rule.allows(wanted))
}

impl Rule {
    fn reaches(&self, who: &User) -> bool {
        self.subjects.iter().any(|subject| match subject {
            Subject::User(name) => *name == who.name,
            Subject::Group(group) => who.groups.contains(group),
        })
    }

    fn allows(&self, wanted: &Attributes) -> bool {
        let has =
            |list: &[String], item: &str| list.iter().any(|entry| entry == "*" || entry == item);
        if !has(&self.verbs, &wanted.verb) {
            return false;
        }
        if !wanted.path.is_empty() {
            return self.urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => wanted.path.starts_with(prefix),
                None => *url == wanted.path,
            });
        }
        let full = wanted.full_resource();
        let any_parent = format!("*/{}", wanted.subresource);
        let named = self.names.is_empty() || self.names.contains(&wanted.name);
        (self.namespace.is_empty() || self.namespace == wanted.namespace)
            && has(&self.groups, &wanted.group)
            && (has(&self.resources, &full)
                || (!wanted.subresource.is_empty() && self.resources.contains(&any_parent)))
            && named
    }
}

impl Store {
    /// The attributes of a request on a resource.
    pub(super) fn attributes(call: &Call, verb: &str) -> Attributes {
        Attributes {
            verb: verb.to_owned(),
            group: call.address.group.clone(),
            resource: call.address.resource.clone(),
            subresource: call.address.subresource.clone(),
            namespace: call.address.namespace.clone(),
            name: call.address.name.clone(),
            path: String::new(),
        }
    }

    /// Allows, and records by which right, or refuses in the words of the real server.
    pub fn authorize(&mut self, who: &User, wanted: &Attributes) -> Result<(), Refusal> {
        if who.is_master() {
            return Ok(());
        }
        let rules = self.rules();
        let Some(rule) = authorize(&rules, who, wanted) else {
            let refusal = denied(who, wanted);
            self.denied.insert(refusal.message.clone());
            return Err(refusal);
        };
        let what = match (wanted.path.as_str(), wanted.group.as_str()) {
            ("", "") => wanted.full_resource(),
            ("", group) => format!("{}.{group}", wanted.full_resource()),
            (path, _) => path.to_owned(),
        };
        let verb = wanted.verb.clone();
        self.used.insert(UsedRule { role: rule.role.clone(), index: rule.index, verb, what });
        Ok(())
    }

    /// True when `who` may do it; for reviews, which use no right.
    pub(super) fn may(&mut self, who: &User, wanted: &Attributes) -> Option<String> {
        if who.is_master() {
            return Some("the group system:masters may do everything".to_owned());
        }
        let rules = self.rules();
        authorize(&rules, who, wanted)
            .map(|rule| format!("RBAC: allowed by rule {} of {}", rule.index, rule.role))
    }

    /// The rights that were used since the store was made.
    pub fn used_rules(&self) -> &BTreeSet<UsedRule> {
        &self.used
    }

    /// What was refused for lack of a right since the store was made.
    pub fn denials(&self) -> &BTreeSet<String> {
        &self.denied
    }

    /// All rules that are bound, read again after a role or a binding changed.
    pub(super) fn rules(&mut self) -> Arc<Vec<Rule>> {
        if let Some(rules) = &self.rules {
            return rules.clone();
        }
        let mut rules = Vec::new();
        for binding in
            self.objects(RBAC, "ClusterRoleBinding").chain(self.objects(RBAC, "RoleBinding"))
        {
            self.bound_rules(binding, &mut rules);
        }
        let rules = Arc::new(rules);
        self.rules = Some(rules.clone());
        rules
    }

    fn bound_rules(&self, binding: &Value, rules: &mut Vec<Rule>) {
        let namespace = object::namespace(binding);
        let subjects = binding.get("subjects").and_then(Value::as_array);
        let subjects: Vec<_> = subjects.into_iter().flatten().filter_map(subject).collect();
        let subjects = Arc::new(subjects);
        let (kind, name) =
            (text(binding, &["roleRef", "kind"]), text(binding, &["roleRef", "name"]));
        let role_namespace = if kind == "Role" { namespace } else { "" };
        let key = api::wire::ObjectKey::new(RBAC, kind, role_namespace, name);
        let Some(role) = self.object(&key) else { return };
        for role in self.aggregated(role) {
            let list = role.get("rules").and_then(Value::as_array);
            for (index, rule) in list.into_iter().flatten().enumerate() {
                rules.push(Rule {
                    role: match object::namespace(role) {
                        "" => format!("ClusterRole/{}", object::name(role)),
                        namespace => format!("Role/{namespace}/{}", object::name(role)),
                    },
                    index,
                    namespace: namespace.to_owned(),
                    subjects: subjects.clone(),
                    verbs: words(rule, "verbs"),
                    groups: words(rule, "apiGroups"),
                    resources: words(rule, "resources"),
                    names: words(rule, "resourceNames"),
                    urls: words(rule, "nonResourceURLs"),
                });
            }
        }
    }

    /// The role itself, and the cluster roles that it gathers by label.
    fn aggregated<'a>(&'a self, role: &'a Arc<Value>) -> Vec<&'a Arc<Value>> {
        let selectors =
            at(role, &["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array);
        let selectors: Vec<_> =
            selectors.into_iter().flatten().filter_map(|s| Selector::of_labels(s).ok()).collect();
        let gathered = self
            .objects(RBAC, "ClusterRole")
            .filter(|other| selectors.iter().any(|selector| selector.matches(other)));
        std::iter::once(role).chain(gathered).collect()
    }
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

fn words(rule: &Value, field: &str) -> Vec<String> {
    let list = rule.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subject(subject: &Value) -> Option<Subject> {
    let name = text(subject, &["name"]);
    match text(subject, &["kind"]) {
        "User" => Some(Subject::User(name.to_owned())),
        "Group" => Some(Subject::Group(name.to_owned())),
        "ServiceAccount" => {
            let namespace = text(subject, &["namespace"]);
            Some(Subject::User(User::service_account(namespace, name).name))
        }
        _ => None,
    }
}

fn denied(who: &User, wanted: &Attributes) -> Refusal {
    if !wanted.path.is_empty() {
        let message =
            format!("forbidden: User {:?} cannot {} path {:?}", who.name, wanted.verb, wanted.path);
        return Refusal::denied(message, "", "", "");
    }
    let resource = match wanted.group.is_empty() {
        true => wanted.resource.clone(),
        false => format!("{}.{}", wanted.resource, wanted.group),
    };
    let object = match wanted.name.is_empty() {
        true => resource,
        false => format!("{resource} {:?}", wanted.name),
    };
    let place = match wanted.namespace.is_empty() {
        true => "at the cluster scope".to_owned(),
        false => format!("in the namespace {:?}", wanted.namespace),
    };
    let message = format!(
        "{object} is forbidden: User {:?} cannot {} resource {:?} in API group {:?} {place}",
        who.name,
        wanted.verb,
        wanted.full_resource(),
        wanted.group
    );
    Refusal::denied(message, &wanted.group, &wanted.resource, &wanted.name)
}
