//! The programs that `exec` can run in a pod: each looks at the machine through the seam, from inside the pod, and prints
//! what the real tool prints. Anything else is answered as a container runtime does: not found.

mod ip;
mod rdma;
mod shell;

pub use node::programs::Finished;

use host::Host;
use node::programs::{self, capitalised};
use std::collections::BTreeMap;

/// Puts what comes next behind it; the status is that of the last.
fn and(mut first: Finished, next: Finished) -> Finished {
    first.stdout.extend(next.stdout);
    first.stderr += &next.stderr;
    first.status = next.status;
    first
}

/// The image that a container runs from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// `ironrail-node`, which is `cat` and `rdma` too, and nothing else.
    Node,
    /// `ironrail-operator`, alone.
    Operator,
    /// Somebody else's, with a shell and the usual tools.
    Usual,
}

impl Image {
    /// By the program that the container runs.
    pub fn of(command: &[String]) -> Self {
        let program = command.first().map(|path| path.rsplit('/').next().unwrap_or(path));
        match program {
            Some("ironrail-node") => Self::Node,
            Some("ironrail-operator") => Self::Operator,
            _ => Self::Usual,
        }
    }
}

/// The pod from inside.
pub struct Pod<'a> {
    pub host: &'a dyn Host,
    pub environment: &'a BTreeMap<String, String>,
    pub image: Image,
}

/// Runs a command line; `None` means that the image has no such program.
pub fn run(pod: &Pod, command: &[String]) -> Option<Finished> {
    let (program, arguments) = command.split_first()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let name = program.rsplit('/').next().unwrap_or(program);
    match pod.image {
        Image::Node => return programs::run(pod.host, name, &arguments),
        Image::Operator => return None,
        Image::Usual => {}
    }
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
        let one = match pod.host.read(argument) {
            Ok(bytes) => Finished::said(String::from_utf8_lossy(&bytes).into_owned()),
            Err(refusal) => {
                let why = capitalised(&host::seam::words(refusal.errno));
                Finished::failed(format!("cat: {argument}: {why}\n"), 1)
            }
        };
        let status = finished.status.max(one.status);
        finished = and(finished, one);
        finished.status = status;
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
                    finished.stdout.extend(format!("{path}:\n").into_bytes());
                }
                for name in names {
                    finished.stdout.extend(entry(pod, path, &name, long).into_bytes());
                }
            }
            Err(_) if pod.host.metadata(path).is_ok() => {
                finished.stdout.extend(entry(pod, "", path, long).into_bytes())
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
