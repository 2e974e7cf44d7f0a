//! A user of the cluster: the API over HTTPS with the admin's credentials, and nothing else.

use api::wire::{Answer, Method, ObjectKey, Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

pub struct User {
    pub client: kube::Client,
}

/// What a command in a pod left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    pub stdout: String,
    pub stderr: String,
    pub success: bool,
}

impl User {
    pub async fn send(&self, request: &Request) -> Answer {
        match self.try_send(request).await {
            Ok(response) => Answer::of(response),
            Err(error) => Answer::Unreachable(format!("{error:#}")),
        }
    }

    async fn try_send(&self, request: &Request) -> anyhow::Result<Response> {
        let (method, content_type) = match request.method {
            Method::Get => ("GET", "application/json"),
            Method::Post => ("POST", "application/json"),
            Method::Put => ("PUT", "application/json"),
            Method::Delete => ("DELETE", "application/json"),
            Method::Patch(kind) => ("PATCH", kind.content_type()),
        };
        let query: Vec<String> =
            request.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let uri = match query.is_empty() {
            true => request.path.clone(),
            false => format!("{}?{}", request.path, query.join("&")),
        };
        let body = match &request.body {
            Value::Null => Vec::new(),
            body => serde_json::to_vec(body)?,
        };
        let http =
            http::Request::builder().method(method).uri(uri).header("Content-Type", content_type);
        match self.client.request::<Value>(http.body(body)?).await {
            Ok(body) => Ok(Response { status: 200, body }),
            Err(kube::Error::Api(status)) => {
                let code = status.code;
                Ok(Response { status: code, body: serde_json::to_value(*status)? })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Creates an object as `kubectl apply` does the first time, with unknown fields refused.
    pub async fn apply(&self, manifest: &Value) -> Result<(), String> {
        let mut key = ObjectKey::of(manifest);
        if key.namespace.is_empty() && !matches!(key.kind.as_str(), "Namespace" | "Node") {
            key.namespace = "default".to_owned();
        }
        let request = Request::new(Method::Post, key.collection_path())
            .with_query("fieldValidation", "Strict")
            .with_query("fieldManager", "ironrail-demo")
            .with_body(manifest.clone());
        match self.send(&request).await {
            Answer::Done(_) => Ok(()),
            refused => Err(format!("cannot apply {key}: {refused}")),
        }
    }

    pub async fn get(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let key = ObjectKey::new(api_version, kind, namespace, name);
        match self.send(&Request::new(Method::Get, key.path())).await {
            Answer::Done(object) => Some(object),
            _ => None,
        }
    }

    pub async fn list(&self, api_version: &str, kind: &str, namespace: &str) -> Vec<Value> {
        self.list_by(api_version, kind, namespace, &[]).await
    }

    /// What the server selects: `labelSelector` and `fieldSelector` with their terms.
    pub async fn list_by(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        selectors: &[(&str, String)],
    ) -> Vec<Value> {
        let key = ObjectKey::new(api_version, kind, namespace, "");
        let request = Request::new(Method::Get, key.collection_path());
        let request = selectors
            .iter()
            .fold(request, |request, (name, terms)| request.with_query(name, terms.as_str()));
        match self.send(&request).await {
            Answer::Done(list) => list["items"].as_array().cloned().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// What `kubectl get` prints of a collection: the server's own table.
    pub async fn table(&self, path: &str) -> Result<String, String> {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        let request = http::Request::get(path).header("Accept", accept).body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let table = self.client.request::<Value>(request).await;
        table.map(|table| printed(&table)).map_err(|error| format!("cannot get {path}: {error}"))
    }

    /// `kubectl exec` without a terminal.
    pub async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        command: &[&str],
    ) -> Result<Executed, String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let parameters = AttachParams::default().stdin(false).stdout(true).stderr(true);
        let words = command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let failed = |error: &dyn std::fmt::Display| {
            format!("cannot exec {} in {namespace}/{pod}: {error}", command.join(" "))
        };
        let mut attached = pods.exec(pod, words, &parameters).await.map_err(|e| failed(&e))?;
        let status = attached.take_status();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        if let Some(mut reader) = attached.stdout() {
            reader.read_to_string(&mut stdout).await.map_err(|e| failed(&e))?;
        }
        if let Some(mut reader) = attached.stderr() {
            reader.read_to_string(&mut stderr).await.map_err(|e| failed(&e))?;
        }
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let success = status.is_some_and(|s| s.status.as_deref() == Some("Success"));
        Ok(Executed { stdout, stderr, success })
    }
}

/// A table as kubectl prints it: columns of priority 0, three blanks between them.
fn printed(table: &Value) -> String {
    let columns = table["columnDefinitions"].as_array().into_iter().flatten().enumerate();
    let shown: Vec<(usize, String)> = columns
        .filter(|(_, column)| column["priority"] == 0)
        .map(|(at, column)| (at, column["name"].as_str().unwrap_or_default().to_uppercase()))
        .collect();
    let mut rows: Vec<Vec<String>> = vec![shown.iter().map(|(_, name)| name.clone()).collect()];
    for row in table["rows"].as_array().into_iter().flatten() {
        let cell = |at: &usize| match &row["cells"][*at] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        rows.push(shown.iter().map(|(at, _)| cell(at)).collect());
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..shown.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}   "));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Asks again and again until there is an answer, or says what was missing in the end.
pub async fn until<T>(
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return Ok(found),
            Err(why) if start.elapsed() > limit => {
                return Err(format!("{why} (after {} s)", limit.as_secs()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
