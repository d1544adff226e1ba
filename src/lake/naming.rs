//! Which table a stream has.
//!
//! Names that meet in one catalog are told apart by the catalog alone. Streams come and go between syncs, though, and a
//! table remembers whose it is: it is never given to another stream because its own is away, or because the other one has
//! more of a right to the name.

use std::collections::HashMap;

use aws_sdk_glue::types::Table;

use super::glue::{self, Catalog, TableName};
use super::table::parameter;
use crate::aws::AwsError;
use crate::config::Config;
use crate::failure::StreamName;
use crate::protocol::ConfiguredStream;
use crate::schema::names::{distinct, identifier, told_apart};

/// What a stream's table is called in its source, or by its user.
fn wanted(stream: &ConfiguredStream) -> &str {
    stream.destination_object_name.as_deref().unwrap_or(&stream.stream.name)
}

/// Gives each stream its database and table. Names that meet are told apart in the same way in every sync.
pub(super) fn names(config: &Config, streams: &[ConfiguredStream]) -> Vec<TableName> {
    let databases: Vec<String> =
        streams.iter().map(|s| identifier(s.stream.namespace.as_deref().unwrap_or(&config.database))).collect();
    let mut tables = vec![String::new(); streams.len()];
    let mut by_database: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, database) in databases.iter().enumerate() {
        by_database.entry(database).or_default().push(index);
    }
    for members in by_database.values() {
        let originals: Vec<&str> = members.iter().map(|&i| wanted(&streams[i])).collect();
        // Two namespaces that become one database may hold streams of one name: then the namespace tells them apart.
        let twice = |name: &str| originals.iter().filter(|other| **other == name).count() > 1;
        let spelled: Vec<String> = members
            .iter()
            .zip(&originals)
            .map(|(&i, original)| match &streams[i].stream {
                // A user who gave one name to several streams has them told apart by their own.
                StreamName { name, .. } if twice(original) && name != original => format!("{original}_{name}"),
                StreamName { namespace: Some(namespace), .. } if twice(original) => format!("{original}_{namespace}"),
                _ => (*original).to_owned(),
            })
            .collect();
        let distinct = distinct(spelled.iter().map(String::as_str));
        for (&index, table) in members.iter().zip(distinct) {
            tables[index] = table;
        }
    }
    databases.into_iter().zip(tables).map(|(database, table)| TableName { database, table }).collect()
}

/// A stream's table: its name, what exists under it, and a word for the user where it is not the name expected.
pub(super) struct Own {
    pub(super) name: TableName,
    pub(super) table: Option<Table>,
    pub(super) warning: Option<String>,
}

/// Finds the table that is the stream's own, given the name it has by the catalog.
pub(super) async fn own(catalog: &Catalog<'_>, stream: &ConfiguredStream, given: TableName) -> Result<Own, AwsError> {
    let plain = TableName { database: given.database.clone(), table: identifier(wanted(stream)) };
    if given != plain {
        // It had the name for itself when its table was made.
        let table = catalog.table(&plain).await?;
        if table.as_ref().and_then(owner) == Some(&stream.stream.to_string()) {
            return Ok(Own { name: plain, table, warning: None });
        }
    }
    let table = catalog.table(&given).await?;
    let Some(other) = table.as_ref().and_then(owner).filter(|owner| !is_same(owner, &stream.stream)) else {
        return Ok(Own { name: given, table, warning: None });
    };
    let name = TableName { table: told_apart(wanted(stream), &given.table), database: given.database.clone() };
    let warning = format!(
        "{given} is the table of stream {other}, so stream {} goes to {name}; if they are the same stream, remove the \
         parameter {} from {given}",
        stream.stream,
        parameter::STREAM,
    );
    let table = catalog.table(&name).await?;
    Ok(Own { name, table, warning: Some(warning) })
}

fn owner(table: &Table) -> Option<&str> {
    glue::parameter(table, parameter::STREAM)
}

/// Whether a table that remembers `owner` is a stream's: by its name alone, since a namespace that has become explicit, or
/// another name of the database, makes no other stream of it.
fn is_same(owner: &str, stream: &StreamName) -> bool {
    owner == stream.name
        || owner == stream.to_string()
        || owner.strip_suffix(&stream.name).is_some_and(|rest| rest.ends_with('.'))
}
