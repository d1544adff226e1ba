//! Access to a JSON object of settings that remembers what was asked for, so that the rest can be named.

use serde_json::{Map, Value};

use crate::failure::Failure;

/// One object of settings. Null, and text that is empty or blank, count as absent; text is trimmed.
pub(super) struct Settings<'a> {
    members: &'a Map<String, Value>,
    /// `""`, or the object's own name and a dot.
    path: String,
    asked: Vec<&'static str>,
}

impl<'a> Settings<'a> {
    /// The configuration itself.
    pub(super) fn root(value: &'a Value) -> anyhow::Result<Self> {
        let members = value.as_object().ok_or_else(|| Failure::config("the configuration is not a JSON object"))?;
        Ok(Self { members, path: String::new(), asked: Vec::new() })
    }

    fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str) -> anyhow::Result<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.wrong(name, "text")),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> anyhow::Result<String> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// A text that must be there, but may be empty.
    pub(super) fn required_even_empty(&mut self, name: &'static str) -> anyhow::Result<Option<String>> {
        if self.get(name).is_none() {
            return Err(self.missing(name));
        }
        self.text(name)
    }

    /// True or false.
    pub(super) fn flag(&mut self, name: &'static str) -> anyhow::Result<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// One of several names.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, known: &[(&str, T)]) -> anyhow::Result<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let names: Vec<&str> = known.iter().map(|(known, _)| *known).collect();
        let found = known.iter().find(|(known, _)| *known == text).map(|(_, meant)| *meant);
        found.map(Some).ok_or_else(|| self.not_one_of(name, &names))
    }

    /// A number between two bounds.
    pub(super) fn number(&mut self, name: &'static str, least: f64, most: f64) -> anyhow::Result<Option<f64>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
                _ => Err(self.wrong(name, &format!("a number from {least} to {most}"))),
            },
        }
    }

    /// An integer between two bounds.
    pub(super) fn whole(&mut self, name: &'static str, least: u64, most: u64) -> anyhow::Result<Option<u64>> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
                _ => Err(self.wrong(name, &format!("a whole number from {least} to {most}"))),
            },
        }
    }

    /// An object within.
    pub(super) fn object(&mut self, name: &'static str) -> anyhow::Result<Option<Self>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => {
                Ok(Some(Self { members, path: format!("{}{name}.", self.path), asked: Vec::new() }))
            }
            Some(_) => Err(self.wrong(name, "an object")),
        }
    }

    /// Names what nobody asked for. It is tolerated: forms of other versions leave it behind.
    pub(super) fn finish(&self, warnings: &mut Vec<String>) {
        for name in self.members.keys().filter(|name| !self.asked.contains(&name.as_str())) {
            warnings.push(format!("the unknown setting `{}{name}` is ignored", self.path));
        }
    }

    /// The error of a setting that must be there.
    pub(super) fn missing(&self, name: &str) -> anyhow::Error {
        Failure::config(format!("the setting `{}{name}` is missing", self.path))
    }

    /// The error of a setting that has another value than the known ones. It does not say which.
    pub(super) fn not_one_of(&self, name: &str, known: &[&str]) -> anyhow::Error {
        self.wrong(name, &format!("one of {}", known.join(", ")))
    }

    fn wrong(&self, name: &str, expected: &str) -> anyhow::Error {
        Failure::config(format!("the setting `{}{name}` must be {expected}", self.path))
    }
}
