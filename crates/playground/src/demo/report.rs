//! What the demo found, for people and as one JSON object.

use serde_json::{Value, json};
use std::io::Write;
use std::time::Instant;

/// One step of the guide.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: &'static str,
    /// The sentence of what went wrong; None when it worked.
    pub problem: Option<String>,
    pub seconds: f64,
}

/// Everything that the demo says in the end.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub steps: Vec<Step>,
    pub nodes: Vec<Value>,
    pub pod: Value,
}

impl Report {
    pub fn ok(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.problem.is_none())
    }

    pub fn to_json(&self) -> Value {
        let step = |step: &Step| {
            let mut json = json!({
                "name": step.name, "ok": step.problem.is_none(),
                "seconds": (step.seconds * 1000.0).round() / 1000.0,
            });
            if let Some(problem) = &step.problem {
                json["problem"] = problem.as_str().into();
            }
            json
        };
        json!({
            "ok": self.ok(), "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "nodes": self.nodes, "pod": self.pod,
        })
    }
}

/// Tells the story while it happens.
pub struct Teller<'a> {
    out: &'a mut dyn Write,
    start: Instant,
}

impl<'a> Teller<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, start: Instant::now() }
    }

    /// A headline: a step of the guide.
    pub fn headline(&mut self, text: &str) {
        self.line(&format!("\n{:>6.1}s  {text}", self.start.elapsed().as_secs_f64()));
    }

    /// Something that happened in a step.
    pub fn detail(&mut self, text: &str) {
        self.line(&format!("{:>6.1}s    {text}", self.start.elapsed().as_secs_f64()));
    }

    /// A command and its answer.
    pub fn command(&mut self, command: &str, answer: &str) {
        self.line(&format!("\n        $ {command}"));
        for line in answer.lines() {
            self.line(&format!("        {line}"));
        }
    }

    /// Nobody may be listening any more; that stops no demo.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
        let _ = self.out.flush();
    }
}
