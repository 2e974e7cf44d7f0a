//! What `kubectl get` prints, as columns and cells.

use super::*;

/// The table of a list, one row a line; wide columns in brackets.
fn table(store: &mut Store, path: &str, minutes: i64) -> String {
    let mut request = request(&format!("GET {path}"));
    request.accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json".to_owned();
    let later = now() + jiff::SignedDuration::from_mins(minutes);
    let body = store.handle(later, &User::admin(), &request).body;
    assert_eq!(body["kind"], "Table", "{body}");
    let columns = body["columnDefinitions"].as_array().unwrap();
    let line = |cells: Vec<String>| {
        let cells =
            cells.into_iter().zip(columns).map(|(cell, column)| match column["priority"] == 0 {
                true => cell,
                false => format!("[{cell}]"),
            });
        cells.collect::<Vec<_>>().join(" | ") + "\n"
    };
    let mut text = line(columns.iter().map(|c| c["name"].as_str().unwrap().to_owned()).collect());
    for row in body["rows"].as_array().unwrap() {
        let cells = row["cells"].as_array().unwrap().iter();
        text += &line(
            cells.map(|cell| cell.as_str().map_or(cell.to_string(), str::to_owned)).collect(),
        );
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    }
    text
}

#[test]
fn tables_show_what_kubectl_shows() {
    let mut store = store();
    let answers = run(
        &mut store,
        &User::admin(),
        &[
            r#"POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"size":3}}"#,
            r#"MERGE /apis/example.com/v1/namespaces/default/widgets/w/status {"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#,
            r#"POST /api/v1/nodes {"metadata":{"name":"n","labels":{"node-role.kubernetes.io/worker":""}},"spec":{"unschedulable":true},"status":{"conditions":[{"type":"Ready","status":"True"}],"nodeInfo":{"kubeletVersion":"v1.33.0"}}}"#,
            r#"POST /api/v1/namespaces/default/pods {"metadata":{"name":"p"},"spec":{"containers":[{"name":"c"}]}}"#,
            r#"MERGE /api/v1/namespaces/default/pods/p/status {"status":{"phase":"Running","podIP":"10.0.0.1","containerStatuses":[{"name":"c","ready":true,"restartCount":2,"state":{"running":{}}}]}}"#,
            r#"POST /api/v1/namespaces/default/events {"metadata":{"name":"e"},"involvedObject":{"kind":"Pod","name":"p"},"type":"Normal","reason":"Pulled","message":"pulled it","lastTimestamp":"2026-01-01T00:00:00Z"}"#,
            r#"POST /apis/apps/v1/namespaces/default/daemonsets {"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"nodeSelector":{"x":"y"},"containers":[{"name":"c","image":"i"}]}}}}"#,
            r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"c"},"data":{"a":"1","b":"2"}}"#,
        ],
    );
    assert!(answers.lines().all(|line| line.starts_with("20")), "{answers}");
    let mut text = String::new();
    for (path, minutes) in [
        ("/apis/example.com/v1/namespaces/default/widgets", 1),
        ("/api/v1/nodes", 5),
        ("/api/v1/namespaces/default/pods", 200),
        ("/api/v1/events", 60 * 30),
        ("/apis/apps/v1/daemonsets", 60 * 50),
        ("/api/v1/namespaces/default/configmaps/c", 60 * 24 * 400),
    ] {
        text += &table(&mut store, path, minutes);
    }
    expect![[r#"
        Name | Size | Ready | Age
        w | 3 | True | 60s
        Name | Status | Roles | Age | Version | [Internal-IP] | [External-IP] | [OS-Image] | [Kernel-Version] | [Container-Runtime]
        n | Ready,SchedulingDisabled | worker | 5m | v1.33.0 | [<none>] | [<none>] | [<none>] | [<none>] | [<none>]
        Name | Ready | Status | Restarts | Age | [IP] | [Node] | [Nominated Node] | [Readiness Gates]
        p | 1/1 | Running | 2 | 3h20m | [10.0.0.1] | [<none>] | [<none>] | [<none>]
        Last Seen | Type | Reason | Object | [Subobject] | [Source] | Message | [First Seen] | [Count] | [Name]
        30h | Normal | Pulled | pod/p | [] | [] | pulled it | [30h] | [1] | [e]
        Name | Desired | Current | Ready | Up-to-date | Available | Node Selector | Age | [Containers] | [Images] | [Selector]
        d | 0 | 0 | 0 | 0 | 0 | x=y | 2d2h | [c] | [i] | [a=b]
        Name | Data | Age
        c | 2 | 400d
    "#]].assert_eq(&text);
}
