//! From a stream's JSON schema to column types, and from JSON values to values of those types.
//!
//! Everything here is pure and total: any JSON schema gives columns, any JSON value gives a value or NULL with a
//! reason. The rules that users' tables depend on:
//!
//! - A column is a struct or an array only if every part of it, at every depth, has one fixed type. Otherwise the whole
//!   column is [`DataType::Json`], text that is always valid JSON. `additionalProperties` other than `false` is not
//!   fixed, and neither is an object without properties or an array without items.
//! - Arrays of dates, times and date-times are arrays of strings, as sent.
//! - A list of types that allows string is a string column at the top level; inside a struct or array it is not fixed.
//! - `["integer", "number"]` is `number`: every integer is one.
//! - A union (`oneOf`, `anyOf`, `allOf`) of which one alternative is left without `null` is that alternative. Any other
//!   union is JSON text, unless a scalar `type` beside it says what the value is.
//! - A stream whose schema declares no fields has one column, [`whole_record_column`].
//! - Types nested deeper than [`MAX_DEPTH`], or whose name exceeds what Glue stores, are JSON text.

mod clock;
pub mod coerce;
mod datetime;
pub mod hive;
mod json_schema;
pub mod merge;
pub mod names;
mod numeric;
pub mod partition;
pub(crate) mod scan;
pub mod text;
pub mod transform;

pub use json_schema::{columns, columns_of_table};

/// How deep structs and arrays may nest. Deeper types are JSON text, so recursion over a type is bounded whatever the
/// data looks like.
pub const MAX_DEPTH: usize = 64;

/// The type of a column or of a part of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `true` or `false`.
    Boolean,
    /// A signed integer.
    Integer(IntWidth),
    /// An IEEE 754 number.
    Number(FloatWidth),
    /// An exact number.
    Decimal {
        /// Digits in all; 1 to 38.
        precision: u8,
        /// Digits after the point; at most `precision`.
        scale: u8,
    },
    /// Text.
    String {
        /// The length in characters beyond which text is cut: `varchar(n)` and `char(n)` of an existing table.
        max_chars: Option<u32>,
    },
    /// A calendar date.
    Date,
    /// A point in time, or a wall-clock reading where `zoned` is false.
    Timestamp {
        /// Whether values are instants.
        zoned: bool,
    },
    /// A time of day, kept as the text that was sent.
    Time {
        /// Whether the source declares an offset.
        zoned: bool,
    },
    /// A time of day as a number of microseconds, where the table format has such a type and the user wants it.
    TimeOfDay {
        /// Whether values have an offset: then they are kept in UTC.
        zoned: bool,
    },
    /// Named parts.
    Struct(Vec<Field>),
    /// Any number of values of one type.
    Array(Box<DataType>),
    /// The text of any JSON value.
    Json,
}

/// Width of a stored integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntWidth {
    /// `tinyint`
    I8,
    /// `smallint`
    I16,
    /// `int`
    I32,
    /// `bigint`, the width of columns we create.
    I64,
}

/// Width of a stored IEEE 754 number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatWidth {
    /// `float`
    F32,
    /// `double`, the width of columns we create.
    F64,
}

impl DataType {
    /// Text of any length.
    pub const STRING: Self = Self::String { max_chars: None };
    /// A 64-bit integer.
    pub const INTEGER: Self = Self::Integer(IntWidth::I64);
    /// A double.
    pub const NUMBER: Self = Self::Number(FloatWidth::F64);

    /// How deep structs and arrays nest in this type; 0 for a scalar.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self {
            Self::Struct(fields) => 1 + fields.iter().map(|field| field.data_type.depth()).max().unwrap_or(0),
            Self::Array(element) => 1 + element.depth(),
            _ => 0,
        }
    }
}

/// A column, or a member of a struct.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The key in the record.
    pub source: String,
    /// The name as stored.
    pub name: String,
    /// The type as stored.
    pub data_type: DataType,
}

impl Field {
    /// A field whose stored name is also its key.
    #[must_use]
    pub fn plain(name: &str, data_type: DataType) -> Self {
        Self { source: name.to_owned(), name: name.to_owned(), data_type }
    }
}

/// What the user may choose about types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchemaOptions {
    /// `number` becomes `decimal(38,25)` instead of `double`.
    pub float_as_decimal: bool,
    /// The table carries our metadata columns, so a column of the stream cannot have one of their names.
    pub metadata_columns: bool,
}

/// Names of the metadata columns, in order.
pub const METADATA_NAMES: [&str; 4] =
    ["_airbyte_raw_id", "_airbyte_extracted_at", "_airbyte_meta", "_airbyte_generation_id"];

/// The column of a stream whose schema declares no fields: every record whole, as JSON text. The name is that of
/// Airbyte's raw tables.
#[must_use]
pub fn whole_record_column() -> Field {
    Field::plain("_airbyte_data", DataType::Json)
}

/// The metadata columns, the same in every table format.
#[must_use]
pub fn metadata_columns() -> Vec<Field> {
    let change = ["field", "change", "reason"].map(|name| Field::plain(name, DataType::STRING)).to_vec();
    let meta = vec![
        Field::plain("sync_id", DataType::INTEGER),
        Field::plain("changes", DataType::Array(Box::new(DataType::Struct(change)))),
    ];
    let types = [DataType::STRING, DataType::Timestamp { zoned: true }, DataType::Struct(meta), DataType::INTEGER];
    METADATA_NAMES.iter().zip(types).map(|(name, data_type)| Field::plain(name, data_type)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_columns_have_the_documented_types() {
        let types: Vec<String> =
            metadata_columns().iter().map(|f| format!("{} {}", f.name, hive::type_string(&f.data_type))).collect();
        assert_eq!(
            types,
            [
                "_airbyte_raw_id string",
                "_airbyte_extracted_at timestamp",
                "_airbyte_meta struct<sync_id:bigint,changes:array<struct<field:string,change:string,reason:string>>>",
                "_airbyte_generation_id bigint",
            ]
        );
    }
}
