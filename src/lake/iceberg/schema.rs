//! Columns as Iceberg has them: types with ids that are never reused, merged with a table that exists.

use std::collections::HashSet;
use std::sync::Arc;

use iceberg::spec::{ListType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, TableMetadata, Type};

use crate::encode::FieldId;
use crate::lake::table::parameter;
use crate::schema::merge::match_members;
use crate::schema::names::{self, Named};
use crate::schema::{DataType, Field, FloatWidth, IntWidth, MemberPath, Originals};

/// A stream's columns in a table.
#[derive(Clone, Debug)]
pub(super) struct Merged {
    /// The schema the table needs.
    pub(super) schema: Schema,
    /// The columns to write, in the stream's order, with the table's names and types.
    pub(super) columns: Vec<Field>,
    /// Members that a struct of the table has no room for; their values become changes.
    pub(super) dropped: Vec<MemberPath>,
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
        described(NestedField::optional(id, &field.name, self.data_type(&field.data_type)), field, None)
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

/// The comment that somebody has put on the column `before`, or else the name in the source where it is another one.
fn described(column: NestedField, field: &Field, before: Option<&NestedField>) -> NestedField {
    let is_ours = |doc: &&str| names::stands_for(&column.name, doc) || names::stands_for_member(&column.name, doc);
    let theirs = before.and_then(|before| before.doc.as_deref()).filter(|doc| !is_ours(doc));
    match theirs.or((field.source != field.name).then_some(field.source.as_str())) {
        Some(doc) => column.with_doc(doc),
        None => column,
    }
}

/// The text of a property that says whose the columns and their members are, where their names differ.
pub(super) fn fields<'c>(columns: impl IntoIterator<Item = &'c Field>) -> Originals {
    Originals::of(&DataType::Struct(columns.into_iter().cloned().collect()))
}

/// What a table says of its fields.
fn originals(table: &TableMetadata) -> Originals {
    let property = |key: &str| table.properties().get(key).map(String::as_str);
    Originals::read(property(parameter::FIELDS), property(parameter::STREAM).is_some())
}

/// The same with what `added` columns have to say.
pub(super) fn fields_with<'c>(table: &TableMetadata, added: impl IntoIterator<Item = &'c Field>) -> Option<String> {
    let known: HashSet<&str> = table.current_schema().as_struct().fields().iter().map(|f| f.name.as_str()).collect();
    let new = added.into_iter().filter(|column| !known.contains(column.name.as_str()));
    originals(table).with(fields(new)).to_json()
}

/// Whose the columns of a table are to which a stream is appended, and names that the specification forbids: those of
/// its partitions.
pub(super) fn names(table: &TableMetadata, appends: bool) -> Named {
    let mut named = Named::default();
    let originals = originals(table);
    let fields = table.current_schema().as_struct().fields().iter().filter(|_| appends);
    for field in fields {
        let doc = field.doc.as_deref().filter(|doc| names::stands_for(&field.name, doc) && !originals.is_complete());
        let same = originals.is_complete().then_some(field.name.as_str());
        if let Some(original) = originals.field(&field.name).or(doc).or(same) {
            named.columns.entry(original.to_owned()).or_insert_with(|| field.name.clone());
        }
    }
    // A partition by a column itself has the column's name, and once it is dropped the transform `void`.
    let is_column = |name: &str| table.schemas_iter().any(|s| s.as_struct().fields().iter().any(|f| f.name == name));
    let fields = table.partition_specs_iter().flat_map(|spec| spec.fields());
    named.reserved.extend(fields.map(|field| field.name.clone()).filter(|name| !is_column(name)));
    named
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
        DataType::String { .. }
        | DataType::Time { .. }
        | DataType::Json { .. }
        | DataType::Struct(_)
        | DataType::Array(_) => PrimitiveType::String,
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

/// The schema of a table that does not exist yet.
pub(super) fn new(columns: &[Field]) -> anyhow::Result<Merged> {
    let mut fresh = Fresh(0);
    let fields: Vec<NestedFieldRef> = columns.iter().map(|column| Arc::new(fresh.field(column))).collect();
    let schema = Schema::builder().with_fields(fields).build().map_err(super::odd)?;
    Ok(Merged { schema, columns: columns.to_vec(), dropped: Vec::new() })
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
                let same = NestedField::optional(alike.id, &column.name, (*alike.field_type).clone());
                described(same, column, Some(alike))
            }
            None => renewed(known.first().copied(), column, &mut fresh),
        };
        taken.insert(field.id);
        fields.push(Arc::new(field));
    }
    let schema = Schema::builder().with_fields(fields).build().map_err(super::odd)?;
    Ok(Merged { schema, columns: columns.to_vec(), dropped: Vec::new() })
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
    kept.map_or_else(|| fresh.field(field), |kept| described(kept, field, before.map(|before| &**before)))
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
    let (mut dropped, originals) = (Vec::new(), originals(table));
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
        let (path, stored) = (vec![column.source.clone()], field.name.clone());
        let mut fit = Fit { originals: &originals, path, stored, dropped: &mut dropped };
        let fitted = fit.data_type(&field.field_type, &column.data_type).ok_or_else(|| {
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
    Ok(Merged { schema, columns, dropped })
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

/// How a field is written to a column of the table.
struct Fit<'a> {
    originals: &'a Originals,
    /// Where we are, by the fields' names, and by the names as stored.
    path: MemberPath,
    stored: String,
    dropped: &'a mut Vec<MemberPath>,
}

impl Fit<'_> {
    fn data_type(&mut self, table: &Type, stream: &DataType) -> Option<Fitted> {
        match (table, stream) {
            (Type::Primitive(table), stream) => {
                let (table, written) = fit_scalar(table, stream)?;
                Some(Fitted { table: Type::Primitive(table), written })
            }
            (Type::List(list), DataType::Array(element)) => {
                let fitted = self.data_type(&list.element_field.field_type, element)?;
                let element = NestedField::list_element(list.element_field.id, fitted.table, false);
                Some(Fitted {
                    table: Type::List(ListType::new(Arc::new(element))),
                    written: DataType::Array(Box::new(fitted.written)),
                })
            }
            (Type::Struct(members), DataType::Struct(fields)) => self.members(members, fields),
            _ => None,
        }
    }

    fn members(&mut self, members: &StructType, stream: &[Field]) -> Option<Fitted> {
        let mut fields: Vec<NestedField> = members.fields().iter().map(|member| NestedField::clone(member)).collect();
        let sources: Vec<(String, String)> =
            fields.iter().map(|member| (self.field_of(member), member.name.clone())).collect();
        let strict = self.originals.is_complete();
        let (matched, left) = match_members(&sources, stream, strict, |(source, name)| (source, name));
        self.dropped.extend(left.iter().map(|field| self.path.iter().chain([&field.source]).cloned().collect()));
        let mut written = Vec::with_capacity(fields.len());
        for (member, field) in fields.iter_mut().zip(matched) {
            member.required = false;
            let Some(field) = field else { continue };
            self.path.push(field.source.clone());
            let above = self.stored.len();
            self.stored = format!("{}.{}", self.stored, member.name);
            let fitted = self.data_type(&member.field_type, &field.data_type)?;
            self.stored.truncate(above);
            self.path.pop();
            *member.field_type = fitted.table;
            written.push(Field { source: field.source.clone(), name: member.name.clone(), data_type: fitted.written });
        }
        // A struct of which nothing would be written has nothing in common with the table's.
        (!written.is_empty()).then(|| Fitted {
            table: Type::Struct(StructType::new(fields.into_iter().map(Arc::new).collect())),
            written: DataType::Struct(written),
        })
    }

    /// The field of a member, as far as the table knows.
    fn field_of(&self, member: &NestedField) -> String {
        let doc = member.doc.as_deref().filter(|doc| names::stands_for_member(&member.name, doc));
        let known = self.originals.field(&format!("{}.{}", self.stored, member.name));
        known.or(doc.filter(|_| !self.originals.is_complete())).unwrap_or(&member.name).to_owned()
    }
}

fn fit_scalar(table: &PrimitiveType, stream: &DataType) -> Option<(PrimitiveType, DataType)> {
    use {DataType as T, PrimitiveType as P};
    Some(match (table, stream) {
        // Structured values stay valid JSON text, whatever a single value looks like.
        (P::String, T::Json { .. } | T::Struct(_) | T::Array(_)) => (P::String, T::JSON),
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
