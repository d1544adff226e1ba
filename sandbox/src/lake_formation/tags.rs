//! LF tags.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::catalog::{Catalog, Shape, invalid, no_such_table, not_found};
use crate::glue::{listed, name, page, strings, structures};
use crate::refusal::Refusal;
use crate::state::State;

/// Lake Formation folds keys and values.
fn folded(values: Vec<String>) -> Vec<String> {
    values.into_iter().map(|value| value.to_lowercase()).collect()
}

pub(super) fn create(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (key, values) = (name(input, "TagKey"), folded(strings(input, "TagValues")));
    state.with_catalog(|catalog| {
        if catalog.tags.contains_key(&key) {
            return Err(invalid(format!("Tag key already exists: {key}")));
        }
        catalog.tags.insert(key, values);
        Ok(json!({}))
    })
}

pub(super) fn get(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let key = name(input, "TagKey");
    let values = state.read_catalog(|catalog| catalog.tags.get(&key).cloned()).ok_or_else(|| no_such_tag(&key))?;
    Ok(json!({ "CatalogId": state.account_id, "TagKey": key, "TagValues": values }))
}

fn no_such_tag(key: &str) -> Refusal {
    not_found(format!("Tag key does not exist: {key}"))
}

pub(super) fn list(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let tag = |(key, values): (&String, &Vec<String>)| json!({ "CatalogId": state.account_id, "TagKey": key, "TagValues": values });
    let all = state.read_catalog(|catalog| catalog.tags.iter().map(tag).collect());
    Ok(listed("LFTags", page(input, all, 1000)?))
}

/// What is tagged: a database and perhaps a table of it, both of which must be there.
fn resource(catalog: &mut Catalog, input: &Shape) -> Result<(String, Option<String>), Refusal> {
    let resource = input.get("Resource").and_then(Value::as_object);
    let part = |name: &str| resource.and_then(|resource| resource.get(name)).and_then(Value::as_object);
    if let Some(database) = part("Database") {
        let database = name(database, "Name");
        catalog.database(&database)?;
        return Ok((database, None));
    }
    let Some(table) = part("Table") else {
        return Err(invalid("The sandbox tags databases and tables only."));
    };
    let (database, table) = (name(table, "DatabaseName"), name(table, "Name"));
    if table.is_empty() {
        return Err(invalid("The sandbox tags one table at a time."));
    }
    catalog.table(None, &database, &table).map_err(|_| no_such_table(&table))?;
    Ok((database, Some(table)))
}

fn key((database, table): &(String, Option<String>)) -> String {
    table.as_ref().map_or_else(|| database.clone(), |table| format!("{database}.{table}"))
}

pub(super) fn add(state: &State, input: &Shape) -> Result<Value, Refusal> {
    state.with_catalog(|catalog| {
        let resource = key(&resource(catalog, input)?);
        let mut failures = Vec::new();
        for tag in structures(input, "LFTags") {
            let (key, values) = (name(tag, "TagKey"), folded(strings(tag, "TagValues")));
            let refusal = match catalog.tags.get(&key) {
                None => Some(no_such_tag(&key)),
                Some(known) => values
                    .iter()
                    .find(|value| !known.contains(value))
                    .map(|value| invalid(format!("Tag value {value} does not exist for tag key {key}"))),
            };
            match refusal {
                Some(refusal) => failures.push(json!({
                    "LFTag": { "CatalogId": state.account_id, "TagKey": key, "TagValues": values },
                    "Error": { "ErrorCode": refusal.code, "ErrorMessage": refusal.message },
                })),
                None => {
                    catalog.tagged.entry(resource.clone()).or_default().insert(key, values);
                }
            }
        }
        Ok(json!({ "Failures": failures }))
    })
}

pub(super) fn of_resource(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (on_database, on_table, has_table) = state.read_catalog(|catalog| {
        let resource = resource(catalog, input)?;
        let tags = |key: &str| catalog.tagged.get(key).cloned().unwrap_or_default();
        let on_table = if resource.1.is_some() { tags(&key(&resource)) } else { BTreeMap::new() };
        Ok((tags(&resource.0), on_table, resource.1.is_some()))
    })?;
    let pairs = |tags: &BTreeMap<String, Vec<String>>| -> Vec<Value> {
        let pair = |(key, values): (&String, &Vec<String>)| json!({ "CatalogId": state.account_id, "TagKey": key, "TagValues": values });
        tags.iter().map(pair).collect()
    };
    let mut answer = json!({ "LFTagOnDatabase": pairs(&on_database) });
    if has_table {
        let assigned_only = input.get("ShowAssignedLFTags").and_then(Value::as_bool).unwrap_or(false);
        let mut effective = if assigned_only { BTreeMap::new() } else { on_database };
        effective.extend(on_table);
        answer["LFTagsOnTable"] = json!(pairs(&effective));
    }
    Ok(answer)
}
