//! The endpoint under `/_sandbox/`: faults, journal, transactions, settings.

use http::Method;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::refusal::Answer;
use crate::state::State;

/// Answers one request to the control endpoint.
pub(crate) fn answer(state: &State, method: &Method, path: &str, body: &[u8]) -> Answer {
    let answered = match (method.as_str(), path) {
        ("GET", "faults") => Ok(json!({
            "pending": state.faults.pending(), "held": state.faults.held(), "faults": state.faults.script(),
        })),
        ("POST", "faults") => add_faults(state, body),
        ("DELETE", "faults") => {
            state.faults.clear();
            Ok(json!({}))
        }
        ("POST", "release") => {
            let held = state.faults.held();
            state.faults.release();
            Ok(json!({ "released": held }))
        }
        ("GET", "calls") => Ok(json!({ "calls": state.journal.calls() })),
        ("DELETE", "calls") => {
            state.journal.clear();
            Ok(json!({}))
        }
        ("GET", "transactions") => {
            state.tick();
            Ok(state.read_catalog(|catalog| json!({ "transactions": catalog.describe_transactions() })))
        }
        ("GET", "settings") => Ok(json!(state.settings())),
        ("POST", "settings") => change_settings(state, body),
        _ => return Answer::json(404, &json!({ "error": format!("{method} /_sandbox/{path} is unknown") })),
    };
    match answered {
        Ok(document) => Answer::json(200, &document),
        Err(error) => Answer::json(400, &json!({ "error": error.to_string() })),
    }
}

/// One fault or an array of them.
fn add_faults(state: &State, body: &[u8]) -> serde_json::Result<Value> {
    let document: Value = serde_json::from_slice(body)?;
    let faults: Vec<Fault> = match document {
        Value::Array(_) => serde_json::from_value(document)?,
        one => vec![serde_json::from_value(one)?],
    };
    for fault in faults {
        state.faults.add(fault);
    }
    Ok(json!({ "pending": state.faults.pending() }))
}

/// The members that are given replace those of the settings.
fn change_settings(state: &State, body: &[u8]) -> serde_json::Result<Value> {
    let changes: Value = serde_json::from_slice(body)?;
    state.change_settings(|settings| {
        *settings = settings.with(&changes)?;
        Ok(json!(settings))
    })
}
