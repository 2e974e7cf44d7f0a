//! What the demo found, for people and as one JSON object.

use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

/// One step of a story.
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
    /// Pods beside the first.
    pub more_pods: Vec<Value>,
    /// The most nodes at a time that were disturbed, where a step counted them.
    pub most_disturbed: Option<usize>,
}

impl Report {
    /// A report of a story that did not begin.
    pub fn broken(name: &'static str, problem: String) -> Self {
        let mut report = Self::default();
        report.note(name, Some(problem), Duration::ZERO);
        report
    }

    pub fn note(&mut self, name: &'static str, problem: Option<String>, took: Duration) {
        self.steps.push(Step { name, problem, seconds: took.as_secs_f64() });
    }

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
        let mut json = json!({
            "ok": self.ok(), "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "nodes": self.nodes, "pod": self.pod,
        });
        if !self.more_pods.is_empty() {
            json["morePods"] = self.more_pods.as_slice().into();
        }
        if let Some(most) = self.most_disturbed {
            json["mostDisturbedAtATime"] = most.into();
        }
        json
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

    /// A headline: a step of the story.
    pub fn headline(&mut self, text: &str) {
        self.line(&format!("\n{:>6.1}s  {text}", self.start.elapsed().as_secs_f64()));
    }

    /// Something that happened in a step.
    pub fn detail(&mut self, text: &str) {
        self.line(&format!("{:>6.1}s    {text}", self.start.elapsed().as_secs_f64()));
    }

    /// The message of a condition, folded at the width of a terminal, as the answer to a command.
    pub fn message(&mut self, command: &str, message: &str) {
        self.command(&format!("{command} | grep Message:"), "");
        let mut indent = "Message:  ";
        for line in folded(message, 100) {
            self.line(&format!("        {indent}{line}"));
            indent = "          ";
        }
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

fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let full = lines.last().is_some_and(|line| {
            !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width
        });
        match lines.last_mut() {
            Some(line) if !full => {
                line.push_str(if line.is_empty() { "" } else { " " });
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
