//! The fields behind the members of structs, where a type string could not hold their names.
//!
//! A table keeps them beside the column, so that a member stays its field's: names that a stream gains or loses later
//! may change what the others would be called today.

use std::collections::BTreeMap;

use super::{DataType, Field};

/// The longest text that Glue keeps as a parameter (`ParametersMapValue` of the service model), in characters.
pub(super) const MAX_PARAMETER_CHARS: usize = 512_000;

/// A member of a struct by the fields' own names, from the column down. Arrays add nothing to it.
pub type MemberPath = Vec<String>;

/// The fields of a column's members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Originals {
    /// The fields of members that have other names, by the names as stored from the outermost down, with dots between.
    renamed: BTreeMap<String, String>,
    /// Whether all other members have their fields' names, which is so where we named them.
    complete: bool,
}

impl Originals {
    /// The fields of a type that we make.
    #[must_use]
    pub fn of(data_type: &DataType) -> Self {
        let mut renamed = BTreeMap::new();
        each_member(data_type, "", &mut |path, field| {
            if field.name != field.source {
                renamed.insert(path.to_owned(), field.source.clone());
            }
        });
        Self { renamed, complete: true }
    }

    /// Reads what [`to_json`](Self::to_json) has written. `ours` says whether we named the members. A text that is
    /// nothing of ours says nothing.
    #[must_use]
    pub fn read(json: Option<&str>, ours: bool) -> Self {
        match json.map(serde_json::from_str) {
            Some(Ok(renamed)) => Self { renamed, complete: ours },
            Some(Err(_)) => Self::default(),
            None => Self { renamed: BTreeMap::new(), complete: ours },
        }
    }

    /// The field of the member at `path`, of names as stored, if it is known to be called otherwise.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<&str> {
        self.renamed.get(path).map(String::as_str)
    }

    /// What is known of both; of one path, what `self` says.
    #[must_use]
    pub fn with(mut self, more: Self) -> Self {
        for (path, field) in more.renamed {
            self.renamed.entry(path).or_insert(field);
        }
        self
    }

    /// The text to keep; none if all members have their fields' names.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        // A map of texts always has a JSON text.
        (!self.renamed.is_empty()).then(|| serde_json::to_string(&self.renamed).unwrap_or_default())
    }

    /// Whether the field of every member is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Gives the members of a type read from a catalog their fields' names.
    pub fn put_back(&self, data_type: &mut DataType) {
        self.put_back_below(data_type, "");
    }

    fn put_back_below(&self, data_type: &mut DataType, path: &str) {
        match data_type {
            DataType::Array(element) => self.put_back_below(element, path),
            DataType::Struct(fields) => {
                for field in fields {
                    let path = below(path, &field.name);
                    if let Some(original) = self.renamed.get(&path) {
                        field.source.clone_from(original);
                    }
                    self.put_back_below(&mut field.data_type, &path);
                }
            }
            _ => {}
        }
    }
}

fn each_member(data_type: &DataType, path: &str, visit: &mut impl FnMut(&str, &Field)) {
    match data_type {
        DataType::Array(element) => each_member(element, path, visit),
        DataType::Struct(fields) => {
            for field in fields {
                let path = below(path, &field.name);
                visit(&path, field);
                each_member(&field.data_type, &path, visit);
            }
        }
        _ => {}
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::super::{SchemaOptions, columns, hive};
    use super::*;

    #[test]
    fn what_is_kept_beside_a_column_gives_its_members_their_names_back() {
        let schema = serde_json::json!({"properties": {"o": {"type": "object", "properties": {
            "Id": {"type": "integer"}, "id": {"type": "integer"}, "plain": {"type": "string"},
            "l": {"type": "array", "items": {"type": "object", "properties": {"zip code": {"type": "string"}}}}}}}});
        let column = columns(&schema, &SchemaOptions::default()).remove(0).data_type;
        let kept = Originals::of(&column).to_json().unwrap();
        assert!(kept.contains(r#""l.zip_code":"zip code""#) && kept.contains(r#":"Id""#), "{kept}");
        assert!(!kept.contains("plain"), "{kept}");
        let mut read = hive::parse(&hive::type_string(&column)).unwrap();
        assert_ne!(read, column);
        let originals = Originals::read(Some(&kept), true);
        assert!(originals.is_complete());
        originals.put_back(&mut read);
        assert_eq!(read, column);
    }

    #[test]
    fn what_is_not_ours_says_nothing() {
        assert_eq!(Originals::read(Some("[1]"), true), Originals::default());
        assert!(!Originals::read(None, false).is_complete() && Originals::read(None, true).is_complete());
        assert_eq!(Originals::of(&DataType::STRING).to_json(), None);
    }
}
