//! Partitions: the fields of the table's specification, each a transform of a column. No column is added for them.

use iceberg::spec::{
    Literal, NestedField, PartitionSpec, PrimitiveType, Schema, Struct, Transform as Iceberg, Type,
    UnboundPartitionSpec,
};

use super::odd;
use crate::config::{CalendarPart, Config, Partitioning};
use crate::failure::Failure;
use crate::lake::glue::TableName;
use crate::protocol::ConfiguredStream;
use crate::schema::transform::{Transform, Transforms};
use crate::schema::{Field, names};

/// How the configuration wants a stream's rows shared out, and what the user should hear of it.
pub(super) struct Wanted {
    fields: Vec<PartitionField>,
    pub(super) warning: Option<String>,
}

/// A field of a specification.
struct PartitionField {
    name: String,
    /// The column's key in the record: its name is for the table to say.
    source: String,
    transform: Transform,
}

impl Wanted {
    /// # Errors
    /// A `config_error` if the fields say something twice, which no specification can.
    pub(super) fn new(config: &Config, stream: &ConfiguredStream, columns: &[Field]) -> anyhow::Result<Self> {
        let wanted = if config.partition_fields.is_empty() {
            by_cursor(config.partitioning, stream, columns)
        } else {
            by_fields(config, columns)
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(why) => {
                let warning = format!("stream {}: {why}, so the table is not partitioned", stream.stream);
                return Ok(Self { fields: Vec::new(), warning: Some(warning) });
            }
        };
        let mut fields: Vec<PartitionField> = Vec::with_capacity(wanted.len());
        for (column, transform) in wanted {
            let calendar = |transform| transform != Transform::Identity;
            let twice = |field: &&PartitionField| {
                field.source == column.source && calendar(field.transform) == calendar(transform)
            };
            if fields.iter().any(|field| twice(&field)) {
                return Err(Failure::config(format!(
                    "an Iceberg table is partitioned by a date once, since day(x) tells month and year too: name column \
                     {} once in partition_fields",
                    column.name
                )));
            }
            let taken = columns.iter().map(|column| &column.name).chain(fields.iter().map(|field| &field.name));
            let name = field_name(column, transform, taken.map(String::as_str));
            fields.push(PartitionField { name, source: column.source.clone(), transform });
        }
        Ok(Self { fields, warning: None })
    }

    /// The specification of a new table with these columns.
    pub(super) fn spec(&self, schema: &Schema, columns: &[Field]) -> anyhow::Result<UnboundPartitionSpec> {
        let mut spec = UnboundPartitionSpec::builder();
        for field in &self.fields {
            let id = field.column(columns).and_then(|column| schema.field_id_by_name(&column.name));
            let id = id.ok_or_else(|| Failure::system("the partition's column is not in the table"))?;
            spec = spec.add_partition_field(id, &field.name, field.transform.iceberg()).map_err(odd)?;
        }
        Ok(spec.build())
    }

    /// By what rows are shared out, once it is settled what the columns hold.
    pub(super) fn transforms(&self, columns: &[Field]) -> Option<Transforms> {
        let fields = self.fields.iter().filter_map(|field| Some((field.column(columns)?, field.transform)));
        (!self.fields.is_empty()).then(|| Transforms::new(fields))
    }

    /// The specification of a table that exists is kept, so it has to be what the configuration says.
    pub(super) fn agrees(
        &self,
        name: &TableName,
        schema: &Schema,
        columns: &[Field],
        spec: &PartitionSpec,
    ) -> anyhow::Result<()> {
        let id = |field: &PartitionField| schema.field_id_by_name(&field.column(columns)?.name);
        let wanted: Vec<(Option<i32>, Iceberg)> =
            self.fields.iter().map(|field| (id(field), field.transform.iceberg())).collect();
        // Fields that somebody has dropped stay in the specification without effect.
        let found = spec.fields().iter().filter(|field| field.transform != Iceberg::Void);
        let found: Vec<(Option<i32>, Iceberg)> = found.map(|field| (Some(field.source_id), field.transform)).collect();
        if wanted == found {
            return Ok(());
        }
        Err(Failure::config(format!(
            "{name} is partitioned by {}, and the configuration asks for {}: set partitioning or partition_fields to match \
             the table, give the stream another name, or drop the table",
            in_words(schema, &found),
            in_words(schema, &wanted)
        )))
    }
}

impl PartitionField {
    fn column<'c>(&self, columns: &'c [Field]) -> Option<&'c Field> {
        columns.iter().find(|column| column.source == self.source)
    }
}

impl Transform {
    fn iceberg(self) -> Iceberg {
        match self {
            Self::Identity => Iceberg::Identity,
            Self::Year => Iceberg::Year,
            Self::Month => Iceberg::Month,
            Self::Day => Iceberg::Day,
        }
    }
}

/// As the setting is written.
fn in_words(schema: &Schema, fields: &[(Option<i32>, Iceberg)]) -> String {
    if fields.is_empty() {
        return "nothing".to_owned();
    }
    let word = |(id, how): &(Option<i32>, Iceberg)| {
        let name = id.and_then(|id| schema.name_by_field_id(id)).unwrap_or("another column");
        if *how == Iceberg::Identity { name.to_owned() } else { format!("{how}({name})") }
    };
    fields.iter().map(word).collect::<Vec<_>>().join(", ")
}

type Fields<'c> = Result<Vec<(&'c Field, Transform)>, String>;

fn by_cursor<'c>(partitioning: Partitioning, stream: &ConfiguredStream, columns: &'c [Field]) -> Fields<'c> {
    let transform = match partitioning {
        Partitioning::None => return Ok(Vec::new()),
        Partitioning::Date | Partitioning::Day | Partitioning::YearMonthDay => Transform::Day,
        Partitioning::Month | Partitioning::YearMonth => Transform::Month,
        Partitioning::Year => Transform::Year,
    };
    let cursor = match stream.cursor_field.as_slice() {
        [name] => columns.iter().find(|column| column.source == *name),
        _ => None,
    };
    let cursor = cursor.ok_or("it has no cursor among its fields")?;
    if transform.takes(&cursor.data_type) { Ok(vec![(cursor, transform)]) } else { Err("the cursor is no date".into()) }
}

fn by_fields<'c>(config: &Config, columns: &'c [Field]) -> Fields<'c> {
    let field = |wanted: &crate::config::PartitionField| {
        let name = &wanted.column;
        let exact = columns.iter().find(|column| column.source == *name);
        let column = exact.or_else(|| columns.iter().find(|column| column.name == *name));
        let column = column.ok_or_else(|| format!("it has no column {name}"))?;
        let transform = match wanted.part {
            None => Transform::Identity,
            Some(CalendarPart::Year) => Transform::Year,
            Some(CalendarPart::Month) => Transform::Month,
            Some(CalendarPart::Day) => Transform::Day,
        };
        match (transform.takes(&column.data_type), transform) {
            (true, _) => Ok((column, transform)),
            (false, Transform::Identity) => Err(format!("column {name} has parts, by which no table is partitioned")),
            (false, _) => Err(format!("column {name} is no date")),
        }
    };
    config.partition_fields.iter().map(field).collect()
}

/// As other writers name partition fields. Only an identity may be called as a column.
fn field_name<'n>(column: &Field, transform: Transform, taken: impl Iterator<Item = &'n str> + Clone) -> String {
    let ending = match transform {
        Transform::Identity => return column.name.clone(),
        Transform::Year => "year",
        Transform::Month => "month",
        Transform::Day => "day",
    };
    let stem: String = column.name.chars().take(names::MAX_NAME_CHARS - ending.len() - 1).collect();
    names::apart_from(&format!("{stem}_{ending}"), taken)
}

/// The partition of a data file, from the texts its rows were shared out by.
pub(super) fn values(spec: &PartitionSpec, schema: &Schema, texts: &[String]) -> anyhow::Result<Struct> {
    let types = spec.partition_type(schema).map_err(odd)?;
    let mut texts = texts.iter();
    let literals = spec.fields().iter().zip(types.fields()).map(|(field, result)| {
        if field.transform == Iceberg::Void {
            return Ok(None);
        }
        let text = texts.next().ok_or_else(|| Failure::system("an object without a partition"))?;
        if text.is_empty() {
            return Ok(None);
        }
        // The text is the user's data: it is not named.
        let odd = || Failure::system(format!("a value is no partition by {}({})", field.transform, field.name));
        literal(text, result).map(Some).ok_or_else(odd)
    });
    literals.collect()
}

fn literal(text: &str, result: &NestedField) -> Option<Literal> {
    let Type::Primitive(primitive) = &*result.field_type else { return None };
    Some(match primitive {
        PrimitiveType::Boolean => Literal::bool(text.parse::<bool>().ok()?),
        PrimitiveType::Int | PrimitiveType::Date => Literal::int(text.parse::<i32>().ok()?),
        PrimitiveType::Long => Literal::long(text.parse::<i64>().ok()?),
        PrimitiveType::Double => Literal::double(text.parse::<f64>().ok()?),
        PrimitiveType::Decimal { .. } => Literal::decimal(text.parse::<i128>().ok()?),
        PrimitiveType::Time => Literal::time(text.parse::<i64>().ok()?),
        PrimitiveType::Timestamp => Literal::timestamp(text.parse::<i64>().ok()?),
        PrimitiveType::Timestamptz => Literal::timestamptz(text.parse::<i64>().ok()?),
        PrimitiveType::String => Literal::string(text.strip_prefix('"')?.strip_suffix('"')?),
        _ => return None,
    })
}
