//! Files that were to become others: `Host::replace` writes beside the file and renames, and a process that is killed in
//! between leaves them. Found by their name alone; whether their writer is dead is the caller's to know.

use crate::seam::{Host, Refusal};
use rustix::io::Errno;

/// Names a temporary file of `path`'s last part.
pub fn temporary(name: &str, process: u32, number: u64) -> String {
    format!(".{name}.{process}.{number}.new")
}

/// The file that it was to become, by the name that `temporary` gives; none for a name of others.
pub fn becomes(temporary: &str) -> Option<&str> {
    let rest = temporary.strip_prefix('.')?.strip_suffix(".new")?;
    let (rest, number) = rest.rsplit_once('.')?;
    let (name, process) = rest.rsplit_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (is_number(number) && is_number(process) && !name.is_empty()).then_some(name)
}

/// The unfinished files of a directory, each as its path; none where the directory is not there.
pub fn of(host: &dyn Host, directory: &str) -> Result<Vec<String>, Refusal> {
    match host.list(directory) {
        Ok(mut names) => {
            names.retain(|name| becomes(name).is_some());
            Ok(names.into_iter().map(|name| format!("{directory}/{name}")).collect())
        }
        Err(refusal) if matches!(refusal.errno, Errno::NOENT | Errno::NOTDIR) => Ok(Vec::new()),
        Err(refusal) => Err(refusal),
    }
}

/// Removes what dead writers of one file left beside it. Callers are its only writer.
pub fn tidy(host: &dyn Host, path: &str) -> Result<(), Refusal> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let left = of(host, directory)?;
    let ours = |path: &&String| path.rsplit('/').next().and_then(becomes) == Some(name);
    left.iter().filter(ours).try_for_each(|path| host.remove(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::LinuxHost;

    #[test]
    fn only_a_name_that_replace_gives_is_taken_for_unfinished() {
        assert_eq!(becomes(&temporary("offer.json", 7, 12)), Some("offer.json"));
        assert_eq!(becomes(".0000:3b:00.2.3672.0.new"), Some("0000:3b:00.2"));
        for other in [
            "offer.json",
            ".offer.json.new",
            ".offer.json.7.new",
            ".offer.json.x.0.new",
            "a.7.0.new",
            "..7.0.new",
            ".a.7.0.old",
        ] {
            assert_eq!(becomes(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_is_replaced_also_where_a_dead_writer_left_the_very_name() {
        let directory = tempfile::tempdir().unwrap();
        let host = LinuxHost::new(directory.path().to_str().unwrap()).unwrap();
        std::fs::create_dir(directory.path().join("d")).unwrap();
        // Every process of a container is process 1 there, and its numbers begin anew.
        for number in 0..40 {
            let left = temporary("a", std::process::id(), number);
            std::fs::write(directory.path().join("d").join(left), "half").unwrap();
        }
        host.replace("/d/a", b"whole", 0o600).unwrap();
        host.replace("/d/b", b"other", 0o600).unwrap();
        assert_eq!(host.read("/d/a").unwrap(), b"whole");
        assert_eq!(of(&host, "/d").unwrap().len(), 40);
        tidy(&host, "/d/a").unwrap();
        assert_eq!(host.list("/d").unwrap(), ["a", "b"]);
    }
}
