//! GUIDs of InfiniBand VFs: from the host's file of static GUIDs, else derived, so that each boot gives the same.
//!
//! The file is upstream's (`api::files::GUIDS`): a JSON array with, for each PF, a list or a range. Where it is there it
//! counts for every PF: one that it does not name gets no GUIDs and a blocker, since a derived one would be a stranger to
//! the subnet manager.

use api::inventory::PhysicalFunction;
use serde::Deserialize;

/// The kernel's text for a GUID that was never set.
pub const NO_GUID: &str = "0000:0000:0000:0000";

/// Where VFs get their GUIDs from.
#[derive(Debug)]
pub(crate) enum Guids {
    /// No file.
    Derived,
    Static(Vec<Entry>),
    /// A file that cannot be understood, and why.
    Bad(String),
}

/// One PF of the file.
#[derive(Debug)]
pub(crate) struct Entry {
    pf: Key,
    guids: Source,
}

#[derive(Debug)]
enum Key {
    Address(String),
    Guid(u64),
}

#[derive(Debug)]
enum Source {
    List(Vec<u64>),
    Range { start: u64, end: u64 },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    pci_address: Option<String>,
    pf_guid: Option<String>,
    guids: Option<Vec<String>>,
    guids_range: Option<RawRange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRange {
    start: String,
    end: String,
}

impl Guids {
    pub(crate) fn read(file: Option<&str>) -> Self {
        let Some(text) = file else { return Self::Derived };
        match parse(text) {
            Ok(entries) => Self::Static(entries),
            Err(why) => Self::Bad(why),
        }
    }

    /// The GUID of a VF, or why there is none.
    pub(crate) fn of(&self, pf: &PhysicalFunction, vf: u32) -> Result<String, String> {
        let entries = match self {
            Self::Derived => return Ok(derived(&pf.mac, vf)),
            Self::Bad(why) => return Err(why.clone()),
            Self::Static(entries) => entries,
        };
        let port = port_guid(&pf.mac);
        let names = |entry: &&Entry| match &entry.pf {
            Key::Address(address) => *address == pf.pci.to_string(),
            Key::Guid(guid) => Some(*guid) == port,
        };
        let entry = entries.iter().find(names).ok_or("it does not name this PF")?;
        let (guid, count) = match &entry.guids {
            Source::List(guids) => (guids.get(vf as usize).copied(), guids.len() as u64),
            Source::Range { start, end } => {
                let guid = start.checked_add(u64::from(vf)).filter(|guid| guid <= end);
                (guid, (end - start).saturating_add(1))
            }
        };
        guid.map(show)
            .ok_or_else(|| format!("it has {count} GUIDs for this PF, and none for VF {vf}"))
    }
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let raw: Vec<Raw> =
        serde_json::from_str(text).map_err(|error| format!("it is not understood: {error}"))?;
    let numbered = raw.into_iter().enumerate();
    let entry = |(index, raw)| entry(raw).map_err(|why| format!("entry {}: {why}", index + 1));
    numbered.map(entry).collect()
}

fn entry(raw: Raw) -> Result<Entry, String> {
    let pf = match (raw.pci_address, raw.pf_guid) {
        (Some(address), None) => Key::Address(address.to_lowercase()),
        (None, Some(guid)) => Key::Guid(number(&guid)?),
        _ => return Err("write pciAddress or pfGuid, one of them".to_owned()),
    };
    let guids = match (raw.guids, raw.guids_range) {
        (Some(list), None) => {
            Source::List(list.iter().map(|guid| number(guid)).collect::<Result<_, _>>()?)
        }
        (None, Some(range)) => {
            let (start, end) = (number(&range.start)?, number(&range.end)?);
            if end < start {
                return Err(format!("guidsRange ends at {} before it starts", range.end));
            }
            Source::Range { start, end }
        }
        _ => return Err("write guids or guidsRange, one of them".to_owned()),
    };
    Ok(Entry { pf, guids })
}

/// Eight bytes with colons between them, or in fours as the kernel prints them; zeros or ones alone are none.
fn number(text: &str) -> Result<u64, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let digits = if parts.len() == 4 { 4 } else { 2 };
    let plain = |part: &&str| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let whole = [4, 8].contains(&parts.len()) && parts.iter().all(plain);
    let value = whole.then(|| u64::from_str_radix(&parts.concat(), 16).ok()).flatten();
    value
        .filter(|guid| *guid != 0 && *guid != u64::MAX)
        .ok_or_else(|| format!("{text:?} is not a GUID; write 00:11:22:33:44:55:66:77"))
}

/// As the kernel prints one.
fn show(guid: u64) -> String {
    let part = |shift: u32| (guid >> shift) & 0xffff;
    format!("{:04x}:{:04x}:{:04x}:{:04x}", part(48), part(32), part(16), part(0))
}

/// The port GUID is the end of an IPoIB hardware address. What stands before it changes: the queue pair at each boot, the
/// prefix with the subnet.
fn port_guid(mac: &str) -> Option<u64> {
    let bytes: Vec<&str> = mac.split(':').collect();
    let tail = (bytes.len() == 20).then(|| bytes[12..].concat())?;
    u64::from_str_radix(&tail, 16).ok()
}

/// A locally administered GUID of the VF, as the kernel prints one; the same after every boot.
fn derived(pf_mac: &str, vf: u32) -> String {
    let port = port_guid(pf_mac).map_or_else(|| pf_mac.to_owned(), show);
    // The universal/local bit of an EUI-64 is the second lowest of its first byte; the multicast bit stays off.
    let guid = fingerprint(&port, vf);
    show((guid & !(0x03 << 56)) | (0x02 << 56))
}

/// FNV-1a, 64 bits: short, without a dependency, and the same for ever, which a hasher of std does not promise.
pub(crate) fn fingerprint(of: &str, vf: u32) -> u64 {
    let bytes = of.bytes().chain(vf.to_be_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: &str = "80:00:02:08:fe:80:00:00:00:00:00:00:50:6b:4b:03:00:e5:72:c8";

    fn pf(mac: &str) -> PhysicalFunction {
        serde_json::from_value(serde_json::json!({
            "pci": "0000:3b:00.0", "name": "ib0", "altNames": [], "mac": mac, "vendor": "15b3", "device": "101b",
            "mtu": 2044, "adminUp": true, "eswitch": "legacy", "netFilter": "", "vfs": [],
        }))
        .unwrap()
    }

    fn said(file: &str, vf: u32) -> String {
        Guids::read(Some(file)).of(&pf(PORT), vf).unwrap_or_else(|why| why)
    }

    #[test]
    fn a_derived_guid_is_the_same_after_a_boot_with_another_queue_pair_and_differs_by_vf_and_port()
    {
        let boot = PORT.replace("80:00:02:08:fe:80", "80:00:11:a7:fe:81");
        let other = PORT.replace("72:c8", "72:c9");
        let derived = |mac: &str, vf| Guids::Derived.of(&pf(mac), vf).unwrap();
        assert_eq!(derived(PORT, 0), derived(&boot, 0));
        assert_ne!(derived(PORT, 0), derived(PORT, 1));
        assert_ne!(derived(PORT, 0), derived(&other, 0));
        // Locally administered, and no group's.
        let first = u8::from_str_radix(&derived(PORT, 0)[..2], 16).unwrap();
        assert_eq!(first & 0x03, 0x02);
    }

    #[test]
    fn a_list_and_a_range_give_each_vf_its_own_by_address_or_by_port() {
        let list = r#"[{"pciAddress":"0000:3B:00.0","guids":["00:11:22:33:44:55:66:01","0011:2233:4455:6602"]}]"#;
        assert_eq!(said(list, 0), "0011:2233:4455:6601");
        assert_eq!(said(list, 1), "0011:2233:4455:6602");
        assert_eq!(said(list, 2), "it has 2 GUIDs for this PF, and none for VF 2");
        let range = r#"[{"pciAddress":"0000:5e:00.0","guids":[]},{"pfGuid":"50:6b:4b:03:00:e5:72:c8",
            "guidsRange":{"start":"00:11:22:33:44:55:66:fe","end":"00:11:22:33:44:55:67:00"}}]"#;
        assert_eq!(said(range, 0), "0011:2233:4455:66fe");
        assert_eq!(said(range, 2), "0011:2233:4455:6700");
        assert_eq!(said(range, 3), "it has 3 GUIDs for this PF, and none for VF 3");
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        let with = |inside: &str| said(&format!("[{{{inside}}}]"), 0);
        assert_eq!(said("[]", 0), "it does not name this PF");
        assert_eq!(
            said("", 0),
            "it is not understood: EOF while parsing a value at line 1 column 0"
        );
        let list = r#""guids":["00:11:22:33:44:55:66:01"]"#;
        assert_eq!(with(list), "entry 1: write pciAddress or pfGuid, one of them");
        assert_eq!(with(r#""pciAddress":"a""#), "entry 1: write guids or guidsRange, one of them");
        let zero = r#""pciAddress":"a","guids":["00:00:00:00:00:00:00:00"]"#;
        assert_eq!(
            with(zero),
            r#"entry 1: "00:00:00:00:00:00:00:00" is not a GUID; write 00:11:22:33:44:55:66:77"#
        );
        let back = r#""pciAddress":"a","guidsRange":{"start":"0000:0000:0000:0002","end":"0000:0000:0000:0001"}"#;
        assert_eq!(with(back), "entry 1: guidsRange ends at 0000:0000:0000:0001 before it starts");
    }
}
