//! PATCH: JSON patch and merge patch here, the other two in their own files.

use super::call::Call;
use super::stored::Stored;
use super::write::Booking;
use super::{Refusal, Response, Store, strategic};
use api::wire::PatchType;
use serde_json::Value;

impl Store {
    pub(super) fn patch(&mut self, call: &Call, kind: PatchType) -> Result<Response, Refusal> {
        if kind == PatchType::Apply {
            return self.apply(call);
        }
        let old = self.target(call)?;
        let new = match kind {
            PatchType::Json => json_patched(&old, call.body)?,
            PatchType::Merge => {
                let mut new = Value::clone(&old);
                json_patch::merge(&mut new, call.body);
                new
            }
            PatchType::Strategic | PatchType::Apply if call.kind.custom => {
                let accepted = [PatchType::Json, PatchType::Merge, PatchType::Apply];
                return Err(Refusal::unsupported_media_type(
                    &accepted.map(PatchType::content_type),
                ));
            }
            PatchType::Strategic | PatchType::Apply => strategic::patched(&old, call.body)?,
        };
        let stored = self.update_object(call, old, new, "patch", Booking::Patch)?;
        Ok(Response { status: 200, body: self.present(call, &stored) })
    }
}

fn json_patched(old: &Stored, body: &Value) -> Result<Value, Refusal> {
    let patch: json_patch::Patch = serde_json::from_value(body.clone())
        .map_err(|error| Refusal::bad_request(format!("error decoding patch: {error}")))?;
    // Its operations may name `managedFields`.
    let mut new = old.whole();
    json_patch::patch(&mut new, &patch).map_err(|error| Refusal {
        code: 422,
        reason: "Invalid",
        message: format!("the server rejected our request due to an error in our request: {error}"),
        details: Value::Null,
    })?;
    Ok(new)
}
