//! The programs that `exec` can run in a pod: each looks at the machine through the seam, from inside the pod, and prints
//! what the real tool prints. Anything else is answered as a container runtime does: not found.

mod ip;
mod rdma;
mod shell;

use host::Host;
use std::collections::BTreeMap;

/// What a program leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    pub stdout: String,
    pub stderr: String,
    pub status: i32,
}

impl Finished {
    fn said(stdout: String) -> Self {
        Self { stdout, ..Self::default() }
    }

    fn failed(stderr: String, status: i32) -> Self {
        Self { stderr, status, ..Self::default() }
    }

    fn and(mut self, next: Self) -> Self {
        self.stdout += &next.stdout;
        self.stderr += &next.stderr;
        self.status = next.status;
        self
    }
}

/// The pod from inside.
pub struct Pod<'a> {
    pub host: &'a dyn Host,
    pub environment: &'a BTreeMap<String, String>,
    /// True in our own image, whose `cat` expands a pattern that the user's shell passed on, and skips functions
    /// without the file (the guide's second command).
    pub own_image: bool,
}

/// Runs a command line; `None` means that the image has no such program.
pub fn run(pod: &Pod, command: &[String]) -> Option<Finished> {
    let (program, arguments) = command.split_first()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let name = program.rsplit('/').next().unwrap_or(program);
    Some(match name {
        "sh" | "bash" => shell::run(pod, &arguments),
        "cat" => cat(pod, &arguments),
        "ls" => ls(pod, &arguments),
        "env" => {
            Finished::said(pod.environment.iter().map(|(k, v)| format!("{k}={v}\n")).collect())
        }
        "echo" => Finished::said(format!("{}\n", arguments.join(" "))),
        "hostname" => {
            let name = pod.environment.get("HOSTNAME").cloned().unwrap_or_default();
            Finished::said(format!("{name}\n"))
        }
        "true" | "sleep" => Finished::default(),
        "false" => Finished { status: 1, ..Finished::default() },
        "ip" => ip::run(pod, &arguments),
        "rdma" => rdma::run(pod, &arguments),
        _ => return None,
    })
}

fn cat(pod: &Pod, arguments: &[&str]) -> Finished {
    let mut finished = Finished::default();
    for argument in arguments {
        let pattern = argument.contains(['*', '?']);
        let paths = match pattern && pod.own_image {
            true => shell::expand(pod, argument),
            false => Vec::new(),
        };
        if paths.is_empty() {
            let one = match pod.host.read(argument) {
                Ok(bytes) => Finished::said(String::from_utf8_lossy(&bytes).into_owned()),
                Err(refusal) => Finished::failed(
                    format!(
                        "cat: {argument}: {}\n",
                        capitalised(&host::seam::words(refusal.errno))
                    ),
                    1,
                ),
            };
            let status = finished.status.max(one.status);
            finished = finished.and(one);
            finished.status = status;
        }
        for path in paths {
            if let Ok(bytes) = pod.host.read(&path) {
                finished.stdout += &String::from_utf8_lossy(&bytes);
            }
        }
    }
    finished
}

fn ls(pod: &Pod, arguments: &[&str]) -> Finished {
    let (flags, mut paths): (Vec<&str>, Vec<&str>) =
        arguments.iter().partition(|a| a.starts_with('-'));
    let long = flags.iter().any(|f| f.contains('l'));
    if paths.is_empty() {
        paths.push("/");
    }
    let several = paths.len() > 1;
    let mut finished = Finished::default();
    for path in paths {
        match pod.host.list(path) {
            Ok(names) => {
                if several {
                    finished.stdout += &format!("{path}:\n");
                }
                for name in names {
                    finished.stdout += &entry(pod, path, &name, long);
                }
            }
            Err(_) if pod.host.metadata(path).is_ok() => {
                finished.stdout += &entry(pod, "", path, long)
            }
            Err(refusal) => {
                let why = capitalised(&host::seam::words(refusal.errno));
                finished.stderr += &format!("ls: cannot access '{path}': {why}\n");
                finished.status = 2;
            }
        }
    }
    finished
}

fn entry(pod: &Pod, directory: &str, name: &str, long: bool) -> String {
    let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
    if !long {
        return format!("{name}\n");
    }
    if let Ok(target) = pod.host.link_target(&path) {
        return format!("lrwxrwxrwx 1 root root 0 {name} -> {target}\n");
    }
    match pod.host.metadata(&path) {
        Ok(m) if m.kind == host::seam::FileKind::CharacterDevice => {
            format!("crw-rw-rw- 1 root root {}, {} {name}\n", m.major, m.minor)
        }
        Ok(m) if m.kind == host::seam::FileKind::Directory => {
            format!("drwxr-xr-x 2 root root 0 {name}\n")
        }
        Ok(m) => format!("-rw-r--r-- 1 root root {} {name}\n", m.size),
        Err(_) => format!("?????????? ? ? ? ? {name}\n"),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
