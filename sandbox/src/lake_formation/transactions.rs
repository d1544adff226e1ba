//! Transactions, as their calls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::catalog::{Pending, Shape, invalid};
use crate::glue::{listed, page, text};
use crate::refusal::Refusal;
use crate::settings::{InProgress, StatusCase};
use crate::state::State;

pub(super) fn start(state: &State, input: &Shape) -> Result<Value, Refusal> {
    if state.settings().governed_retired {
        return Err(invalid("Governed tables are not supported."));
    }
    let read_only = text(input, "TransactionType") == "READ_ONLY";
    Ok(json!({ "TransactionId": state.with_catalog(|catalog| catalog.start(read_only)) }))
}

pub(super) fn extend(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let id = text(input, "TransactionId");
    if id.is_empty() {
        return Err(invalid("TransactionId is required."));
    }
    state.read_catalog(|catalog| catalog.open(id).map(|_| json!({})))
}

pub(super) fn commit(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let id = text(input, "TransactionId");
    // One of the commits that are to be in progress is used up only by a commit that gets that far.
    let pending = || {
        state.change_settings(|settings| {
            let InProgress { commits, for_ms, describes, outcome } = settings.commit_in_progress.as_mut()?;
            if *commits == 0 {
                return None;
            }
            *commits -= 1;
            let at = for_ms.map(|wait| Instant::now() + Duration::from_millis(wait));
            Some(Pending { at, describes: *describes, outcome: *outcome })
        })
    };
    let status = state.with_catalog(|catalog| catalog.commit(id, pending))?;
    Ok(json!({ "TransactionStatus": status.text(state.settings().status_case) }))
}

pub(super) fn cancel(state: &State, input: &Shape) -> Result<Value, Refusal> {
    state.with_catalog(|catalog| catalog.cancel(text(input, "TransactionId")))?;
    Ok(json!({}))
}

pub(super) fn describe(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let case = state.settings().status_case;
    let described = state.with_catalog(|catalog| catalog.describe(text(input, "TransactionId"), case))?;
    Ok(json!({ "TransactionDescription": described }))
}

pub(super) fn list(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let case = state.settings().status_case;
    let filter = text(input, "StatusFilter").to_owned();
    let all = state.read_catalog(|catalog| {
        let fits = |status: &str| match filter.as_str() {
            "" | "ALL" => true,
            "COMPLETED" => matches!(status, "COMMITTED" | "ABORTED"),
            wanted => status == wanted,
        };
        let of_status = catalog.transactions.iter().filter(|(_, it)| fits(&it.status.text(StatusCase::Upper)));
        of_status.map(|(id, transaction)| transaction.describe(id, case)).collect()
    });
    Ok(listed("Transactions", page(input, all, 1000)?))
}
