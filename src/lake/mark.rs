//! The mark of a partitioned table that is being switched: everything that whoever finds it needs to finish.
//!
//! `airbyte.switching` says `<generation or 0> <location of the new rows>`. What the table is to become besides is
//! JSON in `airbyte.switching_definition`, cut into numbered parameters where it is longer than Glue's values may be.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_glue::types::{Column, SerDeInfo, StorageDescriptor, Table, TableInput};
use serde::{Deserialize, Serialize};

use super::definition;
use super::glue::{self, TableName};
use super::table::{Location, parameter};
use crate::failure::Failure;

/// Bytes of a parameter's value; Glue takes 512,000 characters (service model).
const LONGEST_VALUE: usize = 500_000;

/// A switch that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The generation to record; none for syncs without generations.
    pub(super) generation: Option<i64>,
    /// Where the new rows lie.
    pub(super) target: Location,
    pub(super) becomes: Becomes,
}

/// What the table is to become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Becomes {
    /// The sync that brought the rows.
    pub(super) sync_id: Option<i64>,
    /// How many objects the new rows are in.
    pub(super) objects: u64,
    columns: Vec<ColumnText>,
    /// Columns that go with the old rows. What others add after this was written down stays.
    #[serde(default)]
    gone: Option<Vec<String>>,
    input_format: Option<String>,
    output_format: Option<String>,
    compressed: bool,
    serde_name: Option<String>,
    serde_library: Option<String>,
    serde_parameters: Option<BTreeMap<String, String>>,
    storage_parameters: Option<BTreeMap<String, String>>,
    /// Parameters of the table that are set, and those that go. Others stay as they are by then.
    set: BTreeMap<String, String>,
    removed: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ColumnText {
    name: String,
    #[serde(rename = "type")]
    data_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// Whose the column and its members are, and what others have noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parameters: Option<BTreeMap<String, String>>,
}

impl Becomes {
    /// The difference between a table's parameters and its definition after the switch, and that definition's storage.
    pub(super) fn new(before: Option<&Table>, after: &TableInput, sync_id: Option<i64>, objects: u64) -> Self {
        let old = before.and_then(|table| table.parameters.clone()).unwrap_or_default();
        let new = after.parameters.clone().unwrap_or_default();
        let storage = after.storage_descriptor.clone().unwrap_or_else(|| StorageDescriptor::builder().build());
        let serde = storage.serde_info.as_ref();
        let has = |name: &str| storage.columns().iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let gone = before
            .map(columns_of)
            .unwrap_or_default()
            .iter()
            .map(|column| column.name.clone())
            .filter(|name| !has(name));
        let sorted = |map: &HashMap<String, String>| map.clone().into_iter().collect::<BTreeMap<_, _>>();
        Self {
            sync_id,
            objects,
            gone: Some(gone.collect()),
            columns: storage
                .columns()
                .iter()
                .map(|column| ColumnText {
                    name: column.name.clone(),
                    data_type: column.r#type.clone(),
                    comment: column.comment.clone(),
                    parameters: column.parameters.as_ref().map(sorted),
                })
                .collect(),
            input_format: storage.input_format.clone(),
            output_format: storage.output_format.clone(),
            compressed: storage.compressed,
            serde_name: serde.and_then(|serde| serde.name.clone()),
            serde_library: serde.and_then(|serde| serde.serialization_library.clone()),
            serde_parameters: serde.and_then(|serde| serde.parameters.as_ref()).map(sorted),
            storage_parameters: storage.parameters.as_ref().map(sorted),
            removed: old.keys().filter(|key| !new.contains_key(*key)).cloned().collect(),
            set: new.into_iter().filter(|(key, value)| old.get(key) != Some(value)).collect(),
        }
    }

    fn columns(&self) -> anyhow::Result<Vec<Column>> {
        let columns = self.columns.iter().map(|column| {
            let parameters = column.parameters.clone().map(|parameters| parameters.into_iter().collect());
            Column::builder()
                .set_parameters(parameters)
                .name(&column.name)
                .set_type(column.data_type.clone())
                .set_comment(column.comment.clone())
                .build()
        });
        columns.collect::<Result<_, _>>().map_err(|error| Failure::system(error.to_string()))
    }
}

impl Mark {
    /// The mark on a table.
    ///
    /// # Errors
    /// A mark that this version does not understand.
    pub(super) fn of(table: &Table) -> anyhow::Result<Option<Self>> {
        let Some(text) = glue::parameter(table, parameter::SWITCHING) else { return Ok(None) };
        let parsed = split(text).zip(becomes(table));
        let Some(((generation, target), becomes)) = parsed else {
            return Err(Failure::config(format!(
                "{} is being switched ({text}), in a way that this version does not know: use the version that began it",
                table.name()
            )));
        };
        Ok(Some(Self { generation, target, becomes }))
    }

    /// Puts the mark among a table's parameters.
    pub(super) fn put_on(&self, name: &TableName, input: &mut TableInput) -> anyhow::Result<()> {
        let text = serde_json::to_string(&self.becomes)
            .map_err(|error| Failure::system(format!("the switch of {name} cannot be written down: {error}")))?;
        let parameters = input.parameters.get_or_insert_default();
        let mark = format!("{} {}", self.generation.unwrap_or(0), self.target.uri());
        parameters.insert(parameter::SWITCHING.to_owned(), mark);
        for (number, piece) in pieces(&text).into_iter().enumerate() {
            parameters.insert(definition_key(number), piece.to_owned());
        }
        Ok(())
    }

    /// The table as it is after the switch, without the mark. What others have put on it meanwhile stays.
    pub(super) fn apply(&self, table: &Table) -> anyhow::Result<TableInput> {
        let mut input = glue::input_of(table);
        let parameters = input.parameters.get_or_insert_default();
        parameters.retain(|key, _| !is_of_mark(key) && !self.becomes.removed.contains(key));
        parameters.extend(self.becomes.set.clone());
        let mut storage = self.storage(table)?;
        let old = columns_of(table);
        definition::keep_comments(&mut storage, old);
        input.storage_descriptor = Some(storage);
        Ok(input)
    }

    /// The storage descriptor after the switch, at the new location.
    pub(super) fn storage(&self, table: &Table) -> anyhow::Result<StorageDescriptor> {
        let becomes = &self.becomes;
        let map = |map: &Option<BTreeMap<String, String>>| map.clone().map(|map| map.into_iter().collect());
        let serde = SerDeInfo::builder()
            .set_name(becomes.serde_name.clone())
            .set_serialization_library(becomes.serde_library.clone())
            .set_parameters(map(&becomes.serde_parameters));
        // Buckets, sorting and the like are as the table has them.
        let mut storage = table.storage_descriptor.clone().unwrap_or_else(|| StorageDescriptor::builder().build());
        storage.columns = Some(becomes.columns()?);
        // A mark that does not say it was put by a version that kept none.
        if let Some(gone) = &becomes.gone {
            definition::keep_added(&mut storage, columns_of(table), gone);
        }
        storage.location = Some(self.target.uri());
        storage.input_format = becomes.input_format.clone();
        storage.output_format = becomes.output_format.clone();
        storage.compressed = becomes.compressed;
        storage.serde_info = Some(serde.build());
        storage.parameters = map(&becomes.storage_parameters);
        Ok(storage)
    }
}

fn columns_of(table: &Table) -> &[Column] {
    table.storage_descriptor().map(StorageDescriptor::columns).unwrap_or_default()
}

/// The location in the text of a mark, for whoever has to leave it alone.
pub(super) fn location_in(text: &str) -> Option<Location> {
    split(text).map(|(_, location)| location)
}

fn split(text: &str) -> Option<(Option<i64>, Location)> {
    let (generation, location) = text.split_once(' ')?;
    let generation: i64 = generation.parse().ok()?;
    Some(((generation > 0).then_some(generation), Location::parse(location)?))
}

fn definition_key(number: usize) -> String {
    match number {
        0 => parameter::SWITCHING_DEFINITION.to_owned(),
        number => format!("{}.{number}", parameter::SWITCHING_DEFINITION),
    }
}

fn is_of_mark(key: &str) -> bool {
    key == parameter::SWITCHING || key.starts_with(parameter::SWITCHING_DEFINITION)
}

fn becomes(table: &Table) -> Option<Becomes> {
    let mut text = String::new();
    for number in 0.. {
        match glue::parameter(table, &definition_key(number)) {
            Some(piece) => text.push_str(piece),
            None => break,
        }
    }
    serde_json::from_str(&text).ok()
}

fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while rest.len() > LONGEST_VALUE {
        let (piece, more) = rest.split_at(rest.floor_char_boundary(LONGEST_VALUE));
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: usize, parameters: &[(&str, &str)]) -> Table {
        let columns = (0..columns).map(|i| {
            Column::builder()
                .name(format!("c{i}"))
                .r#type(format!("struct<{}:string>", "ä".repeat(200)))
                .build()
                .unwrap()
        });
        let storage = StorageDescriptor::builder()
            .set_columns(Some(columns.collect()))
            .location("s3://lake/db/My Table/")
            .number_of_buckets(-1)
            .build();
        let mut table = Table::builder().name("t").storage_descriptor(storage);
        for (key, value) in parameters {
            table = table.parameters(*key, *value);
        }
        table.build().unwrap()
    }

    fn marked(columns: usize) -> (Mark, Table) {
        let before = table(0, &[("owner", "them"), ("airbyte.json_timestamps", "sql"), ("classification", "json")]);
        let after = glue::input_of(&table(columns, &[("owner", "them"), ("classification", "parquet")]));
        let target = Location::parse("s3://lake/db/My Table.airbyte-generation-7-0123456789abcdef/").unwrap();
        let becomes = Becomes::new(Some(&before), &after, Some(3), 12);
        let mark = Mark { generation: Some(7), target, becomes };
        let mut input = glue::input_of(&before);
        let name = TableName { database: "db".into(), table: "t".into() };
        mark.put_on(&name, &mut input).unwrap();
        let table = Table::builder()
            .name("t")
            .set_parameters(input.parameters)
            .set_storage_descriptor(input.storage_descriptor)
            .build()
            .unwrap();
        (mark, table)
    }

    #[test]
    fn a_mark_is_found_as_it_was_put() {
        for columns in [0, 3, 6000] {
            let (mark, table) = marked(columns);
            assert_eq!(Mark::of(&table).unwrap(), Some(mark.clone()));
            let longest = table.parameters().unwrap().values().map(|value| value.chars().count()).max().unwrap();
            assert!(longest <= 512_000, "{longest}");
            let text = glue::parameter(&table, parameter::SWITCHING).unwrap();
            assert_eq!(location_in(text), Some(mark.target));
        }
    }

    #[test]
    fn what_it_says_is_applied_and_the_rest_stays() {
        let (mark, mut table) = marked(2);
        table.parameters.as_mut().unwrap().insert("added meanwhile".to_owned(), "by them".to_owned());
        let input = mark.apply(&table).unwrap();
        let parameters: BTreeMap<_, _> = input.parameters.unwrap().into_iter().collect();
        let expected = [("added meanwhile", "by them"), ("classification", "parquet"), ("owner", "them")];
        assert_eq!(parameters, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let storage = input.storage_descriptor.unwrap();
        assert_eq!((storage.columns().len(), storage.number_of_buckets), (2, -1));
        assert_eq!(storage.location(), Some(&*mark.target.uri()));
    }

    #[test]
    fn an_unknown_mark_is_refused() {
        for mark in ["", "soon", "7 nowhere"] {
            assert!(Mark::of(&table(1, &[(parameter::SWITCHING, mark)])).is_err(), "{mark}");
        }
        assert_eq!(Mark::of(&table(1, &[])).unwrap(), None);
    }
}
