//! Settings: as typed in `spec.json` (`typed.rs`), and as meant ([`Config`]). Validation happens once, between them.

mod partitioning;
mod settings;
mod typed;

use std::time::Duration;

pub use typed::{Loaded, load, parse};

/// The connector's settings as meant.
#[derive(Clone, Debug)]
pub struct Config {
    /// The account the user believes to use. A different one is a warning.
    pub account_id: Option<String>,
    /// How to obtain credentials.
    pub credentials: Credentials,
    /// `None` for the environment's region.
    pub region: Option<String>,
    /// The bucket of new tables.
    pub bucket: String,
    /// Prefix of new tables' locations, without slashes at the ends; may be empty.
    pub prefix: String,
    /// Database of streams without a namespace, as typed.
    pub database: String,
    /// The LF-tag put on every database used.
    pub default_tag: Option<DefaultTag>,
    /// What kind of tables.
    pub table_format: TableFormat,
    /// Whether `table_format` itself was given (then it is strict), or follows from `lakeformation_governed_tables`
    /// (then plain tables that the incumbent made under that name are continued as plain).
    pub table_format_explicit: bool,
    /// The file format, when the user chose one.
    pub file_format: Option<FileFormat>,
    /// Partitioning by the stream's cursor.
    pub partitioning: Partitioning,
    /// Partitioning by these instead, in order; empty for none.
    pub partition_fields: Vec<PartitionField>,
    /// The KMS key that encrypts objects; none for the bucket's own encryption.
    pub kms_key_id: Option<String>,
    /// Whether `number` columns become `decimal(38,25)`.
    pub float_as_decimal: bool,
    /// How timestamps are written in JSON Lines tables that this sync makes or replaces, when the user chose.
    pub json_timestamps: Option<JsonTimestamps>,
    /// The same for Parquet.
    pub parquet_timestamps: Option<ParquetTimestamps>,
    /// Whether times of day in Iceberg tables that this sync makes or replaces are of Iceberg's type `time`, rather than
    /// text as it came.
    pub iceberg_times: bool,
    /// Whether tables get the `_airbyte_*` columns. `None`: on for Iceberg tables, off for governed and external ones.
    pub metadata_columns: Option<bool>,
    /// How often a sync commits.
    pub commit_interval: Duration,
    /// Size of a data file, encoded, at which the next one begins. Bytes.
    pub target_file_bytes: u64,
    /// Size of a Parquet row group, encoded, when the user chose one. Bytes.
    pub row_group_bytes: Option<u64>,
    /// The memory bound in bytes, when the user chose one.
    pub memory_limit_bytes: Option<u64>,
    /// One endpoint for all services, instead of AWS's own.
    pub endpoint_url: Option<String>,
}

/// How to obtain credentials.
#[derive(Clone)]
pub enum Credentials {
    /// Assume a role with the environment's credentials.
    Role {
        /// The role's ARN.
        role_arn: String,
        /// `ExternalId`, from the configuration or `AWS_ASSUME_ROLE_EXTERNAL_ID`.
        external_id: Option<String>,
        /// Length of a session; 3600 s by default.
        session_length: Duration,
    },
    /// A user's access key.
    User {
        /// The key's id.
        access_key_id: String,
        /// The key.
        secret_access_key: String,
    },
    /// The environment's own: profile, IRSA, Pod Identity, instance profile.
    Environment,
}

/// Never prints a secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Role { role_arn, .. } => f.debug_struct("Role").field("role_arn", role_arn).finish_non_exhaustive(),
            Self::User { .. } => f.debug_struct("User").finish_non_exhaustive(),
            Self::Environment => f.write_str("Environment"),
        }
    }
}

/// An LF-tag and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultTag {
    /// The tag's key.
    pub key: String,
    /// Its values; never empty.
    pub values: Vec<String>,
}

/// The table format of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// Lake Formation governed tables, through transactions.
    Governed,
    /// Plain Glue tables.
    External,
    /// Apache Iceberg tables in the Glue catalog.
    Iceberg,
}

/// Format and compression of data files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// One JSON object a line.
    Jsonl {
        /// Whether files are gzip members.
        gzip: bool,
    },
    /// Apache Parquet.
    Parquet(ParquetCodec),
}

impl FileFormat {
    /// The ending of object names, as the incumbent's.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jsonl { gzip: false } => ".json",
            Self::Jsonl { gzip: true } => ".json.gz",
            Self::Parquet(ParquetCodec::Uncompressed) => ".parquet",
            Self::Parquet(ParquetCodec::Snappy) => ".snappy.parquet",
            Self::Parquet(ParquetCodec::Gzip) => ".gz.parquet",
            Self::Parquet(ParquetCodec::Zstd) => ".zstd.parquet",
        }
    }
}

/// Compression of Parquet pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParquetCodec {
    /// None.
    Uncompressed,
    /// Snappy, the default.
    Snappy,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Timestamps in JSON Lines, always in UTC and to the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JsonTimestamps {
    /// `2024-01-02 03:04:05.678`
    #[default]
    Sql,
    /// `2024-01-02T03:04:05.678Z`, without `Z` where the column has no zone.
    Iso8601,
    /// A number, as the incumbent has it.
    EpochMillis,
}

/// Timestamps in Parquet, in UTC. INT64 ones are always marked as adjusted to UTC, since a Hive `timestamp` has no zone
/// and every reader of Hive tables takes it for UTC, while some refuse files that say it is local.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ParquetTimestamps {
    /// INT64 `TIMESTAMP(MILLIS)`, what Athena can read at full precision.
    #[default]
    Millis,
    /// INT64 `TIMESTAMP(MICROS)`.
    Micros,
    /// INT96: nanoseconds of a Julian day, as the incumbent, Hive, Impala and Spark have it. Written to the microsecond.
    Int96,
}

/// A column, or a part of its date, to partition by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionField {
    /// The column's name, as the source or the table has it.
    pub column: String,
    /// The part of its date; none for the column itself.
    pub part: Option<CalendarPart>,
}

/// A part of a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarPart {
    /// `year(column)`
    Year,
    /// `month(column)`
    Month,
    /// `day(column)`: the day of the month.
    Day,
}

/// Partitioning by the date in the stream's cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// Not partitioned.
    None,
    /// `<cursor>_date date`.
    Date,
    /// `<cursor>_year bigint`.
    Year,
    /// `<cursor>_month bigint`.
    Month,
    /// `<cursor>_day bigint`.
    Day,
    /// Year and month.
    YearMonth,
    /// Year, month and day.
    YearMonthDay,
}
