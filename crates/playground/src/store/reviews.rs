//! Questions about rights and identity, which are answered and not stored: access reviews, self reviews, tokens.

use super::object::text;
use super::rbac::{Attributes, Rule, authorize};
use super::{Refusal, Response, Store, User};
use api::wire::{Method, Request};
use serde_json::{Value, json};

impl Store {
    /// Answers a POST to a review; `None` when the request is not one.
    pub(super) fn review(
        &mut self,
        who: &User,
        request: &Request,
    ) -> Option<Result<Response, Refusal>> {
        let rest = request.path.strip_prefix("/apis/auth")?;
        if request.method != Method::Post {
            return None;
        }
        let spec = request.body.get("spec").cloned().unwrap_or_default();
        let status = match rest {
            "orization.k8s.io/v1/selfsubjectaccessreviews" => self.access(who, &spec),
            "orization.k8s.io/v1/subjectaccessreviews" => self.access(&subject(&spec), &spec),
            "orization.k8s.io/v1/selfsubjectrulesreviews" => self.all_rules(who, &spec),
            "entication.k8s.io/v1/selfsubjectreviews" => json!({ "userInfo": who.info() }),
            "entication.k8s.io/v1/tokenreviews" => self.token_review(&spec),
            _ if rest.starts_with("orization.k8s.io/v1/namespaces/")
                && rest.ends_with("/localsubjectaccessreviews") =>
            {
                self.access(&subject(&spec), &spec)
            }
            _ => return None,
        };
        let mut body = request.body.clone();
        if !body.is_object() {
            return Some(Err(Refusal::bad_request("the body of a review is an object")));
        }
        body["metadata"] = json!({ "creationTimestamp": null });
        body["status"] = status;
        Some(Ok(Response { status: 201, body }))
    }

    fn access(&mut self, who: &User, spec: &Value) -> Value {
        let wanted = match spec.get("nonResourceAttributes").filter(|value| !value.is_null()) {
            Some(path) => Attributes {
                verb: text(path, &["verb"]).to_owned(),
                path: text(path, &["path"]).to_owned(),
                ..Attributes::default()
            },
            None => {
                let of = |field: &str| text(spec, &["resourceAttributes", field]).to_owned();
                Attributes {
                    verb: of("verb"),
                    group: of("group"),
                    resource: of("resource"),
                    subresource: of("subresource"),
                    namespace: of("namespace"),
                    name: of("name"),
                    path: String::new(),
                }
            }
        };
        match self.may(who, &wanted) {
            Some(reason) => json!({ "allowed": true, "reason": reason }),
            None => json!({ "allowed": false }),
        }
    }

    /// What `kubectl auth can-i --list` prints.
    fn all_rules(&mut self, who: &User, spec: &Value) -> Value {
        let namespace = text(spec, &["namespace"]);
        let rules = self.rules();
        let mine = |rule: &&Rule| {
            let here = rule.namespace.is_empty() || rule.namespace == namespace;
            // A rule reaches its subjects whatever they ask for; asking for what it says finds it.
            let first = |list: &[String]| list.first().cloned().unwrap_or_default();
            let full = first(&rule.resources);
            let (resource, subresource) = full.split_once('/').unwrap_or((&full, ""));
            let wanted = Attributes {
                verb: first(&rule.verbs),
                group: first(&rule.groups),
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
                namespace: rule.namespace.clone(),
                name: first(&rule.names),
                path: first(&rule.urls),
            };
            here && authorize(std::slice::from_ref(*rule), who, &wanted).is_some()
        };
        let (urls, resources): (Vec<_>, Vec<_>) =
            rules.iter().filter(mine).partition(|rule| !rule.urls.is_empty());
        let mut resources: Vec<_> = resources
            .iter()
            .map(|rule| {
                json!({
                    "verbs": rule.verbs, "apiGroups": rule.groups,
                    "resources": rule.resources, "resourceNames": rule.names,
                })
            })
            .collect();
        if who.is_master() {
            resources.push(json!({ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }));
        }
        let urls: Vec<_> = urls
            .iter()
            .map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.urls }))
            .collect();
        json!({ "incomplete": false, "resourceRules": resources, "nonResourceRules": urls })
    }

    fn token_review(&self, spec: &Value) -> Value {
        match self.user_of_token(text(spec, &["token"])) {
            Some(user) => json!({ "authenticated": true, "user": user.info() }),
            None => json!({ "authenticated": false, "error": "invalid bearer token" }),
        }
    }
}

fn subject(spec: &Value) -> User {
    let groups = spec.get("groups").and_then(Value::as_array).into_iter().flatten();
    let groups: Vec<_> = groups.filter_map(Value::as_str).collect();
    User::new(text(spec, &["user"]), &groups)
}
