//! The configured catalog: which streams come, and how each is to be written.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::failure::{Failure, StreamName};

/// The streams of a sync, in the catalog's order.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// At least one; no two of the same name and namespace.
    pub streams: Vec<ConfiguredStream>,
}

/// A stream and how to write it.
#[derive(Clone, Debug)]
pub struct ConfiguredStream {
    /// Its name.
    pub stream: StreamName,
    /// The schema of its records; an object without properties when the catalog has none.
    pub json_schema: Value,
    /// The cursor chosen for this connection. `default_cursor_field` does not count: the incumbent never looked at it,
    /// and its tables are partitioned accordingly.
    pub cursor_field: Vec<String>,
    /// How it arrives.
    pub destination_sync_mode: SyncMode,
    /// The generation of its records.
    pub generation_id: Option<i64>,
    /// The oldest generation to keep.
    pub minimum_generation_id: Option<i64>,
    /// The job, the same for all its attempts.
    pub sync_id: Option<i64>,
    /// The name the user wants the table to have.
    pub destination_object_name: Option<String>,
}

/// `destination_sync_mode`, as far as it is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Add to what is there, unless the generations say otherwise.
    Append,
    /// Replace what is there.
    Overwrite,
}

/// Whether, and by which generation, what is in the table is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// Everything stays.
    None,
    /// Everything older than this generation goes. A table that already carries it is appended to.
    Generation(i64),
    /// Everything goes, always: there is no generation to recognise an earlier attempt by.
    Unnumbered,
}

impl ConfiguredStream {
    /// Whether, and by which generation, what is in the table is replaced.
    #[must_use]
    pub fn truncation(&self) -> Truncation {
        match (self.generation_id, self.minimum_generation_id, self.destination_sync_mode) {
            (Some(generation), Some(minimum), _) if generation > 0 && minimum == generation => {
                Truncation::Generation(generation)
            }
            (_, _, SyncMode::Overwrite) => Truncation::Unnumbered,
            (_, _, SyncMode::Append) => Truncation::None,
        }
    }

    /// Whether only a COMPLETE status may end this stream: the platform rewrites `overwrite` to `append` for those,
    /// and only for those, destinations to which it sends COMPLETE.
    #[must_use]
    pub fn expects_complete(&self) -> bool {
        self.truncation() != Truncation::None && self.destination_sync_mode != SyncMode::Overwrite
    }
}

impl Catalog {
    /// Reads the configured catalog.
    ///
    /// # Errors
    /// A `config_error` that names the stream, when the file cannot be read or a stream cannot be written as asked.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::InvalidData => "it is not valid UTF-8".to_owned(),
                _ => error.to_string(),
            };
            Failure::config(format!("cannot read the catalog {}: {why}", path.display()))
        })?;
        Self::parse(&text)
    }

    /// Reads a configured catalog from its text.
    ///
    /// # Errors
    /// As [`Catalog::load`].
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            Failure::config(format!("the catalog is not valid JSON (line {}, column {})", error.line(), error.column()))
        })?;
        let streams = value
            .get("streams")
            .and_then(Value::as_array)
            .ok_or_else(|| Failure::config("the catalog has no list `streams`"))?;
        let streams =
            streams.iter().enumerate().map(|(index, entry)| configured(index, entry)).collect::<Result<Vec<_>, _>>()?;
        if streams.is_empty() {
            return Err(Failure::config("the catalog has no streams; select at least one in the connection"));
        }
        let mut seen = HashSet::new();
        for stream in &streams {
            if !seen.insert(&stream.stream) {
                return Err(Failure::config(format!("the catalog has the stream {} twice", stream.stream)));
            }
        }
        Ok(Self { streams })
    }
}

/// A member that is there; null counts as absent.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

fn configured(index: usize, entry: &Value) -> anyhow::Result<ConfiguredStream> {
    let number = index + 1;
    let broken = |what: &str| Failure::config(format!("the catalog's stream number {number} {what}"));
    let entry = entry.as_object().ok_or_else(|| broken("is not an object"))?;
    let stream = member(entry, "stream").and_then(Value::as_object).ok_or_else(|| broken("has no `stream`"))?;
    let name = member(stream, "name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| broken("has no `stream.name`"))?.to_owned();
    let namespace = match member(stream, "namespace") {
        None => None,
        Some(Value::String(namespace)) => Some(namespace.clone()).filter(|namespace| !namespace.is_empty()),
        Some(_) => return Err(broken("has a `stream.namespace` that is not text")),
    };
    let name = StreamName { namespace, name };
    let wrong = |field: &str, expected: &str| {
        Failure::config(format!("the catalog's stream {name} has a `{field}` that is not {expected}"))
    };
    let integer = |field: &'static str| match member(entry, field) {
        None => Ok(None),
        Some(value) => as_integer(value).map(Some).ok_or_else(|| wrong(field, "an integer")),
    };
    let json_schema = match member(stream, "json_schema") {
        None => Value::Object(Map::new()),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return Err(wrong("stream.json_schema", "an object")),
    };
    let cursor_field = match member(entry, "cursor_field") {
        None => Vec::new(),
        Some(value) => texts(value).ok_or_else(|| wrong("cursor_field", "a list of names"))?,
    };
    let destination_object_name = match member(entry, "destination_object_name") {
        None => None,
        Some(Value::String(name)) => Some(name.clone()).filter(|name| !name.is_empty()),
        Some(_) => return Err(wrong("destination_object_name", "text")),
    };
    let destination_sync_mode = match member(entry, "destination_sync_mode") {
        None => SyncMode::Append,
        Some(mode) => sync_mode(mode.as_str().unwrap_or_default(), &name)?,
    };
    let configured = ConfiguredStream {
        json_schema,
        cursor_field,
        destination_sync_mode,
        generation_id: integer("generation_id")?,
        minimum_generation_id: integer("minimum_generation_id")?,
        sync_id: integer("sync_id")?,
        destination_object_name,
        stream: name,
    };
    refuse_hybrid(&configured)?;
    Ok(configured)
}

fn sync_mode(mode: &str, stream: &StreamName) -> anyhow::Result<SyncMode> {
    match mode {
        "append" => Ok(SyncMode::Append),
        "overwrite" => Ok(SyncMode::Overwrite),
        // The words of the protocol; anything else is not repeated.
        "append_dedup" | "update" | "soft_delete" | "overwrite_dedup" => Err(Failure::config(format!(
            "the stream {stream} is configured with the destination sync mode `{mode}`, which this destination does \
             not support; choose `append` or `overwrite`"
        ))),
        _ => Err(Failure::config(format!(
            "the stream {stream} has an unknown destination sync mode; choose `append` or `overwrite`"
        ))),
    }
}

/// To keep some old generations and drop others would need the generation of every row.
fn refuse_hybrid(stream: &ConfiguredStream) -> anyhow::Result<()> {
    match (stream.generation_id, stream.minimum_generation_id, stream.destination_sync_mode) {
        (Some(generation), Some(minimum), SyncMode::Append) if minimum > 0 && minimum != generation => {
            Err(Failure::config(format!(
                "the stream {} asks to keep generations {minimum} to {generation}, which this destination cannot do; \
                 `minimum_generation_id` must be 0 or equal to `generation_id`",
                stream.stream
            )))
        }
        _ => Ok(()),
    }
}

/// An integer, also when it is written as `1.0`.
fn as_integer(value: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be a small whole number")]
    value.as_i64().or_else(|| {
        value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15).map(|number| number as i64)
    })
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        Value::String(text) => Some(vec![text.clone()]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{FailureKind, classify};

    fn stream(members: &str) -> anyhow::Result<ConfiguredStream> {
        let text = format!(r#"{{"streams":[{{"stream":{{"name":"a","json_schema":{{}}}}{members}}}]}}"#);
        Catalog::parse(&text).map(|mut catalog| catalog.streams.remove(0))
    }

    fn refusal(text: &str) -> String {
        let failure = classify(&Catalog::parse(text).unwrap_err());
        assert_eq!(failure.kind, FailureKind::Config);
        failure.message
    }

    #[test]
    fn members_are_read_and_null_is_absent() {
        let text = r#"{"streams":[
            {"stream":{"name":"a","namespace":"n","json_schema":{"type":"object","properties":{"z":{},"b":{}}},"default_cursor_field":["d"]},
             "destination_sync_mode":"overwrite","cursor_field":["c"],"generation_id":3,"minimum_generation_id":3.0,
             "sync_id":9,"destination_object_name":"t","include_files":false,"primary_key":[["x"]]},
            {"stream":{"name":"a","namespace":"","json_schema":null,"default_cursor_field":["d"]},
             "destination_sync_mode":null,"cursor_field":null,"generation_id":null,"minimum_generation_id":null,
             "sync_id":null,"destination_object_name":null}]}"#;
        let catalog = Catalog::parse(text).unwrap();
        let [first, second] = &*catalog.streams else { panic!() };
        assert_eq!(first.stream.to_string(), "n.a");
        assert_eq!(first.json_schema["properties"].as_object().unwrap().keys().collect::<Vec<_>>(), ["z", "b"]);
        assert_eq!((first.generation_id, first.minimum_generation_id, first.sync_id), (Some(3), Some(3), Some(9)));
        assert_eq!(
            (&*first.cursor_field, first.destination_object_name.as_deref()),
            (&["c".to_owned()][..], Some("t"))
        );
        assert_eq!(second.stream, StreamName { namespace: None, name: "a".into() });
        assert_eq!((second.destination_sync_mode, second.generation_id), (SyncMode::Append, None));
        // As the incumbent: the default cursor does not count.
        assert!(second.cursor_field.is_empty() && second.json_schema.is_object());
    }

    #[test]
    fn truncation_follows_from_mode_and_generations() {
        let cases = [
            ("append", "null", "null", Truncation::None),
            ("append", "0", "0", Truncation::None),
            ("append", "5", "0", Truncation::None),
            ("append", "5", "null", Truncation::None),
            ("append", "5", "5", Truncation::Generation(5)),
            ("overwrite", "5", "5", Truncation::Generation(5)),
            ("overwrite", "5", "0", Truncation::Unnumbered),
            ("overwrite", "5", "4", Truncation::Unnumbered),
            ("overwrite", "0", "0", Truncation::Unnumbered),
            ("overwrite", "null", "null", Truncation::Unnumbered),
            ("overwrite", "null", "5", Truncation::Unnumbered),
        ];
        for (mode, generation, minimum, expected) in cases {
            let members = format!(
                r#","destination_sync_mode":"{mode}","generation_id":{generation},"minimum_generation_id":{minimum}"#
            );
            let stream = stream(&members).unwrap();
            assert_eq!(stream.truncation(), expected, "{members}");
            assert_eq!(stream.expects_complete(), mode == "append" && expected != Truncation::None, "{members}");
        }
    }

    #[test]
    fn what_cannot_be_written_as_asked_is_refused() {
        let hybrid = r#","generation_id":5,"minimum_generation_id":3"#;
        assert!(stream(hybrid).unwrap_err().to_string().contains("minimum_generation_id"));
        for mode in ["append_dedup", "update", "soft_delete"] {
            let members = format!(r#","destination_sync_mode":"{mode}""#);
            assert!(stream(&members).unwrap_err().to_string().contains(mode));
        }
        assert!(stream(r#","destination_sync_mode":"merge""#).unwrap_err().to_string().contains("unknown"));
        assert!(stream(r#","generation_id":"five""#).unwrap_err().to_string().contains("generation_id"));
        assert!(stream(r#","cursor_field":[1]"#).unwrap_err().to_string().contains("cursor_field"));
    }

    #[test]
    fn broken_catalogs_are_refused_in_words() {
        assert!(refusal("{").contains("line 1"));
        assert!(refusal("[]").contains("`streams`"));
        assert!(refusal(r#"{"streams":[]}"#).contains("no streams"));
        assert!(refusal(r#"{"streams":[{}]}"#).contains("number 1"));
        assert!(refusal(r#"{"streams":[{"stream":{"name":""}}]}"#).contains("`stream.name`"));
        let twice = r#"{"streams":[{"stream":{"name":"a"}},{"stream":{"name":"a","namespace":""}}]}"#;
        assert!(refusal(twice).contains("the stream a twice"));
        let error = Catalog::load(Path::new("/nonexistent/catalog.json")).unwrap_err();
        assert_eq!(classify(&error).kind, FailureKind::Config);
    }

    #[test]
    fn the_example_is_a_catalog() {
        let catalog = Catalog::parse(include_str!("../../examples/catalog.json")).unwrap();
        let modes: Vec<_> = catalog.streams.iter().map(|stream| (&*stream.stream.name, stream.truncation())).collect();
        let expected =
            [("products", Truncation::Unnumbered), ("users", Truncation::None), ("purchases", Truncation::None)];
        assert_eq!(modes, expected);
    }
}
