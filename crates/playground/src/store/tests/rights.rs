//! RBAC, eviction under budgets, and the collector.

use super::*;

/// Applies a few objects as admin.
fn prepare(store: &mut Store, lines: &[&str]) {
    let answers = run(store, &User::admin(), lines);
    assert!(answers.lines().all(|line| line.starts_with("20")), "{answers}");
}

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, owner: &str) -> String {
    format!(
        r#"POST {PODS} {{"metadata":{{"name":"{name}","labels":{{"app":"x"}},"ownerReferences":[{owner}]}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}"#
    )
}

fn ready(name: &str) -> String {
    format!(
        r#"MERGE {PODS}/{name}/status {{"status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"True"}}]}}}}"#
    )
}

fn bind(name: &str) -> String {
    format!(r#"POST {PODS}/{name}/binding {{"target":{{"kind":"Node","name":"worker-0"}}}}"#)
}

#[test]
fn rights_come_from_roles_and_each_used_one_is_recorded() {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let mut store = store();
    prepare(
        &mut store,
        &[
            &format!(
                r#"POST {rbac}/clusterroles {{"metadata":{{"name":"reader"}},"rules":[{{"apiGroups":[""],"resources":["nodes","pods/eviction"],"verbs":["get","list","watch"]}},{{"apiGroups":[""],"resources":["configmaps"],"resourceNames":["mine"],"verbs":["*"]}}]}}"#
            ),
            &format!(
                r#"POST {rbac}/clusterrolebindings {{"metadata":{{"name":"reader"}},"roleRef":{{"kind":"ClusterRole","name":"reader"}},"subjects":[{{"kind":"ServiceAccount","namespace":"default","name":"sa"}}]}}"#
            ),
            &format!(
                r#"POST {rbac}/namespaces/default/roles {{"metadata":{{"name":"writer"}},"rules":[{{"apiGroups":["example.com"],"resources":["*"],"verbs":["create"]}}]}}"#
            ),
            &format!(
                r#"POST {rbac}/namespaces/default/rolebindings {{"metadata":{{"name":"writer"}},"roleRef":{{"kind":"Role","name":"writer"}},"subjects":[{{"kind":"Group","name":"system:serviceaccounts:default"}}]}}"#
            ),
        ],
    );
    let who = User::service_account("default", "sa");
    let widget = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"size":1}}"#;
    expect![[r#"
        200 NodeList []
        404 NotFound: nodes "worker-0" not found
        403 Forbidden: nodes "worker-0" is forbidden: User "system:serviceaccount:default:sa" cannot patch resource "nodes" in API group "" at the cluster scope
        403 Forbidden: pods is forbidden: User "system:serviceaccount:default:sa" cannot list resource "pods" in API group "" in the namespace "default"
        403 Forbidden: pods "p" is forbidden: User "system:serviceaccount:default:sa" cannot create resource "pods/eviction" in API group "" in the namespace "default"
        404 NotFound: configmaps "mine" not found
        403 Forbidden: configmaps "other" is forbidden: User "system:serviceaccount:default:sa" cannot get resource "configmaps" in API group "" in the namespace "default"
        201 {"kind":"Widget","metadata":{"name":"w","generation":1,"resourceVersion":"18"},"spec":{"size":1,"color":"green"}}
        403 Forbidden: widgets.example.com is forbidden: User "system:serviceaccount:default:sa" cannot create resource "widgets" in API group "example.com" in the namespace "kube-system"
        403 Forbidden: widgets.example.com "w" is forbidden: User "system:serviceaccount:default:sa" cannot patch resource "widgets" in API group "example.com" in the namespace "default"
        201 {"kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"list","resource":"nodes"}},"metadata":{},"status":{"allowed":true,"reason":"RBAC: allowed by rule 0 of ClusterRole/reader"}}
    "#]].assert_eq(&run(&mut store, &who, &[
        "GET /api/v1/nodes",
        "GET /api/v1/nodes/worker-0",
        "MERGE /api/v1/nodes/worker-0 {}",
        "GET /api/v1/namespaces/default/pods",
        "POST /api/v1/namespaces/default/pods/p/eviction {}",
        "GET /api/v1/namespaces/default/configmaps/mine",
        "GET /api/v1/namespaces/default/configmaps/other",
        &format!("POST /apis/example.com/v1/namespaces/default/widgets {widget}"),
        &format!("POST /apis/example.com/v1/namespaces/kube-system/widgets {widget}"),
        "APPLY /apis/example.com/v1/namespaces/default/widgets/w?fieldManager=m {}",
        r#"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews {"kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"list","resource":"nodes"}}}"#,
    ]));
    let used: Vec<_> = store.used_rules().iter().map(ToString::to_string).collect();
    expect![[r#"
        ClusterRole/reader rule 0: get nodes
        ClusterRole/reader rule 0: list nodes
        ClusterRole/reader rule 1: get configmaps
        Role/default/writer rule 0: create widgets.example.com"#]]
    .assert_eq(&used.join("\n"));
}

#[test]
fn a_token_stands_for_its_service_account() {
    let mut store = store();
    prepare(
        &mut store,
        &[r#"POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"sa"}}"#],
    );
    let line = r#"POST /api/v1/namespaces/default/serviceaccounts/sa/token {"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#;
    let answer = store.handle(now(), &User::admin(), &request(line));
    let token = answer.body["status"]["token"].as_str().unwrap();
    expect!["system:serviceaccount:default:sa"]
        .assert_eq(&store.user_of_token(token).unwrap().name);
    assert_eq!(store.user_of_token("nonsense"), None);
}

#[test]
fn a_budget_lets_pods_go_one_by_one() {
    let mut store = store();
    prepare(
        &mut store,
        &[
            r#"POST /apis/policy/v1/namespaces/default/poddisruptionbudgets {"metadata":{"name":"b"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"app":"x"}}}}"#,
            &pod("one", ""),
            &pod("two", ""),
            &bind("one"),
            &bind("two"),
            &ready("one"),
            &ready("two"),
        ],
    );
    let evict = |name: &str| format!(r#"POST {PODS}/{name}/eviction {{"deleteOptions":{{}}}}"#);
    expect![[r#"
        201 Success
        429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget.
        200 {"metadata":{"name":"one","labels":{"app":"x"},"ownerReferences":[],"resourceVersion":"22","deletionTimestamp":"2026-01-01T00:00:30Z","deletionGracePeriodSeconds":30},"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"IfNotPresent","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{},"nodeName":"worker-0"},"kind":"Pod","status":{"phase":"Running","qosClass":"BestEffort","conditions":[{"type":"Ready","status":"True"},{"type":"DisruptionTarget","status":"True","reason":"EvictionByEvictionAPI","message":"Eviction API: evicting","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}
        200 Success
        429 TooManyRequests: Cannot evict pod as it would violate the pod's disruption budget.
        404 NotFound: pods "one" not found
        409 Conflict: Operation cannot be fulfilled on pods/binding "two": pod two is already assigned to node "worker-0"
    "#]].assert_eq(&run(
        &mut store,
        &User::admin(),
        &[
            &evict("one"),
            &evict("two"),
            &format!("GET {PODS}/one"),
            &format!(r#"DELETE {PODS}/one {{"gracePeriodSeconds":0}}"#),
            &evict("two"),
            &evict("one"),
            &bind("two"),
        ],
    ));
}

#[test]
fn what_nobody_owns_any_more_is_collected() {
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let set = |name: &str| {
        format!(
            r#"POST {sets} {{"metadata":{{"name":"{name}"}},"spec":{{"replicas":1,"selector":{{"matchLabels":{{"app":"x"}}}},"template":{{"metadata":{{"labels":{{"app":"x"}}}},"spec":{{"containers":[{{"name":"c"}}]}}}}}}}}"#
        )
    };
    let mut text = String::new();
    for how in ["Background", "Foreground", "Orphan"] {
        let mut store = store();
        prepare(&mut store, &[&set("rs")]);
        let uid = store.handle(now(), &User::admin(), &request(&format!("GET {sets}/rs"))).body["metadata"]["uid"].clone();
        let owner = format!(
            r#"{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"rs","uid":{uid},"controller":true,"blockOwnerDeletion":true}}"#
        );
        prepare(&mut store, &[&pod("p", &owner)]);
        store.collect_garbage(now());
        store.take_audit();
        run(
            &mut store,
            &User::admin(),
            &[&format!(r#"DELETE {sets}/rs {{"propagationPolicy":"{how}"}}"#)],
        );
        store.collect_garbage(now());
        text += &format!("{how}:\n");
        for entry in store.take_audit() {
            text += &format!("  {entry}\n");
        }
        let left =
            store.objects("v1", "Pod").count() + store.objects("apps/v1", "ReplicaSet").count();
        text += &format!("  left: {left}\n");
        assert_eq!(store.collect_garbage(now()), 0);
    }
    expect![[r#"
        Background:
          kubernetes-admin delete ReplicaSet default/rs
          system:serviceaccount:kube-system:generic-garbage-collector delete Pod default/p
          left: 0
        Foreground:
          kubernetes-admin delete ReplicaSet default/rs
          system:serviceaccount:kube-system:generic-garbage-collector delete Pod default/p
          system:serviceaccount:kube-system:generic-garbage-collector delete ReplicaSet default/rs
          left: 0
        Orphan:
          kubernetes-admin delete ReplicaSet default/rs
          system:serviceaccount:kube-system:generic-garbage-collector update Pod default/p
          system:serviceaccount:kube-system:generic-garbage-collector delete ReplicaSet default/rs
          left: 1
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_namespace_and_a_definition_empty_before_they_go() {
    let mut store = store();
    prepare(
        &mut store,
        &[
            r#"POST /api/v1/namespaces {"metadata":{"name":"n"}}"#,
            r#"POST /api/v1/namespaces/n/configmaps {"metadata":{"name":"held","finalizers":["a/b"]}}"#,
            r#"POST /apis/example.com/v1/namespaces/n/widgets {"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"size":1}}"#,
        ],
    );
    let mut text = run(
        &mut store,
        &User::admin(),
        &[
            "DELETE /api/v1/namespaces/n",
            r#"POST /api/v1/namespaces/n/configmaps {"metadata":{"name":"late"}}"#,
            "DELETE /apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com",
            "DELETE /api/v1/namespaces/default",
        ]
        .map(|line| line),
    );
    // The long answer of the definition says nothing here.
    text = text.lines().map(|line| line.chars().take(150).collect::<String>() + "\n").collect();
    store.collect_garbage(now());
    text += &run(
        &mut store,
        &User::admin(),
        &[
            "GET /api/v1/namespaces/n/configmaps",
            "GET /apis/example.com/v1/widgets",
            r#"MERGE /api/v1/namespaces/n/configmaps/held {"metadata":{"finalizers":null}}"#,
        ],
    );
    store.collect_garbage(now());
    text += &run(&mut store, &User::admin(), &["GET /api/v1/namespaces/n"]);
    expect![[r#"
        200 {"metadata":{"name":"n","labels":{"kubernetes.io/metadata.name":"n"},"resourceVersion":"17","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGr
        403 Forbidden: configmaps "late" is forbidden: unable to create new content in namespace n because it is being terminated
        200 {"kind":"CustomResourceDefinition","metadata":{"name":"widgets.example.com","generation":2,"resourceVersion":"18","finalizers":["customresourcecle
        403 Forbidden: namespaces "default" is forbidden: this namespace may not be deleted
        200 ConfigMapList ["held"]
        404 NotFound: the server could not find the requested resource
        200 {"metadata":{"name":"held","deletionGracePeriodSeconds":0,"resourceVersion":"22","deletionTimestamp":"2026-01-01T00:00:00Z"},"kind":"ConfigMap"}
        404 NotFound: namespaces "n" not found
    "#]].assert_eq(&text);
}
