//! A pod of the lab: a process in a network namespace of its own, with its own view of sysfs.

#![allow(dead_code)] // Each program uses its part.

use host::Namespace;
use std::cell::RefCell;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const BUSYBOX: &str = "/usr/bin/busybox";

pub struct Pod {
    pub name: String,
    /// `/proc/<pid>/ns/net`, as some runtimes name it.
    pub path: String,
    process: RefCell<Child>,
}

impl Pod {
    /// Starts the process and waits until it is in its namespaces. sysfs shows the namespace of whoever mounted it.
    pub fn start(name: &str) -> Self {
        let mut command = Command::new(BUSYBOX);
        let inside = "mount -t sysfs sysfs /sys && exec busybox sleep 100000";
        let process = command.args(["unshare", "-n", "-m", "sh", "-c", inside]).spawn().unwrap();
        let path = format!("/proc/{}/ns/net", process.id());
        let line = format!("/proc/{}/cmdline", process.id());
        while !std::fs::read(&line).is_ok_and(|line| line.starts_with(b"busybox\0sleep")) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { name: name.to_owned(), path, process: RefCell::new(process) }
    }

    pub fn namespace(&self) -> Namespace {
        Namespace::At(self.path.clone())
    }

    fn inside(&self, command: &[&str]) -> Command {
        let target = self.process.borrow().id().to_string();
        let mut nsenter = Command::new(BUSYBOX);
        nsenter.args(["nsenter", "-t", &target, "-n", "-m"]).args(command);
        nsenter
    }

    /// What a program says that runs in the pod.
    pub fn run(&self, command: &[&str]) -> Result<String, String> {
        let output = self.inside(command).output().map_err(|error| error.to_string())?;
        let (said, why) = (&output.stdout, &output.stderr);
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(said).into_owned()),
            false => Err(format!(
                "{command:?} in {}: {} {}",
                self.name,
                String::from_utf8_lossy(why),
                String::from_utf8_lossy(said)
            )),
        }
    }

    /// Starts a program in the pod that says nothing.
    pub fn start_program(&self, command: &[&str]) -> Child {
        let mut command = self.inside(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Ends the process, and with it the namespace.
    pub fn end(&self) {
        let mut process = self.process.borrow_mut();
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.end();
    }
}
