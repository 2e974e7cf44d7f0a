//! A Kubernetes API server as a plain value: `handle` takes a request and answers it, a watch is a cursor into its log.
//!
//! Synchronous and deterministic: no clock, no socket, no task; identities come from a seed and time from the caller.
//! It does not run controllers, except the steps that are called by name (`collect_garbage`).

mod address;
mod apply;
mod audit;
mod bootstrap;
mod call;
mod cells;
mod custom;
mod defaults;
mod delete;
pub(crate) mod discovery;
mod eviction;
mod fields;
mod gc;
mod identity;
mod jsonpath;
mod log;
mod object;
mod openapi;
mod ownership;
mod patch;
mod pods;
mod pruning;
mod rbac;
mod read;
mod refusal;
mod registry;
mod reviews;
mod schema;
mod selectors;
mod shape;
mod stored;
mod strategic;
mod tables;
mod user;
mod validation;
mod watch;
mod write;

pub use audit::AuditEntry;
pub use discovery::content_type;
pub use eviction::Allowance;
pub use log::{EventType, WatchEvent};
pub use pods::ContainerTarget;
pub use rbac::{Attributes, Rule, UsedRule};
pub use refusal::{FieldError, Refusal};
pub use registry::{Kind, Version};
pub use selectors::{Selector, SelectorError};
pub use user::User;
pub use watch::{Topic, Watch};

use address::Address;
use api::wire::{Method, ObjectKey, Request, Response};
pub use call::Reader;
use call::{Call, DeleteOptions, Options};
use identity::Identities;
use jiff::Timestamp;
use log::{Change, Log};
use ownership::Ownership;
use registry::{KindId, Registry};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stored::Stored;

/// Namespace (empty for cluster-scoped kinds) and name.
type Name = (String, String);

/// The API server's whole state. Objects are shared, so a clone costs the maps only.
#[derive(Debug, Clone)]
pub struct Store {
    registry: Registry,
    objects: BTreeMap<KindId, BTreeMap<Name, Stored>>,
    log: Log,
    revision: u64,
    identities: Identities,
    audit: Vec<AuditEntry>,
    warnings: Vec<String>,
    tokens: BTreeMap<String, User>,
    /// The bound rules; read again after a role or a binding changed.
    rules: Option<Arc<Vec<Rule>>>,
    used: BTreeSet<UsedRule>,
    denied: BTreeSet<String>,
    /// Something was deleted or changed its owners since the collector ran.
    garbage: bool,
}

impl Store {
    /// A fresh cluster with the namespaces that every cluster has. Uids and generated names follow from `seed`.
    pub fn new(seed: u64, now: Timestamp) -> Self {
        let mut store = Self {
            registry: Registry::built_in(),
            objects: BTreeMap::new(),
            log: Log::default(),
            revision: 0,
            identities: Identities::new(seed),
            audit: Vec::new(),
            warnings: Vec::new(),
            tokens: BTreeMap::new(),
            rules: None,
            used: BTreeSet::new(),
            denied: BTreeSet::new(),
            garbage: false,
        };
        bootstrap::fill(&mut store, now);
        store
    }

    /// Answers one request. Watches are answered by `watch`.
    pub fn handle(&mut self, now: Timestamp, who: &User, request: &Request) -> Response {
        self.warnings.clear();
        self.handle_for(Reader::Client, now, who, request)
    }

    /// The same for a reader who does not want everything that the answer would hold.
    pub fn handle_for(
        &mut self,
        reader: Reader,
        now: Timestamp,
        who: &User,
        request: &Request,
    ) -> Response {
        self.warnings.clear();
        self.answer(now, who, request, reader).unwrap_or_else(|refusal| refusal.response())
    }

    fn answer(
        &mut self,
        now: Timestamp,
        who: &User,
        request: &Request,
        reader: Reader,
    ) -> Result<Response, Refusal> {
        if let Some(answer) = self.review(who, request) {
            return answer;
        }
        if let Some(answer) = self.document(who, request) {
            return answer;
        }
        let call = Call { reader, ..self.call(now, who, request)? };
        let named = !call.address.name.is_empty();
        self.authorize(who, &Self::attributes(&call, verb(request.method, named)))?;
        match (request.method, call.address.subresource.as_str()) {
            (Method::Post, "eviction") => self.evict(&call),
            (Method::Post, "binding") => self.bind(&call),
            (Method::Post, "token") => self.request_token(&call),
            (Method::Get, "" | "status") if named => self.get(&call),
            (Method::Get, "") => self.list(&call),
            (Method::Post, "") if !named => self.create(&call),
            (Method::Put, "" | "status") if named => self.replace(&call),
            (Method::Patch(kind), "" | "status") if named => self.patch(&call, kind),
            (Method::Delete, "") => {
                let options = DeleteOptions::of(request);
                match named {
                    true => self.delete(&call, &options),
                    false => self.delete_collection(&call, &options),
                }
            }
            _ => Err(Refusal::method_not_allowed()),
        }
    }

    /// A `TokenRequest` of a service account.
    fn request_token(&mut self, call: &Call) -> Result<Response, Refusal> {
        self.target(call)?;
        let Address { namespace, name, .. } = &call.address;
        let token = self.issue_token(&User::service_account(namespace, name));
        let mut body = call.body.clone();
        object::as_map(&mut body)
            .insert("status".to_owned(), serde_json::json!({ "token": token }));
        Ok(Response { status: 201, body })
    }

    /// Finds the kind that a request is about.
    fn call<'a>(
        &self,
        now: Timestamp,
        who: &'a User,
        request: &'a Request,
    ) -> Result<Call<'a>, Refusal> {
        let address = Address::parse(&request.path).ok_or_else(Refusal::no_such_resource)?;
        let (id, kind) = self
            .registry
            .find(&address.group, &address.resource)
            .filter(|(_, kind)| kind.version(&address.version).is_some())
            .ok_or_else(Refusal::no_such_resource)?;
        let subresource = address.subresource.as_str();
        let in_place = kind.namespaced || address.namespace.is_empty();
        if !in_place || !(subresource.is_empty() || kind.subresources().contains(&subresource)) {
            return Err(Refusal::no_such_resource());
        }
        if kind.namespaced && address.namespace.is_empty() && !address.name.is_empty() {
            return Err(Refusal::no_such_resource());
        }
        Ok(Call {
            now,
            who,
            id,
            kind: kind.clone(),
            options: Options::of(request)?,
            accept: &request.accept,
            body: &request.body,
            reader: Reader::Client,
            address,
        })
    }

    /// The revision of the last write, which is the resourceVersion of a list made now.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Every object that came, changed or went after `revision`, in order; None when that was forgotten.
    pub fn changes_since(&self, revision: u64) -> Option<Vec<Arc<Value>>> {
        self.log.all_since(revision)
    }

    /// Forgets the changes up to now: every cursor that has not seen them expires.
    pub fn compact(&mut self) {
        self.log.compact(self.revision);
    }

    /// Keeps at most this many changes of each kind.
    pub fn set_log_limit(&mut self, limit: usize) {
        self.log.set_limit(limit);
    }

    /// The writes since the last call.
    pub fn take_audit(&mut self) -> Vec<AuditEntry> {
        std::mem::take(&mut self.audit)
    }

    /// The writes since the last `take_audit`.
    pub fn audit(&self) -> &[AuditEntry] {
        &self.audit
    }

    /// What the last `handle` would say in `Warning` headers.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// One object, without a copy; `None` when it does not exist.
    pub fn object(&self, key: &ObjectKey) -> Option<&Arc<Value>> {
        let (id, _) = self.registry.find_kind(&key.api_version, &key.kind)?;
        self.stored(id, &key.namespace, &key.name).map(|stored| &**stored)
    }

    /// All objects of a kind, in all namespaces, by namespace and name.
    pub fn objects(&self, api_version: &str, kind: &str) -> impl Iterator<Item = &Arc<Value>> {
        let id = self.registry.find_kind(api_version, kind).map(|(id, _)| id);
        id.and_then(|id| self.objects.get(&id))
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|stored| &**stored)
    }

    /// A bearer token that stands for `who`.
    pub fn issue_token(&mut self, who: &User) -> String {
        let token = format!("playground-{}", self.identities.uid());
        self.tokens.insert(token.clone(), who.clone());
        token
    }

    /// Whom a bearer token stands for.
    pub fn user_of_token(&self, token: &str) -> Option<&User> {
        self.tokens.get(token)
    }

    fn stored(&self, id: KindId, namespace: &str, name: &str) -> Option<&Stored> {
        self.objects.get(&id)?.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The object that a call names.
    fn target(&self, call: &Call) -> Result<Stored, Refusal> {
        let Address { namespace, name, .. } = &call.address;
        self.stored(call.id, namespace, name)
            .cloned()
            .ok_or_else(|| Refusal::not_found(&call.kind, name))
    }

    /// Stores an object under the next revision and tells the watchers. Without `owners` its fields stay with those who
    /// have them.
    fn commit(
        &mut self,
        id: KindId,
        before: Option<Arc<Value>>,
        mut object: Value,
        owners: Option<Arc<Ownership>>,
    ) -> Stored {
        self.revision += 1;
        let version = Value::from(self.revision.to_string());
        object::metadata(&mut object).insert("resourceVersion".to_owned(), version);
        let name = (object::namespace(&object).to_owned(), object::name(&object).to_owned());
        let all = self.objects.entry(id).or_default();
        let owners = owners.or_else(|| Some(all.get(&name)?.owners.clone())).unwrap_or_default();
        let stored = Stored::new(object, owners);
        all.insert(name, stored.clone());
        self.note_garbage(before.as_deref(), &stored, false);
        let change =
            Change { revision: self.revision, before, stored: stored.clone(), deleted: false };
        self.log.append(id, change);
        self.after_change(id, &stored, false);
        stored
    }

    /// Takes an object away under the next revision and tells the watchers.
    /// `owners` as in `commit`.
    fn remove(&mut self, id: KindId, mut last: Value, owners: Option<Arc<Ownership>>) -> Stored {
        let name = (object::namespace(&last).to_owned(), object::name(&last).to_owned());
        let Some(before) = self.objects.get_mut(&id).and_then(|all| all.remove(&name)) else {
            return Stored::new(last, owners.unwrap_or_default());
        };
        self.revision += 1;
        let version = Value::from(self.revision.to_string());
        object::metadata(&mut last).insert("resourceVersion".to_owned(), version);
        let last = Stored::new(last, owners.unwrap_or_else(|| before.owners.clone()));
        self.note_garbage(None, &last, true);
        let change = Change {
            revision: self.revision,
            before: Some(Arc::clone(&before)),
            stored: last.clone(),
            deleted: true,
        };
        self.log.append(id, change);
        self.after_change(id, &last, true);
        last
    }

    fn record(&mut self, call: &Call, verb: &'static str, name: &str, changed: bool) {
        if call.options.dry_run {
            return;
        }
        let namespace = &call.address.namespace;
        self.audit.push(AuditEntry {
            at: call.now,
            who: call.who.name.clone(),
            verb,
            key: ObjectKey::new(&call.api_version(), &call.kind.kind, namespace, name),
            subresource: call.address.subresource.clone(),
            changed,
        });
    }
}

/// The verb that RBAC knows a request by.
fn verb(method: Method, named: bool) -> &'static str {
    match (method, named) {
        (Method::Get, true) => "get",
        (Method::Get, false) => "list",
        (Method::Post, _) => "create",
        (Method::Put, _) => "update",
        (Method::Patch(_), _) => "patch",
        (Method::Delete, true) => "delete",
        (Method::Delete, false) => "deletecollection",
    }
}

#[cfg(test)]
mod tests;
