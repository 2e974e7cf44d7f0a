//! PATCH: JSON patch and merge patch here, the other two in their own files.

use super::call::Call;
use super::{Refusal, Response, Store, write};
use api::wire::PatchType;
use serde_json::Value;
use std::sync::Arc;

impl Store {
    pub(super) fn patch(&mut self, call: &Call, kind: PatchType) -> Result<Response, Refusal> {
        let old = self.target(call)?;
        let new = match kind {
            PatchType::Json => json_patched(&old, call.body)?,
            PatchType::Merge => {
                let mut new = Value::clone(&old);
                json_patch::merge(&mut new, call.body);
                new
            }
            PatchType::Strategic | PatchType::Apply => {
                let accepted = [PatchType::Json, PatchType::Merge].map(PatchType::content_type);
                return Err(Refusal::unsupported_media_type(&accepted));
            }
        };
        let stored = self.update_object(call, old, new, "patch", strict_patch)?;
        Ok(Response { status: 200, body: self.present(call, &stored) })
    }
}

fn json_patched(old: &Arc<Value>, body: &Value) -> Result<Value, Refusal> {
    let patch: json_patch::Patch = serde_json::from_value(body.clone())
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    let mut new = Value::clone(old);
    json_patch::patch(&mut new, &patch).map_err(|error| Refusal {
        code: 422,
        reason: "Invalid",
        message: format!("the server rejected our request due to an error in our request: {error}"),
        details: Value::Null,
    })?;
    Ok(new)
}

/// The refusal of a patch that brings unknown fields.
fn strict_patch(call: &Call, name: &str, unknown: &[String]) -> Refusal {
    let message = format!("Invalid value: {}", write::strict_error(unknown));
    let error =
        super::FieldError { reason: "FieldValueInvalid", field: "patch".to_owned(), message };
    Refusal::invalid(&call.kind, name, &[error])
}
