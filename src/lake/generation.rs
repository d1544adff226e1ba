//! Which generation a table shows: what its parameter records, or, where somebody has removed that, what the place of
//! its objects tells.

use aws_sdk_glue::types::Table;

use super::area;
use super::glue;
use super::table::{Location, parameter};
use super::transaction::ManifestObject;

/// What is known of the generation that a table shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// The generation; none for tables that no generation has replaced.
    pub(crate) generation: Option<i64>,
    /// Whether the table's parameter says so. Who removes the parameter wants the table to be replaced by any other
    /// generation; yet an attempt that goes on with its own generation must find it.
    pub(crate) recorded: bool,
}

impl Shown {
    /// Of a table of its kind; `objects` are those registered in a governed table.
    pub(super) fn of(table: &Table, objects: &[ManifestObject]) -> Self {
        if let Some(generation) = recorded(table) {
            return Self { generation: Some(generation), recorded: true };
        }
        let location = glue::location(table).and_then(Location::parse);
        let place = location.as_ref().and_then(|location| area::generation(&location.folder));
        let of_objects = || {
            let folders = objects.iter().filter_map(|object| Location::parse(object.uri.rsplit_once('/')?.0));
            folders.filter_map(|folder| folder.folder.split('/').find_map(area::generation)).max()
        };
        Self { generation: place.or_else(of_objects), recorded: false }
    }
}

/// The table's parameter.
pub(super) fn recorded(table: &Table) -> Option<i64> {
    glue::parameter(table, parameter::GENERATION)?.parse().ok()
}
