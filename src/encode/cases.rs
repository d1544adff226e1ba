//! Values by hand: what each type makes of each value, the same in both formats.

use super::readback::{LINES, PARQUET, of_json, options, round_trip};
use super::*;
use crate::schema::coerce::{ChangeKind, FIELD_SIZE_LIMITATION, SERIALIZATION_ERROR};
use crate::schema::{DataType, Field, SchemaOptions, columns, hive};

/// A value's fate beside the value itself.
const OK: &str = "";
const BAD: &str = "nulled: not of the type";
const BIG: &str = "nulled: too large";
const CUT: &str = "truncated: too large";
const HALF: &str = "truncated: half a pair";

/// Checks a column type against values; `null` expected means NULL.
fn check(data_type: &DataType, cases: &[(&str, &str, &str)]) {
    let columns = vec![Field::plain("c", data_type.clone())];
    for (value, expected, fate) in cases {
        for format in [LINES, PARQUET] {
            let record = format!(r#"{{"c":{value}}}"#);
            let (rows, mut losses) = round_trip(options(columns.clone(), format), &[record]);
            let expected = (*expected != "null").then(|| of_json(expected, data_type));
            let name = hive::type_string(data_type);
            assert_eq!(rows, [[expected]], "{name} of {value} in {format:?}");
            let fates: Vec<&str> = losses
                .drain()
                .iter()
                .map(|loss| match (loss.change, loss.reason) {
                    (ChangeKind::Nulled, SERIALIZATION_ERROR) => BAD,
                    (ChangeKind::Nulled, FIELD_SIZE_LIMITATION) => BIG,
                    (ChangeKind::Truncated, FIELD_SIZE_LIMITATION) => CUT,
                    (ChangeKind::Truncated, SERIALIZATION_ERROR) => HALF,
                    _ => "?",
                })
                .collect();
            assert_eq!(fates.join(" "), *fate, "{name} of {value} in {format:?}");
        }
    }
}

fn check_hive(hive_type: &str, cases: &[(&str, &str, &str)]) {
    check(&hive::parse(hive_type).unwrap(), cases);
}

#[test]
fn booleans_are_strict() {
    check_hive(
        "boolean",
        &[
            ("true", "true", OK),
            ("false", "false", OK),
            ("null", "null", OK),
            ("\"true\"", "null", BAD),
            ("\"false\"", "null", BAD),
            ("0", "null", BAD),
            ("1", "null", BAD),
            ("\"\"", "null", BAD),
            ("{}", "null", BAD),
            ("[true]", "null", BAD),
        ],
    );
}

#[test]
fn integers_are_exact() {
    check_hive(
        "bigint",
        &[
            ("0", "0", OK),
            ("-0", "0", OK),
            ("12", "12", OK),
            ("\"12\"", "12", OK),
            ("\"-12\"", "-12", OK),
            ("\"+12\"", "12", OK),
            ("\" 12 \"", "12", OK),
            ("\"\\u0031\"", "1", OK),
            ("1.0", "1", OK),
            ("-1.000", "-1", OK),
            ("1e3", "1000", OK),
            ("1E+3", "1000", OK),
            ("1.5e1", "15", OK),
            ("1200e-2", "12", OK),
            ("\"1e3\"", "1000", OK),
            ("9007199254740993", "9007199254740993", OK),
            ("9223372036854775807", "9223372036854775807", OK),
            ("-9223372036854775808", "-9223372036854775808", OK),
            ("\"9223372036854775807\"", "9223372036854775807", OK),
            ("9223372036854775807.0", "9223372036854775807", OK),
            ("0e999999999999999999999", "0", OK),
            ("9223372036854775808", "null", BIG),
            ("-9223372036854775809", "null", BIG),
            ("1e20", "null", BIG),
            ("1e400", "null", BIG),
            ("1e99999999999999999999", "null", BIG),
            ("99999999999999999999999999999999", "null", BIG),
            ("\"9223372036854775808\"", "null", BIG),
            ("1.5", "null", BAD),
            ("1e-1", "null", BAD),
            ("1e-99999999999999999999", "null", BAD),
            ("\"1.5\"", "null", BAD),
            ("\"abc\"", "null", BAD),
            ("\"\"", "null", BAD),
            ("\"0x10\"", "null", BAD),
            ("\"1_000\"", "null", BAD),
            ("\"NaN\"", "null", BAD),
            ("true", "null", BAD),
            ("{}", "null", BAD),
            ("[1]", "null", BAD),
            ("null", "null", OK),
        ],
    );
    check_hive(
        "int",
        &[("2147483647", "2147483647", OK), ("2147483648", "null", BIG), ("-2147483648", "-2147483648", OK)],
    );
    check_hive("smallint", &[("32767", "32767", OK), ("-32769", "null", BIG), ("\"5\"", "5", OK)]);
    check_hive("tinyint", &[("-128", "-128", OK), ("128", "null", BIG), ("1.5", "null", BAD)]);
}

#[test]
fn numbers_come_from_their_full_text() {
    check_hive(
        "double",
        &[
            ("0.12345678901234567", "0.12345678901234567", OK),
            ("1e-15", "1e-15", OK),
            ("12", "12", OK),
            ("-0.0", "-0.0", OK),
            ("9007199254740993", "9007199254740993", OK),
            ("1.7976931348623157e308", "1.7976931348623157e308", OK),
            ("5e-324", "5e-324", OK),
            ("1e-400", "1e-400", OK),
            ("\"12.5\"", "12.5", OK),
            ("\"+.5\"", "0.5", OK),
            ("\"5.\"", "5", OK),
            ("\" 1e3\"", "1000", OK),
            ("1e309", "null", BIG),
            ("-1e400", "null", BIG),
            ("\"1e400\"", "null", BIG),
            ("\"NaN\"", "null", BAD),
            ("\"Infinity\"", "null", BAD),
            ("\"-inf\"", "null", BAD),
            ("\"\"", "null", BAD),
            ("\"1,5\"", "null", BAD),
            ("\"x\"", "null", BAD),
            ("false", "null", BAD),
            ("[]", "null", BAD),
            ("null", "null", OK),
        ],
    );
    check_hive(
        "float",
        &[("0.1", "0.1", OK), ("1e39", "null", BIG), ("16777217", "16777217", OK), ("\"2.5\"", "2.5", OK)],
    );
}

#[test]
fn decimals_keep_every_digit() {
    check_hive(
        "decimal(38,25)",
        &[
            ("1234567890123.1234567890123456789012345", "1234567890123.1234567890123456789012345", OK),
            ("-9999999999999.9999999999999999999999999", "-9999999999999.9999999999999999999999999", OK),
            ("50000.0000000000000001", "50000.0000000000000001", OK),
            ("0", "0", OK),
            ("-0.0", "0", OK),
            ("1e3", "1000", OK),
            ("1.5e-25", "0.0000000000000000000000002", CUT),
            ("1e-25", "0.0000000000000000000000001", OK),
            ("1.4e-25", "0.0000000000000000000000001", CUT),
            ("-5e-26", "-0.0000000000000000000000001", CUT),
            ("4e-26", "0", CUT),
            ("9e-27", "0", CUT),
            ("1e-99999999999999999999", "0", CUT),
            ("0.10000000000000000000000000000000", "0.1", OK),
            ("0.99999999999999999999999999", "1", CUT),
            ("12345678901234", "null", BIG),
            ("9999999999999.99999999999999999999999999", "null", BIG),
            ("1e13", "null", BIG),
            ("1e400", "null", BIG),
            ("\"12.50\"", "12.5", OK),
            ("\"x\"", "null", BAD),
            ("\"NaN\"", "null", BAD),
            ("true", "null", BAD),
            ("null", "null", OK),
        ],
    );
    check_hive(
        "decimal(3,2)",
        &[("9.99", "9.99", OK), ("9.994", "9.99", CUT), ("9.995", "null", BIG), ("10", "null", BIG)],
    );
    check_hive(
        "decimal(38,0)",
        &[("99999999999999999999999999999999999999", "99999999999999999999999999999999999999", OK)],
    );
    check_hive("decimal(10,0)", &[("1.5", "2", CUT), ("-12", "-12", OK)]);
}

#[test]
fn strings_take_anything() {
    check_hive(
        "string",
        &[
            ("\"\"", "\"\"", OK),
            ("\"a\"", "\"a\"", OK),
            (r#""é\u00e9\n\"\\\/""#, r#""éé\n\"\\/""#, OK),
            (r#""\ud83d\ude00""#, "\"😀\"", OK),
            (r#""a\ud83d""#, "\"a\u{fffd}\"", HALF),
            ("\"\u{2028}\u{7f}\"", r#""\u2028\u007f""#, OK),
            (r#""\u0000""#, r#""\u0000""#, OK),
            ("0", "\"0\"", OK),
            ("1.50", "\"1.50\"", OK),
            ("1E400", "\"1E400\"", OK),
            ("99999999999999999999999999999999", "\"99999999999999999999999999999999\"", OK),
            ("false", "\"false\"", OK),
            ("true", "\"true\"", OK),
            (r#"{ "x" : [1.0, "é"] , "a":null}"#, r#""{\"x\":[1.0,\"é\"],\"a\":null}""#, OK),
            ("[ ]", "\"[]\"", OK),
            ("null", "null", OK),
            ("\"null\"", "\"null\"", OK),
        ],
    );
    check_hive(
        "varchar(3)",
        &[
            ("\"äöü\"", "\"äöü\"", OK),
            ("\"äöüx\"", "\"äöü\"", CUT),
            ("1234", "\"123\"", CUT),
            ("\"\\u0041bcd\"", "\"Abc\"", CUT),
        ],
    );
    check(
        &DataType::Time { zoned: true },
        &[("\"10:11:12.345+02:00\"", "\"10:11:12.345+02:00\"", OK), ("\"x\"", "\"x\"", OK)],
    );
}

#[test]
fn json_text_keeps_digits_escapes_and_order() {
    check(
        &DataType::Json,
        &[
            ("null", "null", OK),
            ("\"a\"", r#""\"a\"""#, OK),
            ("\"null\"", r#""\"null\"""#, OK),
            ("1.0", "\"1.0\"", OK),
            ("123456789012345678901234567890", "\"123456789012345678901234567890\"", OK),
            ("true", "\"true\"", OK),
            ("[1, 2,  null]", "\"[1,2,null]\"", OK),
            (r#"{"b":1e5,"a":"\u00e9 x","b":2}"#, r#""{\"b\":1e5,\"a\":\"\\u00e9 x\",\"b\":2}""#, OK),
            (r#"{"s":"\ud800"}"#, r#""{\"s\":\"\\ud800\"}""#, OK),
        ],
    );
}

#[test]
fn dates_are_from_0001_to_9999() {
    check_hive(
        "date",
        &[
            ("\"2024-02-29\"", "\"2024-02-29\"", OK),
            ("\"0001-01-01\"", "\"0001-01-01\"", OK),
            ("\"9999-12-31\"", "\"9999-12-31\"", OK),
            ("\"1969-12-31\"", "\"1969-12-31\"", OK),
            ("\"2024/01/02\"", "\"2024-01-02\"", OK),
            ("\"2024.01.02\"", "\"2024-01-02\"", OK),
            ("\"2024 01 02\"", "\"2024-01-02\"", OK),
            ("\"20240102\"", "\"2024-01-02\"", OK),
            ("\"2024-01-02T23:59:59Z\"", "\"2024-01-02\"", OK),
            ("\"2024-01-02 23:59:59.123+05:30\"", "\"2024-01-02\"", OK),
            ("\"10000-01-01\"", "null", BIG),
            ("\"0000-12-31\"", "null", BIG),
            ("\"-0044-03-15\"", "null", BIG),
            ("\"0044-03-15 BC\"", "null", BIG),
            ("\"2023-02-29\"", "null", BAD),
            ("\"2024-13-01\"", "null", BAD),
            ("\"2024-00-01\"", "null", BAD),
            ("\"2024-01-00\"", "null", BAD),
            ("\"2024-1-2\"", "null", BAD),
            ("\"2024-01/02\"", "null", BAD),
            ("\"2024-01-02x\"", "null", BAD),
            ("\"2024-01-02T25:00\"", "null", BAD),
            ("\"2024-01\"", "null", BAD),
            ("\"24-01-02\"", "null", BAD),
            ("\"\"", "null", BAD),
            ("20240102", "null", BAD),
            ("{}", "null", BAD),
            ("null", "null", OK),
        ],
    );
}

#[test]
fn timestamps_are_instants() {
    check(
        &DataType::Timestamp { zoned: true },
        &[
            ("\"2024-04-08T18:07:20+00:00\"", "\"2024-04-08 18:07:20.000\"", OK),
            ("\"2024-04-08T18:07:20Z\"", "\"2024-04-08 18:07:20.000\"", OK),
            ("\"2024-04-08t18:07:20z\"", "\"2024-04-08 18:07:20.000\"", OK),
            ("\"2024-04-08 18:07:20\"", "\"2024-04-08 18:07:20.000\"", OK),
            ("\"2024-04-08 18:07\"", "\"2024-04-08 18:07:00.000\"", OK),
            ("\"2024-04-08T18:07:20.123456789Z\"", "\"2024-04-08 18:07:20.123\"", OK),
            ("\"2024-04-08T18:07:20,5Z\"", "\"2024-04-08 18:07:20.500\"", OK),
            ("\"2024-04-08T18:07:20.12345678901234Z\"", "\"2024-04-08 18:07:20.123\"", OK),
            ("\"1969-12-31T23:59:59.9999Z\"", "\"1969-12-31 23:59:59.999\"", OK),
            ("\"2024-01-01T01:00:00+02:00\"", "\"2023-12-31 23:00:00.000\"", OK),
            ("\"2024-01-01T01:00:00-0330\"", "\"2024-01-01 04:30:00.000\"", OK),
            ("\"2024-01-01T01:00:00+02\"", "\"2023-12-31 23:00:00.000\"", OK),
            ("\"2024-01-01 01:00:00 UTC\"", "\"2024-01-01 01:00:00.000\"", OK),
            ("\"2024-01-01 01:00:00 +0100\"", "\"2024-01-01 00:00:00.000\"", OK),
            ("\"2024-01-01T01:00:00+01:00[Europe/Paris]\"", "\"2024-01-01 00:00:00.000\"", OK),
            ("\"20240101T101112Z\"", "\"2024-01-01 10:11:12.000\"", OK),
            ("\"2024-01-01\"", "\"2024-01-01 00:00:00.000\"", OK),
            ("\"2024-12-31T24:00:00Z\"", "\"2025-01-01 00:00:00.000\"", OK),
            ("\"2016-12-31T23:59:60Z\"", "\"2017-01-01 00:00:00.000\"", OK),
            ("\"0001-01-01T00:00:00Z\"", "\"0001-01-01 00:00:00.000\"", OK),
            ("\"9999-12-31T23:59:59.999999Z\"", "\"9999-12-31 23:59:59.999\"", OK),
            ("\"0001-01-01T00:00:00+01:00\"", "null", BIG),
            ("\"9999-12-31T23:59:59-01:00\"", "null", BIG),
            ("\"12345-01-01T00:00:00Z\"", "null", BIG),
            ("\"2024-01-01T00:00:00Z BC\"", "null", BIG),
            ("\"2024-01-01T24:00:01Z\"", "null", BAD),
            ("\"2024-01-01T10\"", "null", BAD),
            ("\"2024-01-01T10:60Z\"", "null", BAD),
            ("\"2024-01-01T\"", "null", BAD),
            ("\"2024-01-01T10:00:00.Z\"", "null", BAD),
            ("\"2024-01-01T10:00:00X\"", "null", BAD),
            ("\"Mon, 01 Jan 2024\"", "null", BAD),
            ("1700000000", "null", BAD),
            ("\"\"", "null", BAD),
            ("null", "null", OK),
        ],
    );
    check(
        &DataType::Timestamp { zoned: false },
        &[
            ("\"2024-01-01T01:00:00\"", "\"2024-01-01 01:00:00.000\"", OK),
            ("\"2024-01-01T01:00:00+02:00\"", "\"2024-01-01 01:00:00.000\"", OK),
        ],
    );
}

#[test]
fn structs_and_arrays_are_coerced_inside() {
    check_hive(
        "struct<a:bigint,B:string>",
        &[
            (r#"{"a":1,"B":"x"}"#, r#"{"a":1,"B":"x"}"#, OK),
            (r#"{"B":{"z":1.0}, "a":"7"}"#, r#"{"a":7,"B":"{\"z\":1.0}"}"#, OK),
            ("{}", "{}", OK),
            (r#"{"a":null,"c":1}"#, "{}", OK),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, OK),
            (r#"{"\u0061":1}"#, r#"{"a":1}"#, OK),
            (r#"{"a":"x"}"#, "{}", BAD),
            ("\"\"", "null", BAD),
            ("[]", "null", BAD),
            ("\"{}\"", "null", BAD),
            ("null", "null", OK),
        ],
    );
    check_hive(
        "array<bigint>",
        &[
            ("[]", "[]", OK),
            ("[1, null ,\"3\"]", "[1,null,3]", OK),
            ("[1,\"x\",2,\"y\"]", "[1,null,2,null]", BAD),
            ("[[1]]", "[null]", BAD),
            ("1", "null", BAD),
            ("{}", "null", BAD),
            ("null", "null", OK),
        ],
    );
    check_hive(
        "array<struct<x:array<string>,y:struct<z:double>>>",
        &[
            (
                r#"[{"x":["a",null,1],"y":{"z":1e3}},null,{"x":[]},{}]"#,
                r#"[{"x":["a",null,"1"],"y":{"z":1000}},null,{"x":[]},{}]"#,
                OK,
            ),
            (r#"[{"x":"a"}]"#, "[{}]", BAD),
        ],
    );
}

#[test]
fn a_record_keeps_the_last_of_repeated_keys_and_counts_what_is_not_declared() {
    let schema = serde_json::json!({"properties": {"Id": {"type": "integer"}, "na me": {"type": "string"},
        "o": {"type": "object", "properties": {"a": {"type": "integer"}}}}});
    let columns = columns(&schema, &SchemaOptions::default());
    let records = [
        r#" { "na me" : "x" , "Id" : 1 , "zz" : [ { } ] , "o" : { "a" : 1 , "b" : 2 } , "\u0049d" : 2 } "#.to_owned(),
        r#"{"o":{"b":3},"\u006ea me":"y","zz":null}"#.to_owned(),
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
        let undeclared = Undeclared { count: 4, names: vec!["zz".into(), "o.b".into()] };
        assert_eq!(losses.drain_undeclared(), Some(undeclared));
        assert_eq!(losses.drain_undeclared(), None);
    }
}
