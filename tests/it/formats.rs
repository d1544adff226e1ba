//! The kinds of tables that the main job's suite runs for.

use serde_json::{Value, json};

use crate::lab::Lab;

/// A kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// Lake Formation governed tables.
    Governed,
    /// Plain Glue tables.
    Plain,
    /// The same, partitioned by the day of the cursor, and asked for by the newer setting.
    Partitioned,
    /// Apache Iceberg tables.
    Iceberg,
}

impl Tables {
    /// Every kind that the suite runs for; a kind that is added here is in all of it.
    pub(crate) const ALL: [Self; 4] = [Self::Governed, Self::Plain, Self::Partitioned, Self::Iceberg];
    /// Those whose objects may be JSON Lines.
    pub(crate) const OF_ANY_FORMAT: [Self; 3] = [Self::Governed, Self::Plain, Self::Partitioned];

    /// The kind's name in transcripts.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "governed" => Self::Governed,
            "plain" => Self::Plain,
            "partitioned" => Self::Partitioned,
            "iceberg" => Self::Iceberg,
            other => panic!("no tables are called {other}"),
        }
    }

    /// A configuration of such tables, with changes, which have the last word.
    pub(crate) fn config(self, lab: &Lab, changes: Value) -> Value {
        let mut all = match self {
            Self::Governed => json!({ "lakeformation_governed_tables": true }),
            Self::Plain => json!({}),
            Self::Partitioned => json!({ "table_format": "EXTERNAL", "partitioning": "DAY" }),
            // The columns that the stream has, as in the others.
            Self::Iceberg => json!({ "table_format": "ICEBERG", "format": null, "airbyte_metadata_columns": false }),
        };
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        lab.config(all)
    }

    /// The same for rows of a megabyte that do not shrink: they leave in parts, in every kind of tables.
    pub(crate) fn config_of_parts(self, lab: &Lab, mut changes: Value) -> Value {
        if self == Self::Iceberg {
            changes["format"] = json!({ "format_type": "Parquet", "compression_codec": "UNCOMPRESSED" });
            changes["parquet_row_group_mb"] = json!(1);
        }
        self.config(lab, changes)
    }

    /// What a reader sees switched in one piece: the value of this expression of SQL, in each of a table's rows.
    pub(crate) fn switched_whole(self) -> &'static str {
        match self {
            Self::Governed | Self::Plain | Self::Iceberg => "0",
            Self::Partitioned => "at_day",
        }
    }
}

/// Whether a partitioned table is in the middle of a switch.
pub(crate) fn is_switching(lab: &Lab, table: &str) -> bool {
    !lab.table(table)["Parameters"]["airbyte.switching"].is_null()
}
