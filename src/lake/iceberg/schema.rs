//! Columns as Iceberg has them: types with ids that are never reused, merged with a table that exists.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{ListType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, TableMetadata, Type};

use crate::encode::FieldId;
use crate::schema::{DataType, Field, FloatWidth, IntWidth, names};

/// A stream's columns in a table.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    /// The schema the table needs.
    pub(super) schema: Schema,
    /// The columns to write, in the stream's order, with the table's names and types.
    pub(super) columns: Vec<Field>,
    /// Paths of members that a struct of the table has no room for; their values are not stored.
    pub(super) dropped_nested: Vec<String>,
}

impl Merged {
    /// The ids of the columns to write.
    pub(super) fn ids(&self) -> anyhow::Result<Vec<FieldId>> {
        let id = |column: &Field| {
            let field = self.schema.as_struct().fields().iter().find(|field| field.name == column.name);
            field.and_then(|field| field_id(field, &column.data_type))
        };
        let ids: Option<Vec<FieldId>> = self.columns.iter().map(id).collect();
        ids.ok_or_else(|| crate::failure::Failure::system("a column is not in its own table's schema"))
    }
}

fn field_id(field: &NestedField, data_type: &DataType) -> Option<FieldId> {
    let parts = match (&*field.field_type, data_type) {
        (Type::Struct(members), DataType::Struct(fields)) => fields
            .iter()
            .map(|part| field_id(members.fields().iter().find(|m| m.name == part.name)?, &part.data_type))
            .collect::<Option<Vec<_>>>()?,
        (Type::List(list), DataType::Array(element)) => vec![field_id(&list.element_field, element)?],
        _ => Vec::new(),
    };
    Some(FieldId { id: field.id, parts })
}

/// Hands out ids that no column of the table has had.
struct Fresh(i32);

impl Fresh {
    fn next(&mut self) -> i32 {
        self.0 += 1;
        self.0
    }

    fn field(&mut self, field: &Field) -> NestedField {
        let id = self.next();
        described(NestedField::optional(id, &field.name, self.data_type(&field.data_type)), field)
    }

    fn data_type(&mut self, data_type: &DataType) -> Type {
        match data_type {
            DataType::Struct(fields) => {
                Type::Struct(StructType::new(fields.iter().map(|field| Arc::new(self.field(field))).collect()))
            }
            DataType::Array(element) => {
                let id = self.next();
                let element = self.data_type(element);
                Type::List(ListType::new(Arc::new(NestedField::list_element(id, element, false))))
            }
            scalar => Type::Primitive(primitive(scalar)),
        }
    }
}

/// The name in the source, where it is another one.
fn described(column: NestedField, field: &Field) -> NestedField {
    if field.source == field.name { column } else { column.with_doc(&field.source) }
}

/// The type of a new column. What has parts is none.
fn primitive(data_type: &DataType) -> PrimitiveType {
    match data_type {
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Integer(IntWidth::I64) => PrimitiveType::Long,
        DataType::Integer(_) => PrimitiveType::Int,
        DataType::Number(FloatWidth::F32) => PrimitiveType::Float,
        DataType::Number(FloatWidth::F64) => PrimitiveType::Double,
        DataType::Decimal { precision, scale } => {
            PrimitiveType::Decimal { precision: u32::from(*precision), scale: u32::from(*scale) }
        }
        DataType::Date => PrimitiveType::Date,
        DataType::Timestamp { zoned: true } => PrimitiveType::Timestamptz,
        DataType::Timestamp { zoned: false } => PrimitiveType::Timestamp,
        DataType::TimeOfDay { .. } => PrimitiveType::Time,
        DataType::String { .. } | DataType::Time { .. } | DataType::Json | DataType::Struct(_) | DataType::Array(_) => {
            PrimitiveType::String
        }
    }
}

/// Columns with times of day as a type of their own, wherever they are.
pub(super) fn with_times(fields: &mut [Field]) {
    fields.iter_mut().for_each(|field| times_in(&mut field.data_type));
}

fn times_in(data_type: &mut DataType) {
    match data_type {
        DataType::Time { zoned } => *data_type = DataType::TimeOfDay { zoned: *zoned },
        DataType::Struct(fields) => with_times(fields),
        DataType::Array(element) => times_in(element),
        _ => {}
    }
}

/// The columns of fields whose own names the table tells, in what we noted beside the columns.
pub(super) fn original_names(schema: &Schema) -> HashMap<String, String> {
    let noted = schema.as_struct().fields().iter().filter_map(|field| Some((field.doc.clone()?, field.name.clone())));
    noted.filter(|(original, name)| names::stands_for(name, original)).collect()
}

/// The schema of a table that does not exist yet.
pub(super) fn new(columns: &[Field]) -> anyhow::Result<Merged> {
    let mut fresh = Fresh(0);
    let fields: Vec<NestedFieldRef> = columns.iter().map(|column| Arc::new(fresh.field(column))).collect();
    let schema = Schema::builder().with_fields(fields).build().map_err(super::odd)?;
    Ok(Merged { schema, columns: columns.to_vec(), dropped_nested: Vec::new() })
}

/// The schema of a table that shows nothing but the stream: a column keeps its id as long as what was written under it
/// can be read as what it is now. Columns that an attempt before this one has put into the table's schemas count too.
pub(super) fn replace(table: &TableMetadata, columns: &[Field]) -> anyhow::Result<Merged> {
    let mut fresh = Fresh(table.last_column_id());
    let mut schemas: Vec<_> = table.schemas_iter().collect();
    schemas.sort_by_key(|schema| (schema.schema_id() != table.current_schema_id(), -schema.schema_id()));
    // A column that was renamed has one id under two names; only one of them can have it now.
    let mut taken = HashSet::new();
    let mut fields: Vec<NestedFieldRef> = Vec::with_capacity(columns.len());
    for column in columns {
        let known: Vec<&NestedFieldRef> = schemas
            .iter()
            .filter_map(|schema| schema.as_struct().fields().iter().find(|field| field.name == column.name))
            .filter(|field| !taken.contains(&field.id))
            .collect();
        let alike = known.iter().find(|field| is_alike(&field.field_type, &column.data_type));
        let field = match alike {
            Some(alike) => {
                described(NestedField::optional(alike.id, &column.name, (*alike.field_type).clone()), column)
            }
            None => renewed(known.first().copied(), column, &mut fresh),
        };
        taken.insert(field.id);
        fields.push(Arc::new(field));
    }
    let schema = Schema::builder().with_fields(fields).build().map_err(super::odd)?;
    Ok(Merged { schema, columns: columns.to_vec(), dropped_nested: Vec::new() })
}

/// Whether a type that was made for a stream before is what it needs now, so that asking twice gives the same ids.
fn is_alike(before: &Type, data_type: &DataType) -> bool {
    match (before, data_type) {
        (Type::Struct(before), DataType::Struct(fields)) => {
            let alike = |(member, field): (&NestedFieldRef, &Field)| {
                member.name == field.name && !member.required && is_alike(&member.field_type, &field.data_type)
            };
            before.fields().len() == fields.len() && before.fields().iter().zip(fields).all(alike)
        }
        (Type::List(before), DataType::Array(element)) => {
            !before.element_field.required && is_alike(&before.element_field.field_type, element)
        }
        (Type::Primitive(before), scalar) => {
            !matches!(scalar, DataType::Struct(_) | DataType::Array(_)) && *before == primitive(scalar)
        }
        _ => false,
    }
}

fn renewed(before: Option<&NestedFieldRef>, field: &Field, fresh: &mut Fresh) -> NestedField {
    let kept = before.and_then(|before| {
        let data_type = renewed_type(&before.field_type, &field.data_type, fresh)?;
        Some(NestedField::optional(before.id, &field.name, data_type))
    });
    kept.map_or_else(|| fresh.field(field), |kept| described(kept, field))
}

fn renewed_type(before: &Type, data_type: &DataType, fresh: &mut Fresh) -> Option<Type> {
    match (before, data_type) {
        (Type::Struct(before), DataType::Struct(fields)) => {
            let members = fields.iter().map(|field| {
                let member = before.fields().iter().find(|member| member.name == field.name);
                Arc::new(renewed(member, field, fresh))
            });
            Some(Type::Struct(StructType::new(members.collect())))
        }
        (Type::List(before), DataType::Array(element)) => {
            let data_type = renewed_type(&before.element_field.field_type, element, fresh)?;
            let element = NestedField::list_element(before.element_field.id, data_type, false);
            Some(Type::List(ListType::new(Arc::new(element))))
        }
        (Type::Primitive(before), scalar) if !matches!(scalar, DataType::Struct(_) | DataType::Array(_)) => {
            let wanted = primitive(scalar);
            can_become(before, &wanted).then_some(Type::Primitive(wanted))
        }
        _ => None,
    }
}

/// Whether what was written as one type is read as the other (the specification's type promotion, version 2).
fn can_become(before: &PrimitiveType, now: &PrimitiveType) -> bool {
    use PrimitiveType as P;
    match (before, now) {
        (P::Int, P::Long) | (P::Float, P::Double) => true,
        (P::Decimal { precision: p, scale: s }, P::Decimal { precision, scale }) => s == scale && p <= precision,
        _ => before == now,
    }
}

/// Merges a stream's columns into a table: the table wins, new columns go to its end, and what may be NULL is
/// optional. The error says what does not go together.
pub(super) fn merge(table: &TableMetadata, stream: &[Field]) -> Result<Merged, String> {
    let mut fresh = Fresh(table.last_column_id());
    let current = table.current_schema();
    let mut dropped = Vec::new();
    let mut columns = Vec::with_capacity(stream.len());
    let mut added = Vec::new();
    let mut fields: Vec<NestedField> = current.as_struct().fields().iter().map(|f| NestedField::clone(f)).collect();
    for column in stream {
        let Some(place) = place(&fields, &column.name) else {
            added.push(Arc::new(fresh.field(column)));
            columns.push(column.clone());
            continue;
        };
        let field = &mut fields[place];
        let fitted = fit(&field.field_type, &column.data_type, &column.source, &mut dropped).ok_or_else(|| {
            format!(
                "column {} is {} in the table but {} in the stream",
                column.name,
                field.field_type,
                crate::schema::hive::type_string(&column.data_type)
            )
        })?;
        *field.field_type = fitted.table;
        columns.push(Field { name: field.name.clone(), data_type: fitted.written, ..column.clone() });
    }
    let identifiers: Vec<i32> = current.identifier_field_ids().collect();
    for field in &mut fields {
        // Streams have no values that are never NULL, and a column that is missing from the stream gets none at all.
        if field.required && identifiers.contains(&field.id) {
            return Err(format!(
                "column {} identifies the table's rows and may not be NULL, which a stream does not promise: unset the \
                 table's identifier fields",
                field.name
            ));
        }
        field.required = false;
    }
    let fields = fields.into_iter().map(Arc::new).chain(added);
    let schema = Schema::builder().with_fields(fields).build().map_err(|error| error.message().to_owned())?;
    Ok(Merged { schema, columns, dropped_nested: dropped })
}

fn place(fields: &[NestedField], name: &str) -> Option<usize> {
    let exact = fields.iter().position(|field| field.name == name);
    exact.or_else(|| fields.iter().position(|field| field.name.eq_ignore_ascii_case(name)))
}

/// A column of a table that takes a stream's values.
struct Fitted {
    /// The type the table needs.
    table: Type,
    /// The type that is written.
    written: DataType,
}

fn fit(table: &Type, stream: &DataType, path: &str, dropped: &mut Vec<String>) -> Option<Fitted> {
    match (table, stream) {
        (Type::Primitive(table), stream) => {
            let (table, written) = fit_scalar(table, stream)?;
            Some(Fitted { table: Type::Primitive(table), written })
        }
        (Type::List(list), DataType::Array(element)) => {
            let fitted = fit(&list.element_field.field_type, element, path, dropped)?;
            let element = NestedField::list_element(list.element_field.id, fitted.table, false);
            Some(Fitted {
                table: Type::List(ListType::new(Arc::new(element))),
                written: DataType::Array(Box::new(fitted.written)),
            })
        }
        (Type::Struct(members), DataType::Struct(fields)) => fit_members(members, fields, path, dropped),
        _ => None,
    }
}

fn fit_scalar(table: &PrimitiveType, stream: &DataType) -> Option<(PrimitiveType, DataType)> {
    use {DataType as T, PrimitiveType as P};
    Some(match (table, stream) {
        // Structured values stay valid JSON text, whatever a single value looks like.
        (P::String, T::Json | T::Struct(_) | T::Array(_)) => (P::String, T::Json),
        (P::String, T::Time { zoned } | T::TimeOfDay { zoned }) => (P::String, T::Time { zoned: *zoned }),
        (P::Time, T::Time { zoned } | T::TimeOfDay { zoned }) => (P::Time, T::TimeOfDay { zoned: *zoned }),
        (P::String, _) => (P::String, T::STRING),
        (P::Boolean, T::Boolean) => (P::Boolean, T::Boolean),
        (P::Int | P::Long, T::Integer(_)) => (P::Long, T::INTEGER),
        (P::Float | P::Double, T::Integer(_) | T::Number(_) | T::Decimal { .. }) => (P::Double, T::NUMBER),
        (P::Decimal { precision, scale }, T::Integer(_) | T::Number(_) | T::Decimal { .. }) => {
            let wider = match stream {
                T::Decimal { precision: p, scale: s } if u32::from(*s) == *scale => u32::from(*p),
                _ => 0,
            };
            let precision = wider.max(*precision);
            let written = T::Decimal { precision: precision.try_into().ok()?, scale: (*scale).try_into().ok()? };
            (P::Decimal { precision, scale: *scale }, written)
        }
        (P::Date, T::Date) => (P::Date, T::Date),
        (P::Timestamp, T::Timestamp { zoned: false }) | (P::Timestamptz, T::Timestamp { zoned: true }) => {
            (table.clone(), stream.clone())
        }
        _ => return None,
    })
}

fn fit_members(members: &StructType, stream: &[Field], path: &str, dropped: &mut Vec<String>) -> Option<Fitted> {
    let mut fields: Vec<NestedField> = members.fields().iter().map(|member| NestedField::clone(member)).collect();
    let mut written: Vec<Option<Field>> = vec![None; fields.len()];
    for field in stream {
        let path = format!("{path}.{}", field.source);
        match place(&fields, &field.name) {
            Some(place) if written[place].is_none() => {
                let member = &mut fields[place];
                let fitted = fit(&member.field_type, &field.data_type, &path, dropped)?;
                *member.field_type = fitted.table;
                written[place] =
                    Some(Field { source: field.source.clone(), name: member.name.clone(), data_type: fitted.written });
            }
            _ => dropped.push(path),
        }
    }
    for member in &mut fields {
        member.required = false;
    }
    let written: Vec<Field> = written.into_iter().flatten().collect();
    // A struct of which nothing would be written has nothing in common with the table's.
    (!written.is_empty()).then(|| Fitted {
        table: Type::Struct(StructType::new(fields.into_iter().map(Arc::new).collect())),
        written: DataType::Struct(written),
    })
}

/// Whether objects written with `ours` can be read through `schema`: all their ids are there, with types that their
/// values are read as.
pub(super) fn shows(schema: &Schema, ours: &Schema) -> bool {
    ours.as_struct().fields().iter().all(|field| {
        let theirs = schema.as_struct().fields().iter().find(|theirs| theirs.id == field.id);
        theirs.is_some_and(|theirs| shows_type(&theirs.field_type, &field.field_type))
    })
}

fn shows_type(theirs: &Type, ours: &Type) -> bool {
    match (theirs, ours) {
        (Type::Primitive(theirs), Type::Primitive(ours)) => can_become(ours, theirs),
        (Type::Struct(theirs), Type::Struct(ours)) => ours.fields().iter().all(|member| {
            theirs.field_by_id(member.id).is_some_and(|theirs| shows_type(&theirs.field_type, &member.field_type))
        }),
        (Type::List(theirs), Type::List(ours)) => {
            theirs.element_field.id == ours.element_field.id
                && shows_type(&theirs.element_field.field_type, &ours.element_field.field_type)
        }
        (theirs, ours) => theirs == ours,
    }
}

/// The type as the Glue catalog spells it (`IcebergToGlueConverter`).
pub(super) fn glue_type(data_type: &Type) -> String {
    match data_type {
        Type::Primitive(primitive) => match primitive {
            PrimitiveType::Long => "bigint".to_owned(),
            PrimitiveType::Time | PrimitiveType::Uuid => "string".to_owned(),
            PrimitiveType::Timestamptz | PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs => {
                "timestamp".to_owned()
            }
            PrimitiveType::Fixed(_) => "binary".to_owned(),
            other => other.to_string(),
        },
        Type::Struct(members) => {
            let members: Vec<String> =
                members.fields().iter().map(|m| format!("{}:{}", m.name, glue_type(&m.field_type))).collect();
            format!("struct<{}>", members.join(","))
        }
        Type::List(list) => format!("array<{}>", glue_type(&list.element_field.field_type)),
        Type::Map(map) => {
            format!("map<{},{}>", glue_type(&map.key_field.field_type), glue_type(&map.value_field.field_type))
        }
        #[expect(unreachable_patterns, reason = "types of later versions of the specification")]
        other => other.to_string(),
    }
}
