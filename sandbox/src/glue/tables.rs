//! Tables and their versions.

use std::sync::Arc;

use regex::Regex;
use serde_json::{Value, json};

use super::{already_exists, error_detail, listed, name, page, strings, structure, text, transaction};
use crate::catalog::{Effect, Shape, Table, Version, invalid, location, no_such_table};
use crate::refusal::Refusal;
use crate::state::State;

/// The definition of a request, its name folded.
fn definition(input: &Shape) -> Result<(String, Shape), Refusal> {
    if input.contains_key("OpenTableFormatInput") || input.contains_key("UpdateOpenTableFormatInput") {
        return Err(invalid("The sandbox does not imitate OpenTableFormatInput."));
    }
    let mut definition = structure(input, "TableInput");
    let name = name(&definition, "Name");
    if name.is_empty() {
        return Err(invalid("TableInput is required."));
    }
    definition.insert("Name".to_owned(), json!(name));
    Ok((name, definition))
}

fn is_governed(definition: &Shape) -> bool {
    text(definition, "TableType").eq_ignore_ascii_case("GOVERNED")
}

pub(super) fn create(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (table_name, definition) = definition(input)?;
    if is_governed(&definition) && state.settings().governed_retired {
        return Err(invalid("Governed tables are not supported."));
    }
    let database = name(input, "DatabaseName");
    state.with_catalog(|catalog| {
        let id = catalog.next_table();
        catalog.edit(transaction(input)?, &database, &table_name, Effect::Definition, |table| {
            if table.is_some() {
                return Err(already_exists("Table already exists."));
            }
            *table = Some(Arc::new(Table::new(id, definition)));
            Ok(json!({}))
        })
    })
}

/// A version of a table as GetTable answers.
fn described(state: &State, database: &str, table: &Table, version: &Version) -> Value {
    let mut described = version.definition.clone();
    let more = json!({
        "DatabaseName": database,
        "CatalogId": state.account_id,
        "CreateTime": table.created,
        "UpdateTime": version.updated,
        "CreatedBy": format!("arn:aws:iam::{}:user/sandbox", state.account_id),
        "IsRegisteredWithLakeFormation": table.is_governed(),
        "VersionId": version.id.to_string(),
    });
    if let Value::Object(more) = more {
        described.extend(more);
    }
    Value::Object(described)
}

fn current(state: &State, database: &str, table: &Table) -> Value {
    table.versions.last().map_or(Value::Null, |version| described(state, database, table, version))
}

pub(super) fn get(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (database, name) = (name(input, "DatabaseName"), name(input, "Name"));
    let table = state.read_catalog(|catalog| catalog.table(transaction(input)?, &database, &name))?;
    Ok(json!({ "Table": current(state, &database, &table) }))
}

pub(super) fn list(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let database = name(input, "DatabaseName");
    let tables = state.read_catalog(|catalog| catalog.tables(transaction(input)?, &database))?;
    let wanted = match text(input, "Expression") {
        "" => None,
        expression => {
            let whole = Regex::new(&format!("^(?:{expression})$"));
            Some(whole.map_err(|_| invalid(format!("The expression {expression} is not valid.")))?)
        }
    };
    let fits = |name: &str| wanted.as_ref().is_none_or(|wanted| wanted.is_match(name));
    let found: Vec<_> = tables.into_iter().filter(|(name, _)| fits(name)).map(|(_, table)| table).collect();
    let (found, next) = page(input, found, 100)?;
    let found = found.iter().map(|table| current(state, &database, table)).collect();
    Ok(listed("TableList", (found, next)))
}

pub(super) fn versions(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (database, name) = (name(input, "DatabaseName"), name(input, "TableName"));
    let table = state.read_catalog(|catalog| catalog.table(None, &database, &name))?;
    let newest_first: Vec<_> = table.versions.iter().rev().cloned().collect();
    let (found, next) = page(input, newest_first, 100)?;
    let described = |version: &Arc<Version>| json!({ "Table": described(state, &database, &table, version), "VersionId": version.id.to_string() });
    Ok(listed("TableVersions", (found.iter().map(described).collect(), next)))
}

pub(super) fn update(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (table_name, definition) = definition(input)?;
    let database = name(input, "DatabaseName");
    let expected = input.get("VersionId").and_then(Value::as_str);
    let keep_old = !input.get("SkipArchive").and_then(Value::as_bool).unwrap_or(false);
    state.with_catalog(|catalog| {
        catalog.edit(transaction(input)?, &database, &table_name, Effect::Definition, |table| {
            let table = table.as_mut().ok_or_else(|| no_such_table(&table_name))?;
            if expected.is_some_and(|expected| expected != table.version().to_string()) {
                let message = "Update table failed due to concurrent modifications.";
                return Err(Refusal::new(400, "ConcurrentModificationException", message));
            }
            check_update(table, &definition)?;
            Arc::make_mut(table).redefine(definition, keep_old);
            Ok(json!({}))
        })
    })
}

/// What may not change about a table.
fn check_update(table: &Table, definition: &Shape) -> Result<(), Refusal> {
    if table.is_governed() != is_governed(definition) {
        return Err(invalid("Glue UpdateTable operation cannot change TableType to or from GOVERNED."));
    }
    if !table.is_governed() {
        return Ok(());
    }
    let old = table.definition();
    let keys = |definition: &Shape| match definition.get("PartitionKeys") {
        Some(Value::Array(keys)) => {
            keys.iter().map(|key| (key.get("Name").cloned(), key.get("Type").cloned())).collect()
        }
        _ => Vec::new(),
    };
    if keys(old) != keys(definition) {
        return Err(invalid("Glue UpdateTable operation cannot change the partition keys of a GOVERNED table."));
    }
    if location(old) != location(definition) {
        return Err(invalid("Glue UpdateTable operation cannot change the location of a GOVERNED table."));
    }
    Ok(())
}

fn delete_one(state: &State, input: &Shape, table_name: &str) -> Result<(), Refusal> {
    let database = name(input, "DatabaseName");
    state.with_catalog(|catalog| {
        catalog.edit(transaction(input)?, &database, table_name, Effect::Definition, |table| {
            table.take().map(drop).ok_or_else(|| no_such_table(table_name))
        })?;
        if transaction(input)?.is_none() {
            catalog.tagged.remove(&format!("{database}.{table_name}"));
        }
        Ok(())
    })
}

pub(super) fn delete(state: &State, input: &Shape) -> Result<Value, Refusal> {
    delete_one(state, input, &name(input, "Name")).map(|()| json!({}))
}

pub(super) fn delete_many(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let mut errors = Vec::new();
    for table_name in strings(input, "TablesToDelete") {
        if let Err(refusal) = delete_one(state, input, &table_name.to_lowercase()) {
            if refusal.code != "EntityNotFoundException" {
                return Err(refusal);
            }
            errors.push(json!({ "TableName": table_name, "ErrorDetail": error_detail(&refusal) }));
        }
    }
    Ok(json!({ "Errors": errors }))
}
