//! The record of every write: who, what, and whether anything changed.

use api::wire::ObjectKey;
use jiff::Timestamp;
use std::fmt;

/// One write that the store carried out; a refused one is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub who: String,
    /// `create`, `update`, `patch`, `apply`, `delete`, `evict`.
    pub verb: &'static str,
    pub key: ObjectKey,
    pub subresource: String,
    /// False when the object was already so; then nothing was stored and no watcher heard of it.
    pub changed: bool,
}

impl fmt::Display for AuditEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.who, self.verb, self.key)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        f.write_str(if self.changed { "" } else { " (unchanged)" })
    }
}
