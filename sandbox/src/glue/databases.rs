//! Databases.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{already_exists, listed, name, page, structure};
use crate::catalog::{Database, Shape, not_found};
use crate::clock;
use crate::refusal::Refusal;
use crate::state::State;

pub(super) fn create(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let mut definition = structure(input, "DatabaseInput");
    let name = name(&definition, "Name");
    definition.insert("Name".to_owned(), json!(name));
    state.with_catalog(|catalog| {
        if catalog.databases.contains_key(&name) {
            return Err(already_exists("Database already exists."));
        }
        let database = Database { definition, created: clock::epoch_seconds(), tables: Default::default() };
        catalog.databases.insert(name, Arc::new(database));
        Ok(json!({}))
    })
}

fn described(state: &State, database: &Database) -> Value {
    let mut described = database.definition.clone();
    described.insert("CreateTime".to_owned(), json!(database.created));
    described.insert("CatalogId".to_owned(), json!(state.account_id));
    Value::Object(described)
}

pub(super) fn get(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let name = name(input, "Name");
    let database = state.read_catalog(|catalog| catalog.database(&name).cloned())?;
    Ok(json!({ "Database": described(state, &database) }))
}

pub(super) fn list(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let all: Vec<_> = state.read_catalog(|catalog| catalog.databases.values().cloned().collect());
    let all = all.iter().map(|database| described(state, database)).collect();
    Ok(listed("DatabaseList", page(input, all, 100)?))
}

/// Takes the tables along.
pub(super) fn delete(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let name = name(input, "Name");
    state.with_catalog(|catalog| {
        catalog.databases.remove(&name).ok_or_else(|| not_found(format!("Database {name} not found.")))?;
        let of_database = format!("{name}.");
        catalog.tagged.retain(|resource, _| *resource != name && !resource.starts_with(&of_database));
        Ok(json!({}))
    })
}
