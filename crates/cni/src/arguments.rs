//! `CNI_ARGS`: `KEY=value` pairs with semicolons between them.

use crate::failure::{self, Failure};
use crate::frame::Call;
use std::collections::BTreeMap;

/// What container runtimes say about the pod; Multus always sends these.
const POD: [&str; 4] =
    ["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "K8S_POD_INFRA_CONTAINER_ID"];

/// The pairs of a call. A key that is neither known to all plugins nor in `own` is an error unless
/// `IgnoreUnknown` is set.
pub fn read<'a>(call: &Call<'a>, own: &[&str]) -> Result<BTreeMap<&'a str, &'a str>, Failure> {
    let text = call.variable("CNI_ARGS");
    let mut pairs = BTreeMap::new();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or_else(|| {
            Failure::new(
                failure::ENVIRONMENT,
                format!("CNI_ARGS {text:?}: {part:?} is not KEY=value"),
            )
        })?;
        pairs.insert(key, value);
    }
    let ignored = matches!(pairs.get("IgnoreUnknown"), Some(&("1" | "true" | "TRUE" | "True")));
    let known = |key: &str| key == "IgnoreUnknown" || POD.contains(&key) || own.contains(&key);
    let unknown: Vec<&str> = pairs.keys().copied().filter(|key| !known(key)).collect();
    if !ignored && !unknown.is_empty() {
        return Err(Failure::new(
            failure::ENVIRONMENT,
            format!(
                "CNI_ARGS holds keys that this plugin does not know: {}; add IgnoreUnknown=1",
                unknown.join(", ")
            ),
        ));
    }
    Ok(pairs)
}
