//! Partitions: transforms of the cursor in the table's specification. No column is added for them.

use iceberg::spec::{Literal, PartitionSpec, Schema, Struct, Transform, UnboundPartitionSpec};

use super::odd;
use crate::config::{Config, Partitioning};
use crate::failure::Failure;
use crate::lake::table::Plan;
use crate::protocol::ConfiguredStream;
use crate::schema::Field;
use crate::schema::partition::{DatePart, PartitionBy};

/// How the configuration wants a stream's rows shared out, and what the user should hear of it.
pub(super) struct Wanted {
    pub(super) by: Option<PartitionBy>,
    /// The name of the column and what is made of it, for each partition field.
    fields: Vec<(String, Transform)>,
    pub(super) warning: Option<String>,
}

impl Wanted {
    pub(super) fn new(config: &Config, stream: &ConfiguredStream, columns: &[Field]) -> Self {
        let (part, transform) = match config.partitioning {
            Partitioning::None => return Self { by: None, fields: Vec::new(), warning: None },
            Partitioning::Date | Partitioning::Day | Partitioning::YearMonthDay => (DatePart::EachDay, Transform::Day),
            Partitioning::Month | Partitioning::YearMonth => (DatePart::EachMonth, Transform::Month),
            Partitioning::Year => (DatePart::EachYear, Transform::Year),
        };
        let cursor = match stream.cursor_field.as_slice() {
            [name] => columns.iter().find(|column| column.source == *name),
            _ => None,
        };
        let names = || columns.iter().map(|column| column.name.as_str());
        match cursor.and_then(|cursor| Some((cursor, PartitionBy::cursor(&[part], cursor, names())?))) {
            Some((cursor, by)) => Self { by: Some(by), fields: vec![(cursor.name.clone(), transform)], warning: None },
            None => {
                let why = if cursor.is_some() { "the cursor is no date" } else { "it has no cursor among its fields" };
                let warning = format!("stream {}: {why}, so the table is not partitioned", stream.stream);
                Self { by: None, fields: Vec::new(), warning: Some(warning) }
            }
        }
    }

    /// The specification of a new table with this schema.
    pub(super) fn spec(&self, schema: &Schema) -> anyhow::Result<UnboundPartitionSpec> {
        let mut spec = UnboundPartitionSpec::builder();
        let names = self.by.iter().flat_map(|by| by.keys());
        for ((column, transform), (name, _)) in self.fields.iter().zip(names) {
            let id = schema.field_id_by_name(column);
            let id = id.ok_or_else(|| Failure::system("the partition's column is not in the table"))?;
            spec = spec.add_partition_field(id, name, *transform).map_err(odd)?;
        }
        Ok(spec.build())
    }

    /// The specification of a table that exists is kept, so it has to be what the configuration says.
    pub(super) fn agrees(&self, plan: &Plan, schema: &Schema, spec: &PartitionSpec) -> anyhow::Result<()> {
        let wanted: Vec<(Option<i32>, Transform)> =
            self.fields.iter().map(|(column, transform)| (schema.field_id_by_name(column), *transform)).collect();
        // Fields that somebody has dropped stay in the specification without effect.
        let found = spec.fields().iter().filter(|field| field.transform != Transform::Void);
        let found: Vec<(Option<i32>, Transform)> =
            found.map(|field| (Some(field.source_id), field.transform)).collect();
        if wanted == found {
            return Ok(());
        }
        let say = |fields: &[(Option<i32>, Transform)]| match fields {
            [] => "nothing".to_owned(),
            fields => {
                let name = |id: Option<i32>| id.and_then(|id| schema.name_by_field_id(id)).unwrap_or("another column");
                fields.iter().map(|(id, how)| format!("{how}({})", name(*id))).collect::<Vec<_>>().join(", ")
            }
        };
        Err(Failure::config(format!(
            "{} is partitioned by {}, and the configuration asks for {}: set partitioning to match the table, give the \
             stream another name, or drop the table",
            plan.name,
            say(&found),
            say(&wanted)
        )))
    }
}

/// The partition of a data file, from the texts its rows were shared out by.
pub(super) fn values(spec: &PartitionSpec, texts: &[String]) -> anyhow::Result<Struct> {
    let mut texts = texts.iter();
    let literals = spec.fields().iter().map(|field| {
        if field.transform == Transform::Void {
            return Ok(None);
        }
        let text = texts.next().ok_or_else(|| Failure::system("an object without a partition"))?;
        if text.is_empty() {
            return Ok(None);
        }
        let literal = ordinal(field.transform, text);
        literal.map(Some).ok_or_else(|| Failure::system(format!("{text} is no partition by {}", field.transform)))
    });
    literals.collect()
}

/// Years, months or days since 1970 (the specification's partition transforms).
fn ordinal(transform: Transform, text: &str) -> Option<Literal> {
    let mut numbers = text.split('-').map(|number| number.parse::<i32>().ok());
    let year = numbers.next()?? - 1970;
    let mut next = || numbers.next().flatten();
    match transform {
        Transform::Year => Some(Literal::int(year)),
        Transform::Month => Some(Literal::int(year * 12 + next()? - 1)),
        Transform::Day => {
            let date: jiff::civil::Date = text.parse().ok()?;
            let epoch = jiff::civil::date(1970, 1, 1);
            Some(Literal::date(epoch.until(date).ok()?.get_days()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_the_specifications_ordinals() {
        for (transform, text, ordinal) in [
            (Transform::Year, "1969", -1),
            (Transform::Month, "1970-02", 1),
            (Transform::Month, "1969-12", -1),
            (Transform::Day, "1970-01-02", 1),
            (Transform::Day, "2024-01-05", 19727),
            (Transform::Day, "1969-12-31", -1),
            (Transform::Day, "0001-01-01", -719162),
        ] {
            assert_eq!(super::ordinal(transform, text), Some(Literal::int(ordinal)), "{transform} {text}");
        }
    }
}
