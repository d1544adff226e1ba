//! The objects of governed tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::catalog::{Effect, Entry, Shape, Table, invalid, no_such_table, not_found};
use crate::glue::expression::Expression;
use crate::glue::{listed, name, page, strings, structures, text, transaction};
use crate::refusal::Refusal;
use crate::state::State;

/// A write operation that has been understood.
enum Write {
    Add(String, Entry),
    Delete { uri: String, etag: Option<String> },
}

impl Write {
    fn uri(&self) -> &str {
        match self {
            Self::Add(uri, _) | Self::Delete { uri, .. } => uri,
        }
    }
}

fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

/// Reads a write operation. What it adds must be in S3, as it says.
fn read(state: &State, operation: &Shape) -> Result<Write, Refusal> {
    let part = |name: &str| operation.get(name).and_then(Value::as_object);
    let (object, adds) = match (part("AddObject"), part("DeleteObject")) {
        (Some(object), None) => (object, true),
        (None, Some(object)) => (object, false),
        _ => return Err(invalid("A write operation must have exactly one of AddObject and DeleteObject.")),
    };
    let uri = text(object, "Uri").to_owned();
    if !uri.starts_with("s3://") {
        return Err(invalid(format!("The Uri {uri} does not start with s3://.")));
    }
    let etag = unquoted(text(object, "ETag")).to_owned();
    if !adds {
        return Ok(Write::Delete { uri, etag: Some(etag).filter(|etag| !etag.is_empty()) });
    }
    let size = object.get("Size").and_then(Value::as_u64).unwrap_or_default();
    let stored = state.store.find_uri(&uri)?.ok_or_else(|| invalid(format!("The object {uri} does not exist.")))?;
    if stored.etag != etag {
        return Err(invalid(format!("The ETag of {uri} is not {etag}.")));
    }
    if stored.size != size {
        return Err(invalid(format!("The size of {uri} is not {size}.")));
    }
    Ok(Write::Add(uri, Entry { etag, size, partition_values: strings(object, "PartitionValues") }))
}

/// Refuses what does not fit the table.
fn check(table: &Table, name: &str, writes: &[Write]) -> Result<(), Refusal> {
    if !table.is_governed() {
        return Err(invalid(format!("Table {name} is not a GOVERNED table.")));
    }
    let keys = table.partition_keys().len();
    let mut seen = BTreeSet::new();
    for write in writes {
        let uri = write.uri();
        if !seen.insert(uri) {
            return Err(invalid(format!("The object {uri} is named twice.")));
        }
        match (write, table.manifest.get(uri)) {
            (Write::Add(..), Some(_)) => return Err(invalid(format!("The object {uri} is in the table already."))),
            (Write::Add(_, entry), None) if entry.partition_values.len() != keys => {
                return Err(invalid("A value must be specified for each partition key."));
            }
            (Write::Add(..), None) => {}
            (Write::Delete { .. }, None) => {
                return Err(not_found(format!("The object {uri} is not in the table.")));
            }
            (Write::Delete { etag, .. }, Some(entry)) => {
                if etag.as_ref().is_some_and(|etag| *etag != entry.etag) {
                    return Err(invalid(format!("The ETag of {uri} is another one.")));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn update(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (database, name) = (name(input, "DatabaseName"), name(input, "TableName"));
    let transaction = transaction(input)?;
    // The transaction and the table are refused before the objects are looked at.
    let table = state.read_catalog(|catalog| {
        if let Some(id) = transaction {
            catalog.writable(id)?;
        }
        catalog.table(transaction, &database, &name)
    })?;
    check(&table, &name, &[])?;
    let writes: Vec<_> =
        structures(input, "WriteOperations").map(|operation| read(state, operation)).collect::<Result<_, _>>()?;
    drop(table);
    let removes = writes.iter().any(|write| matches!(write, Write::Delete { .. }));
    let effect = if removes { Effect::Removal } else { Effect::Addition };
    state.with_catalog(|catalog| {
        catalog.edit(transaction, &database, &name, effect, |table| {
            let table = table.as_mut().ok_or_else(|| no_such_table(&name))?;
            check(table, &name, &writes)?;
            let manifest = &mut Arc::make_mut(table).manifest;
            for write in &writes {
                match write {
                    Write::Add(uri, entry) => manifest.insert(uri.clone(), Arc::new(entry.clone())),
                    Write::Delete { uri, .. } => manifest.remove(uri),
                };
            }
            Ok(())
        })?;
        let uris = |added| {
            let fits = writes.iter().filter(|write| matches!(write, Write::Add(..)) == added);
            fits.map(Write::uri).collect::<Vec<_>>()
        };
        let id = transaction.unwrap_or("none");
        catalog.objects_updated(id, &format!("{database}.{name}"), &uris(true), &uris(false));
        Ok(json!({}))
    })
}

pub(super) fn list(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (database, name) = (name(input, "DatabaseName"), name(input, "TableName"));
    let table = state.read_catalog(|catalog| catalog.table(transaction(input)?, &database, &name))?;
    check(&table, &name, &[])?;
    let predicate = match text(input, "PartitionPredicate") {
        "" => None,
        text => Some(Expression::parse(text, &table.partition_keys())?),
    };
    let mut wanted: Vec<_> = table
        .manifest
        .iter()
        .filter(|(_, entry)| predicate.as_ref().is_none_or(|predicate| predicate.holds(&entry.partition_values)))
        .collect();
    wanted.sort_by(|(uri, entry), (other_uri, other)| {
        (&entry.partition_values, uri).cmp(&(&other.partition_values, other_uri))
    });
    let (found, next) = page(input, wanted, 1000)?;
    let mut groups: BTreeMap<&Vec<String>, Vec<Value>> = BTreeMap::new();
    for (uri, entry) in found {
        let object = json!({ "Uri": uri, "ETag": format!("\"{}\"", entry.etag), "Size": entry.size });
        groups.entry(&entry.partition_values).or_default().push(object);
    }
    let groups =
        groups.into_iter().map(|(values, objects)| json!({ "PartitionValues": values, "Objects": objects })).collect();
    Ok(listed("Objects", (groups, next)))
}

pub(super) fn delete_on_cancel(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (database, name) = (name(input, "DatabaseName"), name(input, "TableName"));
    let uris: Vec<_> = structures(input, "Objects").map(|object| text(object, "Uri").to_owned()).collect();
    if let Some(uri) = uris.iter().find(|uri| !uri.starts_with("s3://")) {
        return Err(invalid(format!("The Uri {uri} does not start with s3://.")));
    }
    state.with_catalog(|catalog| {
        let id = transaction(input)?.unwrap_or_default();
        catalog.writable(id)?;
        check(&*catalog.table(Some(id), &database, &name)?, &name, &[])?;
        catalog.delete_on_cancel(id, uris)?;
        Ok(json!({}))
    })
}
