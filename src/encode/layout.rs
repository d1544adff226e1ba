//! What an object looks like, worked out once per stream.

use std::sync::Arc;

use ::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use ::parquet::schema::types::{ColumnDescPtr, SchemaDescriptor, TypePtr};
use anyhow::Context as _;
use arrow_schema::FieldRef;

use super::field_ids::FieldId;
use super::parquet_schema;
use super::plan::{Lookup, Node};
use crate::config::{FileFormat, JsonTimestamps, ParquetTimestamps};
use crate::schema::{Field, MemberPath, metadata_columns};

/// How timestamps are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampStyle {
    /// In Parquet.
    pub parquet: ParquetTimestamps,
    /// In JSON Lines.
    pub json: JsonTimestamps,
    /// Whether dates are milliseconds since 1970 in JSON Lines too, as pandas writes them.
    pub json_date_millis: bool,
}

/// The metadata columns of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataColumns {
    /// The sync's id.
    pub sync_id: Option<i64>,
    /// The stream's generation.
    pub generation_id: Option<i64>,
    /// The columns as stored; their `source` is one of [`METADATA_NAMES`](crate::schema::METADATA_NAMES). Merging with
    /// an existing table may have changed their types.
    pub columns: Vec<Field>,
}

impl MetadataColumns {
    /// The metadata columns of a new table.
    #[must_use]
    pub fn new(sync_id: Option<i64>, generation_id: Option<i64>) -> Self {
        Self { sync_id, generation_id, columns: metadata_columns() }
    }
}

/// What decides how an object looks.
#[derive(Clone, Debug)]
pub struct LayoutOptions {
    /// The stream's columns, in the order in which they are written.
    pub columns: Vec<Field>,
    /// Members of the stream's structs that the columns have no room for, since the table's types lack them.
    pub dropped: Vec<MemberPath>,
    /// Whether the one column holds records whole, as JSON text, since the stream declares no fields.
    pub whole_record: bool,
    /// Format and compression.
    pub file_format: FileFormat,
    /// The metadata columns, written after the others.
    pub metadata: Option<MetadataColumns>,
    /// How timestamps are written.
    pub timestamps: TimestampStyle,
    /// The encoded size at which a Parquet row group ends.
    pub row_group_bytes: u64,
    /// What the footer of a Parquet file says about its origin.
    pub key_value_metadata: Vec<(String, String)>,
    /// Parquet field ids of all columns, the metadata's included. Empty for none. With them the object is as Iceberg
    /// wants it: timestamps without a zone say so, and decimals are integers where they fit.
    pub field_ids: Vec<FieldId>,
}

/// [`LayoutOptions`] with everything that follows from them. Shared by all encoders of a stream.
#[derive(Debug)]
pub struct Layout {
    options: LayoutOptions,
    nodes: Vec<Node>,
    pub(super) lookup: Lookup,
    parquet: Option<ParquetLayout>,
}

/// What Parquet needs beside.
#[derive(Debug)]
pub(super) struct ParquetLayout {
    pub(super) arrow: Vec<FieldRef>,
    pub(super) schema: TypePtr,
    pub(super) properties: Arc<WriterProperties>,
    /// The same for columns with huge texts: without dictionary and statistics, in one page.
    pub(super) bare_properties: Arc<WriterProperties>,
    pub(super) leaves: usize,
}

impl ParquetLayout {
    /// The properties of a file of whose leaves these are worth a dictionary.
    pub(super) fn properties_with(&self, dictionaries: &[bool]) -> Arc<WriterProperties> {
        if dictionaries.iter().all(|wanted| *wanted) {
            return Arc::clone(&self.properties);
        }
        let schema = SchemaDescriptor::new(Arc::clone(&self.schema));
        let leaves = schema.columns().iter().zip(dictionaries).filter(|(_, wanted)| !**wanted);
        let properties = WriterProperties::clone(&self.properties).into_builder();
        let without = |properties: WriterPropertiesBuilder, leaf: &ColumnDescPtr| {
            properties.set_column_dictionary_enabled(leaf.path().clone(), false)
        };
        Arc::new(leaves.fold(properties, |properties, (leaf, _)| without(properties, leaf)).build())
    }
}

impl Layout {
    /// Works out a layout.
    ///
    /// # Errors
    ///
    /// If Parquet has no such schema, which means a defect.
    pub fn new(options: LayoutOptions) -> anyhow::Result<Self> {
        let data = options.columns.iter();
        let metadata = options.metadata.iter().flat_map(|metadata| &metadata.columns);
        let fields: Vec<&Field> = data.chain(metadata).collect();
        let nodes: Vec<Node> = fields.iter().map(|field| Node::new(field, &options.dropped)).collect();
        let lookup = Lookup::new(options.columns.iter().map(|field| field.source.as_str()));
        let parquet = match options.file_format {
            FileFormat::Jsonl { .. } => None,
            FileFormat::Parquet(codec) => {
                let layout = parquet_schema::build(&fields, codec, &options);
                Some(layout.context("building the Parquet schema of a stream")?)
            }
        };
        Ok(Self { options, nodes, lookup, parquet })
    }

    /// Parquet's part of a layout that has one.
    pub(super) fn parquet(&self) -> anyhow::Result<&ParquetLayout> {
        self.parquet.as_ref().context("the layout is not Parquet's")
    }

    /// What decided it.
    #[must_use]
    pub fn options(&self) -> &LayoutOptions {
        &self.options
    }

    /// All columns, the stream's and then the metadata's.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn data_nodes(&self) -> &[Node] {
        self.nodes.get(..self.options.columns.len()).unwrap_or_default()
    }

    pub(super) fn metadata_nodes(&self) -> impl Iterator<Item = (usize, &Node)> + Clone {
        self.nodes.iter().enumerate().skip(self.options.columns.len())
    }
}
