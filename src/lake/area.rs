//! Where one process keeps a truncating stream's objects until the switch: `generation-<id or 0>-<token>`.

use super::table::{Kind, Location};

/// Between a table's folder and the area's name, for areas that lie beside the table.
const BESIDE: &str = ".airbyte-";
const PREFIX: &str = "generation-";

/// A truncating stream's folder, which no reader of the table sees before the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    location: Location,
}

impl Area {
    /// Of a governed table: a folder under its location, since the location cannot change and only registered
    /// objects are visible. Of a plain table: a sibling of its first location, since everything under the location
    /// is visible; the suffix of an earlier switch is replaced.
    pub(crate) fn new(kind: Kind, table: &Location, generation: Option<i64>, token: &str) -> Self {
        let name = format!("{PREFIX}{}-{token}", generation.unwrap_or(0));
        let folder = match kind {
            Kind::Governed => format!("{}/{name}", table.folder),
            Kind::External | Kind::Iceberg => format!("{}{BESIDE}{name}", first_folder(&table.folder)),
        };
        Self { location: Location { bucket: table.bucket.clone(), folder } }
    }

    /// Of an Iceberg table: its data folder itself, since only a snapshot makes an object visible.
    pub(crate) fn within(data: Location) -> Self {
        Self { location: data }
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    /// Whether an object lies in the area.
    pub(crate) fn holds(&self, uri: &str) -> bool {
        uri.starts_with(&self.location.uri())
    }
}

/// A plain table's folder without the suffix of a switch.
pub(super) fn first_folder(folder: &str) -> &str {
    match folder.rfind(BESIDE) {
        Some(at) if is_area(&folder[at + BESIDE.len()..]) => &folder[..at],
        _ => folder,
    }
}

/// Whether a folder's last part is the name of an area.
fn is_area(name: &str) -> bool {
    number(name).is_some()
}

/// The generation in an area's name, 0 where it has none.
fn number(name: &str) -> Option<i64> {
    let (generation, token) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let is_token = token.len() == super::TOKEN_CHARS && token.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = generation.bytes().all(|b| b.is_ascii_digit());
    if is_token && is_number { generation.parse().ok() } else { None }
}

/// The generation that an area was made for, by the last part of its folder.
pub(super) fn generation(folder: &str) -> Option<i64> {
    let beside = folder.rfind(BESIDE).and_then(|at| number(&folder[at + BESIDE.len()..]));
    beside.or_else(|| number(folder.rsplit('/').next()?)).filter(|generation| *generation > 0)
}

/// Whether `folder` is an area of the table whose first folder is `table`.
pub(super) fn is_area_of(kind: Kind, table: &str, folder: &str) -> bool {
    let between = match kind {
        Kind::Governed => "/",
        Kind::External | Kind::Iceberg => BESIDE,
    };
    folder.strip_prefix(table).and_then(|rest| rest.strip_prefix(between)).is_some_and(is_area)
}

/// The key prefix under which a table's areas are found.
pub(super) fn search_prefix(kind: Kind, table: &str) -> String {
    match kind {
        Kind::Governed => format!("{table}/{PREFIX}"),
        Kind::External | Kind::Iceberg => format!("{}{BESIDE}{PREFIX}", first_folder(table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(folder: &str) -> Location {
        Location { bucket: "lake".into(), folder: folder.into() }
    }

    #[test]
    fn a_plain_tables_area_is_no_part_of_any_location() {
        let table = location("p/db/users");
        let first = Area::new(Kind::External, &table, Some(3), "0123456789abcdef");
        assert_eq!(first.location().folder, "p/db/users.airbyte-generation-3-0123456789abcdef");
        assert!(!first.location().overlaps(&table));
        let second = Area::new(Kind::External, first.location(), None, "fedcba9876543210");
        assert_eq!(second.location().folder, "p/db/users.airbyte-generation-0-fedcba9876543210");
    }

    #[test]
    fn an_area_tells_its_generation() {
        for (folder, expected) in [
            ("db/t.airbyte-generation-7-0123456789abcdef", Some(7)),
            ("db/t/generation-7-0123456789abcdef", Some(7)),
            ("db/t.airbyte-generation-0-0123456789abcdef", None),
            ("db/t.airbyte-generation-7-0123456789abcdef/x", None),
            ("db/generation-7", None),
            ("db/t", None),
        ] {
            assert_eq!(generation(folder), expected, "{folder}");
        }
    }

    #[test]
    fn only_areas_are_taken_for_areas() {
        assert!(is_area_of(Kind::External, "db/t", "db/t.airbyte-generation-7-0123456789abcdef"));
        assert!(is_area_of(Kind::Governed, "db/t", "db/t/generation-7-0123456789abcdef"));
        for other in ["db/t", "db/t.airbyte-x", "db/tt/generation-7-0123456789abcdef", "db/t/generation-7-short"] {
            assert!(!is_area_of(Kind::Governed, "db/t", other), "{other}");
            assert!(!is_area_of(Kind::External, "db/t", other), "{other}");
        }
    }
}
