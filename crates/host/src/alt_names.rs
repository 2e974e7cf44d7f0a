//! The further names of an interface on its way home: a pod may give any, and the host's are to be as before.
//!
//! Nothing here moves or renames the interface; that is `home`'s.

use crate::seam::{Host, Link, LinkChange, LinkQuery, Namespace, Refusal};
use api::journal::LinkBefore;
use rustix::io::Errno;

/// Takes the altnames away with which the interface could not go home: since Linux 6.6 the kernel refuses a move, under
/// whatever name, while an altname is taken where it goes, so a pod could keep its interface for ever by calling it as one
/// of the host's is called.
pub fn shed(
    host: &dyn Host,
    space: &Namespace,
    link: &Link,
    before: &LinkBefore,
) -> Result<(), Refusal> {
    for name in &link.alt_names {
        if is_foreign(name, before) || is_taken(host, name)? {
            remove(host, space, link, name)?;
        }
    }
    Ok(())
}

/// True for an altname that the interface had not on the host.
fn is_foreign(name: &String, before: &LinkBefore) -> bool {
    *name == before.name || before.alt_names.as_ref().is_some_and(|known| !known.contains(name))
}

fn is_taken(host: &dyn Host, name: &str) -> Result<bool, Refusal> {
    let query = LinkQuery { name: Some(name.to_owned()), ..LinkQuery::default() };
    match host.links(&Namespace::Host, &query) {
        Ok(found) => Ok(!found.is_empty()),
        Err(refusal) if refusal.errno == Errno::NODEV => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

fn remove(host: &dyn Host, space: &Namespace, link: &Link, name: &str) -> Result<(), Refusal> {
    let change = LinkChange::RemoveAltName { link: link.index, name: name.to_owned() };
    match host.change_link(space, &change) {
        // Somebody was faster.
        Err(refusal) if refusal.errno == Errno::NOENT => Ok(()),
        done => done,
    }
}

/// Takes away what an interface at home was not called before.
pub fn remove_foreign(host: &dyn Host, link: &Link, before: &LinkBefore) -> Result<(), Refusal> {
    let foreign = link.alt_names.iter().filter(|name| is_foreign(name, before));
    foreign.into_iter().try_for_each(|name| remove(host, &Namespace::Host, link, name))
}

/// Gives an interface at home the altnames that it had before; answers those that are another's now.
pub fn restore(host: &dyn Host, link: &Link, before: &LinkBefore) -> Result<Vec<String>, Refusal> {
    let mut notes = Vec::new();
    let missing = before.alt_names.iter().flatten().filter(|name| !link.alt_names.contains(name));
    for name in missing {
        let change = LinkChange::AddAltName { link: link.index, name: name.clone() };
        match host.change_link(&Namespace::Host, &change) {
            Err(refusal) if refusal.errno == Errno::EXIST => notes.push(format!(
                "{} is not called {name} too: another interface has that name",
                before.name
            )),
            done => done?,
        }
    }
    Ok(notes)
}
