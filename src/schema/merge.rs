//! An existing table and a stream: the table wins.
//!
//! Whether the two go together is decided from their types, before the first record: equal types, anything into string,
//! integers into integers, numbers and decimals, numbers and decimals into each other. An integer column narrower than
//! `bigint` (another tool's table: we create none) takes what fits; the rest becomes NULL with a change, record by
//! record, since most such columns hold small numbers and a refusal would help nobody.

use std::collections::HashMap;

use super::{DataType, Field, hive};

/// How a stream is written to an existing table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The columns to write, in the stream's order, with the table's types where the table has them.
    pub columns: Vec<Field>,
    /// The columns of the stream that the table lacks, to be added at its end, in order.
    pub added: Vec<Field>,
    /// Paths of members that a struct of the table has no room for; their values are not stored.
    pub dropped_nested: Vec<String>,
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

/// Merges a stream's columns into the columns of an existing table, given as name and type.
pub fn merge(table: &[(String, String)], stream: &[Field]) -> Result<Merged, Incompatible> {
    let existing: HashMap<String, &String> =
        table.iter().map(|(name, column_type)| (name.to_lowercase(), column_type)).collect();
    let mut merged = Merged::default();
    for field in stream {
        let Some(table_type) = existing.get(&field.name.to_lowercase()) else {
            merged.columns.push(field.clone());
            merged.added.push(field.clone());
            continue;
        };
        let data_type = hive::parse(table_type)
            .and_then(|parsed| fit(&parsed, &field.data_type, &field.source, &mut merged.dropped_nested))
            .ok_or_else(|| Incompatible {
                column: field.name.clone(),
                table_type: (*table_type).clone(),
                stream_type: hive::type_string(&field.data_type),
            })?;
        merged.columns.push(Field { data_type, ..field.clone() });
    }
    Ok(merged)
}

/// The type to write: the table's, with the stream's keys. `None` if the table's cannot take the stream's.
fn fit(table: &DataType, stream: &DataType, path: &str, dropped: &mut Vec<String>) -> Option<DataType> {
    use DataType as T;
    let data_type = match (table, stream) {
        // Structured values stay valid JSON text, whatever a single value looks like.
        (T::String { max_chars: None }, T::Json | T::Struct(_) | T::Array(_)) => T::Json,
        (T::String { max_chars: None }, T::Time { .. }) => stream.clone(),
        (T::String { .. }, _)
        | (T::Boolean, T::Boolean)
        | (T::Integer(_), T::Integer(_))
        | (T::Number(_) | T::Decimal { .. }, T::Integer(_) | T::Number(_) | T::Decimal { .. })
        | (T::Date, T::Date) => table.clone(),
        // The catalog does not know about zones; the stream does.
        (T::Timestamp { .. }, T::Timestamp { .. }) => stream.clone(),
        (T::Array(table), T::Array(stream)) => T::Array(Box::new(fit(table, stream, path, dropped)?)),
        (T::Struct(table), T::Struct(stream)) => T::Struct(fit_members(table, stream, path, dropped)?),
        _ => return None,
    };
    Some(data_type)
}

fn fit_members(table: &[Field], stream: &[Field], path: &str, dropped: &mut Vec<String>) -> Option<Vec<Field>> {
    let mut fields: Vec<Option<Field>> = vec![None; table.len()];
    let mut lost = Vec::new();
    for field in stream {
        let path = format!("{path}.{}", field.source);
        let exact = table.iter().position(|t| t.name == field.name);
        let place = exact.or_else(|| table.iter().position(|t| t.name.eq_ignore_ascii_case(&field.name)));
        let free = place.and_then(|place| Some((fields.get_mut(place)?, table.get(place)?)));
        match free {
            Some((slot @ None, member)) => {
                let data_type = fit(&member.data_type, &field.data_type, &path, &mut lost)?;
                *slot = Some(Field { source: field.source.clone(), name: member.name.clone(), data_type });
            }
            _ => lost.push(path),
        }
    }
    dropped.append(&mut lost);
    let fields: Vec<Field> = fields.into_iter().flatten().collect();
    // A struct of which nothing would be written has nothing in common with the table's.
    (!fields.is_empty()).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::super::{SchemaOptions, columns};
    use super::*;
    use serde_json::json;

    fn table(columns: &[(&str, &str)]) -> Vec<(String, String)> {
        columns.iter().map(|(name, column_type)| ((*name).to_owned(), (*column_type).to_owned())).collect()
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
        assert!(merged.dropped_nested.is_empty());
    }

    #[test]
    fn compatibility_follows_from_the_types() {
        let kinds = json!({
            "boolean": {"type": "boolean"}, "integer": {"type": "integer"}, "number": {"type": "number"},
            "string": {"type": "string"}, "date": {"type": "string", "format": "date"},
            "timestamp": {"type": "string", "format": "date-time"}, "time": {"type": "string", "format": "time"},
            "struct": {"type": "object", "properties": {"a": {"type": "integer"}}},
            "array": {"type": "array", "items": {"type": "integer"}}, "json": {},
        });
        for (table_type, takes) in [
            ("string", "boolean integer number string date timestamp time struct array json"),
            ("varchar(10)", "boolean integer number string date timestamp time struct array json"),
            ("boolean", "boolean"),
            ("int", "integer"),
            ("bigint", "integer"),
            ("float", "integer number"),
            ("double", "integer number"),
            ("decimal(10,2)", "integer number"),
            ("date", "date"),
            ("timestamp", "timestamp"),
            ("struct<a:bigint>", "struct"),
            ("struct<b:bigint>", ""),
            ("struct<a:boolean>", ""),
            ("array<double>", "array"),
            ("array<date>", ""),
            ("binary", ""),
            ("map<string,string>", ""),
        ] {
            let taken: Vec<String> = stream(kinds.clone())
                .into_iter()
                .filter(|field| merge(&table(&[(&field.name, table_type)]), std::slice::from_ref(field)).is_ok())
                .map(|field| field.name)
                .collect();
            assert_eq!(taken.join(" "), takes, "{table_type}");
        }
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
        assert_eq!(merged.dropped_nested, ["o.new", "o.in.y"]);
    }

    #[test]
    fn our_own_types_merge_with_themselves() {
        let columns = super::super::metadata_columns();
        let own: Vec<_> = columns.iter().map(|f| (f.name.clone(), hive::type_string(&f.data_type))).collect();
        assert_eq!(merge(&own, &columns).unwrap().columns, columns);
    }
}
