//! The words of the journal: what was changed or tried, one line each.

use crate::seam::{LinkChange, Namespace};
use crate::tried;

/// Text of a journal entry: one line, and short.
pub(super) fn shown(content: &str) -> String {
    let text = content.trim_end_matches(['\n', '\0']).replace('\n', " | ");
    if text.is_empty() {
        return "nothing".to_owned();
    }
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

pub(super) fn in_space(space: &Namespace) -> String {
    match space {
        Namespace::Host => String::new(),
        Namespace::At(path) => format!(" in {path}"),
    }
}

pub(super) fn link_of(change: &LinkChange) -> u32 {
    match change {
        LinkChange::Up { link }
        | LinkChange::Down { link }
        | LinkChange::Promiscuous { link, .. }
        | LinkChange::AllMulticast { link, .. }
        | LinkChange::Mtu { link, .. }
        | LinkChange::Rename { link, .. }
        | LinkChange::Address { link, .. }
        | LinkChange::AddAltName { link, .. }
        | LinkChange::RemoveAltName { link, .. }
        | LinkChange::Move { link, .. }
        | LinkChange::Vf { link, .. } => *link,
    }
}

/// A change of an interface as the journal tells it, with the interface's name.
pub(super) fn journal_link(name: &str, space: &Namespace, change: &LinkChange) -> String {
    let what = match change {
        LinkChange::Up { .. } => "up".to_owned(),
        LinkChange::Down { .. } => "down".to_owned(),
        LinkChange::Promiscuous { on, .. } => format!("promiscuous {}", tried::on_off(*on)),
        LinkChange::AllMulticast { on, .. } => format!("allmulticast {}", tried::on_off(*on)),
        LinkChange::Mtu { mtu, .. } => format!("mtu {mtu}"),
        LinkChange::Rename { name, .. } => format!("name {name}"),
        LinkChange::Address { address, .. } => format!("address {}", tried::colons(address)),
        LinkChange::AddAltName { name, .. } => format!("add altname {name}"),
        LinkChange::RemoveAltName { name, .. } => format!("remove altname {name}"),
        LinkChange::Move { to, name: None, .. } => format!("move to {}", tried::in_words(to)),
        LinkChange::Move { to, name: Some(name), .. } => {
            format!("move to {} as {name}", tried::in_words(to))
        }
        LinkChange::Vf { vf, setting, .. } => {
            format!("vf {vf} {}", tried::describe_vf_setting(setting))
        }
    };
    format!("{name}{}: {what}", in_space(space))
}
