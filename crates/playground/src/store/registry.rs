//! The kinds that are served: built-in ones from a table, custom ones from CustomResourceDefinition objects.

use super::object;
use super::schema::Schema;
use super::tables::Column;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// A kind's place in the registry; never used again for another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KindId(usize);

/// One kind of object.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Empty for the core group.
    pub group: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub short: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// Has a status subresource.
    pub has_status: bool,
    /// `metadata.generation` counts the changes of its spec.
    pub has_generation: bool,
    /// From a CustomResourceDefinition.
    pub custom: bool,
    /// Paths that a CustomResourceDefinition names in `selectableFields`.
    pub selectable_fields: Vec<String>,
    /// The preferred version first; the first one is also the stored one.
    pub versions: Vec<Version>,
}

/// One served version of a kind.
#[derive(Debug, Clone)]
pub struct Version {
    pub name: String,
    /// `None` for built-in kinds.
    pub schema: Option<Arc<Schema>>,
    /// The schema as it was written, for OpenAPI.
    pub open_api: Arc<Value>,
    pub columns: Vec<Column>,
}

impl Kind {
    /// `daemonsets.apps`, as messages name a resource.
    pub fn resource(&self) -> String {
        match self.group.is_empty() {
            true => self.plural.clone(),
            false => format!("{}.{}", self.plural, self.group),
        }
    }

    /// `DaemonSet.apps`, as the message of a 422 names a kind.
    pub fn qualified_kind(&self) -> String {
        match self.group.is_empty() {
            true => self.kind.clone(),
            false => format!("{}.{}", self.kind, self.group),
        }
    }

    /// `apps/v1` for a version of this kind.
    pub fn api_version(&self, version: &str) -> String {
        match self.group.is_empty() {
            true => version.to_owned(),
            false => format!("{}/{version}", self.group),
        }
    }

    pub fn stored_version(&self) -> &str {
        &self.versions[0].name
    }

    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    pub fn is_pod(&self) -> bool {
        self.is("", "pods")
    }

    /// The verbs that discovery tells.
    pub fn verbs(&self) -> &'static [&'static str] {
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    }

    /// The parts of an object that have their own path.
    pub fn subresources(&self) -> Vec<&'static str> {
        let mut parts = Vec::new();
        if self.has_status {
            parts.push("status");
        }
        match (self.group.as_str(), self.plural.as_str()) {
            ("", "pods") => parts.extend(["binding", "eviction", "log", "exec", "attach"]),
            ("", "namespaces") => parts.push("finalize"),
            ("", "serviceaccounts") => parts.push("token"),
            ("apps", "deployments" | "replicasets") => parts.push("scale"),
            _ => {}
        }
        parts
    }
}

/// All kinds of one store. Cheap to clone: kinds are shared.
#[derive(Debug, Clone)]
pub struct Registry {
    kinds: Vec<Option<Arc<Kind>>>,
    /// By group, then plural.
    by_resource: BTreeMap<String, BTreeMap<String, KindId>>,
}

impl Registry {
    /// The built-in kinds.
    pub fn built_in() -> Self {
        static BUILT_IN: LazyLock<Registry> = LazyLock::new(|| {
            let mut registry = Registry { kinds: Vec::new(), by_resource: BTreeMap::new() };
            for row in ROWS {
                registry.add(row.kind());
            }
            registry
        });
        BUILT_IN.clone()
    }

    /// Registers a kind, or replaces the one with the same group and plural.
    pub fn add(&mut self, kind: Kind) -> KindId {
        let plurals = self.by_resource.entry(kind.group.clone()).or_default();
        let id = *plurals.entry(kind.plural.clone()).or_insert(KindId(self.kinds.len()));
        match id.0 == self.kinds.len() {
            true => self.kinds.push(Some(Arc::new(kind))),
            false => self.kinds[id.0] = Some(Arc::new(kind)),
        }
        id
    }

    pub fn remove(&mut self, group: &str, plural: &str) {
        let id = self.by_resource.get_mut(group).and_then(|plurals| plurals.remove(plural));
        if let Some(id) = id {
            self.kinds[id.0] = None;
        }
        self.by_resource.retain(|_, plurals| !plurals.is_empty());
    }

    pub fn find(&self, group: &str, plural: &str) -> Option<(KindId, &Arc<Kind>)> {
        let id = *self.by_resource.get(group)?.get(plural)?;
        Some((id, self.kinds[id.0].as_ref()?))
    }

    /// By kind name, as `ownerReferences` say it; `api_version` is `group/version` or `v1`.
    pub fn find_kind(&self, api_version: &str, kind: &str) -> Option<(KindId, &Arc<Kind>)> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let mut plurals = self.by_resource.get(group)?.values();
        plurals.find_map(|id| {
            let found = self.kinds[id.0].as_ref()?;
            (found.kind == kind).then_some((*id, found))
        })
    }

    pub fn kind(&self, id: KindId) -> Option<&Arc<Kind>> {
        self.kinds.get(id.0)?.as_ref()
    }

    /// Every kind, by group and plural.
    pub fn kinds(&self) -> impl Iterator<Item = (KindId, &Arc<Kind>)> {
        let ids = self.by_resource.values().flat_map(BTreeMap::values);
        ids.filter_map(|id| Some((*id, self.kinds[id.0].as_ref()?)))
    }
}

/// A built-in kind, as one line of the table.
struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    flags: &'static [Flag],
}

#[derive(PartialEq, Eq)]
enum Flag {
    /// Lives in a namespace.
    Namespaced,
    /// Has a status subresource.
    Status,
    /// Counts generations.
    Generation,
    /// Belongs to the category `all`.
    All,
}

impl Row {
    fn kind(&self) -> Kind {
        Kind {
            group: self.group.to_owned(),
            kind: self.kind.to_owned(),
            list_kind: format!("{}List", self.kind),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            short: self.short.iter().map(|&name| name.to_owned()).collect(),
            categories: match self.flags.contains(&All) {
                true => vec!["all".to_owned()],
                false => Vec::new(),
            },
            namespaced: self.flags.contains(&Namespaced),
            has_status: self.flags.contains(&Status),
            has_generation: self.flags.contains(&Generation),
            custom: false,
            selectable_fields: Vec::new(),
            versions: vec![Version {
                name: self.version.to_owned(),
                schema: None,
                open_api: Arc::default(),
                columns: Vec::new(),
            }],
        }
    }
}

const fn row(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    flags: &'static [Flag],
) -> Row {
    Row { group, version: "v1", kind, plural, short, flags }
}

use Flag::{All, Generation, Namespaced, Status};

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

/// The built-in kinds; all of them are `v1`.
const ROWS: &[Row] = &[
    row("", "Namespace", "namespaces", &["ns"], &[Status]),
    row("", "Node", "nodes", &["no"], &[Status]),
    row("", "Pod", "pods", &["po"], &[Namespaced, Status, All]),
    row("", "Event", "events", &["ev"], &[Namespaced]),
    row("", "ConfigMap", "configmaps", &["cm"], &[Namespaced]),
    row("", "Secret", "secrets", &[], &[Namespaced]),
    row("", "Service", "services", &["svc"], &[Namespaced, Status, All]),
    row("", "ServiceAccount", "serviceaccounts", &["sa"], &[Namespaced]),
    row("", "Endpoints", "endpoints", &["ep"], &[Namespaced]),
    row("", "PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], &[Namespaced, Status]),
    row("", "PersistentVolume", "persistentvolumes", &["pv"], &[Status]),
    row("", "ResourceQuota", "resourcequotas", &["quota"], &[Namespaced, Status]),
    row("", "LimitRange", "limitranges", &["limits"], &[Namespaced]),
    row(
        "",
        "ReplicationController",
        "replicationcontrollers",
        &["rc"],
        &[Namespaced, Status, Generation, All],
    ),
    row("apps", "Deployment", "deployments", &["deploy"], &[Namespaced, Status, Generation, All]),
    row("apps", "DaemonSet", "daemonsets", &["ds"], &[Namespaced, Status, Generation, All]),
    row("apps", "ReplicaSet", "replicasets", &["rs"], &[Namespaced, Status, Generation, All]),
    row("apps", "StatefulSet", "statefulsets", &["sts"], &[Namespaced, Status, Generation, All]),
    row("apps", "ControllerRevision", "controllerrevisions", &[], &[Namespaced]),
    row("batch", "Job", "jobs", &[], &[Namespaced, Status, Generation, All]),
    row("batch", "CronJob", "cronjobs", &["cj"], &[Namespaced, Status, Generation, All]),
    row("coordination.k8s.io", "Lease", "leases", &[], &[Namespaced]),
    row("discovery.k8s.io", "EndpointSlice", "endpointslices", &[], &[Namespaced, Generation]),
    row(
        "policy",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        &["pdb"],
        &[Namespaced, Status, Generation],
    ),
    row(RBAC, "ClusterRole", "clusterroles", &[], &[]),
    row(RBAC, "ClusterRoleBinding", "clusterrolebindings", &[], &[]),
    row(RBAC, "Role", "roles", &[], &[Namespaced]),
    row(RBAC, "RoleBinding", "rolebindings", &[], &[Namespaced]),
    row(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        &["crd", "crds"],
        &[Status, Generation],
    ),
    row(
        ADMISSION,
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
        &[],
        &[Generation],
    ),
    row(
        ADMISSION,
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        &[],
        &[Generation],
    ),
    row(
        "networking.k8s.io",
        "NetworkPolicy",
        "networkpolicies",
        &["netpol"],
        &[Namespaced, Generation],
    ),
    row("networking.k8s.io", "Ingress", "ingresses", &["ing"], &[Namespaced, Status, Generation]),
    row("scheduling.k8s.io", "PriorityClass", "priorityclasses", &["pc"], &[Generation]),
    row("node.k8s.io", "RuntimeClass", "runtimeclasses", &[], &[]),
    row("storage.k8s.io", "StorageClass", "storageclasses", &["sc"], &[]),
];

/// Reads a CustomResourceDefinition (v1); the problems are those of its fields.
pub fn custom_kind(crd: &Value) -> Kind {
    let list = |value: Option<&Value>| -> Vec<String> {
        let items = value.and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let name = |field: &str| object::text(crd, &["spec", "names", field]).to_owned();
    let kind = name("kind");
    let or = |given: String, otherwise: String| match given.is_empty() {
        true => otherwise,
        false => given,
    };
    let all = object::at(crd, &["spec", "versions"]).and_then(Value::as_array);
    let mut served: Vec<_> =
        all.into_iter().flatten().filter(|version| version["served"] == true).collect();
    // The stored version comes first; the others keep the order of the definition.
    served.sort_by_key(|version| version["storage"] != true);
    let has_status = served.iter().any(|version| version.pointer("/subresources/status").is_some());
    let fields = served.first().and_then(|version| version.get("selectableFields"));
    Kind {
        group: object::text(crd, &["spec", "group"]).to_owned(),
        list_kind: or(name("listKind"), format!("{kind}List")),
        plural: name("plural"),
        singular: or(name("singular"), kind.to_lowercase()),
        short: list(object::at(crd, &["spec", "names", "shortNames"])),
        categories: list(object::at(crd, &["spec", "names", "categories"])),
        namespaced: object::text(crd, &["spec", "scope"]) == "Namespaced",
        has_status,
        has_generation: true,
        custom: true,
        selectable_fields: (fields.and_then(Value::as_array).into_iter().flatten())
            .map(|field| object::text(field, &["jsonPath"]).trim_start_matches('.').to_owned())
            .collect(),
        versions: served.into_iter().map(custom_version).collect(),
        kind,
    }
}

fn custom_version(version: &Value) -> Version {
    let document = version.pointer("/schema/openAPIV3Schema").unwrap_or(&Value::Null);
    let (open_api, schema) = Schema::shared(document);
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array);
    Version {
        name: object::text(version, &["name"]).to_owned(),
        schema: Some(schema),
        open_api,
        columns: columns.into_iter().flatten().map(Column::parse).collect(),
    }
}
