//! The definitions that ironrail ships are served, and refuse in the words of the real server.

use super::*;

#[test]
fn the_shipped_definitions_are_served() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut store = Store::new(1, now());
    let mut text = String::new();
    for file in files {
        let definition: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?fieldValidation=Strict";
        let request = request(&format!("POST {path}")).with_body(definition);
        let response = store.handle(now(), &User::admin(), &request);
        let name = response.body["metadata"]["name"].as_str().unwrap_or("refused").to_owned();
        text += &format!("{} {name}\n", response.status);
    }
    expect![[r#"
        201 network-attachment-definitions.k8s.cni.cncf.io
        201 ovsnetworks.sriovnetwork.openshift.io
        201 sriovibnetworks.sriovnetwork.openshift.io
        201 sriovnetworknodepolicies.sriovnetwork.openshift.io
        201 sriovnetworknodestates.sriovnetwork.openshift.io
        201 sriovnetworkpoolconfigs.sriovnetwork.openshift.io
        201 sriovnetworks.sriovnetwork.openshift.io
        201 sriovoperatorconfigs.sriovnetwork.openshift.io
    "#]]
    .assert_eq(&text);
    let root = "/apis/sriovnetwork.openshift.io/v1/namespaces/default";
    let head = r#""apiVersion":"sriovnetwork.openshift.io/v1","metadata":{"name":"x"}"#;
    expect![[r#"
        422 Invalid: SriovNetworkPoolConfig.sriovnetwork.openshift.io "x" is invalid: spec.rdmaMode: Unsupported value: "exclusiv": supported values: "shared", "exclusive"
        400 BadRequest: SriovNetworkPoolConfig in version "v1" cannot be handled as a SriovNetworkPoolConfig: strict decoding error: unknown field "spec.rdmaMod"
        201 {"metadata":{"name":"x","generation":1,"resourceVersion":"21"},"kind":"SriovNetworkPoolConfig","spec":{"rdmaMode":"exclusive"}}
    "#]].assert_eq(&run(&mut store, &User::admin(), &[
        &format!(r#"POST {root}/sriovnetworkpoolconfigs {{{head},"kind":"SriovNetworkPoolConfig","spec":{{"rdmaMode":"exclusiv"}}}}"#),
        &format!(r#"POST {root}/sriovnetworkpoolconfigs?fieldValidation=Strict {{{head},"kind":"SriovNetworkPoolConfig","spec":{{"rdmaMod":"shared"}}}}"#),
        &format!(r#"POST {root}/sriovnetworkpoolconfigs {{{head},"kind":"SriovNetworkPoolConfig","spec":{{"rdmaMode":"exclusive"}}}}"#),
    ]));
}
