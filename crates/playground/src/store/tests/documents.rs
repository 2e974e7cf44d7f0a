//! What the server tells about itself.

use super::*;

#[test]
fn discovery_names_what_a_definition_added() {
    let mut store = store();
    let mut aggregated = request("GET /apis");
    aggregated.accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList".to_owned();
    let answer = store.handle(now(), &User::admin(), &aggregated);
    assert_eq!(
        super::super::content_type(&answer.body),
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let items = answer.body["items"].as_array().unwrap();
    let group = items.iter().find(|item| item["metadata"]["name"] == "example.com").unwrap();
    expect![[r#"[{"version":"v1","freshness":"Current","resources":[{"resource":"widgets","singularResource":"widget","scope":"Namespaced","responseKind":{"group":"example.com","version":"v1","kind":"Widget"},"verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["wd"],"subresources":[{"subresource":"status","responseKind":{"group":"example.com","version":"v1","kind":"Widget"},"verbs":["get","patch","update"]}]}]}]"#]].assert_eq(&group["versions"].to_string());
    let answer = store.handle(now(), &User::admin(), &request("GET /apis/example.com/v1"));
    expect![[r#"[{"name":"widgets","singularName":"widget","namespaced":true,"kind":"Widget","verbs":["create","delete","deletecollection","get","list","patch","update","watch"],"shortNames":["wd"]},{"name":"widgets/status","singularName":"","namespaced":true,"kind":"Widget","verbs":["get","patch","update"]}]"#]].assert_eq(&answer.body["resources"].to_string());
}

#[test]
fn openapi_has_the_schema_of_a_custom_resource_and_what_kubectl_looks_for_in_a_patch() {
    let mut store = store();
    let document =
        store.handle(now(), &User::admin(), &request("GET /openapi/v3/apis/example.com/v1")).body;
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["maximum"], 99);
    let patch =
        &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    let names: Vec<_> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    expect!["dryRun fieldManager fieldValidation force"].assert_eq(&names.join(" "));
    expect![[r#"{"group":"example.com","version":"v1","kind":"Widget"}"#]]
        .assert_eq(&patch["x-kubernetes-group-version-kind"].to_string());
}

#[test]
fn documents_need_the_right_to_discover() {
    let mut store = store();
    let lines = ["GET /version", "GET /apis/nothing/v1"];
    let nobody = User::new("nobody", &[]);
    expect![[r#"
        403 Forbidden: forbidden: User "nobody" cannot get path "/version"
    "#]]
    .assert_eq(&run(&mut store, &nobody, &lines[..1]));
    expect![[r#"
        404 NotFound: the server could not find the requested resource
    "#]]
    .assert_eq(&run(&mut store, &User::admin(), &lines[1..]));
    let answer =
        store.handle(now(), &User::service_account("default", "x"), &request("GET /version"));
    assert_eq!(answer.body["minor"], "33");
}

#[test]
fn a_watch_can_be_a_table() {
    let mut store = store();
    let mut request = request("GET /api/v1/namespaces?watch=true");
    request.accept = "application/json;as=Table;v=v1;g=meta.k8s.io".to_owned();
    let mut watch = store.watch(now(), &User::admin(), &request).unwrap();
    let event = store.poll(&mut watch).remove(0);
    let line = store.line(&watch, &event, now());
    expect![[r#""ADDED" "Table" ["default","Active","0s"]"#]].assert_eq(&format!(
        "{} {} {}",
        line["type"], line["object"]["kind"], line["object"]["rows"][0]["cells"]
    ));
}
