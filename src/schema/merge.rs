//! An existing table and a stream: the table wins.
//!
//! Whether the two go together is decided from their types, before the first record: equal types, anything into string,
//! integers into numbers and decimals. Types are equal where they are one type of Airbyte's: `tinyint` to `bigint` are
//! `integer`; `float`, `double` and every `decimal` are `number`; `string`, `varchar` and `char` are `string`. A table
//! of another tool is written in its own of them, since most of its narrower columns hold what fits and a refusal
//! would help nobody; what does not fit becomes a change, record by record.

use std::collections::HashMap;

use super::{DataType, Field, MemberPath, Originals, hive};

/// A column of a table that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type as the catalog spells it.
    pub column_type: String,
    /// The fields of its members.
    pub originals: Originals,
}

/// How a stream is written to an existing table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The columns to write, in the stream's order, with the table's types where the table has them.
    pub columns: Vec<Field>,
    /// The columns of the stream that the table lacks, to be added at its end, in order.
    pub added: Vec<Field>,
    /// Members that a struct of the table has no room for; their values become changes.
    pub dropped: Vec<MemberPath>,
}

/// A column of the stream that the table's column of that name cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatible {
    /// The column.
    pub column: String,
    /// The type it has in the table.
    pub table_type: String,
    /// The type it would have.
    pub stream_type: String,
}

/// Merges a stream's columns into the columns of an existing table.
pub fn merge(table: &[TableColumn], stream: &[Field]) -> Result<Merged, Incompatible> {
    let existing: HashMap<String, &TableColumn> =
        table.iter().map(|column| (column.name.to_lowercase(), column)).collect();
    let mut merged = Merged::default();
    for field in stream {
        let Some(column) = existing.get(&field.name.to_lowercase()) else {
            merged.columns.push(field.clone());
            merged.added.push(field.clone());
            continue;
        };
        let mut fit = Fit { column, path: vec![field.source.clone()], dropped: &mut merged.dropped };
        let data_type = fit.column(&field.data_type).ok_or_else(|| Incompatible {
            column: field.name.clone(),
            table_type: column.column_type.clone(),
            stream_type: hive::type_string(&field.data_type),
        })?;
        merged.columns.push(Field { data_type, ..field.clone() });
    }
    Ok(merged)
}

/// How a field is written to a column of the table.
struct Fit<'a> {
    column: &'a TableColumn,
    /// Where we are, by the fields' names.
    path: MemberPath,
    dropped: &'a mut Vec<MemberPath>,
}

impl Fit<'_> {
    /// The type to write: the table's, with the stream's keys. `None` if the table's cannot take the stream's.
    fn column(&mut self, stream: &DataType) -> Option<DataType> {
        let mut table = hive::parse(&self.column.column_type)?;
        self.column.originals.put_back(&mut table);
        self.data_type(&table, stream)
    }

    fn data_type(&mut self, table: &DataType, stream: &DataType) -> Option<DataType> {
        use DataType as T;
        Some(match (table, stream) {
            // Structured values stay valid JSON text, whatever a single value looks like.
            (T::String { max_chars }, T::Json { .. } | T::Struct(_) | T::Array(_)) => T::Json { max_chars: *max_chars },
            (T::String { max_chars: None }, T::Time { .. }) => stream.clone(),
            (T::String { .. }, _)
            | (T::Boolean, T::Boolean)
            | (T::Integer(_), T::Integer(_))
            | (T::Number(_) | T::Decimal { .. }, T::Integer(_) | T::Number(_) | T::Decimal { .. })
            | (T::Date, T::Date) => table.clone(),
            // The catalog does not know about zones; the stream does.
            (T::Timestamp { .. }, T::Timestamp { .. }) => stream.clone(),
            (T::Array(table), T::Array(stream)) => T::Array(Box::new(self.data_type(table, stream)?)),
            (T::Struct(table), T::Struct(stream)) => T::Struct(self.members(table, stream)?),
            _ => return None,
        })
    }

    fn members(&mut self, table: &[Field], stream: &[Field]) -> Option<Vec<Field>> {
        let strict = self.column.originals.is_complete();
        let (matched, left) =
            match_members(table, stream, strict, |member| (member.source.as_str(), member.name.as_str()));
        self.dropped.extend(left.iter().map(|field| self.path.iter().chain([&field.source]).cloned().collect()));
        let mut fields = Vec::with_capacity(table.len());
        for (member, field) in table.iter().zip(matched) {
            let Some(field) = field else { continue };
            self.path.push(field.source.clone());
            let data_type = self.data_type(&member.data_type, &field.data_type)?;
            self.path.pop();
            fields.push(Field { source: field.source.clone(), name: member.name.clone(), data_type });
        }
        // A struct of which nothing would be written has nothing in common with the table's.
        (!fields.is_empty()).then_some(fields)
    }
}

/// Which field each member of a table's struct gets, and the fields for which there is no member. `names` are a
/// member's field and its name as stored. The field decides; only where we do not know whose the members are
/// (not `strict`), also the name, and at last the name without its case.
pub fn match_members<'s, M>(
    members: &[M],
    stream: &'s [Field],
    strict: bool,
    names: impl Fn(&M) -> (&str, &str),
) -> (Vec<Option<&'s Field>>, Vec<&'s Field>) {
    type Same = fn((&str, &str), &Field) -> bool;
    let by_field: Same = |(source, _), field| source == field.source;
    let by_name: Same = |(_, name), field| name == field.name;
    let without_case: Same = |(_, name), field| name.eq_ignore_ascii_case(&field.name);
    let rules: &[Same] = if strict { &[by_field] } else { &[by_field, by_name, without_case] };
    let mut matched: Vec<Option<&Field>> = members.iter().map(|_| None).collect();
    let mut left: Vec<&Field> = stream.iter().collect();
    for same in rules {
        left.retain(|field| {
            let mut places = members.iter().zip(&mut matched);
            let place = places.find(|(member, place)| place.is_none() && same(names(member), field));
            place.map(|(_, place)| *place = Some(*field)).is_none()
        });
    }
    (matched, left)
}

#[cfg(test)]
mod tests {
    use super::super::{SchemaOptions, columns};
    use super::*;
    use serde_json::json;

    fn table(columns: &[(&str, &str)]) -> Vec<TableColumn> {
        let column = |(name, column_type): &(&str, &str)| TableColumn {
            name: (*name).to_owned(),
            column_type: (*column_type).to_owned(),
            originals: Originals::default(),
        };
        columns.iter().map(column).collect()
    }

    fn stream(properties: serde_json::Value) -> Vec<Field> {
        columns(&json!({"properties": properties}), &SchemaOptions::default())
    }

    #[test]
    fn new_columns_go_to_the_end_and_old_ones_stay() {
        let stream = stream(json!({"new": {"type": "boolean"}, "id": {"type": "integer"}}));
        let merged = merge(&table(&[("id", "bigint"), ("old", "map<string,int>")]), &stream).unwrap();
        assert_eq!(merged.columns, stream);
        assert_eq!(merged.added, stream[..1]);
        assert!(merged.dropped.is_empty());
    }

    #[test]
    fn an_incompatible_column_is_named_with_both_types() {
        let error = merge(&table(&[("a", "BIGINT")]), &stream(json!({"A": {"type": "string"}}))).unwrap_err();
        assert_eq!(
            error,
            Incompatible { column: "a".into(), table_type: "BIGINT".into(), stream_type: "string".into() }
        );
    }

    #[test]
    fn members_are_matched_by_stored_name_then_without_case_and_the_rest_is_named() {
        let stream = stream(json!({"o": {"type": "object", "properties": {
            "First.Name": {"type": "string"}, "AGE": {"type": "integer"}, "new": {"type": "string"},
            "in": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}}}}));
        let merged =
            merge(&table(&[("o", "struct<age:int,First_Name:string,gone:date,in:struct<x:double>>")]), &stream)
                .unwrap();
        assert_eq!(
            hive::type_string(&merged.columns[0].data_type),
            "struct<age:int,First_Name:string,in:struct<x:double>>"
        );
        let DataType::Struct(fields) = &merged.columns[0].data_type else { panic!("a struct") };
        assert_eq!(fields.iter().map(|f| f.source.as_str()).collect::<Vec<_>>(), ["AGE", "First.Name", "in"]);
        assert_eq!(merged.dropped, [vec!["o", "new"], vec!["o", "in", "y"]]);
    }

    #[test]
    fn a_member_that_we_named_is_its_fields_and_nobody_elses() {
        let object = |names: &[&str]| {
            let members: serde_json::Map<_, _> =
                names.iter().map(|name| ((*name).to_owned(), json!({"type": "integer"}))).collect();
            stream(json!({"o": {"type": "object", "properties": members}}))
        };
        let first = object(&["ID", "a.b", "x"]);
        let mut ours = table(&[("o", &hive::type_string(&first[0].data_type))]);
        assert_eq!(ours[0].column_type, "struct<ID:bigint,a_b:bigint,x:bigint>");
        let kept = Originals::of(&first[0].data_type).to_json();
        ours[0].originals = Originals::read(kept.as_deref(), true);
        assert_eq!(merge(&ours, &first).unwrap().columns, first);
        // Twins come, or take their turn: what was stored stays whose it was.
        let merged = merge(&ours, &object(&["id", "ID", "a_b", "x"])).unwrap();
        assert_eq!(hive::type_string(&merged.columns[0].data_type), "struct<ID:bigint,x:bigint>");
        assert_eq!(merged.dropped, [["o", "id"], ["o", "a_b"]]);
        // Where another tool has named them, a name is all there is.
        ours[0].originals = Originals::default();
        let merged = merge(&ours, &object(&["id", "a.b", "x"])).unwrap();
        assert_eq!(merged.dropped, Vec::<MemberPath>::new());
    }

    #[test]
    fn json_text_has_the_room_that_a_varchar_has() {
        let merged =
            merge(&table(&[("j", "varchar(9)"), ("s", "char(3)")]), &stream(json!({"j": {}, "s": {"type": "string"}})));
        let types: Vec<_> = merged.unwrap().columns.into_iter().map(|column| column.data_type).collect();
        assert_eq!(types, [DataType::Json { max_chars: Some(9) }, DataType::String { max_chars: Some(3) }]);
    }

    #[test]
    fn our_own_types_merge_with_themselves() {
        let columns = super::super::metadata_columns();
        let types: Vec<_> = columns.iter().map(|f| (f.name.as_str(), hive::type_string(&f.data_type))).collect();
        let own = table(&types.iter().map(|(name, text)| (*name, text.as_str())).collect::<Vec<_>>());
        assert_eq!(merge(&own, &columns).unwrap().columns, columns);
    }
}
