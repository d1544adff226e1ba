//! The Glue entry of an Iceberg table. The truth is in the metadata file; the columns are for whoever only looks into
//! the catalog, such as Lake Formation's permissions.

use std::collections::{HashMap, HashSet};

use aws_sdk_glue::types::{Column, StorageDescriptor, TableInput};
use iceberg::spec::{NestedField, TableMetadata};

use super::commit::Base;
use super::schema;
use crate::failure::Failure;
use crate::lake::definition;
use crate::lake::glue;
use crate::lake::table::{Plan, parameter};

/// The entry that shows `metadata`, which follows `base`. What others have put on the table stays.
pub(super) fn table_input(
    plan: &Plan,
    base: &Base,
    metadata: &TableMetadata,
    location: &str,
) -> anyhow::Result<TableInput> {
    let mut input = match &base.table {
        Some(table) => glue::input_of(table),
        None => TableInput::builder()
            .name(&plan.name.table)
            .description(definition::description(&plan.stream))
            .table_type("EXTERNAL_TABLE")
            .parameters(parameter::STREAM, plan.stream.to_string())
            .set_partition_keys(Some(Vec::new()))
            .build()
            .map_err(|error| Failure::system(error.to_string()))?,
    };
    let parameters: &mut HashMap<String, String> = input.parameters.get_or_insert_default();
    if let Some(previous) = parameters.get("metadata_location").cloned() {
        parameters.insert("previous_metadata_location".to_owned(), previous);
    }
    parameters.insert("table_type".to_owned(), "ICEBERG".to_owned());
    parameters.insert("metadata_location".to_owned(), location.to_owned());
    let storage = input.storage_descriptor.get_or_insert_with(|| StorageDescriptor::builder().build());
    let before = Before::new(&base.metadata, storage.columns.take().unwrap_or_default());
    storage.columns = Some(columns(metadata, &before)?);
    storage.location = Some(metadata.location().to_owned());
    Ok(input)
}

/// What the catalog said of columns, by their names as readers fold them.
struct Before {
    columns: HashMap<String, Column>,
    /// The comments that the metadata has put there: all others are somebody's who has edited the catalog.
    docs: HashSet<(String, String)>,
}

impl Before {
    fn new(metadata: &TableMetadata, columns: Vec<Column>) -> Self {
        let fields = metadata.schemas_iter().flat_map(|schema| schema.as_struct().fields());
        let doc = |field: &NestedField| Some((folded(&field.name), definition::printable(field.doc.as_deref()?)));
        let docs = fields.filter_map(|field| doc(field)).collect();
        Self { columns: columns.into_iter().map(|column| (folded(column.name()), column)).collect(), docs }
    }

    /// What others have put on a column: a comment and parameters.
    fn of_others(&self, name: &str) -> (Option<String>, HashMap<String, String>) {
        let Some(column) = self.columns.get(&folded(name)) else { return Default::default() };
        let comment = column.comment.clone().filter(|text| !self.docs.contains(&(folded(name), text.clone())));
        let mut parameters = column.parameters.clone().unwrap_or_default();
        parameters.retain(|key, _| !key.starts_with("iceberg.field."));
        (comment, parameters)
    }
}

/// Glue folds no column names, its readers do.
fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// The current columns, then those that only older schemas have; each name once, whatever became of it.
fn columns(metadata: &TableMetadata, before: &Before) -> anyhow::Result<Vec<Column>> {
    let current = metadata.current_schema();
    let mut older: Vec<_> = metadata.schemas_iter().filter(|s| s.schema_id() != current.schema_id()).collect();
    older.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
    let mut seen = HashSet::new();
    let mut columns = Vec::new();
    for schema in std::iter::once(&current).chain(&older) {
        let is_current = schema.schema_id() == current.schema_id();
        for field in schema.as_struct().fields() {
            if seen.insert(folded(&field.name)) {
                columns.push(column(field, is_current, before)?);
            }
        }
    }
    Ok(columns)
}

fn column(field: &NestedField, current: bool, before: &Before) -> anyhow::Result<Column> {
    let (comment, parameters) = before.of_others(&field.name);
    Column::builder()
        .name(&field.name)
        .r#type(schema::glue_type(&field.field_type))
        .set_comment(comment.or_else(|| field.doc.as_deref().map(definition::printable)))
        .set_parameters(Some(parameters))
        .parameters("iceberg.field.id", field.id.to_string())
        .parameters("iceberg.field.optional", (!field.required).to_string())
        .parameters("iceberg.field.current", current.to_string())
        .build()
        .map_err(|error| Failure::system(error.to_string()))
}
