//! POST and PUT: what the server sets, keeps, checks and refuses when an object is written.

use super::call::{Call, Validation};
use super::object::{self, as_map, at, metadata, put, same, text};
use super::ownership::{self, Ownership};
use super::refusal::FieldError;
use super::registry::Kind;
use super::stored::Stored;
use super::{Refusal, Response, Store, defaults, pruning, validation};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Metadata that only the server writes.
const SERVER_OWNED: &[&str] =
    &["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// How a write is booked in `managedFields`, and how it is refused when it brings unknown fields.
#[derive(Debug, Clone)]
pub(super) enum Booking {
    /// A body that replaces the object: what it changed is its manager's.
    Body,
    /// A patch: the same, with another sentence about unknown fields.
    Patch,
    /// An apply, which has settled the ownership already.
    Applied(Ownership),
    /// An apply that changes no owners.
    Same,
}

impl Booking {
    fn refuse_unknown(&self, call: &Call, name: &str, unknown: &[String]) -> Refusal {
        let fields: Vec<_> = unknown.iter().map(|path| unknown_field(path)).collect();
        let what = format!("strict decoding error: {}", fields.join(", "));
        match self {
            Self::Body => {
                let (kind, version) = (&call.kind.kind, &call.address.version);
                let message =
                    format!("{kind} in version {version:?} cannot be handled as a {kind}: {what}");
                Refusal::bad_request(message)
            }
            Self::Patch | Self::Applied(_) | Self::Same => {
                let error = FieldError {
                    reason: "FieldValueInvalid",
                    field: "patch".to_owned(),
                    message: format!("Invalid value: {what}"),
                };
                Refusal::invalid(&call.kind, name, &[error])
            }
        }
    }

    /// The owners of the new state.
    fn book(
        self,
        call: &Call,
        owners: &Arc<Ownership>,
        old: &Value,
        new: &Value,
    ) -> Arc<Ownership> {
        match self {
            Self::Body | Self::Patch => ownership::book_update(call, owners, old, new),
            Self::Applied(ownership) => Arc::new(ownership),
            Self::Same => Arc::clone(owners),
        }
    }
}

impl Store {
    pub(super) fn create(&mut self, call: &Call) -> Result<Response, Refusal> {
        let stored = self.create_object(call, call.body.clone(), "create", Booking::Body)?;
        Ok(Response { status: 201, body: self.present(call, &stored) })
    }

    /// Creates an object from what the client sent; `verb` is for the audit.
    pub(super) fn create_object(
        &mut self,
        call: &Call,
        mut object: Value,
        verb: &'static str,
        booking: Booking,
    ) -> Result<Stored, Refusal> {
        check_type(call, &mut object)?;
        if !object::resource_version(&object).is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Refusal::bad_request(message));
        }
        self.name_object(call, &mut object)?;
        let name = object::name(&object).to_owned();
        self.check_namespace(call, &name)?;
        if self.stored(call.id, &call.address.namespace, &name).is_some() {
            return Err(Refusal::already_exists(&call.kind, &name));
        }
        self.read_fields(call, &mut object, &booking)?;
        if call.kind.has_status && !defaults::keeps_status_on_create(&call.kind) {
            as_map(&mut object).shift_remove("status");
        }
        self.set_created(call, &mut object);
        defaults::apply(&call.kind, &mut object);
        self.check_fields(call, &name, &object)?;
        let owners = booking.book(call, &Arc::default(), &Value::Null, &object);
        defaults::on_create(&call.kind, &mut object, &object::time(call.now));
        self.record(call, verb, &name, true);
        Ok(match call.options.dry_run {
            true => Stored::new(object, owners),
            false => self.commit(call.id, None, object, Some(owners)),
        })
    }

    /// Settles name and namespace.
    fn name_object(&mut self, call: &Call, object: &mut Value) -> Result<(), Refusal> {
        let kind = &call.kind;
        let given = object::namespace(object).to_owned();
        let wanted = call.address.namespace.as_str();
        if kind.namespaced && wanted.is_empty() {
            return Err(Refusal::bad_request("an empty namespace may not be set during creation"));
        }
        if kind.namespaced && !given.is_empty() && given != wanted {
            let message = format!(
                "the namespace of the provided object does not match the namespace sent on the request ({given} != {wanted})"
            );
            return Err(Refusal::bad_request(message));
        }
        let generate = text(object, &["metadata", "generateName"]).to_owned();
        let name = match (object::name(object), generate.as_str()) {
            ("", "") => {
                let error =
                    FieldError::required("metadata.name", "name or generateName is required");
                return Err(Refusal::invalid(kind, "", &[error]));
            }
            ("", prefix) => format!("{prefix}{}", self.identities.suffix()),
            (name, _) => name.to_owned(),
        };
        check_name(kind, &name)?;
        let metadata = metadata(object);
        metadata.insert("name".to_owned(), Value::from(name));
        let namespace = kind.namespaced.then(|| Value::from(wanted));
        put(metadata, "namespace", namespace);
        Ok(())
    }

    /// A namespaced object needs a namespace that exists and is not on its way out.
    fn check_namespace(&self, call: &Call, name: &str) -> Result<(), Refusal> {
        let namespace = &call.address.namespace;
        if namespace.is_empty() {
            return Ok(());
        }
        let Some((id, kind)) = self.registry.find("", "namespaces") else { return Ok(()) };
        let Some(found) = self.stored(id, "", namespace) else {
            return Err(Refusal::not_found(kind, namespace));
        };
        if object::is_terminating(found) {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(Refusal::forbidden(&call.kind, name, &why));
        }
        Ok(())
    }

    fn set_created(&mut self, call: &Call, object: &mut Value) {
        let uid = self.identities.uid();
        let metadata = metadata(object);
        for field in SERVER_OWNED.iter().chain(&["managedFields", "selfLink"]) {
            metadata.shift_remove(*field);
        }
        metadata.insert("uid".to_owned(), Value::from(uid));
        let time = object::time(call.now);
        metadata.insert("creationTimestamp".to_owned(), Value::from(time));
        if call.kind.has_generation {
            metadata.insert("generation".to_owned(), Value::from(1));
        }
    }

    /// Drops what the schema does not know (or refuses it), and fills in defaults.
    fn read_fields(
        &mut self,
        call: &Call,
        object: &mut Value,
        booking: &Booking,
    ) -> Result<(), Refusal> {
        let Some(schema) = call.schema() else { return Ok(()) };
        let unknown = pruning::prune(schema, object);
        if !unknown.is_empty() {
            match call.options.validation {
                Validation::Strict => {
                    return Err(booking.refuse_unknown(call, object::name(object), &unknown));
                }
                Validation::Warn => {
                    self.warnings.extend(unknown.iter().map(|path| unknown_field(path)))
                }
                Validation::Ignore => {}
            }
        }
        pruning::default(schema, object);
        Ok(())
    }

    /// Validates what the client wrote.
    fn check_fields(&self, call: &Call, name: &str, object: &Value) -> Result<(), Refusal> {
        if call.kind.is("apiextensions.k8s.io", "customresourcedefinitions") {
            return self.check_definition(name, object);
        }
        let errors = match call.schema() {
            Some(schema) => validation::validate(schema, object),
            None => defaults::problems(&call.kind, object),
        };
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Refusal::invalid(&call.kind, name, &errors)),
        }
    }

    pub(super) fn replace(&mut self, call: &Call) -> Result<Response, Refusal> {
        let old = self.target(call)?;
        let mut new = call.body.clone();
        check_type(call, &mut new)?;
        check_identity(call, &new)?;
        if call.kind.custom && object::resource_version(&new).is_empty() {
            let value = Value::from("0x0");
            let mut error = FieldError::invalid(
                "metadata.resourceVersion",
                &value,
                "must be specified for an update",
            );
            error.message = error.message.replace("\"0x0\"", "0x0");
            return Err(Refusal::invalid(&call.kind, object::name(&old), &[error]));
        }
        let stored = self.update_object(call, old, new, "update", Booking::Body)?;
        Ok(Response { status: 200, body: self.present(call, &stored) })
    }

    /// Stores a new state of an object that exists, unless it is the old state.
    pub(super) fn update_object(
        &mut self,
        call: &Call,
        old: Stored,
        mut new: Value,
        verb: &'static str,
        booking: Booking,
    ) -> Result<Stored, Refusal> {
        check_preconditions(call, &old, &new)?;
        self.read_fields(call, &mut new, &booking)?;
        keep_what_is_not_written(call, &old, &mut new);
        defaults::apply(&call.kind, &mut new);
        let name = object::name(&old).to_owned();
        self.check_fields(call, &name, &new)?;
        let errors = defaults::forbidden_changes(&call.kind, &old, &new);
        if !errors.is_empty() {
            return Err(Refusal::invalid(&call.kind, &name, &errors));
        }
        count_generation(&call.kind, &old, &mut new);
        let mut changed = !same(&old, &new);
        let mut owners = Arc::clone(&old.owners);
        if changed || matches!(booking, Booking::Applied(_)) {
            owners = booking.book(call, &owners, &old, &new);
            changed = changed || owners != old.owners;
        }
        self.record(call, verb, &name, changed);
        if !changed {
            return Ok(old);
        }
        if call.options.dry_run {
            return Ok(Stored::new(new, owners));
        }
        Ok(match is_released(&call.kind, &new) {
            true => self.remove(call.id, new, Some(owners)),
            false => self.commit(call.id, Some(Arc::clone(&old)), new, Some(owners)),
        })
    }
}

/// True when the object was deleted before and nothing holds it any more.
fn is_released(kind: &Kind, object: &Value) -> bool {
    let grace = at(object, &["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    object::is_terminating(object)
        && object::finalizers(object).is_empty()
        && !kind.is("", "namespaces")
        && grace.unwrap_or_default() == 0
}

pub(super) fn check_type(call: &Call, object: &mut Value) -> Result<(), Refusal> {
    if !object.is_object() {
        let message = "couldn't get version/kind; json parse error: the body is not an object";
        return Err(Refusal::bad_request(message));
    }
    let wanted = call.api_version();
    let (version, kind) = (text(object, &["apiVersion"]), text(object, &["kind"]));
    if !version.is_empty() && version != wanted {
        let message = format!(
            "the API version in the data ({version}) does not match the expected API version ({wanted})"
        );
        return Err(Refusal::bad_request(message));
    }
    if !kind.is_empty() && kind != call.kind.kind {
        let message = format!(
            "{kind} in version {:?} cannot be handled as a {}: converting ({kind}) to ({}): unknown conversion",
            call.address.version, call.kind.kind, call.kind.kind
        );
        return Err(Refusal::bad_request(message));
    }
    let stored = call.kind.api_version(call.kind.stored_version());
    let map = as_map(object);
    map.insert("apiVersion".to_owned(), Value::from(stored));
    map.insert("kind".to_owned(), Value::from(call.kind.kind.as_str()));
    Ok(())
}

fn check_identity(call: &Call, new: &Value) -> Result<(), Refusal> {
    let name = object::name(new);
    if name != call.address.name {
        let message = match name {
            "" => "name must be provided".to_owned(),
            _ => format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.address.name
            ),
        };
        return Err(Refusal::bad_request(message));
    }
    let namespace = object::namespace(new);
    if !namespace.is_empty() && namespace != call.address.namespace {
        let message = "the namespace of the object does not match the namespace on the request";
        return Err(Refusal::bad_request(format!(
            "{message} ({namespace} != {})",
            call.address.namespace
        )));
    }
    Ok(())
}

fn check_preconditions(call: &Call, old: &Value, new: &Value) -> Result<(), Refusal> {
    let name = object::name(old);
    let (given, have) = (object::uid(new), object::uid(old));
    if !given.is_empty() && given != have {
        let why = format!(
            "Precondition failed: UID in precondition: {given}, UID in object meta: {have}"
        );
        return Err(Refusal::conflict(&call.kind, name, &why));
    }
    let given = object::resource_version(new);
    if !given.is_empty() && given != object::resource_version(old) {
        return Err(Refusal::stale(&call.kind, name));
    }
    let added: Vec<_> = object::finalizers(new)
        .into_iter()
        .filter(|finalizer| !object::finalizers(old).contains(finalizer))
        .collect();
    if object::is_terminating(old) && !added.is_empty() && !call.is_status() {
        let why = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            added.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
        );
        return Err(Refusal::invalid(
            &call.kind,
            name,
            &[FieldError::forbidden("metadata.finalizers", &why)],
        ));
    }
    Ok(())
}

/// A write to the object keeps its status, a write to the status keeps the object; metadata of the server stays.
fn keep_what_is_not_written(call: &Call, old: &Value, new: &mut Value) {
    let kind = &call.kind;
    if call.is_status() {
        // Pods and nodes may change labels and annotations through their status: kubelets do so.
        let open_metadata = !kind.custom && kind.group.is_empty();
        take_parts(old, new, |field| field == "status" || (open_metadata && field == "metadata"));
    } else if kind.has_status && !alike(new.get("status"), old.get("status")) {
        put(as_map(new), "status", old.get("status").cloned());
    }
    let metadata = metadata(new);
    for field in SERVER_OWNED.iter().chain(&["name", "namespace", "generateName"]) {
        put(metadata, field, at(old, &["metadata", field]).cloned());
    }
    metadata.insert("resourceVersion".to_owned(), Value::from(object::resource_version(old)));
    for field in ["managedFields", "selfLink"] {
        metadata.shift_remove(field);
    }
}

/// Makes `new` the old object with those fields of `new` that are `taken`. The status is most of an object, so that what
/// is replaced anyway is not copied first.
fn take_parts(old: &Value, new: &mut Value, taken: impl Fn(&str) -> bool) {
    let mut given = std::mem::take(as_map(new));
    let mut merged = Map::new();
    for (field, value) in old.as_object().into_iter().flatten() {
        match taken(field) {
            true => put(&mut merged, field, given.shift_remove(field)),
            false => drop(merged.insert(field.clone(), value.clone())),
        }
    }
    merged.extend(given.into_iter().filter(|(field, _)| taken(field)));
    *new = Value::Object(merged);
}

fn alike(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Counts the changes of what a user wants: the spec, or for custom resources all but metadata and status.
fn count_generation(kind: &Kind, old: &Value, new: &mut Value) {
    if !kind.has_generation {
        return;
    }
    let differs = |field: &String| {
        let skipped = field == "metadata" || (field == "status" && kind.has_status);
        !skipped && !alike(old.get(field), new.get(field))
    };
    let fields = |object: &Value| -> Vec<String> {
        object.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
    };
    if fields(old).iter().any(differs) || fields(new).iter().any(differs) {
        let generation = at(old, &["metadata", "generation"]).and_then(Value::as_i64);
        let next = Value::from(generation.unwrap_or_default() + 1);
        metadata(new).insert("generation".to_owned(), next);
    }
}

fn unknown_field(path: &str) -> String {
    format!("unknown field {path:?}")
}

/// Names are DNS-1123 subdomains; RBAC allows more, as its own names have colons.
fn check_name(kind: &Kind, name: &str) -> Result<(), Refusal> {
    let (label, problem) = match (kind.group.as_str(), kind.plural.as_str()) {
        ("rbac.authorization.k8s.io", _) => {
            let bad = name.contains('/') || name.contains('%') || name == "." || name == "..";
            return match bad {
                true => Err(wrong_name(kind, name, "may not contain '/' or '%'")),
                false => Ok(()),
            };
        }
        ("", "namespaces" | "services") => (true, DNS_LABEL),
        _ => (false, DNS_SUBDOMAIN),
    };
    let most = if label { 63 } else { 253 };
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let part = |part: &str| {
        part.chars().all(inner)
            && !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let good = match label {
        true => part(name),
        false => name.split('.').all(part),
    };
    if name.len() > most {
        return Err(wrong_name(kind, name, &format!("must be no more than {most} bytes")));
    }
    match good {
        true => Ok(()),
        false => Err(wrong_name(kind, name, problem)),
    }
}

fn wrong_name(kind: &Kind, name: &str, why: &str) -> Refusal {
    let error = FieldError::invalid("metadata.name", &Value::from(name), why);
    Refusal::invalid(kind, name, &[error])
}

const DNS_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
