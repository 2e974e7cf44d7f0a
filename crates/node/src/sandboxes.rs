//! Shell: asks the container runtime which pod sandboxes it knows and what it is, on the socket that the kubelet uses.
//!
//! Where it cannot be told for sure which runtime is in charge, nobody is asked: a runtime that is not in charge knows
//! none of the sandboxes, and would make orphans of all of them.

use crate::cdi::Runtime;
use crate::kubelet::{self, flag};
use crate::pod_resources::{connect, in_full};
use crate::proto::runtime_v1::runtime_service_client::RuntimeServiceClient;
use crate::proto::runtime_v1::{ListPodSandboxRequest, StatusRequest, VersionRequest};
use host::Host;
use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use tonic::transport::Channel;

/// 16 MiB: sandboxes come with their labels and annotations.
const LARGEST: usize = 16 << 20;
/// As many symbolic links as the kernel follows in one path (MAXSYMLINKS).
const LINKS: u32 = 40;
/// Where containerd, CRI-O and the containerd of k3s and RKE2 listen when nobody says otherwise.
const USUAL: [&str; 3] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
];

/// The ids of all sandboxes, or the sentence that says why nobody knows them. `root` is where we see the host's root.
pub async fn list(host: &dyn Host, root: &Path) -> Result<BTreeSet<String>, String> {
    let socket = socket(host, root)?;
    let mut client = client(&socket).await?;
    let response = client.list_pod_sandbox(ListPodSandboxRequest {}).await;
    let response = response.map_err(|status| failed(&socket, status.message()))?;
    Ok(response.into_inner().items.into_iter().map(|sandbox| sandbox.id).collect())
}

/// What the runtime says of itself, or the sentence that says why it does not.
pub async fn runtime(host: &dyn Host, root: &Path) -> Result<Runtime, String> {
    let socket = socket(host, root)?;
    let mut client = client(&socket).await?;
    let refused = |status: tonic::Status| failed(&socket, status.message());
    let version = client.version(VersionRequest {}).await.map_err(refused)?.into_inner();
    let status = client.status(StatusRequest { verbose: true }).await.map_err(refused)?;
    Ok(Runtime {
        name: version.runtime_name,
        version: version.runtime_version,
        configuration: status.into_inner().info.remove("config").unwrap_or_default(),
    })
}

fn socket(host: &dyn Host, root: &Path) -> Result<PathBuf, String> {
    match configured(host)? {
        Some(endpoint) => Ok(inside(root, &resolved(host, &path_of(&endpoint)?)?)),
        None => the_only(host, root),
    }
}

async fn client(socket: &Path) -> Result<RuntimeServiceClient<Channel>, String> {
    let channel = connect(socket).await.map_err(|error| failed(socket, &in_full(&error)))?;
    Ok(RuntimeServiceClient::new(channel).max_decoding_message_size(LARGEST))
}

fn failed(socket: &Path, why: &str) -> String {
    format!("cannot ask the container runtime at {}: {why}", socket.display())
}

fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The path without symbolic links, each followed in the host's root. On Debian the kubelet is told
/// /var/run/containerd/containerd.sock, and /var/run is a link to /run: below our mount of the host's root the kernel
/// would follow it into our own /run, since connect(2) knows no RESOLVE_IN_ROOT.
fn resolved(host: &dyn Host, path: &str) -> Result<String, String> {
    let words = |path: &str| path.split('/').map(str::to_owned).collect::<VecDeque<_>>();
    let (mut done, mut left, mut links) = (Vec::new(), words(path), 0);
    while let Some(word) = left.pop_front() {
        match word.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => done.push(word),
        }
        // What is no link, or not there, is for connect(2) to judge.
        let Ok(target) = host.link_target(&format!("/{}", done.join("/"))) else { continue };
        links += 1;
        if links > LINKS {
            return Err(format!(
                "cannot ask the container runtime at {path}: more than {LINKS} symbolic links lead there"
            ));
        }
        if target.starts_with('/') {
            done.clear();
        }
        done.pop();
        let mut next = words(&target);
        next.append(&mut left);
        left = next;
    }
    Ok(format!("/{}", done.join("/")))
}

/// The one usual socket that is there; two names of one socket are one.
fn the_only(host: &dyn Host, root: &Path) -> Result<PathBuf, String> {
    let found = USUAL.iter().filter_map(|path| resolved(host, path).ok());
    let found: BTreeSet<PathBuf> = found.map(|path| inside(root, &path)).collect();
    let mut found = found.into_iter().filter(|path| path.exists());
    match (found.next(), found.next()) {
        (Some(socket), None) => Ok(socket),
        (None, _) => Err(format!(
            "no container runtime to ask: the kubelet's --container-runtime-endpoint cannot be found, and none of {} is there",
            USUAL.join(", ")
        )),
        (Some(one), Some(other)) => Err(format!(
            "cannot tell which container runtime is in charge: both {} and {} are there, and the kubelet's --container-runtime-endpoint cannot be found",
            one.display(),
            other.display()
        )),
    }
}

fn path_of(endpoint: &str) -> Result<String, String> {
    match endpoint.strip_prefix("unix://").unwrap_or(endpoint) {
        path if path.starts_with('/') => Ok(path.to_owned()),
        _ => Err(format!(
            "the kubelet's container runtime endpoint {endpoint:?} is not a unix socket, and nothing else is asked"
        )),
    }
}

/// The endpoint of the running kubelet: its flag, else its configuration. None: nobody has set it, or there is no
/// process that is called kubelet. Err: nobody knows, so that what is usual must not be asked either.
pub fn configured(host: &dyn Host) -> Result<Option<String>, String> {
    let Some(arguments) = kubelet::arguments(host) else { return Ok(None) };
    let endpoint = match flag(&arguments, "--container-runtime-endpoint") {
        Some(endpoint) => Some(endpoint),
        None => kubelet::setting(host, &arguments, "containerRuntimeEndpoint")
            .map_err(|why| format!("cannot tell which container runtime is in charge: {why}"))?,
    };
    Ok(endpoint.filter(|endpoint| !endpoint.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::runtime_v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
    use crate::proto::runtime_v1::{ListPodSandboxResponse, StatusResponse, VersionResponse};
    use expect_test::expect;
    use host::linux::LinuxHost;
    use tonic::{Request, Response};

    fn check(files: &[(&str, &str)], expected: expect_test::Expect) {
        let directory = tempfile::tempdir().unwrap();
        let host = LinuxHost::new(directory.path().to_str().unwrap()).unwrap();
        for (path, content) in files {
            host.replace(path, content.as_bytes(), 0o644).unwrap();
        }
        expected.assert_eq(&match configured(&host) {
            Ok(endpoint) => format!("{endpoint:?}"),
            Err(why) => why,
        });
    }

    #[test]
    fn the_runtime_is_the_one_that_the_kubelet_is_configured_with() {
        let kubelet = ("/proc/77/comm", "kubelet\n");
        let shell = ("/proc/12/comm", "bash\n");
        let crio = "kubelet\0--v=2\0--container-runtime-endpoint=unix:///var/run/crio/crio.sock\0";
        check(
            &[shell, kubelet, ("/proc/77/cmdline", crio)],
            expect![[r#"Some("unix:///var/run/crio/crio.sock")"#]],
        );
        let two = "kubelet\0--container-runtime-endpoint\0/a.sock\0--container-runtime-endpoint\0/b.sock\0";
        check(&[kubelet, ("/proc/77/cmdline", two)], expect![[r#"Some("/b.sock")"#]]);
        let file = ("/proc/77/cmdline", "kubelet\0--config=/var/lib/kubelet/config.yaml\0");
        let yaml = "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: \"unix:///run/containerd/containerd.sock\"\n";
        check(
            &[kubelet, file, ("/var/lib/kubelet/config.yaml", yaml)],
            expect![[r#"Some("unix:///run/containerd/containerd.sock")"#]],
        );
        check(&[kubelet, file, ("/var/lib/kubelet/config.yaml", "a: b\n")], expect!["None"]);
        let json = r#"{"kind":"KubeletConfiguration","containerRuntimeEndpoint":"unix:///run/a.sock","a":1}"#;
        check(
            &[kubelet, file, ("/var/lib/kubelet/config.yaml", json)],
            expect![[r#"Some("unix:///run/a.sock")"#]],
        );
        check(&[shell], expect!["None"]);
    }

    #[test]
    fn a_runtime_that_only_a_drop_in_names_is_asked_and_no_other() {
        let kubelet = ("/proc/77/comm", "kubelet\n");
        let line = "kubelet\0--config=/etc/kubelet.yaml\0--config-dir=/etc/kubelet.d\0";
        let line = ("/proc/77/cmdline", line);
        let file = ("/etc/kubelet.yaml", "containerRuntimeEndpoint: /run/first.sock\n");
        let drop_in =
            ("/etc/kubelet.d/20-crio.conf", "containerRuntimeEndpoint: /run/crio.sock #\n");
        check(&[kubelet, line, file], expect![[r#"Some("/run/first.sock")"#]]);
        check(&[kubelet, line, file, drop_in], expect![[r#"Some("/run/crio.sock")"#]]);
        let flow = ("/etc/kubelet.d/30-z.conf", "{kind: K, containerRuntimeEndpoint: /run/z.sock}");
        check(&[kubelet, line, file, drop_in, flow], expect![[r#"Some("/run/z.sock")"#]]);
        let none = ("/etc/kubelet.d/30-z.conf", "containerRuntimeEndpoint: ''\n");
        check(&[kubelet, line, file, none], expect!["None"]);
        let other_style = ("/etc/kubelet.yaml", "containerRuntimeEndpoint: |\n  /run/a.sock\n");
        check(&[kubelet, line, other_style], expect![[r#"Some("|")"#]]);
        let below = ("/etc/kubelet.yaml", "containerRuntimeEndpoint:\n  /run/a.sock\n");
        check(
            &[kubelet, line, below],
            expect![[
                r#"cannot tell which container runtime is in charge: /etc/kubelet.yaml says "containerRuntimeEndpoint:", and the value of containerRuntimeEndpoint is read from its own line alone"#
            ]],
        );
        check(
            &[kubelet, line],
            expect![
                "cannot tell which container runtime is in charge: cannot read /etc/kubelet.yaml: no such file or directory"
            ],
        );
    }

    #[test]
    fn where_it_is_not_clear_whom_to_ask_nobody_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let say = |result: Result<PathBuf, String>| match result {
            Ok(path) => path.display().to_string(),
            Err(why) => why,
        };
        let show = |text: String| text.replace(&root.display().to_string(), "ROOT");
        let host = LinuxHost::new(root.to_str().unwrap()).unwrap();
        let mut out = vec![show(say(the_only(&host, root)))];
        for socket in &USUAL[..2] {
            host.replace(socket, b"", 0o600).unwrap();
            out.push(show(say(the_only(&host, root))));
        }
        out.push(path_of("npipe:////./pipe/containerd").unwrap_err());
        expect![[r#"
            no container runtime to ask: the kubelet's --container-runtime-endpoint cannot be found, and none of /run/containerd/containerd.sock, /run/crio/crio.sock, /run/k3s/containerd/containerd.sock is there
            ROOT/run/containerd/containerd.sock
            cannot tell which container runtime is in charge: both ROOT/run/containerd/containerd.sock and ROOT/run/crio/crio.sock are there, and the kubelet's --container-runtime-endpoint cannot be found
            the kubelet's container runtime endpoint "npipe:////./pipe/containerd" is not a unix socket, and nothing else is asked"#]]
        .assert_eq(&out.join("\n"));
    }

    /// A runtime that knows no sandbox and says what it is.
    struct Speaks;

    #[tonic::async_trait]
    impl RuntimeService for Speaks {
        async fn list_pod_sandbox(
            &self,
            _: Request<ListPodSandboxRequest>,
        ) -> Result<Response<ListPodSandboxResponse>, tonic::Status> {
            Ok(Response::new(Default::default()))
        }

        async fn version(
            &self,
            _: Request<VersionRequest>,
        ) -> Result<Response<VersionResponse>, tonic::Status> {
            Ok(Response::new(Default::default()))
        }

        async fn status(
            &self,
            _: Request<StatusRequest>,
        ) -> Result<Response<StatusResponse>, tonic::Status> {
            Ok(Response::new(Default::default()))
        }
    }

    /// Debian and Ubuntu: the kubelet is told of /var/run, which is an absolute link to the host's /run. What it would
    /// lead to outside the root is a directory that is not there.
    #[tokio::test]
    async fn a_socket_behind_an_absolute_symlink_is_the_hosts() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let host = LinuxHost::new(root.to_str().unwrap()).unwrap();
        let endpoint = "kubelet\0--container-runtime-endpoint=unix:///var/run/rt/the.sock\0";
        host.replace("/proc/77/comm", b"kubelet\n", 0o644).unwrap();
        host.replace("/proc/77/cmdline", endpoint.as_bytes(), 0o644).unwrap();
        std::fs::create_dir_all(root.join("var")).unwrap();
        std::fs::create_dir_all(root.join("run/runtime-2")).unwrap();
        std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
        std::os::unix::fs::symlink("./runtime-2", root.join("run/rt")).unwrap();
        let listener = tokio::net::UnixListener::bind(root.join("run/runtime-2/the.sock")).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        let server = tonic::transport::Server::builder()
            .add_service(RuntimeServiceServer::new(Speaks))
            .serve_with_incoming(incoming);
        let server = tokio::spawn(server);
        assert_eq!(list(&host, root).await, Ok(BTreeSet::new()));
        assert_eq!(runtime(&host, root).await, Ok(Runtime::default()));
        server.abort();
    }

    #[test]
    fn links_are_followed_inside_the_hosts_root_and_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let host = LinuxHost::new(root.to_str().unwrap()).unwrap();
        for (link, target) in [("run", "/a/../b"), ("b", "../../../c"), ("round", "/round")] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let paths = ["/run/crio/crio.sock", "/../x//./y.sock", "/round/z.sock"];
        let told = paths.map(|path| resolved(&host, path).unwrap_or_else(|why| why));
        expect![[r#"
            /c/crio/crio.sock
            /x/y.sock
            cannot ask the container runtime at /round/z.sock: more than 40 symbolic links lead there"#]]
        .assert_eq(&told.join("\n"));
        // As people do for k3s: its socket has a second name, and is still one.
        host.replace("/c/k3s/containerd/containerd.sock", b"", 0o600).unwrap();
        std::os::unix::fs::symlink("/run/k3s/containerd", root.join("c/containerd")).unwrap();
        assert_eq!(the_only(&host, root), Ok(root.join("c/k3s/containerd/containerd.sock")));
    }
}
