//! The system's real `kubectl` against a live playground: what it prints is what a user reads.
//!
//! Skipped aloud where there is no kubectl; with `kubectl` among the words of `IRONRAIL_REQUIRE` that is a failure.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use api::Timestamp;
use expect_test::{Expect, expect};
use playground::live::{Options, Playground};
use playground::store::User;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// One playground serves all stories of this file; each keeps to objects of its own.
struct Cluster {
    playground: Playground,
    _runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: widgets.example.com }
spec:
  group: example.com
  scope: Namespaced
  names: { plural: widgets, singular: widget, kind: Widget, shortNames: [wd] }
  versions:
  - name: v1
    served: true
    storage: true
    subresources: { status: {} }
    additionalPrinterColumns:
    - { name: Size, type: integer, jsonPath: .spec.size }
    - { name: Mode, type: string, jsonPath: .spec.mode, priority: 1 }
    - { name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status' }
    schema:
      openAPIV3Schema:
        type: object
        description: A widget of the test.
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [size]
            properties:
              size: { type: integer, minimum: 1, description: How large it is. }
              mode: { type: string, enum: [shared, exclusive] }
              selector:
                type: object
                description: Which devices are meant.
                properties:
                  pfNames: { type: array, items: { type: string }, description: Names of physical functions. }
          status:
            type: object
            properties:
              conditions:
                type: array
                items:
                  type: object
                  properties: { type: { type: string }, status: { type: string } }
"#;

const WIDGET: &str = "
apiVersion: example.com/v1
kind: Widget
metadata:
  labels: { team: NAME }
  name: NAME
spec:
  size: 2
  mode: shared
  selector: { pfNames: [ens1f0] }
";

/// The cluster, or `None` (said aloud) without a kubectl.
fn start() -> Option<Cluster> {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        let required = std::env::var("IRONRAIL_REQUIRE").unwrap_or_default();
        let required = required.split([',', ' ']).any(|word| word == "kubectl");
        assert!(!required, "there is no kubectl on this machine, and IRONRAIL_REQUIRE names it");
        // To standard error itself: the test harness swallows what `eprintln!` says.
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no kubectl on this machine");
        return None;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = Options { nodes: 1, ..Options::default() };
    let playground = runtime.block_on(Playground::start(options)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kubeconfig"), playground.kubeconfig()).unwrap();
    let cluster = Cluster { playground, _runtime: runtime, directory };
    cluster.file("crd.yaml", DEFINITION);
    cluster.kubectl("apply -f crd.yaml");
    Some(cluster)
}

impl Cluster {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(line.split_whitespace().map(|word| word.replace('~', " ")))
            .current_dir(self.directory.path())
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("KUBE_EDITOR", "sed -i s/size:.*/size:~7/".replace('~', "\\ "))
            .stdin(Stdio::null());
        command
    }

    /// A widget of this name, changed by `change`, in a file.
    fn widget(&self, file: &str, name: &str, change: fn(String) -> String) {
        self.file(file, &change(WIDGET.replace("NAME", name)));
    }

    /// What one command prints: its output, then its errors. A `~` in a word stands for a space.
    fn kubectl(&self, line: &str) -> String {
        let Output { stdout, stderr, status } = self.command(line).output().unwrap();
        let mut text = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
        if !status.success() {
            text += &format!("[{}]\n", status.code().unwrap());
        }
        text
    }

    fn check(&self, lines: &[&str], expected: Expect) {
        let text: String =
            lines.iter().map(|line| format!("$ kubectl {line}\n{}", self.kubectl(line))).collect();
        expected.assert_eq(&steady(&text));
    }
}

/// The text without what differs from run to run: times, ages, uids, trailing blanks.
fn steady(text: &str) -> String {
    let word = |word: &str| -> String {
        let bare = word.trim_matches(['"', ',']);
        let is_age = bare.len() <= 4
            && bare.ends_with('s')
            && bare.trim_end_matches('s').chars().all(|c| c.is_ascii_digit())
            && bare.len() > 1;
        let is_time = bare.len() == 20 && bare.parse::<Timestamp>().is_ok();
        let is_uid = bare.len() == 36 && bare.matches('-').count() == 4;
        match (is_age, is_time, is_uid) {
            (true, _, _) => word.replace(bare, "AGE"),
            (_, true, _) => word.replace(bare, "TIME"),
            (_, _, true) => word.replace(bare, "UID"),
            _ => word.to_owned(),
        }
    };
    let line = |line: &str| {
        // The pods that a drain leaves alone have names of their own, and kubectl says its reasons in any order.
        let reasons = line.strip_prefix("Warning: ").map(|reasons| {
            let told =
                reasons.split("; ").filter(|r| !r.starts_with("ignoring DaemonSet-managed Pods:"));
            format!("Warning: {}", told.collect::<Vec<_>>().join("; "))
        });
        let line = reasons.as_deref().unwrap_or(line);
        // Since kubectl 1.34 the namespace is told.
        let line = match line.split_once(" deleted from ") {
            Some((object, place)) if place.ends_with(" namespace") => &format!("{object} deleted"),
            _ => line,
        };
        if line.trim_start().starts_with("Resource Version:") {
            return String::new();
        }
        let words: Vec<_> = line.split(' ').map(word).collect();
        words.join(" ").trim_end().to_owned() + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn the_real_kubectl_cannot_tell_the_playground_from_a_cluster() {
    let Some(cluster) = start() else { return };
    a_custom_resource_from_apply_to_delete(&cluster);
    a_description_shows_fields_and_events(&cluster);
    a_mistake_is_told_in_the_words_of_the_real_server(&cluster);
    server_side_apply_keeps_owners_apart(&cluster);
    explain_reads_the_schemas(&cluster);
    nodes_are_cordoned_drained_and_described(&cluster);
    a_watch_follows(&cluster);
    the_operator_can_be_followed_and_entered(&cluster);
    who_has_no_right_reads_which_one_is_missing(&cluster);
    the_guide_works_by_hand_and_is_taken_back(&cluster);
    ironrail_itself_goes_and_leaves_nothing(&cluster);
}

fn a_custom_resource_from_apply_to_delete(cluster: &Cluster) {
    cluster.widget("first.yaml", "first", |yaml| yaml);
    cluster.check(
        &[
            "wait --for=condition=Established crd/widgets.example.com",
            "apply -f first.yaml",
            "apply -f first.yaml",
            "get widgets first",
            "get wd first -o wide --show-labels",
            "get wd -l team=first -o name",
            "get wd -l team=other",
            "diff -f first.yaml",
            "label wd first rack=7",
            "annotate wd first note=hello",
            r#"patch wd first --type=merge -p {"spec":{"size":3}}"#,
            r#"patch wd first --type=json -p [{"op":"replace","path":"/spec/mode","value":"exclusive"}]"#,
            r#"patch wd first -p {"spec":{"size":4}}"#,
            r#"patch wd first --type=merge -p {"spec":{"mode":"exclusiv"}}"#,
            r#"patch wd first --subresource=status --type=merge -p {"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#,
            "wait --for=condition=Ready wd/first --timeout=10s",
            "edit wd first",
            "get wd first -o jsonpath={.spec}",
            "get wd first",
            "delete wd first",
            "get wd first",
        ],
        expect![[r#"
            $ kubectl wait --for=condition=Established crd/widgets.example.com
            customresourcedefinition.apiextensions.k8s.io/widgets.example.com condition met
            $ kubectl apply -f first.yaml
            widget.example.com/first created
            $ kubectl apply -f first.yaml
            widget.example.com/first unchanged
            $ kubectl get widgets first
            NAME    SIZE   READY
            first   2
            $ kubectl get wd first -o wide --show-labels
            NAME    SIZE   MODE     READY   LABELS
            first   2      shared           team=first
            $ kubectl get wd -l team=first -o name
            widget.example.com/first
            $ kubectl get wd -l team=other
            No resources found in default namespace.
            $ kubectl diff -f first.yaml
            $ kubectl label wd first rack=7
            widget.example.com/first labeled
            $ kubectl annotate wd first note=hello
            widget.example.com/first annotated
            $ kubectl patch wd first --type=merge -p {"spec":{"size":3}}
            widget.example.com/first patched
            $ kubectl patch wd first --type=json -p [{"op":"replace","path":"/spec/mode","value":"exclusive"}]
            widget.example.com/first patched
            $ kubectl patch wd first -p {"spec":{"size":4}}
            error: application/strategic-merge-patch+json is not supported by example.com/v1, Kind=Widget: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml
            [1]
            $ kubectl patch wd first --type=merge -p {"spec":{"mode":"exclusiv"}}
            The Widget "first" is invalid: spec.mode: Unsupported value: "exclusiv": supported values: "shared", "exclusive"
            [1]
            $ kubectl patch wd first --subresource=status --type=merge -p {"status":{"conditions":[{"type":"Ready","status":"True"}]}}
            widget.example.com/first patched
            $ kubectl wait --for=condition=Ready wd/first --timeout=10s
            widget.example.com/first condition met
            $ kubectl edit wd first
            widget.example.com/first edited
            $ kubectl get wd first -o jsonpath={.spec}
            {"mode":"exclusive","selector":{"pfNames":["ens1f0"]},"size":7}$ kubectl get wd first
            NAME    SIZE   READY
            first   7      True
            $ kubectl delete wd first
            widget.example.com "first" deleted
            $ kubectl get wd first
            Error from server (NotFound): widgets.example.com "first" not found
            [1]
        "#]],
    );
}

fn a_description_shows_fields_and_events(cluster: &Cluster) {
    cluster.widget("described.yaml", "described", |yaml| yaml);
    cluster.kubectl("apply -f described.yaml");
    let uid = cluster.kubectl("get wd described -o jsonpath={.metadata.uid}");
    cluster.file(
        "event.yaml",
        &format!(
            "apiVersion: v1\nkind: Event\nmetadata: {{name: described.1}}\ntype: Warning\nreason: Blocked\n\
             message: it waits for the drain\ncount: 1\nsource: {{component: ironrail}}\n\
             involvedObject: {{apiVersion: example.com/v1, kind: Widget, name: described, namespace: default, uid: {uid}}}\n"
        ),
    );
    cluster.check(
        &[
            "create -f event.yaml",
            "describe wd described",
            "get events --field-selector involvedObject.name=described",
            "get events --field-selector involvedObject.nothing=described",
        ],
        expect![[r#"
            $ kubectl create -f event.yaml
            event/described.1 created
            $ kubectl describe wd described
            Name:         described
            Namespace:    default
            Labels:       team=described
            Annotations:  <none>
            API Version:  example.com/v1
            Kind:         Widget
            Metadata:
              Creation Timestamp:  TIME
              Generation:          1
              UID:                 UID
            Spec:
              Mode:  shared
              Selector:
                Pf Names:
                  ens1f0
              Size:  2
            Events:
              Type     Reason   Age        From      Message
              ----     ------   ----       ----      -------
              Warning  Blocked  <unknown>  ironrail  it waits for the drain
            $ kubectl get events --field-selector involvedObject.name=described
            LAST SEEN   TYPE      REASON    OBJECT             MESSAGE
            AGE          Warning   Blocked   widget/described   it waits for the drain
            $ kubectl get events --field-selector involvedObject.nothing=described
            Error from server (BadRequest): Unable to find "/v1, Resource=events" that match label selector "", field selector "involvedObject.nothing=described": field label not supported: involvedObject.nothing
            [1]
        "#]],
    );
}

fn a_mistake_is_told_in_the_words_of_the_real_server(cluster: &Cluster) {
    cluster.widget("unknown.yaml", "unknown", |yaml| yaml.replace("mode: shared", "moode: shared"));
    cluster
        .widget("exclusiv.yaml", "exclusiv", |yaml| yaml.replace("mode: shared", "mode: exclusiv"));
    cluster.widget("small.yaml", "small", |yaml| yaml.replace("size: 2", "size: 0"));
    cluster.widget("nowhere.yaml", "lost", |yaml| {
        yaml.replace("  name: lost", "  name: lost\n  namespace: nowhere")
    });
    cluster.check(
        &[
            "apply -f unknown.yaml",
            "apply --validate=warn -f unknown.yaml",
            "apply -f exclusiv.yaml",
            "create -f small.yaml",
            "apply -f nowhere.yaml",
            "get wd nothing",
            "get gadgets",
            "delete node nothing",
        ],
        expect![[r#"
            $ kubectl apply -f unknown.yaml
            Error from server (BadRequest): error when creating "unknown.yaml": Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.moode"
            [1]
            $ kubectl apply --validate=warn -f unknown.yaml
            widget.example.com/unknown created
            Warning: unknown field "spec.moode"
            $ kubectl apply -f exclusiv.yaml
            The Widget "exclusiv" is invalid: spec.mode: Unsupported value: "exclusiv": supported values: "shared", "exclusive"
            [1]
            $ kubectl create -f small.yaml
            The Widget "small" is invalid: spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1
            [1]
            $ kubectl apply -f nowhere.yaml
            Error from server (NotFound): error when creating "nowhere.yaml": namespaces "nowhere" not found
            [1]
            $ kubectl get wd nothing
            Error from server (NotFound): widgets.example.com "nothing" not found
            [1]
            $ kubectl get gadgets
            error: the server doesn't have a resource type "gadgets"
            [1]
            $ kubectl delete node nothing
            Error from server (NotFound): nodes "nothing" not found
            [1]
        "#]],
    );
}

fn server_side_apply_keeps_owners_apart(cluster: &Cluster) {
    cluster.widget("two.yaml", "applied", |yaml| yaml);
    cluster.widget("three.yaml", "applied", |yaml| yaml.replace("size: 2", "size: 3"));
    cluster.check(
        &[
            "apply --server-side -f two.yaml",
            "apply --server-side -f two.yaml",
            "apply --server-side --field-manager=other -f three.yaml",
            "apply --server-side --field-manager=other --force-conflicts -f three.yaml",
            "get wd applied -o jsonpath={.spec.size}~{.metadata.managedFields[*].manager}",
        ],
        expect![[r#"
            $ kubectl apply --server-side -f two.yaml
            widget.example.com/applied serverside-applied
            $ kubectl apply --server-side -f two.yaml
            widget.example.com/applied serverside-applied
            $ kubectl apply --server-side --field-manager=other -f three.yaml
            error: Apply failed with 1 conflict: conflict with "kubectl": .spec.size
            Please review the fields above--they currently have other managers. Here
            are the ways you can resolve this warning:
            * If you intend to manage all of these fields, please re-run the apply
              command with the `--force-conflicts` flag.
            * If you do not intend to manage all of the fields, please edit your
              manifest to remove references to the fields that should keep their
              current managers.
            * You may co-own fields by updating your manifest to match the existing
              value; in this case, you'll become the manager if the other manager(s)
              stop managing the field (remove it from their configuration).
            See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts
            [1]
            $ kubectl apply --server-side --field-manager=other --force-conflicts -f three.yaml
            widget.example.com/applied serverside-applied
            $ kubectl get wd applied -o jsonpath={.spec.size}~{.metadata.managedFields[*].manager}
            3 kubectl other
        "#]],
    );
}

fn explain_reads_the_schemas(cluster: &Cluster) {
    cluster.check(
        &["explain widget.spec.selector", "explain wd.spec.size"],
        expect![[r#"
        $ kubectl explain widget.spec.selector
        GROUP:      example.com
        KIND:       Widget
        VERSION:    v1

        FIELD: selector <Object>


        DESCRIPTION:
            Which devices are meant.

        FIELDS:
          pfNames	<[]string>
            Names of physical functions.


        $ kubectl explain wd.spec.size
        GROUP:      example.com
        KIND:       Widget
        VERSION:    v1

        FIELD: size <integer>


        DESCRIPTION:
            How large it is.


    "#]],
    );
    let ours = cluster.kubectl("explain sriovnetworknodepolicy.spec.nicSelector");
    assert!(ours.contains("pfNames"), "{ours}");
}

fn nodes_are_cordoned_drained_and_described(cluster: &Cluster) {
    cluster.file(
        "node.yaml",
        "apiVersion: v1\nkind: Node\nmetadata: {name: idle, labels: {node-role.kubernetes.io/worker: ''}}\n",
    );
    cluster.file(
        "guest.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: guest}\n\
         spec: {nodeName: idle, terminationGracePeriodSeconds: 0, containers: [{name: c, image: i}]}\n",
    );
    cluster.check(
        &[
            "create -f node.yaml",
            "cordon idle",
            "get nodes idle",
            "uncordon idle",
            "create -f guest.yaml",
            "drain idle --ignore-daemonsets --force --timeout=10s",
            "delete node idle",
            "auth can-i delete nodes",
            "auth whoami -o jsonpath={.status.userInfo.username}",
            "create namespace made",
            "create serviceaccount robot -n made",
            "create token robot -n made --duration=1h -o jsonpath={.kind}",
            "delete namespace made --wait=false",
            "api-resources --api-group=policy",
        ],
        expect![[r#"
            $ kubectl create -f node.yaml
            node/idle created
            $ kubectl cordon idle
            node/idle cordoned
            $ kubectl get nodes idle
            NAME   STATUS                       ROLES    AGE   VERSION
            idle   Unknown,SchedulingDisabled   worker   AGE
            $ kubectl uncordon idle
            node/idle uncordoned
            $ kubectl create -f guest.yaml
            pod/guest created
            $ kubectl drain idle --ignore-daemonsets --force --timeout=10s
            node/idle cordoned
            pod/guest deleted
            node/idle drained
            Warning: deleting Pods that declare no controller: default/guest
            $ kubectl delete node idle
            node "idle" deleted
            $ kubectl auth can-i delete nodes
            yes
            Warning: resource 'nodes' is not namespace scoped

            $ kubectl auth whoami -o jsonpath={.status.userInfo.username}
            kubernetes-admin$ kubectl create namespace made
            namespace/made created
            $ kubectl create serviceaccount robot -n made
            serviceaccount/robot created
            $ kubectl create token robot -n made --duration=1h -o jsonpath={.kind}
            TokenRequest$ kubectl delete namespace made --wait=false
            namespace "made" deleted
            $ kubectl api-resources --api-group=policy
            NAME                   SHORTNAMES   APIVERSION   NAMESPACED   KIND
            poddisruptionbudgets   pdb          policy/v1    true         PodDisruptionBudget
        "#]],
    );
    // Some versions send it as JSON, others as protobuf.
    let deployment = cluster.kubectl("create deployment web --image=i");
    if deployment == "deployment.apps/web created\n" {
        let deleted = cluster.kubectl("delete deployment web --wait=false");
        assert!(deleted.contains("deployment.apps \"web\" deleted"), "{deleted}");
    } else {
        expect![[r#"
            error: failed to create deployment: the playground does not read Deployment in protobuf: write it to a file and use kubectl apply -f
            [1]
        "#]].assert_eq(&deployment);
    }
    let node = cluster.kubectl("describe node worker-0");
    for part in
        ["Name:               worker-0", "Conditions:", "Allocatable:", "Allocated resources:"]
    {
        assert!(node.contains(part), "no {part:?} in\n{node}");
    }
}

fn a_watch_follows(cluster: &Cluster) {
    cluster.kubectl("create namespace watched");
    let mut watching = cluster
        .command("get configmaps -n watched -w")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    cluster.kubectl("create configmap first -n watched");
    expect!["NAME    DATA   AGE"].assert_eq(&lines.next().unwrap().unwrap());
    expect!["first   0      AGE\n"].assert_eq(&steady(&lines.next().unwrap().unwrap()));
    cluster.kubectl("create configmap other -n watched --from-literal=a=b");
    expect!["other   1      AGE\n"].assert_eq(&steady(&lines.next().unwrap().unwrap()));
    watching.kill().unwrap();
    watching.wait().unwrap();
}

fn the_operator_can_be_followed_and_entered(cluster: &Cluster) {
    let namespace = "-n sriov-network-operator";
    let waited = cluster.kubectl(&format!(
        "{namespace} rollout status deployment/sriov-network-operator --timeout=60s"
    ));
    assert!(waited.contains("successfully rolled out"), "{waited}");
    let logs =
        cluster.kubectl(&format!("{namespace} logs deployment/sriov-network-operator --tail=5"));
    assert!(!logs.contains("rror from server"), "{logs}");
    let pod =
        cluster.kubectl(&format!("{namespace} get pods -l name=sriov-network-operator -o name"));
    let pods = cluster.kubectl(&format!("{namespace} get pods"));
    assert!(pods.contains("sriov-network-operator-"), "{pods}\n{pod}");
    let missing =
        cluster.kubectl(&format!("{namespace} exec deployment/sriov-network-operator -- nonsense"));
    assert!(missing.contains("executable file not found"), "{missing}");
    let mut spdy =
        cluster.command(&format!("{namespace} exec deployment/sriov-network-operator -- cat"));
    let refused = spdy.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false").output().unwrap();
    let refused = String::from_utf8(refused.stderr).unwrap();
    // kubectl puts words of its own before the server's, and other ones in each version.
    let sentence = refused.find("exec over").map_or(refused.as_str(), |start| &refused[start..]);
    expect![[r#"
        exec over SPDY is not served here; use kubectl 1.30 or later, which speaks WebSocket
    "#]]
    .assert_eq(sentence);
}

fn who_has_no_right_reads_which_one_is_missing(cluster: &Cluster) {
    let who = User::service_account("default", "nobody");
    let token = cluster.playground.shared().store().issue_token(&who);
    let refused = |token: &str, line: &str| {
        let mut command = Command::new("kubectl");
        let words = line.split(' ').map(str::to_owned).chain([format!("--token={token}")]);
        let config = cluster.directory.path().join("anonymous");
        // A token on the command line does not outrank one in the file.
        let own = std::fs::read_to_string(cluster.directory.path().join("kubeconfig")).unwrap();
        let without: Vec<_> = own.lines().filter(|line| !line.contains("token:")).collect();
        std::fs::write(&config, without.join("\n")).unwrap();
        command.args(words).env("KUBECONFIG", &config).env("HOME", cluster.directory.path());
        String::from_utf8(command.stdin(Stdio::null()).output().unwrap().stderr).unwrap()
    };
    expect![[r#"
        Error from server (Forbidden): nodes is forbidden: User "system:serviceaccount:default:nobody" cannot list resource "nodes" in API group "" at the cluster scope
    "#]].assert_eq(&refused(&token, "get nodes"));
    expect![[r#"
        error: You must be logged in to the server (Unauthorized)
    "#]]
    .assert_eq(&refused("nonsense", "get nodes"));
}

/// The guide's four blocks, as they stand in its file, and its commands; then everything deleted again.
fn the_guide_works_by_hand_and_is_taken_back(cluster: &Cluster) {
    let names = ["pool.yaml", "policy.yaml", "network.yaml", "pod.yaml"];
    let guide = include_str!("../../../docs/tutorial/rdma-configuration.md");
    let blocks = guide.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.zip(names).for_each(|(block, name)| drop(cluster.file(name, block)));
    let says = |line: &str, part: &str| {
        let text = cluster.kubectl(line);
        assert!(text.contains(part) && !text.ends_with("[1]\n"), "$ kubectl {line}\n{text}");
    };
    says("label node --all rdma-capable=true", "node/worker-0 labeled");
    says("get nodes --show-labels", "rdma-capable=true");
    let ours = "-n sriov-network-operator";
    cluster.check(
        &["apply -f pool.yaml"],
        expect![[r#"
            $ kubectl apply -f pool.yaml
            sriovnetworkpoolconfig.sriovnetwork.openshift.io/rdma-workers created
        "#]],
    );
    let mode = "--for=jsonpath={.status.system.rdmaMode}";
    says(
        &format!("wait {ours} {mode}=exclusive sriovnetworknodestate/worker-0 --timeout=60s"),
        "condition met",
    );
    cluster.check(
        &["apply -f policy.yaml", "apply -f network.yaml", "apply -f pod.yaml"],
        expect![[r#"
            $ kubectl apply -f policy.yaml
            sriovnetworknodepolicy.sriovnetwork.openshift.io/rdma-policy created
            $ kubectl apply -f network.yaml
            sriovnetwork.sriovnetwork.openshift.io/rdma-network created
            $ kubectl apply -f pod.yaml
            pod/rdma-app created
        "#]],
    );
    says("wait --for=condition=Ready pod/rdma-app --timeout=60s", "condition met");
    says(
        &format!(
            "wait {ours} --for=condition=Ready sriovnetworkpoolconfig/rdma-workers --timeout=60s"
        ),
        "condition met",
    );
    says("exec -it rdma-app -- rdma link show", "netdev net1");
    let daemons = cluster.kubectl(&format!("{ours} get pods -o name"));
    let daemon = daemons.lines().find(|name| name.contains("config-daemon")).unwrap().to_owned();
    assert!(daemons.contains("device-plugin"), "{daemons}");
    says(&format!("exec -it {daemon} {ours} -- rdma link show"), "netdev enp3s0f0");
    says(
        &format!("exec -it {daemon} {ours} -- cat /sys/class/infiniband/*/device/sriov_numvfs"),
        "4\n",
    );
    says("describe node worker-0", "openshift.io/rdma_exclusive_device:  4");
    says(&format!("describe sriovnetworkpoolconfig rdma-workers {ours}"), "Rdma Mode:");
    says(&format!("describe sriovnetworknodepolicy rdma-policy {ours}"), "Matched");
    says("describe pod rdma-app", "openshift.io/rdma_exclusive_device:  1");
    says("get networkattachmentdefinition rdma-network -o yaml", "\"type\": \"rdma\"");
    says("explain sriovnetworknodepolicy.spec.nicSelector", "pfName");
    says(&format!("logs deployment/sriov-network-operator {ours}"), "leading");

    says(
        "delete -f network.yaml -f policy.yaml -f pool.yaml -f pod.yaml",
        "\"rdma-workers\" deleted",
    );
    says(
        &format!("wait {ours} {mode}=shared sriovnetworknodestate/worker-0 --timeout=60s"),
        "condition met",
    );
    let mut vfs = String::new();
    for _ in 0..200 {
        let daemons = cluster.kubectl(&format!("{ours} get pods -o name"));
        if let Some(daemon) = daemons.lines().find(|name| name.contains("config-daemon")) {
            vfs = cluster.kubectl(&format!(
                "exec {daemon} {ours} -- cat /sys/class/net/enp3s0f0/device/sriov_numvfs"
            ));
        }
        if vfs == "0\n" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(vfs, "0\n", "the VFs are gone with the policy");
    says("get networkattachmentdefinition", "No resources found");
}

/// The tutorial's last command, from the root of the tree.
fn ironrail_itself_goes_and_leaves_nothing(cluster: &Cluster) {
    let tutorial = include_str!("../../../docs/tutorial/rdma-configuration.md");
    let line = tutorial.lines().rfind(|line| line.starts_with("kubectl ")).unwrap();
    let mut command = cluster.command(line.strip_prefix("kubectl ").unwrap());
    let output = command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left = |kinds: &str| {
        let names = cluster.kubectl(&format!("get {kinds} -A -o name"));
        let ours = names.lines().filter(|name| name.contains("sriov") || name.contains("k8s.cni"));
        ours.map(str::to_owned).collect::<Vec<_>>()
    };
    let kinds = "namespaces,crds,clusterroles,clusterrolebindings,pods,daemonsets,leases";
    assert_eq!(left(kinds), Vec::<String>::new());
}
