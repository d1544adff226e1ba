//! Partitions. Those of a governed table come into being by its objects, and can only be read here.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::expression::Expression;
use super::{already_exists, error_detail, listed, name, page, strings, structure, structures, text, transaction};
use crate::catalog::{Partition, Shape, Table, invalid, not_found};
use crate::clock;
use crate::refusal::Refusal;
use crate::state::State;

/// Runs a change of a table's partitions.
fn edit<R>(state: &State, input: &Shape, work: impl FnOnce(&mut Table) -> Result<R, Refusal>) -> Result<R, Refusal> {
    let (database, table) = (name(input, "DatabaseName"), name(input, "TableName"));
    state.with_catalog(|catalog| {
        catalog.edit_partitions(&database, &table, |table| {
            if table.is_governed() {
                return Err(invalid("Partitions of a GOVERNED table are made by UpdateTableObjects."));
            }
            work(table)
        })
    })
}

fn find(state: &State, input: &Shape) -> Result<Arc<Table>, Refusal> {
    let (database, table) = (name(input, "DatabaseName"), name(input, "TableName"));
    state.read_catalog(|catalog| catalog.table(transaction(input)?, &database, &table))
}

/// The partitions of a table; those of a governed table are where its objects are.
fn partitions(table: &Table) -> BTreeMap<Vec<String>, Arc<Partition>> {
    if !table.is_governed() {
        return table.partitions.clone();
    }
    let mut found = BTreeMap::new();
    for (uri, entry) in &table.manifest {
        found.entry(entry.partition_values.clone()).or_insert_with(|| {
            let mut descriptor = structure(table.definition(), "StorageDescriptor");
            let folder = uri.rsplit_once('/').map_or(uri.as_str(), |(folder, _)| folder);
            descriptor.insert("Location".to_owned(), json!(format!("{folder}/")));
            let mut definition = Shape::new();
            definition.insert("Values".to_owned(), json!(entry.partition_values));
            definition.insert("StorageDescriptor".to_owned(), Value::Object(descriptor));
            Arc::new(Partition { created: table.created, definition })
        });
    }
    found
}

fn described(state: &State, input: &Shape, partition: &Partition) -> Value {
    let mut described = partition.definition.clone();
    described.insert("DatabaseName".to_owned(), json!(name(input, "DatabaseName")));
    described.insert("TableName".to_owned(), json!(name(input, "TableName")));
    described.insert("CatalogId".to_owned(), json!(state.account_id));
    described.insert("CreationTime".to_owned(), json!(partition.created));
    if input.get("ExcludeColumnSchema").and_then(Value::as_bool).unwrap_or(false)
        && let Some(descriptor) = described.get_mut("StorageDescriptor").and_then(Value::as_object_mut)
    {
        descriptor.remove("Columns");
    }
    Value::Object(described)
}

fn check_values(table: &Table, values: &[String]) -> Result<(), Refusal> {
    if values.len() != table.partition_keys().len() {
        return Err(invalid("The number of partition keys do not match the number of partition values"));
    }
    Ok(())
}

fn insert(table: &mut Table, definition: &Shape) -> Result<(), Refusal> {
    let values = strings(definition, "Values");
    if table.partitions.contains_key(&values) {
        return Err(already_exists("Partition already exists."));
    }
    let partition = Partition { created: clock::epoch_seconds(), definition: definition.clone() };
    table.partitions.insert(values, Arc::new(partition));
    Ok(())
}

pub(super) fn create(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let definition = structure(input, "PartitionInput");
    edit(state, input, |table| {
        check_values(table, &strings(&definition, "Values"))?;
        insert(table, &definition)?;
        Ok(json!({}))
    })
}

/// The refusal that the settings have for a partition of a batch.
fn planned(state: &State, values: &[String]) -> Option<Refusal> {
    state.change_settings(|settings| {
        let planned = settings.refused_partitions.get_mut(values.first()?)?;
        planned.times = planned.times.checked_sub(1)?;
        Some(Refusal::new(400, planned.code.clone(), "planned"))
    })
}

pub(super) fn create_many(state: &State, input: &Shape) -> Result<Value, Refusal> {
    edit(state, input, |table| {
        for definition in structures(input, "PartitionInputList") {
            check_values(table, &strings(definition, "Values"))?;
        }
        let mut errors = Vec::new();
        for definition in structures(input, "PartitionInputList") {
            let values = strings(definition, "Values");
            let refused = match planned(state, &values) {
                Some(refusal) => Err(refusal),
                None => insert(table, definition),
            };
            if let Err(refusal) = refused {
                errors.push(json!({ "PartitionValues": values, "ErrorDetail": error_detail(&refusal) }));
            }
        }
        Ok(if errors.is_empty() { json!({}) } else { json!({ "Errors": errors }) })
    })
}

fn no_such_partition() -> Refusal {
    not_found("Cannot find partition.")
}

pub(super) fn get(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let table = find(state, input)?;
    let values = strings(input, "PartitionValues");
    check_values(&table, &values)?;
    let found = partitions(&table).remove(&values).ok_or_else(no_such_partition)?;
    Ok(json!({ "Partition": described(state, input, &found) }))
}

pub(super) fn list(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let table = find(state, input)?;
    let expression = match text(input, "Expression") {
        "" => None,
        text => Some(Expression::parse(text, &table.partition_keys())?),
    };
    let segment = input.get("Segment").and_then(Value::as_object).and_then(|segment| {
        let number = |name: &str| segment.get(name).and_then(Value::as_u64);
        Some((number("SegmentNumber")?, number("TotalSegments").filter(|total| *total > 0)?))
    });
    let all: Vec<_> = partitions(&table)
        .into_iter()
        .enumerate()
        .filter(|(at, _)| segment.is_none_or(|(number, total)| *at as u64 % total == number))
        .filter(|(_, (values, _))| expression.as_ref().is_none_or(|expression| expression.holds(values)))
        .map(|(_, (_, partition))| partition)
        .collect();
    let (found, next) = page(input, all, 1000)?;
    let found = found.iter().map(|partition| described(state, input, partition)).collect();
    Ok(listed("Partitions", (found, next)))
}

pub(super) fn get_many(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let table = find(state, input)?;
    let all = partitions(&table);
    let most = state.settings().partitions_per_get.unwrap_or(usize::MAX);
    let (mut found, mut unprocessed) = (Vec::new(), Vec::new());
    for (number, wanted) in structures(input, "PartitionsToGet").enumerate() {
        let values = strings(wanted, "Values");
        check_values(&table, &values)?;
        if number < most {
            found.extend(all.get(&values).map(|partition| described(state, input, partition)));
        } else {
            unprocessed.push(json!({ "Values": values }));
        }
    }
    Ok(json!({ "Partitions": found, "UnprocessedKeys": unprocessed }))
}

/// Replaces a partition's definition, not its values.
fn replace(table: &mut Table, values: &[String], definition: &Shape) -> Result<(), Refusal> {
    let partition = table.partitions.get_mut(values).ok_or_else(no_such_partition)?;
    let given = strings(definition, "Values");
    if !given.is_empty() && given != values {
        return Err(invalid("The values of a partition cannot be changed."));
    }
    let mut definition = definition.clone();
    definition.insert("Values".to_owned(), json!(values));
    *partition = Arc::new(Partition { created: partition.created, definition });
    Ok(())
}

pub(super) fn update(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let (values, definition) = (strings(input, "PartitionValueList"), structure(input, "PartitionInput"));
    edit(state, input, |table| {
        check_values(table, &values)?;
        replace(table, &values, &definition)?;
        Ok(json!({}))
    })
}

pub(super) fn update_many(state: &State, input: &Shape) -> Result<Value, Refusal> {
    edit(state, input, |table| {
        let mut errors = Vec::new();
        for entry in structures(input, "Entries") {
            let values = strings(entry, "PartitionValueList");
            let refused = match planned(state, &values) {
                Some(refusal) => Err(refusal),
                None => replace(table, &values, &structure(entry, "PartitionInput")),
            };
            if let Err(refusal) = refused {
                errors.push(json!({ "PartitionValueList": values, "ErrorDetail": error_detail(&refusal) }));
            }
        }
        Ok(if errors.is_empty() { json!({}) } else { json!({ "Errors": errors }) })
    })
}

pub(super) fn delete(state: &State, input: &Shape) -> Result<Value, Refusal> {
    let values = strings(input, "PartitionValues");
    edit(state, input, |table| table.partitions.remove(&values).map(|_| json!({})).ok_or_else(no_such_partition))
}

pub(super) fn delete_many(state: &State, input: &Shape) -> Result<Value, Refusal> {
    edit(state, input, |table| {
        let mut errors = Vec::new();
        for wanted in structures(input, "PartitionsToDelete") {
            let values = strings(wanted, "Values");
            let refused = match planned(state, &values) {
                Some(refusal) => Err(refusal),
                None => table.partitions.remove(&values).map(drop).ok_or_else(no_such_partition),
            };
            if let Err(refusal) = refused {
                errors.push(json!({ "PartitionValues": values, "ErrorDetail": error_detail(&refusal) }));
            }
        }
        Ok(if errors.is_empty() { json!({}) } else { json!({ "Errors": errors }) })
    })
}
