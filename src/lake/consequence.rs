//! Errors that only follow from another table's error.

use crate::failure::{Failure, FailureKind};

/// The error of a table that was not committed because of another.
pub(super) fn follows() -> anyhow::Error {
    Failure::because(
        FailureKind::Transient,
        "nothing was committed, since another table could not be",
        anyhow::Error::new(Consequence),
    )
}

/// Whether an error says no more than that.
pub(super) fn is_consequence(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<Consequence>().is_some())
}

/// Marks errors that only follow from another table's error.
#[derive(Debug)]
struct Consequence;

impl std::fmt::Display for Consequence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nothing was committed, since another table could not be")
    }
}

impl std::error::Error for Consequence {}
