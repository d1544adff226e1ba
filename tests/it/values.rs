//! Values end to end, the same in both formats; the table of single cases stands beside the coercion.

use serde_json::{Value, json};

use crate::lab::Lab;

fn one_stream(properties: &Value) -> Value {
    json!({ "streams": [{
        "stream": { "name": "v", "json_schema": { "type": "object", "properties": properties }, "supported_sync_modes": [] },
        "sync_mode": "full_refresh", "destination_sync_mode": "append",
    }] })
}

#[test]
fn both_formats_hold_the_same_values() {
    let catalog = one_stream(&json!({
        "big": { "type": "integer" }, "text": { "type": ["string", "integer"] }, "flag": { "type": "boolean" },
        "day": { "type": "string", "format": "date" }, "any": { "oneOf": [{ "type": "object" }, { "type": "string" }] },
        "Nested": { "type": "object", "properties": { "innerName": { "type": "number" }, "list": { "type": "array", "items": { "type": "integer" } } } },
    }));
    let lines = [
        r#"{"big":9223372036854775807,"text":12.50,"flag":true,"day":"0001-01-01","any":{"b":1.10,"a":[1e5]},"Nested":{"innerName":0.1,"list":[1,null,"3"]}}"#,
        r#"{"big":9007199254740993,"text":"é\u2028\n\"","flag":"true","day":"2024-02-30","any":"plain","Nested":null}"#,
        r#"{"big":9223372036854775808,"text":null,"flag":null,"undeclared":1,"Nested":{"innerName":"2.5","list":[]},"big2":1}"#,
        r#"{"big":1,"big":2}"#,
    ];
    let input: String = lines
        .iter()
        .map(|data| {
            format!("{{\"type\":\"RECORD\",\"record\":{{\"emitted_at\":1,\"data\":{data},\"stream\":\"v\"}}}}\n")
        })
        .collect();
    let mut seen = Vec::new();
    for format in ["JSONL", "Parquet"] {
        let lab = Lab::new();
        let ran = lab.sync(&lab.config(json!({ "format": { "format_type": format } })), &catalog, &input);
        let warnings = ran.logs("WARN").join("\n");
        for word in ["flag", "day", "big", "undeclared", "line 2"] {
            assert!(warnings.contains(word), "{word}: {warnings}");
        }
        assert!(!warnings.contains("2024-02-30"), "values are not logged");
        seen.push(lab.rows("SELECT * FROM demo.v ORDER BY big NULLS FIRST"));
    }
    assert_eq!(seen[0], seen[1]);
    let rows = &seen[0];
    assert_eq!((&rows[0]["big"], &rows[1]["big"]), (&Value::Null, &json!(2)));
    assert_eq!(rows[3]["big"], 9_223_372_036_854_775_807_i64);
    assert_eq!((&rows[3]["text"], &rows[3]["any"]), (&json!("12.50"), &json!(r#"{"b":1.10,"a":[1e5]}"#)));
    assert_eq!(rows[3]["nested"], json!({ "innerName": 0.1, "list": [1, null, 3] }));
    assert_eq!((&rows[2]["text"], &rows[2]["flag"]), (&json!("é\u{2028}\n\""), &Value::Null));
}
