//! GET: one object, or a list with selectors and pages.

use super::call::Call;
use super::object;
use super::tables::{self, Form};
use super::{Refusal, Response, Store};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::ops::Bound;
use std::sync::Arc;

impl Store {
    pub(super) fn get(&self, call: &Call) -> Result<Response, Refusal> {
        let object = self.target(call)?;
        Ok(Response { status: 200, body: self.present(call, &object) })
    }

    /// An object in the version and form that the client asked for.
    pub(super) fn present(&self, call: &Call, object: &Arc<Value>) -> Value {
        if call.unread {
            return Value::Null;
        }
        let object = in_version(call, object);
        match Form::of(call.accept) {
            Form::Whole => object,
            Form::Metadata | Form::MetadataList => tables::partial(&object),
            Form::Table => {
                let metadata = json!({ "resourceVersion": object::resource_version(&object) });
                table(call, &[object], metadata)
            }
        }
    }

    pub(super) fn list(&self, call: &Call) -> Result<Response, Refusal> {
        let selector = call.selector()?;
        let namespace = &call.address.namespace;
        let (revision, start) = self.page_start(call)?;
        let mut items: Vec<&Arc<Value>> = Vec::new();
        let mut remaining = 0_usize;
        let named = selector.name().filter(|_| !call.kind.namespaced || !namespace.is_empty());
        let objects: Box<dyn Iterator<Item = &Arc<Value>>> = match named {
            Some(name) if start.is_none() => {
                Box::new(self.stored(call.id, namespace, name).into_iter())
            }
            _ => Box::new(self.objects_from(call, start)),
        };
        for object in objects {
            if !namespace.is_empty() && object::namespace(object) != namespace {
                break;
            }
            if !selector.matches(object) {
                continue;
            }
            match call.options.limit > 0 && items.len() == call.options.limit {
                true => remaining += 1,
                false => items.push(object),
            }
        }
        let mut metadata = json!({ "resourceVersion": revision.to_string() });
        if remaining > 0
            && let Some(last) = items.last()
        {
            let token = json!({
                "v": "meta.k8s.io/v1", "rv": revision,
                "start": [object::namespace(last), object::name(last)],
            });
            metadata["continue"] = Value::from(URL_SAFE_NO_PAD.encode(token.to_string()));
            metadata["remainingItemCount"] = Value::from(remaining);
        }
        Ok(Response { status: 200, body: self.present_list(call, &items, metadata) })
    }

    fn present_list(&self, call: &Call, items: &[&Arc<Value>], metadata: Value) -> Value {
        let items: Vec<_> = items.iter().map(|object| in_version(call, object)).collect();
        match Form::of(call.accept) {
            Form::Whole => json!({
                "kind": call.kind.list_kind, "apiVersion": call.api_version(),
                "metadata": metadata, "items": items,
            }),
            Form::Metadata | Form::MetadataList => tables::partial_list(&items, metadata),
            Form::Table => table(call, &items, metadata),
        }
    }

    /// The objects of a kind after `start`, in order.
    fn objects_from(
        &self,
        call: &Call,
        start: Option<(String, String)>,
    ) -> impl Iterator<Item = &Arc<Value>> {
        let from = match start {
            Some(name) => Bound::Excluded(name),
            None => Bound::Included((call.address.namespace.clone(), String::new())),
        };
        let all = self.objects.get(&call.id);
        all.into_iter()
            .flat_map(move |all| all.range((from.clone(), Bound::Unbounded)))
            .map(|(_, o)| o)
    }

    /// Where the page starts, and the revision that the whole list has.
    fn page_start(&self, call: &Call) -> Result<(u64, Option<(String, String)>), Refusal> {
        if call.options.continue_token.is_empty() {
            return Ok((self.revision, None));
        }
        let bad = || Refusal::bad_request("continue key is not valid: illegal base64 data or JSON");
        let bytes = URL_SAFE_NO_PAD.decode(&call.options.continue_token).map_err(|_| bad())?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        let revision = token["rv"].as_u64().ok_or_else(bad)?;
        if revision < self.log.horizon(call.id) {
            return Err(Refusal::continue_expired());
        }
        let part = |index: usize| token["start"][index].as_str().unwrap_or_default().to_owned();
        Ok((revision, Some((part(0), part(1)))))
    }
}

fn table(call: &Call, objects: &[Value], metadata: Value) -> Value {
    let (version, include) = (&call.address.version, &call.options.include_object);
    tables::table(&call.kind, version, objects, metadata, include, call.now)
}

/// The object as the version of the request names it; all versions of a kind have the same fields here.
pub(super) fn in_version(call: &Call, object: &Value) -> Value {
    let mut object = object.clone();
    if call.address.version != call.kind.stored_version() {
        object["apiVersion"] = Value::from(call.api_version());
    }
    object
}
