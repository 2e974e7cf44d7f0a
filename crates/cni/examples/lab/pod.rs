//! A pod of the lab: a process in a network namespace of its own.

#![allow(dead_code)] // Each program uses its part.

use host::Namespace;
use std::process::{Child, Command};
use std::time::Duration;

pub struct Pod {
    pub name: String,
    /// `/proc/<pid>/ns/net`, as some runtimes name it.
    pub path: String,
    process: Child,
}

impl Pod {
    /// Starts the process and waits until it has left our namespace.
    pub fn start(name: &str) -> Self {
        let mut command = Command::new("/usr/bin/busybox");
        let process = command.args(["unshare", "-n", "sleep", "100000"]).spawn().unwrap();
        let path = format!("/proc/{}/ns/net", process.id());
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        while std::fs::read_link(&path).is_ok_and(|theirs| theirs == ours) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { name: name.to_owned(), path, process }
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::At(self.path.clone())
    }

    /// Ends the process, and with it the namespace.
    pub fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.end();
    }
}
