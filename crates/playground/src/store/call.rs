//! One request, read: who asks for what, on which kind, with which options.

use super::address::Address;
use super::object::text;
use super::refusal::Refusal;
use super::registry::{Kind, KindId};
use super::schema::Schema;
use super::selectors::Selector;
use super::shape::Shape;
use super::user::User;
use api::wire::Request;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;

/// A request on a served resource.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    pub now: Timestamp,
    pub who: &'a User,
    pub id: KindId,
    pub kind: Arc<Kind>,
    pub address: Address,
    pub options: Options,
    pub accept: &'a str,
    pub body: &'a Value,
    pub reader: Reader,
}

/// What of an object an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// All of it.
    Client,
    /// What programs of ours read: all but `managedFields`.
    Program,
    /// Nothing: whoever asks wants to know only whether it was done.
    Nobody,
}

impl Call<'_> {
    /// `apiVersion` as the client asked for it.
    pub fn api_version(&self) -> String {
        self.kind.api_version(&self.address.version)
    }

    pub fn selector(&self) -> Result<Selector, Refusal> {
        let (labels, fields) = (&self.options.label_selector, &self.options.field_selector);
        let selector = Selector::parse(&self.kind, labels, fields)
            .map_err(|error| Refusal::bad_request(error.to_string()))?;
        Ok(match self.address.name.is_empty() {
            true => selector,
            false => selector.and_name(&self.address.name),
        })
    }

    /// The schema of the version that was asked for; built-in kinds have none.
    pub fn schema(&self) -> Option<&Schema> {
        self.kind.version(&self.address.version)?.schema.as_deref()
    }

    /// How lists and maps of the kind merge.
    pub fn shape(&self) -> Shape<'_> {
        self.schema().map_or(Shape::BuiltIn, Shape::Custom)
    }

    /// The path of fields that this request may own: all, or only status.
    pub fn is_status(&self) -> bool {
        self.address.subresource == "status"
    }
}

/// What the server does about fields that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    Strict,
    #[default]
    Warn,
    Ignore,
}

/// The query parameters that the store understands.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub dry_run: bool,
    /// Empty where the client did not say.
    pub manager: String,
    pub force: bool,
    pub validation: Validation,
    pub limit: usize,
    pub continue_token: String,
    pub resource_version: String,
    pub label_selector: String,
    pub field_selector: String,
    pub bookmarks: bool,
    pub initial_events: bool,
    /// `Metadata` or `Object` in tables; empty is `Metadata`.
    pub include_object: String,
}

impl Options {
    pub fn of(request: &Request) -> Result<Self, Refusal> {
        let of = |key: &str| request.query.get(key).cloned().unwrap_or_default();
        let flag = |key: &str| matches!(of(key).as_str(), "true" | "1");
        let validation = match of("fieldValidation").as_str() {
            "" | "Warn" => Validation::Warn,
            "Strict" => Validation::Strict,
            "Ignore" => Validation::Ignore,
            other => {
                return Err(Refusal::bad_request(format!(
                    "invalid fieldValidation {other:?}: it must be one of \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        Ok(Self {
            dry_run: of("dryRun") == "All",
            manager: of("fieldManager"),
            force: flag("force"),
            validation,
            limit: of("limit").parse().unwrap_or_default(),
            continue_token: of("continue"),
            resource_version: of("resourceVersion"),
            label_selector: of("labelSelector"),
            field_selector: of("fieldSelector"),
            bookmarks: flag("allowWatchBookmarks"),
            initial_events: flag("sendInitialEvents"),
            include_object: of("includeObject"),
        })
    }
}

/// What happens to the objects that an object owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

/// `metav1.DeleteOptions`, from the body and from the query.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    pub grace: Option<i64>,
    pub propagation: Propagation,
    pub uid: String,
    pub resource_version: String,
    pub dry_run: bool,
}

impl DeleteOptions {
    pub fn of(request: &Request) -> Self {
        let query = |key: &str| request.query.get(key).map(String::as_str).unwrap_or_default();
        let mut options = Self::of_body(&request.body);
        if let Ok(grace) = query("gracePeriodSeconds").parse() {
            options.grace = Some(grace);
        }
        if let Some(propagation) = propagation(query("propagationPolicy")) {
            options.propagation = propagation;
        }
        options.dry_run |= query("dryRun") == "All";
        options
    }

    pub fn of_body(body: &Value) -> Self {
        let dry_run = body.get("dryRun").and_then(Value::as_array);
        Self {
            grace: body.get("gracePeriodSeconds").and_then(Value::as_i64),
            propagation: propagation(text(body, &["propagationPolicy"])).unwrap_or_default(),
            uid: text(body, &["preconditions", "uid"]).to_owned(),
            resource_version: text(body, &["preconditions", "resourceVersion"]).to_owned(),
            dry_run: dry_run.is_some_and(|list| list.iter().any(|item| item == "All")),
        }
    }
}

fn propagation(text: &str) -> Option<Propagation> {
    match text {
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        "Orphan" => Some(Propagation::Orphan),
        _ => None,
    }
}
