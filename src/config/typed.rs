//! Settings as typed in `spec.json`, checked and translated into a [`Config`].

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::settings::Settings;
use super::{
    Config, Credentials, DefaultTag, FileFormat, JsonTimestamps, ParquetCodec, ParquetTimestamps, TableFormat,
    partitioning,
};
use crate::failure::Failure;

const MIB: u64 = 1024 * 1024;

/// A configuration that was accepted.
pub struct Loaded {
    /// The settings as meant.
    pub config: Config,
    /// What the user should know, without secrets.
    pub warnings: Vec<String>,
    /// Values that must not appear in any output.
    pub secrets: Vec<String>,
}

/// Never prints a secret.
impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// Reads the settings from a file, and what they leave to the environment from there.
///
/// # Errors
/// A `config_error` that names the setting, never a value.
pub fn load(path: &Path) -> anyhow::Result<Loaded> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::InvalidData => "it is not valid UTF-8".to_owned(),
            _ => error.to_string(),
        };
        Failure::config(format!("cannot read the configuration {}: {why}", path.display()))
    })?;
    parse(&text, |name| std::env::var(name).ok())
}

/// Reads the settings from their text; `environment` looks up variables.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, environment: impl Fn(&str) -> Option<String>) -> anyhow::Result<Loaded> {
    let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
        // The library's own words may quote the text.
        let what = if error.is_eof() { "ends too early" } else { "is not valid JSON" };
        Failure::config(format!("the configuration {what} (line {}, column {})", error.line(), error.column()))
    })?;
    let mut settings = Settings::root(&value)?;
    let mut warnings = Vec::new();
    let mut secrets = Vec::new();

    let credentials = credentials(&mut settings, &environment, &mut warnings, &mut secrets)?;
    // Required, but it may be empty: then the environment's region counts.
    let region = settings.required_even_empty("region")?;
    let (table_format, table_format_explicit) = table_format(&mut settings)?;
    let config = Config {
        account_id: account_id(&mut settings)?,
        credentials,
        region,
        bucket: bucket(&settings.required("bucket_name")?)?,
        prefix: settings.text("bucket_prefix")?.unwrap_or_default().trim_matches('/').to_owned(),
        database: settings.required("lakeformation_database_name")?,
        default_tag: default_tag(&mut settings, &mut warnings)?,
        table_format,
        table_format_explicit,
        file_format: file_format(&mut settings, table_format, &mut warnings)?,
        partitioning: partitioning::by_cursor(&mut settings)?,
        partition_fields: partitioning::by_fields(&mut settings)?,
        kms_key_id: settings.text("s3_kms_key_id")?,
        float_as_decimal: settings.flag("glue_catalog_float_as_decimal")?.unwrap_or(false),
        json_timestamps: settings.choice(
            "json_timestamp_format",
            &[
                ("SQL", JsonTimestamps::Sql),
                ("ISO_8601", JsonTimestamps::Iso8601),
                ("EPOCH_MILLIS", JsonTimestamps::EpochMillis),
            ],
        )?,
        parquet_timestamps: settings.choice(
            "parquet_timestamp_unit",
            &[
                ("MILLIS", ParquetTimestamps::Millis),
                ("MICROS", ParquetTimestamps::Micros),
                ("INT96", ParquetTimestamps::Int96),
            ],
        )?,
        iceberg_times: settings.choice("iceberg_time_type", &[("STRING", false), ("TIME", true)])?.unwrap_or(false),
        metadata_columns: settings.flag("airbyte_metadata_columns")?,
        commit_interval: Duration::from_secs_f64(
            60.0 * settings.number("commit_interval_minutes", 0.01, 1440.0)?.unwrap_or(15.0),
        ),
        target_file_bytes: MIB * settings.whole("target_file_size_mb", 1, 5120)?.unwrap_or(256),
        row_group_bytes: settings.whole("parquet_row_group_mb", 1, 1024)?.map(|size| MIB * size),
        memory_limit_bytes: settings.whole("memory_limit_mb", 64, 1024 * 1024)?.map(|limit| MIB * limit),
        endpoint_url: endpoint_url(&mut settings)?,
    };
    partitioning::one_way(&config)?;
    settings.finish(&mut warnings);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        secrets.extend(environment(name).filter(|value| !value.is_empty()));
    }
    Ok(Loaded { config, warnings, secrets: with_encoded_forms(secrets) })
}

/// The account's number. It is text: as a number it would lose its zeros.
fn account_id(settings: &mut Settings<'_>) -> anyhow::Result<Option<String>> {
    settings.text("aws_account_id")
}

fn credentials(
    settings: &mut Settings<'_>,
    environment: &impl Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
    secrets: &mut Vec<String>,
) -> anyhow::Result<Credentials> {
    let mut settings =
        settings.object("credentials")?.ok_or_else(|| Failure::config("the setting `credentials` is missing"))?;
    let title = settings.text("credentials_title")?;
    let role_arn = settings.text("role_arn")?;
    let external_id = settings.text("external_id")?;
    let session_length = settings.whole("session_length_seconds", 900, 43_200)?.unwrap_or(3600);
    let access_key_id = settings.text("aws_access_key_id")?;
    let secret_access_key = settings.text("aws_secret_access_key")?;
    settings.finish(warnings);
    // Also of the kind that was not chosen: the form keeps what was typed before.
    secrets.extend(external_id.iter().chain(&access_key_id).chain(&secret_access_key).cloned());

    let title = match title.as_deref() {
        // Configurations made by hand often lack the title; the members say as much.
        None if role_arn.is_some() => "IAM Role",
        None if access_key_id.is_some() || secret_access_key.is_some() => "IAM User",
        None => "",
        Some(title) => title,
    };
    match title {
        "IAM Role" => {
            let role_arn = role_arn.ok_or_else(|| settings.missing("role_arn"))?;
            if !(role_arn.starts_with("arn:") && role_arn.contains(":role/")) {
                return Err(Failure::config(
                    "the setting `credentials.role_arn` is not the ARN of a role, such as \
                     arn:aws:iam::123456789012:role/airbyte",
                ));
            }
            let external_id = external_id.or_else(|| {
                let from_environment = environment("AWS_ASSUME_ROLE_EXTERNAL_ID").filter(|id| !id.is_empty());
                secrets.extend(from_environment.clone());
                from_environment
            });
            Ok(Credentials::Role { role_arn, external_id, session_length: Duration::from_secs(session_length) })
        }
        "IAM User" => Ok(Credentials::User {
            access_key_id: access_key_id.ok_or_else(|| settings.missing("aws_access_key_id"))?,
            secret_access_key: secret_access_key.ok_or_else(|| settings.missing("aws_secret_access_key"))?,
        }),
        "Environment" => Ok(Credentials::Environment),
        _ => Err(settings.not_one_of("credentials_title", &["IAM Role", "IAM User", "Environment"])),
    }
}

fn bucket(name: &str) -> anyhow::Result<String> {
    let refuse = |what: &str| Err(Failure::config(format!("the setting `bucket_name` {what}")));
    if name.starts_with("s3:") || name.starts_with("s3a:") {
        return refuse("must be the bucket's name alone, without `s3://`");
    }
    if name.starts_with("arn:") {
        return refuse("must be the bucket's name, not its ARN");
    }
    if name.contains('/') {
        return refuse("must be the bucket's name alone; put the path into `bucket_prefix`");
    }
    Ok(name.to_owned())
}

/// A tag needs a key and values. With one of them missing the incumbent did without a tag, so it is no error.
fn default_tag(settings: &mut Settings<'_>, warnings: &mut Vec<String>) -> anyhow::Result<Option<DefaultTag>> {
    const KEY: &str = "lakeformation_database_default_tag_key";
    const VALUES: &str = "lakeformation_database_default_tag_values";
    let key = settings.text(KEY)?;
    let values = settings.text(VALUES)?.unwrap_or_default();
    let values: Vec<String> =
        values.split(',').map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned).collect();
    match (key, values.is_empty()) {
        (Some(key), false) => Ok(Some(DefaultTag { key, values })),
        (None, true) => Ok(None),
        (Some(_), true) => {
            warnings.push(format!("no LF-tag is set: `{KEY}` is given, `{VALUES}` is not"));
            Ok(None)
        }
        (None, false) => {
            warnings.push(format!("no LF-tag is set: `{VALUES}` is given, `{KEY}` is not"));
            Ok(None)
        }
    }
}

/// The table format, and whether it was chosen by its own name.
fn table_format(settings: &mut Settings<'_>) -> anyhow::Result<(TableFormat, bool)> {
    let governed = settings.flag("lakeformation_governed_tables")?.unwrap_or(false);
    match settings.text("table_format")?.as_deref() {
        None if governed => Ok((TableFormat::Governed, false)),
        None => Ok((TableFormat::External, false)),
        Some("GOVERNED") => Ok((TableFormat::Governed, true)),
        Some("EXTERNAL") => Ok((TableFormat::External, true)),
        Some("ICEBERG") => Ok((TableFormat::Iceberg, true)),
        Some(_) => Err(settings.not_one_of("table_format", &["ICEBERG", "EXTERNAL", "GOVERNED"])),
    }
}

/// Absent means that an existing table goes on as it is. The defaults of the codecs are those of the form.
fn file_format(
    settings: &mut Settings<'_>,
    table_format: TableFormat,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Option<FileFormat>> {
    let Some(mut settings) = settings.object("format")? else { return Ok(None) };
    let format = settings.text("format_type")?;
    let codec = settings.text("compression_codec")?;
    settings.finish(warnings);
    let format = match (format.as_deref(), codec.as_deref()) {
        (Some("JSONL"), _) if table_format == TableFormat::Iceberg => {
            return Err(Failure::config(
                "Iceberg tables hold Parquet: set `format.format_type` to Parquet, or leave `format` out",
            ));
        }
        // As Iceberg's own writers do.
        (Some("Parquet"), None) if table_format == TableFormat::Iceberg => FileFormat::Parquet(ParquetCodec::Zstd),
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(settings.missing("format_type")),
        (Some("JSONL"), None | Some("UNCOMPRESSED")) => FileFormat::Jsonl { gzip: false },
        (Some("JSONL"), Some("GZIP")) => FileFormat::Jsonl { gzip: true },
        (Some("JSONL"), Some(_)) => {
            return Err(settings.not_one_of("compression_codec", &["UNCOMPRESSED", "GZIP"]));
        }
        (Some("Parquet"), None | Some("SNAPPY")) => FileFormat::Parquet(ParquetCodec::Snappy),
        (Some("Parquet"), Some("UNCOMPRESSED")) => FileFormat::Parquet(ParquetCodec::Uncompressed),
        (Some("Parquet"), Some("GZIP")) => FileFormat::Parquet(ParquetCodec::Gzip),
        (Some("Parquet"), Some("ZSTD")) => FileFormat::Parquet(ParquetCodec::Zstd),
        (Some("Parquet"), Some(_)) => {
            return Err(settings.not_one_of("compression_codec", &["UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD"]));
        }
        (Some(_), _) => return Err(settings.not_one_of("format_type", &["JSONL", "Parquet"])),
    };
    Ok(Some(format))
}

fn endpoint_url(settings: &mut Settings<'_>) -> anyhow::Result<Option<String>> {
    let Some(url) = settings.text("endpoint_url")? else { return Ok(None) };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let refuse = |what: &str| Err(Failure::config(format!("the setting `endpoint_url` {what}")));
    match rest {
        None => refuse("must begin with https:// or http://"),
        Some("") => refuse("names no host"),
        Some(rest) if rest.split('/').next().is_some_and(|host| host.contains('@')) => {
            refuse("must not contain a user or a password; they belong to `credentials`")
        }
        Some(_) => Ok(Some(url.trim_end_matches('/').to_owned())),
    }
}

/// The secrets, and each once more as it looks inside a URL.
fn with_encoded_forms(secrets: Vec<String>) -> Vec<String> {
    let mut all = Vec::new();
    for secret in secrets {
        let encoded: String = secret
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        for form in [encoded, secret] {
            if !all.contains(&form) {
                all.push(form);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Partitioning;
    use super::*;
    use crate::failure::{FailureKind, classify};

    /// The least that is a configuration, with some members set; null takes one away.
    fn settings(more: Value) -> Value {
        let mut settings = json!({
            "credentials": {"credentials_title": "IAM User", "aws_access_key_id": "AKID", "aws_secret_access_key": "hush/hush"},
            "region": "eu-west-1", "bucket_name": "lake", "lakeformation_database_name": "db",
        });
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        settings
    }

    fn loaded(more: Value) -> Loaded {
        parse(&settings(more).to_string(), |_| None).unwrap()
    }

    fn config(more: Value) -> Config {
        let loaded = loaded(more);
        assert_eq!(loaded.warnings, Vec::<String>::new());
        loaded.config
    }

    fn refusal(more: Value) -> String {
        let failure = classify(&parse(&settings(more).to_string(), |_| None).unwrap_err());
        assert_eq!(failure.kind, FailureKind::Config);
        assert!(!failure.message.contains("hush"), "{}", failure.message);
        failure.message
    }

    #[test]
    fn what_is_absent_has_the_defaults() {
        let config = config(json!({}));
        assert_eq!((config.region.as_deref(), &*config.bucket, &*config.prefix), (Some("eu-west-1"), "lake", ""));
        assert_eq!((config.table_format, config.table_format_explicit), (TableFormat::External, false));
        assert_eq!((config.file_format, config.partitioning), (None, Partitioning::None));
        assert_eq!((config.float_as_decimal, config.metadata_columns), (false, None));
        assert_eq!(config.commit_interval, Duration::from_secs(900));
        assert_eq!((config.target_file_bytes, config.row_group_bytes), (256 << 20, None));
        assert!(config.partition_fields.is_empty() && config.kms_key_id.is_none());
        assert!(config.memory_limit_bytes.is_none() && config.endpoint_url.is_none() && config.default_tag.is_none());
    }

    #[test]
    fn everything_can_be_set() {
        let config = config(json!({
            "aws_account_id": "012345678901", "bucket_prefix": "/a/b/", "table_format": "GOVERNED",
            "lakeformation_database_default_tag_key": "pii", "lakeformation_database_default_tag_values": "private, public,",
            "lakeformation_governed_tables": false, "partitioning": "YEAR/MONTH/DAY",
            "glue_catalog_float_as_decimal": true, "airbyte_metadata_columns": true,
            "commit_interval_minutes": 0.01, "target_file_size_mb": 1, "parquet_row_group_mb": 2, "memory_limit_mb": 64,
            "endpoint_url": "http://localhost:4566/",
        }));
        assert_eq!((config.account_id.as_deref(), &*config.prefix), (Some("012345678901"), "a/b"));
        assert_eq!((config.table_format, config.table_format_explicit), (TableFormat::Governed, true));
        let tag = DefaultTag { key: "pii".into(), values: vec!["private".into(), "public".into()] };
        assert_eq!((config.default_tag, config.partitioning), (Some(tag), Partitioning::YearMonthDay));
        assert_eq!((config.float_as_decimal, config.metadata_columns), (true, Some(true)));
        assert_eq!(config.commit_interval, Duration::from_millis(600));
        assert_eq!((config.target_file_bytes, config.row_group_bytes), (1 << 20, Some(2 << 20)));
        assert_eq!(config.memory_limit_bytes, Some(64 << 20));
        assert_eq!(config.endpoint_url.as_deref(), Some("http://localhost:4566"));
    }

    #[test]
    fn null_and_empty_text_are_absent() {
        let config = config(json!({
            "region": "", "bucket_prefix": null, "aws_account_id": " ", "format": null, "partitioning": "",
            "lakeformation_database_default_tag_key": "", "lakeformation_database_default_tag_values": "",
            "table_format": "", "endpoint_url": "", "memory_limit_mb": null, "airbyte_metadata_columns": null,
        }));
        assert!(config.region.is_none() && config.account_id.is_none() && config.endpoint_url.is_none());
        assert_eq!((config.table_format_explicit, config.default_tag), (false, None));
    }

    #[test]
    fn formats_and_codecs_are_the_incumbents() {
        use ParquetCodec::{Gzip, Snappy, Uncompressed, Zstd};
        let of = |format: Value| config(json!({"format": format})).file_format;
        let parquet = |codec: &str| of(json!({"format_type": "Parquet", "compression_codec": codec}));
        assert_eq!(of(json!({"format_type": "JSONL"})), Some(FileFormat::Jsonl { gzip: false }));
        assert_eq!(
            of(json!({"format_type": "JSONL", "compression_codec": "GZIP"})),
            Some(FileFormat::Jsonl { gzip: true })
        );
        assert_eq!(of(json!({"format_type": "Parquet"})), Some(FileFormat::Parquet(Snappy)));
        for (name, codec) in [("SNAPPY", Snappy), ("UNCOMPRESSED", Uncompressed), ("GZIP", Gzip), ("ZSTD", Zstd)] {
            assert_eq!(parquet(name), Some(FileFormat::Parquet(codec)));
        }
        assert_eq!(of(json!({})), None);
        assert!(refusal(json!({"format": {"format_type": "JSONL", "compression_codec": "ZSTD"}})).contains("codec"));
        assert!(refusal(json!({"format": {"format_type": "CSV"}})).contains("`format.format_type` must be one of"));
        assert!(refusal(json!({"format": {"compression_codec": "GZIP"}})).contains("`format.format_type` is missing"));
    }

    #[test]
    fn the_old_switch_decides_unless_the_table_format_is_named() {
        let of = |more| {
            let config = config(more);
            (config.table_format, config.table_format_explicit)
        };
        assert_eq!(of(json!({"lakeformation_governed_tables": true})), (TableFormat::Governed, false));
        let both = json!({"lakeformation_governed_tables": true, "table_format": "EXTERNAL"});
        assert_eq!(of(both), (TableFormat::External, true));
        let iceberg = config(json!({"table_format": "ICEBERG"}));
        assert_eq!((iceberg.table_format, iceberg.file_format), (TableFormat::Iceberg, None));
        let parquet = json!({"table_format": "ICEBERG", "format": {"format_type": "Parquet"}});
        assert_eq!(config(parquet).file_format, Some(FileFormat::Parquet(ParquetCodec::Zstd)));
        let lines = json!({"table_format": "ICEBERG", "format": {"format_type": "JSONL"}});
        assert!(refusal(lines).contains("Iceberg tables hold Parquet"));
        assert!(refusal(json!({"table_format": "DELTA"})).contains("one of ICEBERG, EXTERNAL, GOVERNED"));
    }

    #[test]
    fn credentials_are_recognised_with_and_without_their_title() {
        let of = |credentials: Value, id: Option<&str>| {
            let text = settings(json!({"credentials": credentials})).to_string();
            parse(&text, |name| id.filter(|_| name == "AWS_ASSUME_ROLE_EXTERNAL_ID").map(str::to_owned)).unwrap()
        };
        let arn = "arn:aws-cn:iam::111111111111:role/path/r";
        let role = of(json!({"role_arn": arn, "session_length_seconds": 900}), Some("from-environment"));
        let Credentials::Role { role_arn, external_id, session_length } = role.config.credentials else { panic!() };
        assert_eq!(
            (&*role_arn, external_id.as_deref(), session_length.as_secs()),
            (arn, Some("from-environment"), 900)
        );
        assert!(role.secrets.contains(&"from-environment".to_owned()));
        let role = of(json!({"credentials_title": "IAM Role", "role_arn": arn, "external_id": "typed"}), Some("other"));
        let Credentials::Role { external_id, session_length, .. } = role.config.credentials else { panic!() };
        assert_eq!((external_id.as_deref(), session_length.as_secs()), (Some("typed"), 3600));
        let user = of(json!({"aws_access_key_id": "AKID", "aws_secret_access_key": " hush/hush\n"}), None);
        let Credentials::User { access_key_id, secret_access_key } = user.config.credentials else { panic!() };
        assert_eq!((&*access_key_id, &*secret_access_key), ("AKID", "hush/hush"));
        let environment = of(json!({"credentials_title": "Environment"}), None);
        assert!(matches!(environment.config.credentials, Credentials::Environment));
    }

    #[test]
    fn incomplete_credentials_are_refused_by_name() {
        let of = |credentials: Value| refusal(json!({"credentials": credentials}));
        assert!(of(Value::Null).contains("`credentials` is missing"));
        assert!(of(json!({})).contains("`credentials.credentials_title` must be one of"));
        assert!(of(json!({"credentials_title": "hush"})).contains("IAM Role, IAM User, Environment"));
        assert!(
            of(json!({"credentials_title": "IAM Role", "role_arn": ""})).contains("`credentials.role_arn` is missing")
        );
        assert!(of(json!({"role_arn": "hush"})).contains("not the ARN of a role"));
        assert!(of(json!({"aws_secret_access_key": "hush"})).contains("`credentials.aws_access_key_id` is missing"));
        assert!(of(json!({"aws_access_key_id": "hush"})).contains("`credentials.aws_secret_access_key` is missing"));
        let long = json!({"role_arn": "arn:aws:iam::1:role/r", "session_length_seconds": 50_000});
        assert!(of(long).contains("from 900 to 43200"));
        assert!(of(json!("hush")).contains("must be an object"));
    }

    #[test]
    fn all_secrets_are_known_also_as_they_look_in_a_url() {
        let text = settings(json!({"credentials": {"credentials_title": "IAM User", "aws_access_key_id": "AKID",
            "aws_secret_access_key": "hush/hush", "external_id": "left over"}}));
        let loaded =
            parse(&text.to_string(), |name| (name == "AWS_SESSION_TOKEN").then(|| "token=".to_owned())).unwrap();
        for secret in ["AKID", "hush/hush", "hush%2Fhush", "left over", "left%20over", "token=", "token%3D"] {
            assert!(loaded.secrets.contains(&secret.to_owned()), "{secret}");
        }
        assert!(!format!("{loaded:?}").contains("hush"));
    }

    #[test]
    fn unknown_settings_are_named_at_every_level_and_tolerated() {
        let loaded = loaded(json!({
            "serialization_library": "x", "format": {"format_type": "JSONL", "block_size": 1},
            "credentials": {"credentials_title": "Environment", "profile": "p", "role_arn": "left over"},
        }));
        let expected = ["credentials.profile", "format.block_size", "serialization_library"]
            .map(|name| format!("the unknown setting `{name}` is ignored"));
        assert_eq!(loaded.warnings, expected);
    }

    #[test]
    fn a_tag_without_values_is_a_warning() {
        let loaded = loaded(json!({"lakeformation_database_default_tag_key": "pii"}));
        assert!(loaded.config.default_tag.is_none());
        assert!(loaded.warnings[0].contains("lakeformation_database_default_tag_values"));
    }

    #[test]
    fn missing_and_mistyped_settings_are_named() {
        for name in ["region", "bucket_name", "lakeformation_database_name"] {
            assert!(refusal(json!({name: null})).contains(&format!("`{name}` is missing")));
        }
        assert!(refusal(json!({"bucket_name": ""})).contains("`bucket_name` is missing"));
        assert!(refusal(json!({"aws_account_id": 12})).contains("`aws_account_id` must be text"));
        assert!(refusal(json!({"lakeformation_governed_tables": "true"})).contains("must be true or false"));
        let both = json!({"partition_fields": ["a"], "partitioning": "DAY"});
        assert!(refusal(both).contains("exclude each other"));
        assert!(refusal(json!({"partitioning": "HOUR"})).contains("`partitioning` must be one of"));
        for minutes in [json!(0), json!(-1), json!("15"), json!(1e300)] {
            assert!(refusal(json!({"commit_interval_minutes": minutes})).contains("from 0.01 to 1440"));
        }
        assert!(refusal(json!({"memory_limit_mb": 63})).contains("from 64"));
        assert!(refusal(json!({"target_file_size_mb": 1.5})).contains("whole number"));
        assert!(refusal(json!({"parquet_row_group_mb": 0})).contains("from 1 to 1024"));
    }

    #[test]
    fn buckets_and_endpoints_are_looked_at() {
        assert!(refusal(json!({"bucket_name": "s3://lake"})).contains("without `s3://`"));
        assert!(refusal(json!({"bucket_name": "lake/raw"})).contains("`bucket_prefix`"));
        assert!(refusal(json!({"bucket_name": "arn:aws:s3:::lake"})).contains("not its ARN"));
        assert!(refusal(json!({"endpoint_url": "localhost:4566"})).contains("https://"));
        assert!(refusal(json!({"endpoint_url": "http://me:hush@host/x"})).contains("user or a password"));
        assert!(refusal(json!({"endpoint_url": "http://"})).contains("no host"));
    }

    #[test]
    fn broken_files_are_refused_without_their_content() {
        let refusal = |text: &str| classify(&parse(text, |_| None).unwrap_err()).message;
        assert_eq!(refusal("{\n  \"hush\": hush"), "the configuration is not valid JSON (line 2, column 11)");
        assert_eq!(refusal("{\"a\": \"hush"), "the configuration ends too early (line 1, column 11)");
        assert_eq!(refusal("[]"), "the configuration is not a JSON object");
        let error = load(Path::new("/nonexistent/config.json")).unwrap_err();
        assert_eq!(classify(&error).kind, FailureKind::Config);
    }

    #[test]
    fn the_examples_are_configurations() {
        for (text, format) in [
            (include_str!("../../examples/config.json"), TableFormat::External),
            (include_str!("../../examples/config-governed.json"), TableFormat::Governed),
            (include_str!("../../examples/config-iceberg.json"), TableFormat::Iceberg),
        ] {
            let loaded = parse(text, |_| None).unwrap();
            assert_eq!((loaded.config.table_format, loaded.warnings.len()), (format, 0));
        }
    }

    /// The form and the parser know the same settings and the same defaults.
    #[test]
    fn the_form_offers_exactly_what_is_understood() {
        let form: Value = serde_json::from_str(include_str!("../../spec.json")).unwrap();
        let form = &form["connectionSpecification"];
        let mut all = serde_json::Map::new();
        for (name, property) in form["properties"].as_object().unwrap() {
            let example = match (property["type"].as_str().unwrap(), &property["default"], &property["enum"][0]) {
                ("object", ..) => continue,
                (_, default, Value::Null) if !default.is_null() => default.clone(),
                (.., Value::String(first)) => json!(first),
                // One way of partitioning excludes the other.
                ("array", ..) => json!([]),
                ("boolean", ..) => json!(true),
                ("integer", ..) => property["minimum"].clone(),
                _ => property["examples"][0].clone(),
            };
            all.insert(name.clone(), example);
        }
        let configured = config(Value::Object(all));
        assert_eq!(configured.commit_interval, Duration::from_secs(900));
        for (name, kinds) in [("credentials", 3), ("format", 2)] {
            let options = form["properties"][name]["oneOf"].as_array().unwrap();
            assert_eq!(options.len(), kinds);
            for option in options {
                let mut object = serde_json::Map::new();
                for (member, property) in option["properties"].as_object().unwrap() {
                    let default = &property["default"];
                    let example = match member.as_str() {
                        "role_arn" => property["examples"][0].clone(),
                        _ if default.is_null() => json!("example"),
                        _ => default.clone(),
                    };
                    object.insert(member.clone(), example);
                }
                config(json!({name: object}));
            }
        }
        for format in form["properties"]["table_format"]["enum"].as_array().unwrap() {
            config(json!({"table_format": format}));
        }
        config(json!({"partition_fields": form["properties"]["partition_fields"]["examples"][0]}));
        for partitioning in form["properties"]["partitioning"]["enum"].as_array().unwrap() {
            config(json!({"partitioning": partitioning}));
        }
    }
}
