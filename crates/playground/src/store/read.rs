//! GET: one object, or a list with selectors and pages.

use super::call::{Call, Reader};
use super::object;
use super::stored::Stored;
use super::tables::{self, Form};
use super::{Refusal, Request, Response, Store, User};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::ops::Bound;
use std::sync::Arc;

/// A page of a list.
struct Selected<'a> {
    items: Vec<&'a Stored>,
    /// Objects that are selected and on no page yet.
    remaining: usize,
    revision: u64,
}

impl Store {
    pub(super) fn get(&self, call: &Call) -> Result<Response, Refusal> {
        let object = self.target(call)?;
        Ok(Response { status: 200, body: self.present(call, &object) })
    }

    /// An object in the version and form that the client asked for.
    pub(super) fn present(&self, call: &Call, stored: &Stored) -> Value {
        let object = match call.reader {
            Reader::Client => in_version(call, stored.whole()),
            Reader::Program => in_version(call, Value::clone(stored)),
            Reader::Nobody => return Value::Null,
        };
        match Form::of(call.accept) {
            Form::Whole => object,
            Form::Metadata | Form::MetadataList => tables::partial(&object),
            Form::Table => {
                let metadata = json!({ "resourceVersion": object::resource_version(&object) });
                table(call, &[object], metadata)
            }
        }
    }

    /// What a list of whole objects would hold, and its resourceVersion: shared, for whoever lives in this process.
    pub fn snapshot(
        &mut self,
        now: Timestamp,
        who: &User,
        request: &Request,
    ) -> Result<(Vec<Arc<Value>>, u64), Refusal> {
        let call = self.call(now, who, request)?;
        self.authorize(who, &Self::attributes(&call, "list"))?;
        let Selected { items, revision, .. } = self.selected(&call)?;
        let shared = |stored: &Stored| match call.address.version == call.kind.stored_version() {
            true => Arc::clone(stored),
            false => Arc::new(in_version(&call, Value::clone(stored))),
        };
        Ok((items.into_iter().map(shared).collect(), revision))
    }

    /// One page of what the call selects.
    fn selected(&self, call: &Call) -> Result<Selected<'_>, Refusal> {
        let selector = call.selector()?;
        let namespace = &call.address.namespace;
        let (revision, start) = self.page_start(call)?;
        let mut items: Vec<&Stored> = Vec::new();
        let mut remaining = 0_usize;
        let named = selector.name().filter(|_| !call.kind.namespaced || !namespace.is_empty());
        let objects: Box<dyn Iterator<Item = &Stored>> = match named {
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
        Ok(Selected { items, remaining, revision })
    }

    pub(super) fn list(&self, call: &Call) -> Result<Response, Refusal> {
        let Selected { items, remaining, revision } = self.selected(call)?;
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

    fn present_list(&self, call: &Call, items: &[&Stored], metadata: Value) -> Value {
        let items: Vec<_> = items.iter().map(|stored| in_version(call, stored.whole())).collect();
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
    ) -> impl Iterator<Item = &Stored> {
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
fn in_version(call: &Call, mut object: Value) -> Value {
    if call.address.version != call.kind.stored_version() {
        object["apiVersion"] = Value::from(call.api_version());
    }
    object
}
