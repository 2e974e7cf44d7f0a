//! `cat`: files one after the other. There is no shell in our image, so it expands a pattern that the user's shell found
//! nothing for and passed on, and skips functions without the file: a VF has no `sriov_numvfs`.

use super::{Finished, capitalised, pattern};
use host::Host;

pub fn run(host: &dyn Host, arguments: &[&str]) -> Finished {
    let mut finished = Finished::default();
    if arguments.is_empty() {
        return Finished::failed(
            "cat: name a file; this cat reads no standard input\n".to_owned(),
            1,
        );
    }
    for argument in arguments {
        let paths = match pattern::is_one(argument) {
            true => pattern::expand(host, argument),
            false => Vec::new(),
        };
        // As a shell does: a pattern without a match means itself.
        let paths = if paths.is_empty() { vec![(*argument).to_owned()] } else { paths };
        for path in paths {
            match host.read(&path) {
                Ok(bytes) => finished.stdout.extend(bytes),
                Err(refusal) => {
                    let why = capitalised(&host::seam::words(refusal.errno));
                    finished.stderr += &format!("cat: {path}: {why}\n");
                    finished.status = 1;
                }
            }
        }
    }
    finished
}
