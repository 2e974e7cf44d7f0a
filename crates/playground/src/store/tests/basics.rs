//! Create, read, update, delete, watch.

use super::*;
use crate::store::Watch;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn an_object_lives_from_post_to_delete() {
    check(
        &[
            &format!(r#"POST {MAPS} {{"metadata":{{"name":"a"}},"data":{{"x":"1"}}}}"#),
            &format!(r#"POST {MAPS} {{"metadata":{{"name":"a"}}}}"#),
            &format!("GET {MAPS}/a"),
            &format!(r#"PUT {MAPS}/a {{"metadata":{{"name":"a","resourceVersion":"1"}}}}"#),
            &format!(r#"PUT {MAPS}/a {{"metadata":{{"name":"a","uid":"other"}}}}"#),
            &format!(r#"PUT {MAPS}/a {{"metadata":{{"name":"b"}}}}"#),
            &format!(r#"PUT {MAPS}/a {{"metadata":{{"name":"a"}},"data":{{"x":"2"}}}}"#),
            &format!(r#"DELETE {MAPS}/a {{"preconditions":{{"uid":"other"}}}}"#),
            &format!("DELETE {MAPS}/a"),
            &format!("GET {MAPS}/a"),
            "POST /api/v1/namespaces/nowhere/configmaps {\"metadata\":{\"name\":\"a\"}}",
            "GET /apis/example.com/v1/gadgets",
        ],
        expect![[r#"
            201 {"metadata":{"name":"a","resourceVersion":"14"},"data":{"x":"1"},"kind":"ConfigMap"}
            409 AlreadyExists: configmaps "a" already exists
            200 {"metadata":{"name":"a","resourceVersion":"14"},"data":{"x":"1"},"kind":"ConfigMap"}
            409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again
            409 Conflict: Operation cannot be fulfilled on configmaps "a": Precondition failed: UID in precondition: other, UID in object meta: 83f91ca7-864a-4135-b6b9-aeef0d2df7ab
            400 BadRequest: the name of the object (b) does not match the name on the URL (a)
            200 {"metadata":{"name":"a","resourceVersion":"15"},"data":{"x":"2"},"kind":"ConfigMap"}
            409 Conflict: Operation cannot be fulfilled on configmaps "a": Precondition failed: UID in precondition: other, UID in object meta: 83f91ca7-864a-4135-b6b9-aeef0d2df7ab
            200 Success
            404 NotFound: configmaps "a" not found
            404 NotFound: namespaces "nowhere" not found
            404 NotFound: the server could not find the requested resource
        "#]],
    );
}

#[test]
fn status_is_kept_apart_and_generation_counts_the_spec() {
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    check(
        &[
            &format!(
                r#"POST {widgets} {{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"w"}},"spec":{{"size":1}},"status":{{"phase":"x"}}}}"#
            ),
            &format!(r#"MERGE {widgets}/w {{"status":{{"phase":"x"}}}}"#),
            &format!(
                r#"MERGE {widgets}/w/status {{"spec":{{"size":5}},"status":{{"phase":"Ready"}}}}"#
            ),
            &format!(
                r#"MERGE {widgets}/w {{"spec":{{"size":2}},"metadata":{{"labels":{{"a":"b"}}}}}}"#
            ),
            &format!(r#"JSON {widgets}/w [{{"op":"test","path":"/spec/size","value":9}}]"#),
            &format!(r#"JSON {widgets}/w [{{"op":"replace","path":"/spec/size","value":3}}]"#),
            &format!(r#"STRATEGIC {widgets}/w {{}}"#),
        ],
        expect![[r#"
            201 {"kind":"Widget","metadata":{"name":"w","generation":1,"resourceVersion":"14"},"spec":{"size":1,"color":"green"}}
            200 {"kind":"Widget","metadata":{"name":"w","generation":1,"resourceVersion":"14"},"spec":{"size":1,"color":"green"}}
            200 {"kind":"Widget","metadata":{"name":"w","generation":1,"resourceVersion":"15"},"spec":{"size":1,"color":"green"},"status":{"phase":"Ready"}}
            200 {"kind":"Widget","metadata":{"name":"w","generation":2,"resourceVersion":"16","labels":{"a":"b"}},"spec":{"size":2,"color":"green"},"status":{"phase":"Ready"}}
            422 Invalid: the server rejected our request due to an error in our request: operation '/0' failed at path '/spec/size': value did not match
            200 {"kind":"Widget","metadata":{"name":"w","generation":3,"resourceVersion":"17","labels":{"a":"b"}},"spec":{"size":3,"color":"green"},"status":{"phase":"Ready"}}
            415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml
        "#]],
    );
}

#[test]
fn a_schema_prunes_defaults_and_refuses_in_the_words_of_the_real_server() {
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let post = |query: &str, spec: &str| {
        format!(
            r#"POST {widgets}{query} {{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"w"}},"spec":{spec}}}"#
        )
    };
    check(
        &[
            &post("?fieldValidation=Strict", r#"{"size":1,"foo":1,"parts":[{"name":"a","x":1}]}"#),
            &post(
                "",
                r#"{"mode":"exclusiv","size":100,"names":["A"],"limit":true,"labels":{"a":1}}"#,
            ),
            &post("", r#"{}"#),
            &post("", r#"{"size":"3"}"#),
            &post("", r#"{"size":1,"tags":["a","a"],"parts":[{"name":"a"},{"name":"a"}]}"#),
            &post("", r#"{"size":1,"foo":1,"free":{"any":{"thing":1}},"limit":"10%"}"#),
        ],
        expect![[r#"
            400 BadRequest: Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.foo", unknown field "spec.parts[0].x"
            422 Invalid: Widget.example.com "w" is invalid: [spec.mode: Unsupported value: "exclusiv": supported values: "shared", "exclusive", spec.size: Invalid value: 100: spec.size in body should be less than or equal to 99, spec.names[0]: Invalid value: "A": spec.names[0] in body should match '^[a-z]+$', spec.limit: Invalid value: "boolean": spec.limit in body must be of type integer,string: "boolean", spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"]
            422 Invalid: Widget.example.com "w" is invalid: spec.size: Required value
            422 Invalid: Widget.example.com "w" is invalid: spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"
            422 Invalid: Widget.example.com "w" is invalid: [spec.tags[1]: Duplicate value: "a", spec.parts[1]: Duplicate value: {"name":"a"}]
            201 {"kind":"Widget","metadata":{"name":"w","generation":1,"resourceVersion":"14"},"spec":{"size":1,"free":{"any":{"thing":1}},"limit":"10%","color":"green"}}
        "#]],
    );
}

#[test]
fn finalizers_hold_an_object_until_they_are_gone() {
    check(
        &[
            &format!(r#"POST {MAPS} {{"metadata":{{"name":"a","finalizers":["x/y"]}}}}"#),
            &format!("DELETE {MAPS}/a"),
            &format!("DELETE {MAPS}/a"),
            &format!(r#"MERGE {MAPS}/a {{"metadata":{{"finalizers":["x/y","z/z"]}}}}"#),
            &format!(r#"MERGE {MAPS}/a {{"metadata":{{"finalizers":null}}}}"#),
            &format!("GET {MAPS}/a"),
        ],
        expect![[r#"
            201 {"metadata":{"name":"a","finalizers":["x/y"],"resourceVersion":"14"},"kind":"ConfigMap"}
            200 {"metadata":{"name":"a","finalizers":["x/y"],"resourceVersion":"15","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":0},"kind":"ConfigMap"}
            200 {"metadata":{"name":"a","finalizers":["x/y"],"resourceVersion":"15","deletionTimestamp":"2026-01-01T00:00:00Z","deletionGracePeriodSeconds":0},"kind":"ConfigMap"}
            422 Invalid: ConfigMap "a" is invalid: metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"z/z"}
            200 {"metadata":{"name":"a","deletionGracePeriodSeconds":0,"resourceVersion":"16","deletionTimestamp":"2026-01-01T00:00:00Z"},"kind":"ConfigMap"}
            404 NotFound: configmaps "a" not found
        "#]],
    );
}

#[test]
fn lists_select_and_page() {
    let mut lines: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            format!(r#"POST {MAPS} {{"metadata":{{"name":"{name}","labels":{{"n":"{name}"}}}}}}"#)
        })
        .collect();
    for query in [
        "limit=2",
        "labelSelector=n in (a,c)",
        "labelSelector=n!=a",
        "labelSelector=!n",
        "labelSelector=n,n notin (b)",
        "fieldSelector=metadata.name=b",
        "fieldSelector=spec.x=b",
        "labelSelector=a b",
    ] {
        lines.push(format!("GET {MAPS}?{}", query.replace(' ', "\u{a0}")));
    }
    let mut store = store();
    let answers: String = lines
        .iter()
        .map(|line| {
            let mut request = request(line);
            for value in request.query.values_mut() {
                *value = value.replace('\u{a0}', " ");
            }
            shown(&store.handle(now(), &User::admin(), &request)) + "\n"
        })
        .collect();
    expect![[r#"
        201 {"metadata":{"name":"a","labels":{"n":"a"},"resourceVersion":"14"},"kind":"ConfigMap"}
        201 {"metadata":{"name":"b","labels":{"n":"b"},"resourceVersion":"15"},"kind":"ConfigMap"}
        201 {"metadata":{"name":"c","labels":{"n":"c"},"resourceVersion":"16"},"kind":"ConfigMap"}
        200 ConfigMapList ["a", "b"] and 1 more
        200 ConfigMapList ["a", "c"]
        200 ConfigMapList ["b", "c"]
        200 ConfigMapList []
        200 ConfigMapList ["a", "c"]
        200 ConfigMapList ["b"]
        400 BadRequest: field label not supported: spec.x
        400 BadRequest: unable to parse requirement: a b
    "#]]
    .assert_eq(&answers);

    let first = store.handle(now(), &User::admin(), &request(&format!("GET {MAPS}?limit=2")));
    let token = first.body["metadata"]["continue"].as_str().unwrap();
    let line = format!("GET {MAPS}?limit=2&continue={token}");
    expect![[r#"
        200 ConfigMapList ["c"]
    "#]]
    .assert_eq(&run(&mut store, &User::admin(), &[&line]));
    run(&mut store, &User::admin(), &[&format!("DELETE {MAPS}/b")]);
    store.compact();
    expect![[r#"
        410 Expired: The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter.
    "#]].assert_eq(&run(&mut store, &User::admin(), &[&line]));
}

fn poll(store: &Store, watch: &mut Watch) -> String {
    let events = store.poll(watch).into_iter().map(|event| {
        let object = &event.object;
        let name =
            object["metadata"]["name"].as_str().or(object["message"].as_str()).unwrap_or("-");
        format!("{} {name}", event.event.name())
    });
    events.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_watch_sees_what_its_scope_sees() {
    let mut store = store();
    let admin = User::admin();
    let create = |name: &str, label: &str| {
        format!(r#"POST {MAPS} {{"metadata":{{"name":"{name}","labels":{{"l":"{label}"}}}}}}"#)
    };
    run(&mut store, &admin, &[&create("a", "yes"), &create("b", "no")]);
    let line = format!(
        "GET {MAPS}?watch=true&labelSelector=l=yes&sendInitialEvents=true&allowWatchBookmarks=true"
    );
    let mut watch = store.watch(now(), &admin, &request(&line)).unwrap();
    expect!["ADDED a, BOOKMARK -"].assert_eq(&poll(&store, &mut watch));
    run(
        &mut store,
        &admin,
        &[
            &format!(r#"MERGE {MAPS}/b {{"metadata":{{"labels":{{"l":"yes"}}}}}}"#),
            &format!(r#"MERGE {MAPS}/b {{"data":{{"x":"1"}}}}"#),
            &format!(r#"MERGE {MAPS}/b {{"data":{{"x":"1"}}}}"#),
            &format!(r#"MERGE {MAPS}/a {{"metadata":{{"labels":{{"l":"no"}}}}}}"#),
            &format!("DELETE {MAPS}/b"),
            &format!("DELETE {MAPS}/a"),
        ],
    );
    expect!["ADDED b, MODIFIED b, DELETED a, DELETED b"].assert_eq(&poll(&store, &mut watch));
    expect![""].assert_eq(&poll(&store, &mut watch));
    run(&mut store, &admin, &[&create("c", "yes")]);
    store.compact();
    expect!["ERROR too old resource version: 20 (21)"].assert_eq(&poll(&store, &mut watch));
    assert!(watch.has_ended());
}

#[test]
fn every_write_is_recorded_and_an_unchanged_one_stores_nothing() {
    let mut store = store();
    let line = format!(r#"POST {MAPS} {{"metadata":{{"name":"a"}},"data":{{"x":"1"}}}}"#);
    let again = format!(r#"MERGE {MAPS}/a {{"data":{{"x":"1"}}}}"#);
    run(&mut store, &User::admin(), &[&line]);
    let before = store.revision();
    run(&mut store, &User::admin(), &[&again]);
    assert_eq!(store.revision(), before);
    let text: Vec<_> = store.take_audit().iter().map(ToString::to_string).collect();
    expect![[r#"
        kubernetes-admin create ConfigMap default/a
        kubernetes-admin patch ConfigMap default/a (unchanged)"#]]
    .assert_eq(&text.join("\n"));
}
