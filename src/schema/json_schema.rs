//! JSON schema to column types.

use serde_json::{Map, Value};

use super::members::{MAX_PARAMETER_CHARS, Originals};
use super::names::{self, Named};
use super::{DataType, Field, MAX_DEPTH, METADATA_NAMES, SchemaOptions, hive};

/// The columns of a stream: one per property of its schema, in order, with names as stored. Total: a schema that says
/// nothing usable gives no columns, a property that says nothing usable gives a column of JSON text.
#[must_use]
pub fn columns(json_schema: &Value, options: &SchemaOptions) -> Vec<Field> {
    columns_of_table(json_schema, options, Named::default())
}

/// Like [`columns`], in a table that has names already. Without them a field that appears could take the column of
/// another that it meets.
#[must_use]
pub fn columns_of_table(json_schema: &Value, options: &SchemaOptions, mut table: Named) -> Vec<Field> {
    let Some(properties) = json_schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
    if options.metadata_columns {
        table.reserved.extend(METADATA_NAMES.map(str::to_owned));
    }
    let stored = names::distinct_in(properties.keys().map(String::as_str), &table);
    properties
        .iter()
        .zip(stored)
        .map(|((source, schema), name)| Field { source: source.clone(), name, data_type: column_type(schema, options) })
        .collect()
}

/// The type of a top-level property.
fn column_type(schema: &Value, options: &SchemaOptions) -> DataType {
    match read(schema, options, 0) {
        Shape::Fixed(data_type)
            if data_type.depth() <= MAX_DEPTH
                && hive::type_string(&data_type).chars().count() <= hive::MAX_TYPE_CHARS
                && Originals::of(&data_type).to_json().is_none_or(|kept| kept.len() <= MAX_PARAMETER_CHARS) =>
        {
            data_type
        }
        Shape::Text => DataType::STRING,
        Shape::Fixed(_) | Shape::Null | Shape::Open => DataType::JSON,
    }
}

/// What a schema says about its values.
#[derive(Debug, PartialEq)]
enum Shape {
    /// One type.
    Fixed(DataType),
    /// Strings and others: a string column at the top level, not fixed inside.
    Text,
    /// Nothing but null.
    Null,
    /// No one type.
    Open,
}

fn read(schema: &Value, options: &SchemaOptions, depth: usize) -> Shape {
    let Some(schema) = schema.as_object() else { return Shape::Open };
    if depth > MAX_DEPTH {
        return Shape::Open;
    }
    match schema.get("type") {
        Some(Value::String(name)) => read_type(name, schema, options, depth),
        Some(Value::Array(names)) => {
            let mut kinds: Vec<&str> = Vec::new();
            for name in names {
                match name.as_str() {
                    Some("null") => {}
                    Some(name) if kinds.contains(&name) => {}
                    Some(name) => kinds.push(name),
                    None => return Shape::Open,
                }
            }
            match kinds.as_slice() {
                [] => Shape::Null,
                [one] => read_type(one, schema, options, depth),
                ["integer" | "int", "number"] | ["number", "integer" | "int"] => {
                    read_type("number", schema, options, depth)
                }
                several if several.contains(&"string") => Shape::Text,
                _ => Shape::Open,
            }
        }
        Some(_) => Shape::Open,
        None => {
            if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                return well_known(reference, options);
            }
            if let Some(alternatives) = alternatives(schema) {
                return read_union(alternatives, options, depth);
            }
            // A schema without a type that lists properties means objects.
            if schema.contains_key("properties") { read_object(schema, options, depth) } else { Shape::Open }
        }
    }
}

fn read_type(name: &str, schema: &Map<String, Value>, options: &SchemaOptions, depth: usize) -> Shape {
    let airbyte_type = schema.get("airbyte_type").and_then(Value::as_str).unwrap_or_default();
    let without_zone = airbyte_type.ends_with("_without_timezone");
    let fixed = match name {
        "boolean" => DataType::Boolean,
        "integer" | "int" => DataType::INTEGER,
        "number" if airbyte_type == "integer" => DataType::INTEGER,
        "number" => number(options),
        "string" => match schema.get("format").and_then(Value::as_str) {
            Some("date") => DataType::Date,
            Some("date-time") => DataType::Timestamp { zoned: !without_zone },
            Some("time") => DataType::Time { zoned: !without_zone },
            _ => DataType::STRING,
        },
        "null" => return Shape::Null,
        "object" if alternatives(schema).is_none() => return read_object(schema, options, depth),
        "array" if alternatives(schema).is_none() => return read_array(schema, options, depth),
        _ => return Shape::Open,
    };
    Shape::Fixed(fixed)
}

fn number(options: &SchemaOptions) -> DataType {
    if options.float_as_decimal { DataType::Decimal { precision: 38, scale: 25 } } else { DataType::NUMBER }
}

/// `WellKnownTypes.json#/definitions/X`, also without the slash.
fn well_known(reference: &str, options: &SchemaOptions) -> Shape {
    let Some((file, definition)) = reference.split_once('#') else { return Shape::Open };
    if !file.ends_with("WellKnownTypes.json") {
        return Shape::Open;
    }
    let fixed = match definition.trim_start_matches('/').trim_start_matches("definitions/") {
        "String" | "BinaryData" => DataType::STRING,
        "Boolean" => DataType::Boolean,
        "Date" => DataType::Date,
        "TimestampWithTimezone" => DataType::Timestamp { zoned: true },
        "TimestampWithoutTimezone" => DataType::Timestamp { zoned: false },
        "TimeWithTimezone" => DataType::Time { zoned: true },
        "TimeWithoutTimezone" => DataType::Time { zoned: false },
        "Integer" => DataType::INTEGER,
        "Number" => number(options),
        _ => return Shape::Open,
    };
    Shape::Fixed(fixed)
}

fn alternatives(schema: &Map<String, Value>) -> Option<&Vec<Value>> {
    ["oneOf", "anyOf", "allOf"]
        .iter()
        .find_map(|key| schema.get(*key).and_then(Value::as_array).filter(|list| !list.is_empty()))
}

fn read_union(alternatives: &[Value], options: &SchemaOptions, depth: usize) -> Shape {
    let mut found = Shape::Null;
    for alternative in alternatives {
        match read(alternative, options, depth + 1) {
            Shape::Null => {}
            shape if found == Shape::Null || found == shape => found = shape,
            _ => return Shape::Open,
        }
    }
    found
}

fn read_object(schema: &Map<String, Value>, options: &SchemaOptions, depth: usize) -> Shape {
    let open = |key: &str| !matches!(schema.get(key), None | Some(Value::Bool(false) | Value::Null));
    let patterns = schema.get("patternProperties").and_then(Value::as_object).is_some_and(|p| !p.is_empty());
    let properties = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty());
    let (Some(properties), false, false) = (properties, open("additionalProperties"), patterns) else {
        return Shape::Open;
    };
    let stored = names::distinct_nested(properties.keys().map(String::as_str));
    let mut fields = Vec::with_capacity(properties.len());
    for ((source, schema), name) in properties.iter().zip(stored) {
        let Shape::Fixed(data_type) = read(schema, options, depth + 1) else { return Shape::Open };
        fields.push(Field { source: source.clone(), name, data_type });
    }
    Shape::Fixed(DataType::Struct(fields))
}

fn read_array(schema: &Map<String, Value>, options: &SchemaOptions, depth: usize) -> Shape {
    let element = match schema.get("items") {
        // A list of schemas describes a tuple; it has one type only if all its members agree.
        Some(Value::Array(items)) => read_union(items, options, depth),
        Some(items) => read(items, options, depth + 1),
        None => return Shape::Open,
    };
    match element {
        Shape::Fixed(DataType::Date | DataType::Timestamp { .. } | DataType::Time { .. }) => {
            Shape::Fixed(DataType::Array(Box::new(DataType::STRING)))
        }
        Shape::Fixed(element) => Shape::Fixed(DataType::Array(Box::new(element))),
        Shape::Text | Shape::Null | Shape::Open => Shape::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn type_of(schema: &Value) -> String {
        let columns = columns(&json!({"properties": {"c": schema}}), &SchemaOptions::default());
        match &columns[0].data_type {
            DataType::Json { .. } => "json".to_owned(),
            DataType::Time { zoned } => format!("time {zoned}"),
            DataType::Timestamp { zoned } => format!("timestamp {zoned}"),
            other => hive::type_string(other),
        }
    }

    #[test]
    fn every_schema_has_a_type() {
        let object = |properties: Value| json!({"type": "object", "properties": properties});
        let reference = |name: &str| json!({"$ref": format!("WellKnownTypes.json#/definitions/{name}")});
        for (schema, expected) in [
            (json!({"type": "string"}), "string"),
            (json!({"type": ["null", "string"]}), "string"),
            (json!({"type": ["string"]}), "string"),
            (json!({"type": "string", "format": "uuid"}), "string"),
            (json!({"type": "string", "airbyte_type": "big_integer"}), "string"),
            (json!({"type": "string", "format": "date"}), "date"),
            (json!({"type": ["null", "string"], "format": "date-time"}), "timestamp true"),
            (
                json!({"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"}),
                "timestamp true",
            ),
            (
                json!({"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"}),
                "timestamp false",
            ),
            (json!({"type": "string", "format": "time"}), "time true"),
            (json!({"type": "string", "format": "time", "airbyte_type": "time_without_timezone"}), "time false"),
            (json!({"type": "integer"}), "bigint"),
            (json!({"type": "int"}), "bigint"),
            (json!({"type": ["integer", "null"]}), "bigint"),
            (json!({"type": "number"}), "double"),
            (json!({"type": "number", "airbyte_type": "integer"}), "bigint"),
            (json!({"type": "number", "airbyte_type": "big_number"}), "double"),
            (json!({"type": ["integer", "number"]}), "double"),
            (json!({"type": ["null", "number", "integer"]}), "double"),
            (json!({"type": "boolean"}), "boolean"),
            (json!({"type": ["string", "integer"]}), "string"),
            (json!({"type": ["object", "string", "null"]}), "string"),
            (json!({"type": ["integer", "boolean"]}), "json"),
            (json!({"type": ["object", "array"]}), "json"),
            (json!({"type": "null"}), "json"),
            (json!({"type": ["null"]}), "json"),
            (json!({"type": []}), "json"),
            (json!({"type": "whatever"}), "json"),
            (json!({"type": 7}), "json"),
            (json!({"type": ["string", 7]}), "json"),
            (json!({}), "json"),
            (json!(true), "json"),
            (json!(null), "json"),
            (json!({"enum": ["a"]}), "json"),
            (reference("String"), "string"),
            (reference("BinaryData"), "string"),
            (reference("Boolean"), "boolean"),
            (reference("Date"), "date"),
            (reference("TimestampWithTimezone"), "timestamp true"),
            (reference("TimestampWithoutTimezone"), "timestamp false"),
            (reference("TimeWithTimezone"), "time true"),
            (reference("TimeWithoutTimezone"), "time false"),
            (reference("Integer"), "bigint"),
            (reference("Number"), "double"),
            (reference("Other"), "json"),
            (json!({"$ref": "WellKnownTypes.json#definitions/Integer"}), "bigint"),
            (json!({"$ref": "#/definitions/Integer"}), "json"),
            (json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}), "json"),
            (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), "string"),
            (json!({"anyOf": [{"type": "null"}, {"type": ["null", "integer"]}]}), "bigint"),
            (json!({"allOf": [{"type": "integer"}]}), "bigint"),
            (json!({"oneOf": [{"type": "integer"}, {"type": "integer"}]}), "bigint"),
            (json!({"oneOf": []}), "json"),
            (json!({"type": "string", "oneOf": [{"const": "a"}, {"const": "b"}]}), "string"),
            (json!({"type": "object", "oneOf": [{}], "properties": {"a": {"type": "string"}}}), "json"),
            (json!({"type": "object"}), "json"),
            (object(json!({})), "json"),
            (object(json!({"a": {"type": "integer"}})), "struct<a:bigint>"),
            (json!({"properties": {"a": {"type": "integer"}}}), "struct<a:bigint>"),
            (json!({"type": ["null", "object"], "properties": {"a": {"type": "integer"}}}), "struct<a:bigint>"),
            (
                object(json!({"fooBar": {"type": "string"}, "a.b": {"type": "string", "format": "date"}})),
                "struct<fooBar:string,a_b:date>",
            ),
            (object(json!({"a": {"type": ["string", "integer"]}})), "json"),
            (object(json!({"a": {}})), "json"),
            (object(json!({"a": {"type": "object"}})), "json"),
            (object(json!({"a": {"type": "array"}})), "json"),
            (object(json!({"a": object(json!({"b": {"type": "number"}}))})), "struct<a:struct<b:double>>"),
            (json!({"type": "object", "additionalProperties": true, "properties": {"a": {"type": "string"}}}), "json"),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}, "properties": {"a": {"type": "string"}}}),
                "json",
            ),
            (
                json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "string"}}}),
                "struct<a:string>",
            ),
            (
                json!({"type": "object", "patternProperties": {"^x": {}}, "properties": {"a": {"type": "string"}}}),
                "json",
            ),
            (
                object(
                    json!({"a": {"type": "object", "additionalProperties": true, "properties": {"x": {"type": "string"}}}}),
                ),
                "json",
            ),
            (json!({"type": "array"}), "json"),
            (json!({"type": "array", "items": {}}), "json"),
            (json!({"type": "array", "items": []}), "json"),
            (json!({"type": "array", "items": true}), "json"),
            (json!({"type": "array", "items": {"type": "integer"}}), "array<bigint>"),
            (json!({"type": "array", "items": [{"type": "integer"}]}), "array<bigint>"),
            (json!({"type": "array", "items": [{"type": "integer"}, {"type": "string"}]}), "json"),
            (json!({"type": "array", "items": {"type": ["null", "string"]}}), "array<string>"),
            (json!({"type": "array", "items": {"type": ["string", "integer"]}}), "json"),
            (json!({"type": "array", "items": {"type": "string", "format": "date"}}), "array<string>"),
            (json!({"type": "array", "items": {"type": "string", "format": "date-time"}}), "array<string>"),
            (json!({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}), "array<array<double>>"),
            (
                json!({"type": "array", "items": object(json!({"d": {"type": "string", "format": "date"}}))}),
                "array<struct<d:date>>",
            ),
            (json!({"type": "array", "items": {"type": "object"}}), "json"),
            (json!({"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "object"}]}}), "json"),
        ] {
            assert_eq!(type_of(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn schemas_without_usable_properties_have_no_columns() {
        for schema in [json!(null), json!({}), json!([]), json!({"properties": []}), json!({"type": "object"})] {
            assert_eq!(columns(&schema, &SchemaOptions::default()), []);
        }
    }

    #[test]
    fn numbers_become_decimals_at_every_depth_where_asked() {
        let schema = json!({"properties": {"n": {"type": "number"}, "a": {"type": "array", "items": {"type": "number"}},
            "i": {"type": "integer"}}});
        let options = SchemaOptions { float_as_decimal: true, ..SchemaOptions::default() };
        let types: Vec<String> = columns(&schema, &options).iter().map(|f| hive::type_string(&f.data_type)).collect();
        assert_eq!(types, ["decimal(38,25)", "array<decimal(38,25)>", "bigint"]);
    }

    #[test]
    fn deep_and_long_types_are_json_text() {
        let nest =
            |depth| (0..depth).fold(json!({"type": "integer"}), |inner, _| json!({"type": "array", "items": inner}));
        assert_eq!(type_of(&nest(30)), format!("{}bigint{}", "array<".repeat(30), ">".repeat(30)));
        assert_eq!(type_of(&nest(MAX_DEPTH)), format!("{}bigint{}", "array<".repeat(MAX_DEPTH), ">".repeat(MAX_DEPTH)));
        assert_eq!(type_of(&nest(MAX_DEPTH + 1)), "json");
        assert_eq!(type_of(&nest(120)), "json");
        let members: Map<String, Value> = (0..20_000).map(|i| (format!("m{i}"), json!({"type": "integer"}))).collect();
        assert_eq!(type_of(&json!({"type": "object", "properties": members})), "json");
    }

    #[test]
    fn columns_have_distinct_names_in_the_order_of_the_schema() {
        let schema = json!({"properties": {"Ünï": {"type": "string"}, "ID": {}, "id": {}, "_airbyte_meta": {}}});
        let names = |metadata_columns| -> Vec<String> {
            let options = SchemaOptions { metadata_columns, ..SchemaOptions::default() };
            columns(&schema, &options).into_iter().map(|field| field.name).collect()
        };
        assert_eq!(names(false), ["uni", "id_56e8eb60", "id", "_airbyte_meta"]);
        assert_eq!(names(true)[..3], names(false)[..3]);
        assert!(names(true)[3].starts_with("_airbyte_meta_"));
    }
}
