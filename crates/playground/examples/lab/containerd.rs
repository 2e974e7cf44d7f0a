//! A containerd of the lab: the distribution's, with its configuration, an image, and what an administrator can do to it.
//!
//! It runs on a root that lies in memory, so nothing is pivoted; images are copied, since there is nothing to overlay.

use super::cri::{Cri, SOCKET};
use super::machine::said;
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

pub const IMAGE: &str = "lab/pod:1";
/// Where the networks of sandboxes are configured.
const NETWORKS: &str = "/etc/cni/net.d";
const CONFIGURATION: &str = "/etc/containerd/config.toml";
const LOG: &str = "/tmp/containerd.log";
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Containerd {
    process: Option<Child>,
    pub cri: Cri,
}

impl Containerd {
    /// Prepares the machine: control groups, and the files that a sandbox is given copies of.
    pub fn new(runtime: Handle) -> Result<Self, String> {
        if !std::fs::exists("/sys/fs/cgroup/cgroup.procs").unwrap_or_default() {
            let words = ["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"];
            said(Command::new("/usr/bin/busybox").args(words))?;
        }
        for directory in [NETWORKS, "/etc/containerd", "/etc/cdi", "/var/lib/cni", "/dev/shm"] {
            std::fs::create_dir_all(directory).map_err(|e| format!("{directory}: {e}"))?;
        }
        for file in ["/etc/hosts", "/etc/resolv.conf"] {
            std::fs::write(file, "").map_err(|e| format!("{file}: {e}"))?;
        }
        Ok(Self { process: None, cri: Cri(runtime) })
    }

    /// Starts it with CDI on or off, and waits until it answers.
    pub fn start(&mut self, cdi: bool) -> Result<String, String> {
        std::fs::write(CONFIGURATION, configuration(cdi)).map_err(|e| e.to_string())?;
        let log = std::fs::File::create(LOG).map_err(|e| e.to_string())?;
        let mut command = Command::new("/usr/bin/containerd");
        command.env_clear().env("PATH", "/usr/bin:/usr/sbin").stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().map_err(|e| format!("containerd: {e}"))?);
        let version = self.until("containerd answers", || self.cri.version())?;
        Ok(format!("{} {}", version.runtime_name, version.runtime_version))
    }

    /// kill -9, after which its pods go on.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_file(SOCKET);
    }

    /// Configures the network of the sandboxes that come, and waits until it is known.
    pub fn network(&self, network: &Value, device: &str) -> Result<(), String> {
        let path = format!("{NETWORKS}/10-lab.conflist");
        std::fs::write(&path, network.to_string()).map_err(|e| format!("{path}: {e}"))?;
        self.until("containerd knows the network", || match self.cri.networks()? {
            known if known.contains(device) => Ok(()),
            known => Err(format!("it knows {known}")),
        })
    }

    fn until<T>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> Result<T, String>,
    ) -> Result<T, String> {
        let started = Instant::now();
        loop {
            match ask() {
                Ok(answer) => return Ok(answer),
                Err(why) if started.elapsed() > PATIENCE => {
                    return Err(format!("not within {PATIENCE:?}: {what}: {why}\n{}", log()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// The one image of the lab's pods: a program that waits, and the machine's own programs to be mounted beside it.
    pub fn import_image(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot make an image: {error}");
        let busybox = std::fs::read("/usr/bin/busybox").map_err(failed)?;
        let mut layer = Tar::default();
        for directory in ["dev", "proc", "sys", "tmp", "run", "usr", "etc"] {
            layer.add(directory, Entry::Directory);
        }
        for (name, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")] {
            layer.add(name, Entry::Link(target));
        }
        layer.add("busybox", Entry::File(&busybox));
        let layer = layer.finish();
        std::fs::write("/tmp/layer.tar", &layer).map_err(failed)?;
        let digest = said(Command::new("/usr/bin/busybox").args(["sha256sum", "/tmp/layer.tar"]))?;
        let digest = digest.split_whitespace().next().unwrap_or_default();
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Entrypoint": ["/busybox", "sleep", "1000000"], "Env": ["PATH=/usr/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        let manifest = json!([{
            "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"],
        }]);
        let mut image = Tar::default();
        image.add("manifest.json", Entry::File(manifest.to_string().as_bytes()));
        image.add("config.json", Entry::File(config.to_string().as_bytes()));
        image.add("layer.tar", Entry::File(&layer));
        std::fs::write("/tmp/image.tar", image.finish()).map_err(failed)?;
        ctr(&["images", "import", "--snapshotter", "native", "/tmp/image.tar"])?;
        self.until("containerd has the image", || match self.cri.has_image(IMAGE)? {
            true => Ok(()),
            false => Err("it does not know it".to_owned()),
        })
    }

    /// Takes a sandbox away as nobody should: without the runtime's own service knowing, and so without DEL.
    pub fn lose(&mut self, sandbox: &str) -> Result<(), String> {
        self.delete(&["tasks", "delete", "--force", sandbox])?;
        self.delete(&["containers", "delete", sandbox])?;
        self.stop();
        Ok(())
    }

    /// Deletes with containerd's tool until it is gone. The runtime's service sees the end of a task that is killed here
    /// and deletes it too: it may be first ("not found"), or end the shim while it answers ("ttrpc: closed").
    fn delete(&self, arguments: &[&str]) -> Result<(), String> {
        self.until(&format!("ctr {}", arguments.join(" ")), || match ctr(arguments) {
            Err(why) if !why.trim_end().ends_with("not found") => Err(why),
            _ => Ok(()),
        })
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The last lines of its log.
fn log() -> String {
    let log = std::fs::read_to_string(LOG).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// containerd's own tool, which goes past the service that the kubelet uses.
fn ctr(arguments: &[&str]) -> Result<String, String> {
    said(Command::new("/usr/bin/ctr").args(["--namespace", "k8s.io"]).args(arguments))
}

fn configuration(cdi: bool) -> String {
    format!(
        r#"version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.overlayfs", "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
  "io.containerd.nri.v1.nri"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  enable_cdi = {cdi}
  cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "{NETWORKS}"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  NoPivotRoot = true
"#
    )
}

/// A tape archive (POSIX.1-2001, pax, section "ustar Interchange Format").
#[derive(Default)]
struct Tar(Vec<u8>);

enum Entry<'a> {
    File(&'a [u8]),
    Directory,
    Link(&'a str),
}

impl Tar {
    fn add(&mut self, name: &str, entry: Entry) {
        let (kind, mode, target, content): (u8, u32, &str, &[u8]) = match entry {
            Entry::File(content) => (b'0', 0o755, "", content),
            Entry::Directory => (b'5', 0o755, "", b""),
            Entry::Link(target) => (b'2', 0o777, target, b""),
        };
        let mut header = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, name.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        for owner in [108, 116] {
            put(owner, b"0000000");
        }
        put(124, format!("{:011o}", content.len()).as_bytes());
        put(136, b"00000000000");
        // The sum is made as if its own field were blank.
        put(148, b"        ");
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}
