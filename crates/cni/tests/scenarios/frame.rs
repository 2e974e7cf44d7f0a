//! What every plugin refuses before it looks at the machine, and the shapes of what it prints.

use crate::bench::{Bench, VF, show};
use cni::call;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const GOOD: &str = r#"{"cniVersion":"1.1.0","name":"blue","type":"rdma"}"#;

/// Runs `rdma` with exactly this environment (`KEY=value`, blank between them) and stdin.
fn check(environment: &str, stdin: &str, expected: Expect) {
    let environment: BTreeMap<String, String> = environment
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.replace('~', " ")))
        .collect();
    let reply = call("/opt/cni/bin/rdma", &environment, stdin.as_bytes(), &Bench::new().host);
    expected.assert_eq(show(&reply).trim_end());
}

#[test]
fn version_needs_no_input() {
    check(
        "CNI_COMMAND=VERSION",
        "garbage",
        expect![[
            r#"{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#
        ]],
    );
}

#[test]
fn no_command_is_refused() {
    check("", GOOD, expect!["failed 4: required env variables [CNI_COMMAND] missing"]);
}

#[test]
fn an_unknown_command_is_refused() {
    check(
        "CNI_COMMAND=add",
        GOOD,
        expect![[r#"failed 4: CNI_COMMAND "add" is none of ADD, DEL, CHECK, GC, STATUS, VERSION"#]],
    );
}

#[test]
fn all_missing_variables_are_named_at_once() {
    check(
        "CNI_COMMAND=ADD",
        GOOD,
        expect![
            "failed 4: required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing"
        ],
    );
    check(
        "CNI_COMMAND=DEL CNI_IFNAME=net1",
        GOOD,
        expect!["failed 4: required env variables [CNI_CONTAINERID,CNI_PATH] missing"],
    );
    check("CNI_COMMAND=GC", GOOD, expect!["failed 4: required env variables [CNI_PATH] missing"]);
    check(
        "CNI_COMMAND=STATUS",
        GOOD,
        expect!["failed 4: required env variables [CNI_PATH] missing"],
    );
}

#[test]
fn missing_and_bad_variables_come_in_one_answer() {
    check(
        "CNI_COMMAND=ADD CNI_CONTAINERID=../etc CNI_IFNAME=a/b CNI_PATH=/opt/cni/bin",
        GOOD,
        expect![[
            r#"failed 4: required env variables [CNI_NETNS] missing; CNI_CONTAINERID "../etc" must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'; CNI_IFNAME "a/b" holds a '/', a ':' or white space"#
        ]],
    );
}

#[test]
fn bad_interface_names_are_refused() {
    let refused = |name: &str, expected: Expect| {
        let environment =
            format!("CNI_COMMAND=DEL CNI_CONTAINERID=a CNI_PATH=/opt/cni/bin CNI_IFNAME={name}");
        check(&environment, GOOD, expected);
    };
    refused(
        "sixteen-letters-",
        expect![[r#"failed 4: CNI_IFNAME "sixteen-letters-" is longer than 15 bytes"#]],
    );
    refused("..", expect![[r#"failed 4: CNI_IFNAME ".." is a directory's name"#]]);
    refused("a~b", expect![[r#"failed 4: CNI_IFNAME "a b" holds a '/', a ':' or white space"#]]);
    refused("a:b", expect![[r#"failed 4: CNI_IFNAME "a:b" holds a '/', a ':' or white space"#]]);
}

const DEL: &str = "CNI_COMMAND=DEL CNI_CONTAINERID=a CNI_PATH=/opt/cni/bin CNI_IFNAME=net1";
const CHECK: &str = "CNI_COMMAND=CHECK CNI_CONTAINERID=a CNI_NETNS=/run/netns/a CNI_PATH=/opt/cni/bin CNI_IFNAME=net1";

#[test]
fn stdin_must_be_an_object_with_a_name() {
    check(
        DEL,
        "",
        expect![
            "failed 6: cannot read the network configuration on stdin: EOF while parsing a value at line 1 column 0"
        ],
    );
    check(
        DEL,
        "{\"name\": ",
        expect![
            "failed 6: cannot read the network configuration on stdin: EOF while parsing a value at line 1 column 9"
        ],
    );
    check(
        DEL,
        "[1, 2]",
        expect!["failed 6: the network configuration on stdin is not a JSON object"],
    );
    check(DEL, "{}", expect!["failed 7: missing network name"]);
    check(
        DEL,
        r#"{"name": "a b"}"#,
        expect![[
            r#"failed 7: network name "a b" must begin with a letter or digit and hold only letters, digits, '_', '.' and '-'"#
        ]],
    );
    check(DEL, r#"{"name": 7}"#, expect!["failed 6: name must be text, but is 7"]);
}

#[test]
fn unknown_versions_are_refused() {
    check(
        DEL,
        r#"{"cniVersion": "1.2.0", "name": "blue"}"#,
        expect![[
            r#"failed 1: cniVersion "1.2.0" is not one that this plugin speaks: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"#
        ]],
    );
    check(
        DEL,
        r#"{"cniVersion": 1, "name": "blue"}"#,
        expect!["failed 6: cniVersion must be text, but is 1"],
    );
}

#[test]
fn verbs_are_refused_before_the_version_that_brought_them() {
    check(
        CHECK,
        r#"{"cniVersion": "0.3.1", "name": "blue"}"#,
        expect!["failed 1: config version does not allow CHECK: 0.3.1 is older than 0.4.0"],
    );
    check(
        CHECK,
        r#"{"name": "blue"}"#,
        expect!["failed 1: config version does not allow CHECK: 0.1.0 is older than 0.4.0"],
    );
    check(
        "CNI_COMMAND=GC CNI_PATH=/opt/cni/bin",
        r#"{"cniVersion": "1.0.0", "name": "blue"}"#,
        expect!["failed 1: config version does not allow GC: 1.0.0 is older than 1.1.0"],
    );
    check(
        "CNI_COMMAND=STATUS CNI_PATH=/opt/cni/bin",
        r#"{"cniVersion": "1.0.0", "name": "blue"}"#,
        expect!["failed 1: config version does not allow STATUS: 1.0.0 is older than 1.1.0"],
    );
}

#[test]
fn the_hosts_own_namespace_is_refused_before_the_work() {
    let environment = "CNI_COMMAND=ADD CNI_CONTAINERID=a CNI_NETNS=/proc/1/ns/net CNI_PATH=/opt/cni/bin CNI_IFNAME=net1";
    check(
        environment,
        GOOD,
        expect![
            "failed 8: CNI_NETNS /proc/1/ns/net is the host's own network namespace; a pod needs one of its own"
        ],
    );
}

#[test]
fn a_namespace_that_is_none_is_refused() {
    let refused = |path: &str, expected: Expect| {
        let conf = json!({"env CNI_NETNS": path});
        let reply = Bench::new().call("ADD", "sriov", "a", "net1", &conf);
        expected.assert_eq(show(&reply).trim_end());
    };
    refused(
        "/run/netns/gone",
        expect!["failed 8: cannot use CNI_NETNS /run/netns/gone: no such file or directory"],
    );
    refused(
        "/etc/hostname",
        expect!["failed 8: cannot use CNI_NETNS /etc/hostname: it is not a network namespace"],
    );
    refused(
        "/run/netns",
        expect!["failed 8: cannot use CNI_NETNS /run/netns: it is not a network namespace"],
    );
}

#[test]
fn a_program_under_another_name_says_how_to_install_it() {
    let environment = BTreeMap::from([
        ("CNI_COMMAND".to_owned(), "STATUS".to_owned()),
        ("CNI_PATH".to_owned(), "/opt/cni/bin".to_owned()),
    ]);
    let reply = call("./ironrail-cni", &environment, GOOD.as_bytes(), &Bench::new().host);
    expect![[r#"failed 4: no plugin is named "./ironrail-cni"; install this program as sriov, ib-sriov or rdma"#]].assert_eq(show(&reply).trim_end());
}

/// ADD of `sriov` at a version, with an address or without.
fn shape<'a>(version: impl Into<Option<&'a str>>, ipam: bool) -> String {
    let bench = Bench::new();
    let ipam = ipam.then(|| {
        json!({
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.2.0/24", "gateway": "10.1.2.1"}]],
            "routes": [{"dst": "10.9.0.0/16"}],
        })
    });
    let conf = json!({"cniVersion": version.into(), "ipam": ipam});
    let reply = bench.call("ADD", "sriov", "a", "net1", &conf);
    show(&reply).trim_end().to_owned()
}

#[test]
fn results_have_the_shape_of_their_version() {
    expect![[r#"{"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"ips":[{"interface":0,"address":"10.1.2.2/24","gateway":"10.1.2.1"}],"routes":[{"dst":"10.9.0.0/16"}],"dns":{}}"#]].assert_eq(&shape("1.1.0", true));
    expect![[r#"{"cniVersion":"1.0.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a"}],"ips":[{"interface":0,"address":"10.1.2.2/24","gateway":"10.1.2.1"}],"routes":[{"dst":"10.9.0.0/16"}],"dns":{}}"#]].assert_eq(&shape("1.0.0", true));
    expect![[r#"{"cniVersion":"0.4.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","sandbox":"/run/netns/a"}],"ips":[{"interface":0,"address":"10.1.2.2/24","gateway":"10.1.2.1","version":"4"}],"routes":[{"dst":"10.9.0.0/16"}],"dns":{}}"#]].assert_eq(&shape("0.4.0", true));
    expect![[r#"{"cniVersion":"0.3.1","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","sandbox":"/run/netns/a"}],"ips":[{"interface":0,"address":"10.1.2.2/24","gateway":"10.1.2.1","version":"4"}],"routes":[{"dst":"10.9.0.0/16"}],"dns":{}}"#]].assert_eq(&shape("0.3.1", true));
    expect![[r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.2/24","gateway":"10.1.2.1","routes":[{"dst":"10.9.0.0/16"}]},"dns":{}}"#]].assert_eq(&shape("0.2.0", true));
    expect![[r#"{"cniVersion":"0.1.0","ip4":{"ip":"10.1.2.2/24","gateway":"10.1.2.1","routes":[{"dst":"10.9.0.0/16"}]},"dns":{}}"#]].assert_eq(&shape(None, true));
}

#[test]
fn without_addresses_lists_are_left_out() {
    expect![[r#"{"cniVersion":"1.1.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","mtu":1500,"sandbox":"/run/netns/a","pciID":"0000:03:00.2"}],"dns":{}}"#]].assert_eq(&shape("1.1.0", false));
    expect![[r#"{"cniVersion":"0.3.0","interfaces":[{"name":"net1","mac":"c2:28:78:c7:4f:2d","sandbox":"/run/netns/a"}],"dns":{}}"#]].assert_eq(&shape("0.3.0", false));
}

#[test]
fn the_oldest_shapes_need_an_address_and_nothing_is_changed_without() {
    expect!["failed 7: network blue: a result of cniVersion 0.2.0 is a list of addresses, and without ipam there are none; add ipam, or write cniVersion 0.3.0 or later"].assert_eq(&shape("0.2.0", false));
    let bench = Bench::new();
    let before = bench.world();
    bench.call("ADD", "sriov", "a", "net1", &json!({"cniVersion": "0.1.0"}));
    assert_eq!(bench.world(), before);
}

fn environment() -> impl Strategy<Value = BTreeMap<String, String>> {
    let verb = prop_oneof!["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", ".{0,6}"];
    let word = prop_oneof![
        "[a-z]{1,5}",
        Just("a".to_owned()),
        Just("/run/netns/a".to_owned()),
        Just("/opt/cni/bin".to_owned()),
        ".{0,20}",
    ];
    let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS"];
    (verb, proptest::collection::vec(word, names.len())).prop_map(move |(verb, words)| {
        let pairs = names.iter().map(|name| (*name).to_owned()).zip(words);
        pairs.chain([("CNI_COMMAND".to_owned(), verb)]).collect()
    })
}

/// A configuration that gets far, with some of its values replaced by anything.
fn configuration() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-zA-Z0-9:./,]{0,12}".prop_map(Value::from),
        Just(json!(VF)),
        Just(json!({"type": "host-local", "subnet": "10.0.0.0/24"})),
    ];
    let keys = [
        "cniVersion",
        "name",
        "deviceID",
        "vlan",
        "vlanQoS",
        "vlanProto",
        "mac",
        "min_tx_rate",
        "max_tx_rate",
        "spoofchk",
        "trust",
        "link_state",
        "ipam",
        "runtimeConfig",
        "args",
        "prevResult",
        "logLevel",
        "cni.dev/valid-attachments",
        "rdmaIsolation",
        "vfioPciMode",
    ];
    let key = proptest::sample::select(keys.to_vec());
    let value = leaf.clone().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(
                "mac|cni|guid|interfaces|ips|address|type|containerID|ifname|debug",
                inner,
                0..3
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest::collection::vec((key, value), 0..5).prop_map(|changes| {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "blue", "deviceID": VF});
        for (key, value) in changes {
            conf[key] = value;
        }
        conf
    })
}

/// Whatever comes in: an answer, and exit 1 exactly with an error object.
fn answers(plugin: &str, environment: &BTreeMap<String, String>, stdin: &[u8], bench: &Bench) {
    let reply = call(plugin, environment, stdin, &bench.host);
    let answer: Value = serde_json::from_slice(&reply.stdout).unwrap_or_default();
    assert_eq!(reply.exit == 1, answer.get("code").is_some(), "{reply:?}");
    assert!(reply.exit == 0 || reply.exit == 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_environment_and_no_bytes_make_a_plugin_panic(
        environment in environment(), stdin in proptest::collection::vec(any::<u8>(), 0..64)
    ) {
        let bench = Bench::new();
        for plugin in ["sriov", "rdma", "ib-sriov", ""] {
            answers(plugin, &environment, &stdin, &bench);
        }
    }

    #[test]
    fn no_configuration_makes_a_plugin_panic_or_leave_anything_after_del(
        verb in "ADD|CHECK|GC|STATUS", conf in configuration(), plugin in "sriov|rdma|ib-sriov"
    ) {
        let bench = Bench::new();
        let before = bench.world();
        let mut environment = BTreeMap::from([
            ("CNI_COMMAND".to_owned(), verb),
            ("CNI_CONTAINERID".to_owned(), "a".to_owned()),
            ("CNI_NETNS".to_owned(), "/run/netns/a".to_owned()),
            ("CNI_IFNAME".to_owned(), "net1".to_owned()),
            ("CNI_PATH".to_owned(), "/opt/cni/bin".to_owned()),
        ]);
        answers(&plugin, &environment, conf.to_string().as_bytes(), &bench);
        environment.insert("CNI_COMMAND".to_owned(), "DEL".to_owned());
        let plain = json!({"cniVersion": "1.1.0", "name": "blue", "deviceID": VF});
        answers(&plugin, &environment, plain.to_string().as_bytes(), &bench);
        prop_assert_eq!(bench.world(), before);
    }
}
