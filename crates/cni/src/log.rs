//! What a call says to people beside its answer: lines for stderr, and for a file where the configuration names one.

use crate::failure::Failure;
use std::cell::{Cell, RefCell};

/// How loud a line is; also what a configuration's `logLevel` admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warning,
    Info,
    Debug,
}

impl Level {
    /// Upstream's words; one that it does not know means info.
    pub fn parse(text: &str) -> Self {
        match text {
            "panic" | "error" => Self::Error,
            "warning" => Self::Warning,
            "debug" | "verbose" => Self::Debug,
            _ => Self::Info,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// The lines of one call.
#[derive(Debug)]
pub struct Log {
    admitted: Cell<Level>,
    file: RefCell<String>,
    lines: RefCell<Vec<String>>,
}

impl Log {
    pub fn new() -> Self {
        Self {
            admitted: Cell::new(Level::Info),
            file: RefCell::new(String::new()),
            lines: RefCell::new(Vec::new()),
        }
    }

    pub fn admit(&self, level: Level) {
        self.admitted.set(level);
    }

    /// Sends the lines of this call to a file in place of stderr.
    pub fn to_file(&self, path: &str) {
        path.clone_into(&mut self.file.borrow_mut());
    }

    pub fn debug(&self, text: impl AsRef<str>) {
        self.line(Level::Debug, text.as_ref());
    }

    pub fn info(&self, text: impl AsRef<str>) {
        self.line(Level::Info, text.as_ref());
    }

    pub fn warning(&self, text: impl AsRef<str>) {
        self.line(Level::Warning, text.as_ref());
    }

    pub fn error(&self, text: impl AsRef<str>) {
        self.line(Level::Error, text.as_ref());
    }

    /// What DEL does with a complaint about the configuration: it says so and goes on, because a pod that could be started
    /// must go, and one that could not has left nothing.
    pub fn complaint<T>(&self, read: Result<T, Failure>) -> Option<T> {
        read.inspect_err(|failure| self.warning(&failure.message)).ok()
    }

    fn line(&self, level: Level, text: &str) {
        if level <= self.admitted.get() {
            self.lines.borrow_mut().push(format!("{}: {text}", level.word()));
        }
    }

    /// The file, if any, and the lines.
    pub fn finish(self) -> (String, Vec<String>) {
        (self.file.into_inner(), self.lines.into_inner())
    }
}
