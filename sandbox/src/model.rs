//! What the published models of Glue and Lake Formation allow in a request.
//!
//! The models are cut down by `models/extract.py` to the operations the sandbox answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::refusal::{Refusal, Service};

static GLUE: LazyLock<Model> = LazyLock::new(|| Model::read(include_str!("../models/glue.json")));
static LAKE_FORMATION: LazyLock<Model> = LazyLock::new(|| Model::read(include_str!("../models/lakeformation.json")));

#[derive(Default, Deserialize)]
struct Model {
    operations: HashMap<String, String>,
    shapes: HashMap<String, Shape>,
}

#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "type")]
    kind: String,
    min: Option<f64>,
    max: Option<f64>,
    pattern: Option<String>,
    #[serde(skip)]
    regex: Option<Regex>,
    #[serde(default, rename = "enum")]
    values: Vec<String>,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    members: BTreeMap<String, String>,
    member: Option<String>,
    key: Option<String>,
    value: Option<String>,
}

impl Model {
    /// A model that cannot be read knows no operation; a test holds the files against that.
    fn read(text: &str) -> Self {
        let mut model: Self = serde_json::from_str(text).unwrap_or_default();
        for shape in model.shapes.values_mut() {
            shape.regex = shape.pattern.as_ref().and_then(|pattern| Regex::new(&format!("^(?:{pattern})$")).ok());
        }
        model
    }

    fn of(service: Service) -> Option<&'static Self> {
        match service {
            Service::Glue => Some(&GLUE),
            Service::LakeFormation => Some(&LAKE_FORMATION),
            Service::S3 | Service::Sts => None,
        }
    }
}

/// Whether the sandbox answers an operation of Glue or Lake Formation.
pub(crate) fn has(service: Service, operation: &str) -> bool {
    Model::of(service).is_some_and(|model| model.operations.contains_key(operation))
}

/// Refuses what the model does not allow; returns the input without members the model does not know.
pub(crate) fn check(
    service: Service,
    operation: &str,
    input: &Map<String, Value>,
) -> Result<Map<String, Value>, Refusal> {
    let found = Model::of(service).and_then(|model| Some((model, model.operations.get(operation)?)));
    let Some((model, shape)) = found else {
        let status = if service == Service::Glue { 400 } else { 404 };
        return Err(Refusal::new(status, "UnknownOperationException", format!("{operation} is not implemented")));
    };
    let mut walk = Walk { model, problems: Vec::new() };
    let Value::Object(kept) = walk.value(shape, &Value::Object(input.clone()), String::new())? else {
        return Err(Refusal::new(400, "SerializationException", "not a structure"));
    };
    if walk.problems.is_empty() {
        return Ok(kept);
    }
    let (count, problems) = (walk.problems.len(), walk.problems.join("; "));
    let plural = if count == 1 { "" } else { "s" };
    Err(Refusal::new(400, "ValidationException", format!("{count} validation error{plural} detected: {problems}")))
}

struct Walk {
    model: &'static Model,
    problems: Vec<String>,
}

impl Walk {
    fn fail(&mut self, path: &str, value: &Value, constraint: &str) {
        let shown = match value {
            Value::Null => " null".to_owned(),
            Value::String(text) => format!(" '{}'", text.chars().take(64).collect::<String>()),
            Value::Number(number) => format!(" '{number}'"),
            _ => String::new(),
        };
        self.problems.push(format!("Value{shown} at '{path}' failed to satisfy constraint: Member must {constraint}"));
    }

    fn value(&mut self, shape: &str, value: &Value, path: String) -> Result<Value, Refusal> {
        let model = self.model;
        let Some(shape) = model.shapes.get(shape) else { return Ok(value.clone()) };
        let kept = match (shape.kind.as_str(), value) {
            ("structure", Value::Object(given)) => {
                let mut kept = Map::new();
                for (name, member) in &shape.members {
                    let path = join(&path, &lower_first(name));
                    match given.get(name) {
                        None | Some(Value::Null) if shape.required.contains(name) => {
                            self.fail(&path, &Value::Null, "not be null");
                        }
                        None | Some(Value::Null) => {}
                        Some(value) => {
                            kept.insert(name.clone(), self.value(member, value, path)?);
                        }
                    }
                }
                return Ok(Value::Object(kept));
            }
            ("list", Value::Array(given)) => {
                self.length(shape, given.len(), &path, value);
                let member = shape.member.as_deref().unwrap_or_default();
                let mut kept = Vec::with_capacity(given.len());
                for (at, value) in given.iter().enumerate() {
                    kept.push(self.value(member, value, format!("{path}.{}.member", at + 1))?);
                }
                return Ok(Value::Array(kept));
            }
            ("map", Value::Object(given)) => {
                self.length(shape, given.len(), &path, value);
                let (key, member) = (shape.key.as_deref(), shape.value.as_deref());
                let mut kept = Map::new();
                for (name, value) in given {
                    self.value(key.unwrap_or_default(), &Value::String(name.clone()), format!("{path}.key"))?;
                    if !value.is_null() {
                        let path = format!("{path}.{name}.member");
                        kept.insert(name.clone(), self.value(member.unwrap_or_default(), value, path)?);
                    }
                }
                return Ok(Value::Object(kept));
            }
            ("string", Value::String(text)) => {
                self.length(shape, text.chars().count(), &path, value);
                if !shape.values.is_empty() && !shape.values.contains(text) {
                    let set = shape.values.join(", ");
                    self.fail(&path, value, &format!("satisfy enum value set: [{set}]"));
                }
                if let (Some(regex), Some(pattern)) = (&shape.regex, &shape.pattern)
                    && !regex.is_match(text)
                {
                    self.fail(&path, value, &format!("satisfy regular expression pattern: {pattern}"));
                }
                true
            }
            ("integer" | "long", Value::Number(number)) => {
                self.range(shape, number.as_f64().unwrap_or_default(), &path, value);
                number.is_i64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
            }
            ("double" | "float" | "timestamp", Value::Number(_)) | ("boolean", Value::Bool(_)) => true,
            _ => false,
        };
        if kept {
            return Ok(value.clone());
        }
        Err(Refusal::new(400, "SerializationException", format!("'{path}' cannot be read as {}", shape.kind)))
    }

    fn length(&mut self, shape: &Shape, length: usize, path: &str, value: &Value) {
        let length = length as f64;
        if let Some(min) = shape.min.filter(|min| length < *min) {
            self.fail(path, value, &format!("have length greater than or equal to {min}"));
        }
        if let Some(max) = shape.max.filter(|max| length > *max) {
            self.fail(path, value, &format!("have length less than or equal to {max}"));
        }
    }

    fn range(&mut self, shape: &Shape, number: f64, path: &str, value: &Value) {
        if let Some(min) = shape.min.filter(|min| number < *min) {
            self.fail(path, value, &format!("have value greater than or equal to {min}"));
        }
        if let Some(max) = shape.max.filter(|max| number > *max) {
            self.fail(path, value, &format!("have value less than or equal to {max}"));
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn lower_first(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(operation: &str, input: &Value) -> String {
        let input = input.as_object().cloned().unwrap_or_default();
        check(Service::Glue, operation, &input).err().map_or_else(String::new, |refusal| refusal.message)
    }

    #[test]
    fn models_are_complete() {
        for model in [&*GLUE, &*LAKE_FORMATION] {
            assert!(model.operations.len() > 10);
            assert!(model.shapes.values().all(|shape| shape.pattern.is_some() == shape.regex.is_some()));
        }
    }

    #[test]
    fn messages_name_the_member() {
        let input = json!({ "DatabaseName": "d", "TableInput": { "Name": "" } });
        assert_eq!(
            message("CreateTable", &input),
            "1 validation error detected: Value '' at 'tableInput.name' failed to satisfy constraint: Member must have \
             length greater than or equal to 1"
        );
        assert!(message("CreateTable", &json!({})).contains("Value null at 'databaseName'"));
        let values = vec![json!({}); 101];
        let input = json!({ "DatabaseName": "d", "TableName": "t", "PartitionInputList": values });
        assert!(message("BatchCreatePartition", &input).contains("'partitionInputList'"));
    }
}
