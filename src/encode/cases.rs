//! Values by hand: what each type makes of each value, the same in both formats. The table is `tests/data/values.txt`,
//! which the integration tests run through the binary.

use serde_json::{Value, json};

use super::readback::{LINES, PARQUET, of_json, options, round_trip};
use super::*;
use crate::schema::coerce::{ChangeKind, FIELD_SIZE_LIMITATION, SERIALIZATION_ERROR};
use crate::schema::merge::{Merged, TableColumn, merge};
use crate::schema::{Originals, SchemaOptions, columns};

/// The column of a field of this schema, in the type that a table has for it, if one has.
fn column(schema: &str, table_type: Option<&str>) -> Merged {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let stream = columns(&json!({"properties": {"c": schema}}), &SchemaOptions::default());
    let existing = |column_type: &&str| TableColumn {
        name: "c".to_owned(),
        column_type: (*column_type).to_owned(),
        originals: Originals::default(),
    };
    let table: Vec<_> = table_type.iter().map(existing).collect();
    merge(&table, &stream).unwrap()
}

/// What the table calls a change.
fn fate(loss: &Loss) -> &'static str {
    match (loss.change, loss.reason) {
        (ChangeKind::Nulled, SERIALIZATION_ERROR) => "nulled: not of the type",
        (ChangeKind::Nulled, FIELD_SIZE_LIMITATION) => "nulled: too large",
        (ChangeKind::Truncated, FIELD_SIZE_LIMITATION) => "truncated: too large",
        (ChangeKind::Truncated, SERIALIZATION_ERROR) => "truncated: half a pair",
        _ => "?",
    }
}

#[test]
fn every_value_of_the_table_is_stored_as_it_says() {
    let mut merged = None;
    let mut cases = 0;
    for line in include_str!("../../tests/data/values.txt").split('\n') {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(declared) = line.strip_prefix("column ") {
            let (schema, table_type) =
                declared.split_once(" in a table as ").map_or((declared, None), |(s, t)| (s, Some(t)));
            merged = Some(column(schema, table_type));
            continue;
        }
        let mut parts = line.split('\t');
        let (value, stored) = (parts.next().unwrap(), parts.next().unwrap());
        let Merged { columns, dropped, .. } = merged.as_ref().unwrap();
        for format in [LINES, PARQUET] {
            let record = format!(r#"{{"c":{value}}}"#);
            let options = LayoutOptions { dropped: dropped.clone(), ..options(columns.clone(), format) };
            let (rows, mut losses) = round_trip(options, &[record]);
            let expected = (stored != "null").then(|| of_json(stored, &columns[0].data_type));
            assert_eq!(rows, [[expected]], "{line} in {format:?}");
            // A struct may lose several members for one reason; the table says the reason.
            let mut fates: Vec<&str> = losses.drain().iter().map(fate).collect();
            fates.dedup();
            assert_eq!(fates.join(" "), parts.clone().next().unwrap_or_default(), "{line} in {format:?}");
        }
        cases += 1;
    }
    assert!(cases >= 250, "{cases} cases");
}

#[test]
fn a_record_keeps_the_last_of_repeated_keys_and_counts_what_is_not_declared() {
    let schema = serde_json::json!({"properties": {"Id": {"type": "integer"}, "na me": {"type": "string"},
        "o": {"type": "object", "properties": {"a": {"type": "integer"}}}}});
    let columns = columns(&schema, &SchemaOptions::default());
    let records = [
        r#" { "na me" : "x" , "Id" : 1 , "zz" : [ { } ] , "o" : { "a" : 1 , "b" : 2 } , "\u0049d" : 2 } "#.to_owned(),
        r#"{"o":{"b":3,"jo@example.org":1,"+49 30 1":2},"\u006ea me":"y","zz":null}"#.to_owned(),
        "{}".to_owned(),
    ];
    for format in [LINES, PARQUET] {
        let (rows, mut losses) = round_trip(options(columns.clone(), format), &records);
        let text = |text: &str| Some(text.to_owned());
        let expected = [
            vec![text("2"), text("\"x\""), text("{1}")],
            vec![None, text("\"y\""), text("{null}")],
            vec![None, None, None],
        ];
        assert_eq!(rows, expected);
        assert_eq!(losses.drain(), []);
        let undeclared = Undeclared { count: 6, names: vec!["zz".into(), "o.b".into()], others: true };
        assert_eq!(losses.drain_undeclared(), Some(undeclared));
        assert_eq!(losses.drain_undeclared(), None);
    }
}
