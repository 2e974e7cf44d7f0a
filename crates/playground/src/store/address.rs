//! What a path of the API names: `/apis/apps/v1/namespaces/x/daemonsets/y/status`.

/// A resource, and perhaps one object and one part of it. Empty text where the path does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    pub group: String,
    pub version: String,
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub subresource: String,
}

impl Address {
    /// Reads a path; `None` when it names no resource (`/version`, `/apis`, `/healthz`).
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let address =
            Self { group: group.to_owned(), version: version.to_owned(), ..Self::default() };
        // `/namespaces/x/status` is a part of the namespace, `/namespaces/x/pods` is a collection inside it.
        match rest {
            [] => None,
            ["namespaces", name, sub @ ("status" | "finalize")] => {
                Some(address.of("namespaces", "", name, sub))
            }
            ["namespaces", namespace, resource] => Some(address.of(resource, namespace, "", "")),
            ["namespaces", namespace, resource, name] => {
                Some(address.of(resource, namespace, name, ""))
            }
            ["namespaces", namespace, resource, name, sub @ ..] => {
                Some(address.of(resource, namespace, name, &sub.join("/")))
            }
            [resource] => Some(address.of(resource, "", "", "")),
            [resource, name] => Some(address.of(resource, "", name, "")),
            [resource, name, sub @ ..] => Some(address.of(resource, "", name, &sub.join("/"))),
        }
    }

    fn of(mut self, resource: &str, namespace: &str, name: &str, subresource: &str) -> Self {
        self.resource = resource.to_owned();
        self.namespace = namespace.to_owned();
        self.name = name.to_owned();
        self.subresource = subresource.to_owned();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_path_names_a_resource_an_object_or_a_part() {
        let paths = [
            "/api/v1/nodes/worker-0",
            "/api/v1/namespaces/default",
            "/api/v1/namespaces/default/status",
            "/api/v1/namespaces/default/pods",
            "/apis/apps/v1/namespaces/x/daemonsets/y/status",
            "/apis/apps/v1",
            "/version",
        ];
        let text: Vec<_> = paths
            .map(|path| match Address::parse(path) {
                None => format!("{path}: no resource"),
                Some(a) => format!(
                    "{path}: {}/{} {} ns={} name={} sub={}",
                    a.group, a.version, a.resource, a.namespace, a.name, a.subresource
                ),
            })
            .into();
        expect![[r#"
            /api/v1/nodes/worker-0: /v1 nodes ns= name=worker-0 sub=
            /api/v1/namespaces/default: /v1 namespaces ns= name=default sub=
            /api/v1/namespaces/default/status: /v1 namespaces ns= name=default sub=status
            /api/v1/namespaces/default/pods: /v1 pods ns=default name= sub=
            /apis/apps/v1/namespaces/x/daemonsets/y/status: apps/v1 daemonsets ns=x name=y sub=status
            /apis/apps/v1: no resource
            /version: no resource"#]].assert_eq(&text.join("\n"));
    }
}
