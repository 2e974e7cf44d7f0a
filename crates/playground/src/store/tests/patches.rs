//! Server-side apply with its owners, and strategic merge patch.

use super::*;

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// An apply of a widget by a manager.
fn apply(manager: &str, rest: &str) -> String {
    let (query, rest) = rest.split_once(' ').unwrap();
    let path = if query.contains("status") { "w/status" } else { "w" };
    let force = if query.contains("force") { "&force=true" } else { "" };
    format!(
        r#"APPLY {WIDGETS}/{path}?fieldManager={manager}{force} {{"apiVersion":"example.com/v1","kind":"Widget",{rest}}}"#
    )
}

/// Runs the lines, then prints who owns what.
fn check_owners(lines: &[String], expected: Expect) {
    let mut store = store();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let mut text = run(&mut store, &User::admin(), &lines);
    let object = store.handle(now(), &User::admin(), &request(&format!("GET {WIDGETS}/w"))).body;
    for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
        text += &format!(
            "{} {} {}: {}\n",
            entry["manager"].as_str().unwrap(),
            entry["operation"].as_str().unwrap(),
            entry["subresource"].as_str().unwrap_or_default(),
            entry["fieldsV1"]
        );
    }
    expected.assert_eq(&text);
}

#[test]
fn an_apply_owns_what_it_says_and_drops_what_it_no_longer_says() {
    check_owners(
        &[
            apply(
                "a",
                r#"- "metadata":{"labels":{"x":"1"}},"spec":{"size":1,"labels":{"k":"v"},"parts":[{"name":"p","count":1},{"name":"q"}],"tags":["t"]}"#,
            ),
            apply(
                "a",
                r#"- "metadata":{"labels":{"x":"1"}},"spec":{"size":1,"labels":{"k":"v"},"parts":[{"name":"p","count":1},{"name":"q"}],"tags":["t"]}"#,
            ),
            apply("a", r#"- "spec":{"size":1,"parts":[{"name":"q"}]}"#),
        ],
        expect![[r#"
            201 {"kind":"Widget","metadata":{"labels":{"x":"1"},"name":"w","generation":1,"resourceVersion":"14"},"spec":{"size":1,"labels":{"k":"v"},"parts":[{"name":"p","count":1},{"name":"q"}],"tags":["t"],"color":"green"}}
            200 {"kind":"Widget","metadata":{"labels":{"x":"1"},"name":"w","generation":1,"resourceVersion":"14"},"spec":{"size":1,"labels":{"k":"v"},"parts":[{"name":"p","count":1},{"name":"q"}],"tags":["t"],"color":"green"}}
            200 {"kind":"Widget","metadata":{"name":"w","generation":2,"resourceVersion":"15"},"spec":{"size":1,"parts":[{"name":"q"}],"color":"green"}}
            a Apply : {"f:spec":{"f:parts":{"k:{\"name\":\"q\"}":{".":{},"f:name":{}}},"f:size":{}}}
        "#]],
    );
}

#[test]
fn two_managers_share_what_they_agree_on() {
    check_owners(
        &[
            apply("a", r#"- "spec":{"size":1,"mode":"shared","parts":[{"name":"p","count":1}]}"#),
            apply("b", r#"- "spec":{"size":1,"parts":[{"name":"q"}]}"#),
            apply("a", r#"- "spec":{"mode":"shared"}"#),
            apply(
                "a",
                r#"status "status":{"phase":"x","conditions":[{"type":"Ready","status":"True"}]},"spec":{"size":9}"#,
            ),
        ],
        expect![[r#"
            201 {"kind":"Widget","metadata":{"name":"w","generation":1,"resourceVersion":"14"},"spec":{"size":1,"mode":"shared","parts":[{"name":"p","count":1}],"color":"green"}}
            200 {"kind":"Widget","metadata":{"name":"w","generation":2,"resourceVersion":"15"},"spec":{"size":1,"mode":"shared","parts":[{"name":"p","count":1},{"name":"q"}],"color":"green"}}
            200 {"kind":"Widget","metadata":{"name":"w","generation":3,"resourceVersion":"16"},"spec":{"size":1,"mode":"shared","parts":[{"name":"q"}],"color":"green"}}
            200 {"kind":"Widget","metadata":{"name":"w","generation":3,"resourceVersion":"17"},"spec":{"size":1,"mode":"shared","parts":[{"name":"q"}],"color":"green"},"status":{"phase":"x","conditions":[{"type":"Ready","status":"True"}]}}
            a Apply : {"f:spec":{"f:mode":{}}}
            a Apply status: {"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{},"f:type":{}}},"f:phase":{}}}
            b Apply : {"f:spec":{"f:parts":{"k:{\"name\":\"q\"}":{".":{},"f:name":{}}},"f:size":{}}}
        "#]],
    );
}

#[test]
fn a_conflict_names_managers_and_fields_and_force_takes_them() {
    check_owners(
        &[
            format!(
                r#"POST {WIDGETS}?fieldManager=kubectl-create {{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"w"}},"spec":{{"size":1,"mode":"shared"}}}}"#
            ),
            apply("b", r#"- "spec":{"size":2}"#),
            apply("b", r#"- "spec":{"size":2,"mode":"exclusive"}"#),
            apply("b", r#"force "spec":{"size":2}"#),
            format!(r#"MERGE {WIDGETS}/w?fieldManager=kubectl-edit {{"spec":{{"mode":null}}}}"#),
            apply("b", r#"- "spec":{"size":2,"foo":1}"#),
        ],
        expect![[r#"
            201 {"kind":"Widget","metadata":{"name":"w","generation":1,"resourceVersion":"14"},"spec":{"size":1,"mode":"shared","color":"green"}}
            409 Conflict: Apply failed with 1 conflict: conflict with "kubectl-create" using example.com/v1: .spec.size
            409 Conflict: Apply failed with 2 conflicts: conflicts with "kubectl-create" using example.com/v1:
            - .spec.mode
            - .spec.size
            200 {"kind":"Widget","metadata":{"name":"w","generation":2,"resourceVersion":"15"},"spec":{"size":2,"mode":"shared","color":"green"}}
            200 {"kind":"Widget","metadata":{"name":"w","generation":3,"resourceVersion":"16"},"spec":{"size":2,"color":"green"}}
            500 : failed to create typed patch object (default/w; example.com/v1, Kind=Widget): .spec.foo: field not declared in schema
            b Apply : {"f:spec":{"f:size":{}}}
            kubectl-create Update : {"f:spec":{".":{},"f:color":{}}}
        "#]],
    );
}

#[test]
fn a_strategic_patch_merges_lists_by_their_keys() {
    let pods = "/api/v1/namespaces/default/pods";
    let nodes = "/api/v1/nodes";
    check(
        &[
            &format!(
                r#"POST {nodes} {{"metadata":{{"name":"n"}},"status":{{"conditions":[{{"type":"Ready","status":"True"}},{{"type":"DiskPressure","status":"False"}}]}}}}"#
            ),
            &format!(
                r#"STRATEGIC {nodes}/n/status {{"status":{{"conditions":[{{"type":"Ready","status":"False"}}]}}}}"#
            ),
            &format!(
                r#"STRATEGIC {nodes}/n {{"spec":{{"taints":[{{"key":"a","effect":"NoSchedule"}}]}},"metadata":{{"finalizers":["a/b"]}}}}"#
            ),
            &format!(
                r#"STRATEGIC {nodes}/n {{"spec":{{"$patch":"replace","unschedulable":true}},"metadata":{{"finalizers":["c/d"],"$deleteFromPrimitiveList/finalizers":["a/b"]}}}}"#
            ),
            &format!(
                r#"POST {pods} {{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"a","image":"x"}},{{"name":"b","image":"y"}}]}}}}"#
            ),
            &format!(
                r#"STRATEGIC {pods}/p {{"spec":{{"containers":[{{"name":"b","image":"z"}}]}}}}"#
            ),
            &format!(
                r#"STRATEGIC {pods}/p {{"spec":{{"containers":[{{"name":"b","$patch":"delete"}}]}}}}"#
            ),
            &format!(r#"STRATEGIC {pods}/p {{"spec":{{"containers":[{{"image":"z"}}]}}}}"#),
        ],
        expect![[r#"
            201 {"metadata":{"name":"n","resourceVersion":"14"},"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"False"}]},"kind":"Node"}
            200 {"metadata":{"name":"n","resourceVersion":"15"},"status":{"conditions":[{"type":"Ready","status":"False"},{"type":"DiskPressure","status":"False"}]},"kind":"Node"}
            200 {"metadata":{"name":"n","resourceVersion":"16","finalizers":["a/b"]},"status":{"conditions":[{"type":"Ready","status":"False"},{"type":"DiskPressure","status":"False"}]},"kind":"Node","spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}
            200 {"metadata":{"name":"n","resourceVersion":"17","finalizers":["c/d"]},"status":{"conditions":[{"type":"Ready","status":"False"},{"type":"DiskPressure","status":"False"}]},"kind":"Node","spec":{"unschedulable":true}}
            201 {"metadata":{"name":"p","resourceVersion":"18"},"spec":{"containers":[{"name":"a","image":"x","imagePullPolicy":"IfNotPresent","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"},{"name":"b","image":"y","imagePullPolicy":"IfNotPresent","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{}},"kind":"Pod","status":{"phase":"Pending","qosClass":"BestEffort"}}
            200 {"metadata":{"name":"p","resourceVersion":"19"},"spec":{"containers":[{"name":"a","image":"x","imagePullPolicy":"IfNotPresent","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"},{"name":"b","image":"z","imagePullPolicy":"IfNotPresent","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"restartPolicy":"Always","dnsPolicy":"ClusterFirst","schedulerName":"default-scheduler","terminationGracePeriodSeconds":30,"securityContext":{}},"kind":"Pod","status":{"phase":"Pending","qosClass":"BestEffort"}}
            422 Invalid: Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
            400 BadRequest: map: {"image":"z"} does not contain declared merge key: name (in spec.containers)
        "#]],
    );
}

#[test]
fn owners_are_told_wherever_an_object_is_shown_and_as_they_are_after_its_last_write() {
    let mut store = store();
    let lines = [
        apply("a", r#"- "metadata":{"finalizers":["x/y"]},"spec":{"size":1}"#),
        format!("DELETE {WIDGETS}/w"),
    ];
    run(&mut store, &User::admin(), &lines.each_ref().map(String::as_str));
    let list = request(&format!("GET {WIDGETS}"));
    let mut watch = store.watch(now(), &User::admin(), &list).unwrap();
    let owned = |object: &Value| -> Vec<String> {
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        entries.map(|e| format!("{} {}", e["manager"], e["fieldsV1"])).collect()
    };
    let mut told = Vec::new();
    let mut tell = |place: &str, object: &Value| {
        told.extend(owned(object).into_iter().map(|owned| format!("{place}: {owned}")));
    };
    let admin = User::admin();
    let got = store.handle(now(), &admin, &list);
    tell("list", &got.body["items"][0]);
    for event in store.poll(&mut watch) {
        tell(event.event.name(), &store.line(&watch, &event, now())["object"]);
    }
    let release = r#"{"metadata":{"finalizers":null},"spec":{"size":2}}"#;
    let release = request(&format!("MERGE {WIDGETS}/w?fieldManager=b {release}"));
    tell("released", &store.handle(now(), &admin, &release).body);
    for event in store.poll(&mut watch) {
        tell(event.event.name(), &store.line(&watch, &event, now())["object"]);
    }
    expect![[r#"
        list: "a" {"f:metadata":{"f:finalizers":{"v:\"x/y\"":{}}},"f:spec":{"f:size":{}}}
        ADDED: "a" {"f:metadata":{"f:finalizers":{"v:\"x/y\"":{}}},"f:spec":{"f:size":{}}}
        released: "b" {"f:spec":{"f:size":{}}}
        DELETED: "b" {"f:spec":{"f:size":{}}}
    "#]]
    .assert_eq(&(told.join("\n") + "\n"));
}
