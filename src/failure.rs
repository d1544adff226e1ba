//! What went wrong, in the three words the platform knows, chosen in one place.
//!
//! Code below the edge returns [`anyhow::Error`] with context. Whoever knows *why* something failed attaches a
//! [`Failure`] to the chain; [`classify`] finds it at the edge. What carries no [`Failure`] is a `system_error`.

use std::fmt;

/// Who has to act, in the platform's words (`failure_type` of an ERROR trace).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The user has to change something; trying again does not help.
    Config,
    /// Trying again is likely to help: throttling, timeouts, lost connections.
    Transient,
    /// A defect, or something nobody foresaw.
    System,
}

impl FailureKind {
    /// The wire spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config_error",
            Self::Transient => "transient_error",
            Self::System => "system_error",
        }
    }
}

/// The stream at fault, as the platform names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamName {
    /// `None` for the default namespace; `""` on the wire means the same.
    pub namespace: Option<String>,
    /// The stream's name as the catalog spells it.
    pub name: String,
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A classified failure with a message for the user. It may wrap a cause.
#[derive(Debug)]
pub struct Failure {
    /// Who has to act.
    pub kind: FailureKind,
    /// One sentence for the user: what is wrong and, for `Config`, what cures it. Never data, never a secret.
    pub message: String,
    source: Option<anyhow::Error>,
}

impl Failure {
    /// A failure without a further cause.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A failure the user has to mend.
    #[must_use]
    pub fn config(message: impl Into<String>) -> anyhow::Error {
        Self::new(FailureKind::Config, message).into()
    }

    /// A failure that may be gone at the next try.
    #[must_use]
    pub fn transient(message: impl Into<String>) -> anyhow::Error {
        Self::new(FailureKind::Transient, message).into()
    }

    /// A failure of ours, or one of unknown nature.
    #[must_use]
    pub fn system(message: impl Into<String>) -> anyhow::Error {
        Self::new(FailureKind::System, message).into()
    }

    /// Puts a class and a sentence for the user before a cause that has none.
    #[must_use]
    pub fn because(kind: FailureKind, message: impl Into<String>, cause: anyhow::Error) -> anyhow::Error {
        Self { kind, message: message.into(), source: Some(cause) }.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(AsRef::as_ref)
    }
}

/// Attaches the stream at fault to an error, for `stream_descriptor`.
#[derive(Debug)]
pub struct AtStream {
    /// The stream.
    pub stream: StreamName,
    source: anyhow::Error,
}

impl AtStream {
    /// Says that `source` is about `stream` alone.
    #[must_use]
    pub fn wrap(stream: StreamName, source: anyhow::Error) -> anyhow::Error {
        Self { stream, source }.into()
    }
}

impl fmt::Display for AtStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.stream)
    }
}

impl std::error::Error for AtStream {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// What an ERROR trace needs to know.
#[derive(Debug)]
pub struct Classified {
    /// Who has to act.
    pub kind: FailureKind,
    /// The chain, outermost first, on one line: what was attempted, and why it failed.
    pub message: String,
    /// The stream, where one is at fault.
    pub stream: Option<StreamName>,
}

/// The one classifier: the innermost [`Failure`] of the chain decides, since it was closest to the cause.
#[must_use]
pub fn classify(error: &anyhow::Error) -> Classified {
    let mut kind = FailureKind::System;
    let mut stream = None;
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            kind = failure.kind;
        }
        if let Some(at) = cause.downcast_ref::<AtStream>() {
            stream = Some(at.stream.clone());
        }
        let text = cause.to_string();
        // Wrapped errors often repeat their cause's text; say everything once.
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
    }
    Classified { kind, message: parts.join(": "), stream }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_innermost_failure_decides_and_context_is_kept() {
        let cause = Failure::transient("glue throttled the call");
        let error = Err::<(), _>(cause).context("committing table a").unwrap_err();
        let error = AtStream::wrap(StreamName { namespace: None, name: "a".into() }, error);
        let classified = classify(&error);
        assert_eq!(classified.kind, FailureKind::Transient);
        assert_eq!(classified.message, "stream a: committing table a: glue throttled the call");
        assert_eq!(classified.stream.map(|s| s.name), Some("a".into()));
    }

    #[test]
    fn what_nobody_classified_is_a_system_error() {
        assert_eq!(classify(&anyhow::anyhow!("odd")).kind, FailureKind::System);
    }
}
