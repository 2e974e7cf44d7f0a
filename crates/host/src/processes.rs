//! The host's processes, as `/proc` lists them (proc_pid(5)).

use crate::seam::{Host, Refusal};

/// Their directories, `/proc/<pid>` each; one may be gone by the time that it is looked into.
pub fn directories(host: &dyn Host) -> Result<impl Iterator<Item = String> + use<>, Refusal> {
    let names = host.list("/proc")?.into_iter();
    let numbered = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    Ok(numbered.map(|pid| format!("/proc/{pid}")))
}
