//! The comparison of the kernel's answers with the simulation's.

use super::report::Outcome;
use host::seam::words;
use rustix::io::Errno;

/// The lines in which the kernel and the simulation differ.
pub fn compare(simulated: &str, real: &str) -> Outcome {
    if simulated == real {
        let refusals = real.lines().filter(|line| is_refusal(line)).count();
        return Ok(format!(
            "{} answers of the kernel are the simulation's, {refusals} of them refusals",
            real.lines().count()
        ));
    }
    let (simulated, real): (Vec<&str>, Vec<&str>) =
        (simulated.lines().collect(), real.lines().collect());
    let mut differences = String::new();
    for index in 0..simulated.len().max(real.len()) {
        let (ours, theirs) = (simulated.get(index), real.get(index));
        if ours != theirs {
            let shown = |line: Option<&&str>| {
                line.map_or("(nothing)".to_owned(), |line| (*line).to_owned())
            };
            differences.push_str(&format!(
                "simulation: {}\nkernel:     {}\n",
                shown(ours),
                shown(theirs)
            ));
        }
    }
    Err(differences)
}

/// True when the line ends in the words of an errno.
fn is_refusal(line: &str) -> bool {
    let end = line.rsplit(": ").next().unwrap_or_default();
    (1..134).any(|errno| end == words(Errno::from_raw_os_error(errno)))
}
