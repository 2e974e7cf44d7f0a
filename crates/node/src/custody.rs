//! The two files between daemon and device plugin, through the seam: read with suspicion, replaced at once or not at all.
//!
//! What to offer is `offer`'s, what to give is `plugin`'s. Nothing here looks at a device.

use api::custody::{Claims, Offer, VERSION};
use api::files;
use host::{Host, Refusal};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// What a reader found in the place of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    Good(T),
    /// No file: its writer has not spoken in this boot.
    Missing,
    /// A file that must not replace a good one, with the sentence that says why.
    Bad(String),
}

impl<T> Found<T> {
    /// The value, where there is a good one.
    pub fn good(self) -> Option<T> {
        match self {
            Self::Good(value) => Some(value),
            Self::Missing | Self::Bad(_) => None,
        }
    }
}

/// Reads the offer; one of another boot or of a newer daemon is not good.
pub fn read_offer(host: &dyn Host, boot_id: &str) -> Found<Offer> {
    read(host, files::OFFER, boot_id, "the offer")
}

/// Reads the claims; those of another boot speak of containers that are gone.
pub fn read_claims(host: &dyn Host, boot_id: &str) -> Found<Claims> {
    read(host, files::CLAIMS, boot_id, "the claims")
}

pub fn write_offer(host: &dyn Host, offer: &Offer) -> Result<(), Refusal> {
    write(host, files::OFFER, offer)
}

pub fn write_claims(host: &dyn Host, claims: &Claims) -> Result<(), Refusal> {
    write(host, files::CLAIMS, claims)
}

/// True when no device plugin runs: its lock, which it holds for life, is free.
pub fn device_plugin_absent(host: &dyn Host) -> bool {
    host.lock(files::DEVICE_PLUGIN_LOCK, Duration::ZERO).is_ok()
}

fn read<T: DeserializeOwned>(host: &dyn Host, path: &str, boot_id: &str, what: &str) -> Found<T> {
    let bytes = match host.read(path) {
        Ok(bytes) => bytes,
        Err(refusal) if refusal.errno == Errno::NOENT => return Found::Missing,
        Err(refusal) => return Found::Bad(format!("cannot read {what}: {refusal}")),
    };
    match parse(&bytes, boot_id) {
        Ok(value) => Found::Good(value),
        Err(why) => Found::Bad(format!("{what} in {path} {why}; the last good one stays in force")),
    }
}

/// What every file of ours begins with.
#[derive(Debug, Default)]
pub struct Header {
    /// 0 where it says none.
    pub version: u64,
    pub boot_id: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Fields {
    version: Value,
    boot_id: Value,
}

impl Header {
    /// Reads over the whole document without keeping it. Fails where it is not whole; one that is another thing than an
    /// object has no header.
    pub fn of(bytes: &[u8]) -> serde_json::Result<Self> {
        let Fields { version, boot_id } = match serde_json::from_slice(bytes) {
            Err(error) if error.is_data() => Fields::default(),
            read => read?,
        };
        Ok(Self {
            version: version.as_u64().unwrap_or_default(),
            boot_id: boot_id.as_str().unwrap_or_default().to_owned(),
        })
    }
}

/// The file's header is judged before its body: a newer version may have another body.
fn parse<T: DeserializeOwned>(bytes: &[u8], boot_id: &str) -> Result<T, String> {
    let Header { version, boot_id: written_in } = Header::of(bytes)
        .map_err(|error| format!("is not whole ({} bytes): {error}", bytes.len()))?;
    if version != u64::from(VERSION) {
        return Err(format!("has version {version}, and this build reads version {VERSION}"));
    }
    if written_in != boot_id {
        return Err(format!("was written in boot {written_in:?}, and this is boot {boot_id:?}"));
    }
    serde_json::from_slice(bytes).map_err(|error| format!("cannot be understood: {error}"))
}

fn write<T: Serialize>(host: &dyn Host, path: &str, value: &T) -> Result<(), Refusal> {
    // Plain data with text keys always becomes JSON; an empty file would be refused by the reader.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    host.replace(path, &bytes, 0o600)
}
