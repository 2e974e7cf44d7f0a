//! Paths that match a pattern of `*` and `?`, as a shell finds them.

use host::Host;

/// True for a word that a shell would try to expand.
pub fn is_one(word: &str) -> bool {
    word.contains(['*', '?'])
}

/// The paths that match, sorted; none when nothing does. Only what exists is in it: where the pattern stands in a
/// directory's name, directories without the rest of the path are left out.
pub fn expand(host: &dyn Host, pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let next = |path: String| match is_one(part) {
            false => vec![format!("{path}/{part}")],
            true => {
                let directory = if path.is_empty() { "/" } else { &path };
                let names = host.list(directory).unwrap_or_default();
                let fits =
                    names.into_iter().filter(|name| matches(part.as_bytes(), name.as_bytes()));
                fits.map(|name| format!("{path}/{name}")).collect()
            }
        };
        found = found.into_iter().flat_map(next).collect();
    }
    found.retain(|path| host.metadata(path).is_ok());
    found
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // A leading dot is matched by a dot only, as in every shell.
    let hidden = name.first() == Some(&b'.') && pattern.first() != Some(&b'.');
    !hidden && fits(pattern, name)
}

fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            fits(&pattern[1..], name) || (!name.is_empty() && fits(pattern, &name[1..]))
        }
        (Some(b'?'), Some(_)) => fits(&pattern[1..], &name[1..]),
        (Some(one), Some(other)) if one == other => fits(&pattern[1..], &name[1..]),
        _ => false,
    }
}
