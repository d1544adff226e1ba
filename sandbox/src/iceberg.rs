//! Iceberg tables, as far as `views.sql` shows them: the columns and the live data files of the current snapshot.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, bail};
use apache_avro::Reader;
use apache_avro::types::Value as Avro;
use serde_json::Value;

use crate::s3::store::{Store, split_uri};
use crate::state::locked;

/// What a table shows.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The columns, with their types as the specification writes them in JSON.
    pub(crate) columns: Vec<Column>,
    /// URIs of the data files.
    pub(crate) files: Vec<String>,
}

/// A column by its id: files may know it by other names.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) data_type: Value,
}

/// A file as a manifest has it.
#[derive(Debug)]
struct Live {
    uri: String,
    is_data: bool,
}

/// Manifests that were read. They never change, so each is read once.
#[derive(Debug, Default)]
pub(crate) struct Manifests(Mutex<HashMap<String, Arc<Vec<Live>>>>);

impl Manifests {
    /// What the table with this metadata shows.
    ///
    /// # Errors
    /// Metadata that is not there or not understood, and tables with delete files, which no view can apply.
    pub(crate) fn shown(&self, store: &Store, metadata: &str) -> anyhow::Result<Shown> {
        let metadata: Value = serde_json::from_slice(&read(store, metadata)?).context("its metadata is no JSON")?;
        let mut shown = Shown { columns: columns(&metadata)?, files: Vec::new() };
        let current = metadata["current-snapshot-id"].as_i64();
        let snapshots = metadata["snapshots"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(snapshot) = snapshots.iter().find(|s| current.is_some() && s["snapshot-id"].as_i64() == current)
        else {
            return Ok(shown);
        };
        let list = snapshot["manifest-list"].as_str().context("its snapshot has no list of manifests")?;
        for entry in records(&read(store, list)?)? {
            let path = text(&entry, "manifest_path").context("its list of manifests has no paths")?;
            for file in self.manifest(store, &path)?.iter() {
                if !file.is_data {
                    bail!("it has delete files");
                }
                shown.files.push(file.uri.clone());
            }
        }
        Ok(shown)
    }

    fn manifest(&self, store: &Store, uri: &str) -> anyhow::Result<Arc<Vec<Live>>> {
        if let Some(known) = locked(&self.0).get(uri) {
            return Ok(Arc::clone(known));
        }
        let mut live = Vec::new();
        for entry in records(&read(store, uri)?)? {
            // 2 is "deleted".
            if number(&entry, "status") == Some(2) {
                continue;
            }
            let file = member(&entry, "data_file").context("a manifest has no files")?;
            let uri = text(file, "file_path").context("a data file has no path")?;
            // Version 1 has nothing but data files.
            live.push(Live { uri, is_data: number(file, "content").unwrap_or(0) == 0 });
        }
        let live = Arc::new(live);
        locked(&self.0).insert(uri.to_owned(), Arc::clone(&live));
        Ok(live)
    }

    /// Forgets manifests whose objects are gone.
    pub(crate) fn forget(&self, store: &Store) {
        let known: Vec<String> = locked(&self.0).keys().cloned().collect();
        let gone: HashSet<String> = known.into_iter().filter(|uri| read_path(store, uri).is_err()).collect();
        locked(&self.0).retain(|uri, _| !gone.contains(uri));
    }
}

fn columns(metadata: &Value) -> anyhow::Result<Vec<Column>> {
    let current = metadata["current-schema-id"].as_i64();
    let schemas = metadata["schemas"].as_array().map(Vec::as_slice).unwrap_or_default();
    let schema = schemas.iter().find(|schema| schema["schema-id"].as_i64() == current).unwrap_or(&metadata["schema"]);
    let fields = schema["fields"].as_array().context("its metadata has no schema")?;
    let column = |field: &Value| {
        Some(Column {
            id: field["id"].as_i64()?,
            name: field["name"].as_str()?.to_owned(),
            data_type: field["type"].clone(),
        })
    };
    fields.iter().map(|field| column(field).context("a column has no id or name")).collect()
}

fn read_path(store: &Store, uri: &str) -> anyhow::Result<std::path::PathBuf> {
    let (bucket, key) = split_uri(uri).with_context(|| format!("{uri} is no object"))?;
    let found = store.path(bucket, key).ok().filter(|path| path.is_file());
    found.with_context(|| format!("{uri} is not there"))
}

fn read(store: &Store, uri: &str) -> anyhow::Result<Vec<u8>> {
    Ok(fs::read(read_path(store, uri)?)?)
}

fn records(bytes: &[u8]) -> anyhow::Result<Vec<Avro>> {
    Ok(Reader::new(bytes)?.collect::<Result<Vec<_>, _>>()?)
}

fn member<'v>(record: &'v Avro, name: &str) -> Option<&'v Avro> {
    let Avro::Record(members) = plain(record) else { return None };
    members.iter().find(|(member, _)| member == name).map(|(_, value)| plain(value))
}

/// A value without the union around it.
fn plain(value: &Avro) -> &Avro {
    if let Avro::Union(_, inner) = value { plain(inner) } else { value }
}

fn text(record: &Avro, name: &str) -> Option<String> {
    if let Avro::String(text) = member(record, name)? { Some(text.clone()) } else { None }
}

fn number(record: &Avro, name: &str) -> Option<i64> {
    match member(record, name)? {
        Avro::Int(number) => Some(i64::from(*number)),
        Avro::Long(number) => Some(*number),
        _ => None,
    }
}
