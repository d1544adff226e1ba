//! Names as Glue, Athena and Hive take them.
//!
//! Two names that meet are told apart without looking at their order, so that a catalog that lists its columns
//! differently tomorrow cannot exchange the contents of two columns: a name that is already an identifier keeps it, all
//! others that meet it get the hash of their original. So do those that meet only each other. A table that exists
//! remembers whose its columns are ([`Named`]), and a column stays its field's when the field is gone.
//!
//! Members of structs stand in type strings, `struct<name:type>`, which each engine parses in its own way. Hive and
//! Trino (`TypeInfoUtils`) take letters and digits of any alphabet, `_`, `.` and, by now, spaces and `$`; Athena's
//! guide names `[A-Za-z0-9_.]`. Spark (`CatalystSqlParser`) takes `[A-Za-z0-9_]` and no names that read as numbers, and
//! refuses a table whole for a single other member, so that is what we write.

use std::collections::{HashMap, HashSet};

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The most characters a name in the Glue catalog has.
pub const MAX_NAME_CHARS: usize = 255;

/// A database, table or column name: lower case, `[a-z0-9_]`, accents folded, every other character an underscore, as
/// the incumbent has it. Never empty, never longer than Glue allows.
#[must_use]
pub fn identifier(original: &str) -> String {
    let mut name = reduced(original);
    name.make_ascii_lowercase();
    name
}

/// A member's name in a struct: like [`identifier`], but its case is kept, and what SQL reads as a number begins with an
/// underscore.
#[must_use]
pub fn nested_identifier(original: &str) -> String {
    let name = reduced(original);
    if is_number(&name) { format!("_{name}") } else { name }
}

fn reduced(original: &str) -> String {
    let mut name: String = original
        .nfd()
        .filter(|c| !is_combining_mark(*c))
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(MAX_NAME_CHARS)
        .collect();
    if name.is_empty() {
        name.push('_');
    }
    name
}

/// Whether Spark's grammar takes a name for a number: `12`, `1e5`, and with a letter for the type, `30d`, `1BD`.
fn is_number(name: &str) -> bool {
    let rest = name.trim_start_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
    let exponent = rest.strip_prefix('e').filter(|power| power.starts_with(|c: char| c.is_ascii_digit()));
    let suffix = exponent.map_or(rest.as_str(), |power| power.trim_start_matches(|c: char| c.is_ascii_digit()));
    rest.len() < name.len() && matches!(suffix, "" | "l" | "s" | "y" | "f" | "d" | "bd")
}

/// What a table that exists says of its names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The column of each field, by the field's own name. It is nobody else's, also when the stream has lost the field.
    pub columns: HashMap<String, String>,
    /// Names that no column may have.
    pub reserved: Vec<String>,
}

/// Identifiers for names that live side by side, in their order, each different from all others.
pub fn distinct<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    distinct_in(names, &Named::default())
}

/// Like [`distinct`], in a table that has names already.
pub fn distinct_in<'a>(names: impl IntoIterator<Item = &'a str>, table: &Named) -> Vec<String> {
    tell_apart(names.into_iter().map(|name| (name, identifier(name))).collect(), table)
}

/// Whether `column` is a name that the field `original` may have been given, other than its own.
#[must_use]
pub fn stands_for(column: &str, original: &str) -> bool {
    column != original && is_made_of(column, &identifier(original))
}

/// Whether `member` is a name that the member `original` of a struct may have been given, other than its own.
#[must_use]
pub fn stands_for_member(member: &str, original: &str) -> bool {
    member != original && is_made_of(member, &nested_identifier(original))
}

/// Whether a name is `plain`, or `plain` with a stable suffix.
#[must_use]
pub fn is_made_of(name: &str, plain: &str) -> bool {
    let stem: String = plain.chars().take(MAX_NAME_CHARS - 9).collect();
    let hash = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('_'));
    name == plain || hash.is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Names for the members of one struct. Engines compare them without case, so they differ in more than case.
pub fn distinct_nested<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    tell_apart(names.into_iter().map(|name| (name, nested_identifier(name))).collect(), &Named::default())
}

fn tell_apart(names: Vec<(&str, String)>, table: &Named) -> Vec<String> {
    let mut meeting: HashMap<String, usize> = HashMap::new();
    for (_, name) in &names {
        *meeting.entry(name.to_ascii_lowercase()).or_default() += 1;
    }
    let mut taken: HashSet<String> = table.reserved.iter().map(|name| name.to_ascii_lowercase()).collect();
    // First whoever keeps its name: those that meet nobody, then those that needed no change. Only then the others,
    // so that a suffixed name can never take a name from a column that has a right to it.
    let mut result: Vec<Option<String>> = vec![None; names.len()];
    for (slot, (original, _)) in result.iter_mut().zip(&names) {
        *slot = table.columns.get(*original).filter(|name| taken.insert(name.to_ascii_lowercase())).cloned();
    }
    // The values of a field that is gone stay its own: no other field's may come below them.
    taken.extend(table.columns.values().map(|name| name.to_ascii_lowercase()));
    for exact in [false, true] {
        for (slot, (original, name)) in result.iter_mut().zip(&names) {
            let folded = name.to_ascii_lowercase();
            let keeps = if exact { *original == folded } else { meeting.get(&folded) == Some(&1) };
            if slot.is_none() && keeps && !taken.contains(&folded) {
                taken.insert(folded);
                *slot = Some(name.clone());
            }
        }
    }
    result
        .into_iter()
        .zip(names)
        .map(|(kept, (original, name))| kept.unwrap_or_else(|| suffixed(original, &name, &mut taken)))
        .collect()
}

/// The name of `original` where `taken` is somebody else's.
#[must_use]
pub fn told_apart(original: &str, taken: &str) -> String {
    suffixed(original, &identifier(original), &mut HashSet::from([taken.to_owned()]))
}

/// Appends the hash of `original`, hashed again as long as somebody has that name.
fn suffixed(original: &str, name: &str, taken: &mut HashSet<String>) -> String {
    let mut hash = stable_hash(original.as_bytes());
    loop {
        let stem: String = name.chars().take(MAX_NAME_CHARS - 9).collect();
        let candidate = format!("{stem}_{hash:08x}");
        if taken.insert(candidate.to_ascii_lowercase()) {
            return candidate;
        }
        hash = stable_hash(candidate.as_bytes());
    }
}

/// A name that none of `taken` has: `name`, or `name` with a stable suffix.
#[must_use]
pub fn apart_from<'a>(name: &str, taken: impl IntoIterator<Item = &'a str>) -> String {
    let mut taken: HashSet<String> = taken.into_iter().map(str::to_ascii_lowercase).collect();
    if taken.contains(name) { suffixed(name, name, &mut taken) } else { name.to_owned() }
}

/// FNV-1a, 32 bits: the same on every platform and in every version of this program.
fn stable_hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_those_of_the_incumbent() {
        for (original, expected) in [
            ("ünïcode", "unicode"),
            ("$dollar", "_dollar"),
            ("a.b", "a_b"),
            ("CamelCase", "camelcase"),
            ("1st", "1st"),
            ("a  b", "a__b"),
            ("", "_"),
            ("名前", "__"),
            ("İD", "id"),
            ("_airbyte_x", "_airbyte_x"),
        ] {
            assert_eq!(identifier(original), expected, "{original}");
        }
        assert_eq!(identifier(&"x".repeat(400)).len(), 255);
        assert_eq!(nested_identifier("Größe.x"), "Gro_e_x");
    }

    /// What PySpark 4.3 parses and refuses in `struct<name:bigint>`; `tests/python/spark.py` asks it.
    #[test]
    fn members_are_never_numbers() {
        for number in ["1", "12", "1e5", "1E5", "1L", "30d", "7S", "7y", "1.5", "1bd", "1e5d", "2F"] {
            assert!(nested_identifier(number).starts_with(['_', '1']), "{number}");
            assert!(!is_number(&nested_identifier(number)), "{number}");
        }
        assert_eq!((nested_identifier("30d").as_str(), nested_identifier("1.5").as_str()), ("_30d", "1_5"));
        for name in ["1a", "e5", "1st", "7d_click", "1e", "d", "1dd", "_1", "1ee5"] {
            assert_eq!(nested_identifier(name), name);
        }
        // Columns stand in no type string: they keep their digits, as the incumbent's do.
        assert_eq!(identifier("30d"), "30d");
    }

    #[test]
    fn names_that_meet_are_told_apart_whatever_their_order() {
        assert_eq!(distinct(["ID", "id", "x"]), ["id_56e8eb60", "id", "x"]);
        assert_eq!(distinct(["id", "x", "ID"]), ["id", "x", "id_56e8eb60"]);
        let both = distinct(["Id", "ID"]);
        assert_ne!(both[0], both[1]);
        assert!(both.iter().all(|name| name.starts_with("id_")), "{both:?}");
        assert_eq!(distinct(["ID", "Id"])[0], both[1]);
    }

    #[test]
    fn a_suffixed_name_never_takes_a_name_that_is_declared() {
        let names = distinct(["id", "ID", "id_56e8eb60"]);
        assert_eq!((names[0].as_str(), names[2].as_str()), ("id", "id_56e8eb60"));
        assert_ne!(names[1], names[2]);
    }

    #[test]
    fn long_names_differ_after_being_cut() {
        let (a, b) = ("x".repeat(300), "x".repeat(301));
        let names = distinct([a.as_str(), b.as_str()]);
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| name.len() == 255));
    }

    #[test]
    fn reserved_names_are_left_alone() {
        let table = Named { reserved: vec!["_airbyte_meta".to_owned()], ..Named::default() };
        let names = distinct_in(["_airbyte_meta", "a"], &table);
        assert!(names[0].starts_with("_airbyte_meta_"), "{names:?}");
        assert_eq!(names[1], "a");
        assert_eq!(distinct(["_airbyte_meta"]), ["_airbyte_meta"]);
    }

    #[test]
    fn what_a_table_has_named_keeps_its_name() {
        let columns = HashMap::from([("ID".to_owned(), "id".to_owned())]);
        let table = Named { columns, ..Named::default() };
        assert_eq!(distinct_in(["ID"], &table), ["id"]);
        let both = distinct_in(["id", "ID"], &table);
        assert_eq!(both[1], "id");
        assert!(both[0].starts_with("id_"), "{both:?}");
        // A field that is gone has left its column to nobody.
        assert_eq!(distinct_in(["id", "iD", "x"], &table)[0], both[0]);
        for (name, original, expected) in [
            ("id", "ID", true),
            ("id_56e8eb60", "ID", true),
            ("id", "id", false),
            ("id_of_user", "ID", false),
            ("id", "the key", false),
        ] {
            assert_eq!(stands_for(name, original), expected, "{name} {original}");
        }
        let long = "X".repeat(300);
        assert!(stands_for(&distinct([long.as_str(), &"x".repeat(300)])[0], &long));
    }

    #[test]
    fn members_keep_their_case_but_differ_in_more_than_case() {
        assert_eq!(distinct_nested(["firstName", "last.name"]), ["firstName", "last_name"]);
        let twins = distinct_nested(["Id", "id"]);
        assert_eq!(twins[1], "id");
        assert!(twins[0].starts_with("Id_"), "{twins:?}");
    }

    #[test]
    fn many_names_that_all_meet_stay_different() {
        let originals: Vec<String> = (0..500_u32).map(|i| char::from_u32(0x4e00 + i).into_iter().collect()).collect();
        let names: HashSet<String> = distinct(originals.iter().map(String::as_str)).into_iter().collect();
        assert_eq!(names.len(), 500);
    }
}
