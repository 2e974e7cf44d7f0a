//! `cat` and `rdma` of our image, which has no shell and no other tools: what people type into the config daemon's pod.
//!
//! Plain functions over the seam, so that they run on a real node and on a simulated one. They only look.

mod cat;
pub mod pattern;
pub mod rdma;

use host::Host;

/// What a program leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Bytes, since a file may hold any.
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub status: i32,
}

impl Finished {
    pub fn said(stdout: String) -> Self {
        Self { stdout: stdout.into_bytes(), ..Self::default() }
    }

    pub fn failed(stderr: String, status: i32) -> Self {
        Self { stderr, status, ..Self::default() }
    }
}

/// The programs, by the names that they are called by.
pub const NAMES: [&str; 2] = ["cat", "rdma"];

/// Runs the program of this name; `None` means that there is no such one. A path is as good as a name.
pub fn run(host: &dyn Host, name: &str, arguments: &[&str]) -> Option<Finished> {
    match name.rsplit('/').next().unwrap_or(name) {
        "cat" => Some(cat::run(host, arguments)),
        "rdma" => Some(rdma::run(host, arguments)),
        _ => None,
    }
}

/// The kernel's words as tools print them: `No such file or directory`.
pub fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
