//! Tables as the older connector leaves them, continued and replaced by this one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::lab::{Lab, catalog, complete, record, records, state};
use crate::python::python;

const PARQUET: &str = "org.apache.hadoop.hive.ql.io.parquet";

/// A table of the older connector, as it was recorded (`tests/python/record_incumbent.py`).
struct Recorded {
    /// `json`, `json.gz`, `parquet` and so on; `decimal` is Parquet with numbers as decimals.
    format: &'static str,
    partitioning: &'static str,
}

/// Every one that is recorded, in the formats, codecs and partitionings that it has.
const RECORDED: [&str; 17] = [
    "json-no",
    "json-day",
    "json-date",
    "json-year",
    "json-month",
    "json-elsewhere",
    "json.gz-no",
    "json.gz-day",
    "parquet-no",
    "parquet-day",
    "parquet-date",
    "parquet-month",
    "parquet.gz-no",
    "parquet.zstd-no",
    "parquet.none-no",
    "decimal-no",
    "decimal-day",
];

impl Recorded {
    fn of(name: &'static str) -> Self {
        let (format, partitioning) = name.rsplit_once('-').unwrap();
        Self { format, partitioning }
    }

    fn file(&self) -> PathBuf {
        let name = format!("{}-{}.json", self.format, self.partitioning);
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/incumbent").join(name)
    }

    /// The configuration under which the older connector wrote it.
    fn config(&self, lab: &Lab) -> Value {
        let (kind, codec) = match self.format {
            "json" => ("JSONL", "UNCOMPRESSED"),
            "json.gz" => ("JSONL", "GZIP"),
            "parquet.gz" => ("Parquet", "GZIP"),
            "parquet.zstd" => ("Parquet", "ZSTD"),
            "parquet.none" => ("Parquet", "UNCOMPRESSED"),
            _ => ("Parquet", "SNAPPY"),
        };
        let partitioning = match self.partitioning {
            "day" => "YEAR/MONTH/DAY",
            "date" => "DATE",
            "year" => "YEAR",
            "month" => "MONTH",
            _ => "NO PARTITIONING",
        };
        let mut config = lab.config(json!({
            "format": { "format_type": kind, "compression_codec": codec }, "partitioning": partitioning,
            "glue_catalog_float_as_decimal": self.format == "decimal",
        }));
        if self.is_elsewhere() {
            config["bucket_prefix"] = json!("p");
        }
        config
    }

    /// Under a bucket prefix, in the database of the stream's namespace.
    fn is_elsewhere(&self) -> bool {
        self.partitioning == "elsewhere"
    }

    fn database(&self) -> &'static str {
        if self.is_elsewhere() { "sales" } else { "demo" }
    }

    /// Its rows with a cursor, and the one without, if there are partitions that it has a place in.
    fn rows(&self) -> Vec<Value> {
        let mut rows = vec![old_row(1), old_row(2), old_row(3)];
        if ["day", "year", "month"].contains(&self.partitioning) {
            let mut without_cursor = old_row(1);
            for (column, value) in [("id", json!(9)), ("name", json!("old 9")), ("at", Value::Null)] {
                without_cursor[column] = value;
            }
            rows.push(without_cursor);
        }
        rows
    }

    /// A message in the stream's namespace.
    fn message(&self, line: &str) -> String {
        let mut message: Value = serde_json::from_str(line).unwrap();
        if self.is_elsewhere() {
            for path in ["/record", "/state/stream/stream_descriptor", "/trace/stream_status/stream_descriptor"] {
                if let Some(of) = message.pointer_mut(path) {
                    of["namespace"] = json!("sales");
                }
            }
        }
        format!("{message}\n")
    }

    fn messages(&self, lines: &str) -> String {
        lines.lines().map(|line| self.message(line)).collect()
    }

    fn catalog(&self, generation: Option<u64>, mode: &str) -> Value {
        let mut catalog = my_stream(generation);
        catalog["streams"][0]["destination_sync_mode"] = json!(mode);
        if self.is_elsewhere() {
            catalog["streams"][0]["stream"]["namespace"] = json!("sales");
        }
        catalog
    }

    fn entry(&self, lab: &Lab) -> Value {
        lab.ask("glue", "get_table", &json!({ "DatabaseName": self.database(), "Name": "my_stream" }))["Table"].clone()
    }

    fn shown(&self, lab: &Lab) -> Vec<Value> {
        lab.rows(&ALL.replace("demo.", &format!("{}.", self.database())))
    }
}

/// The stream of the tables that are recorded: capitals and a space in its name, camel case in its fields.
fn my_stream(generation: Option<u64>) -> Value {
    let mut stream = json!({
        "stream": {
            "name": "My Stream",
            "json_schema": { "type": "object", "properties": {
                "id": { "type": "integer" },
                "name": { "type": "string" },
                "at": { "type": "string", "format": "date-time" },
                "userInfo": { "type": "object", "properties": {
                    "firstName": { "type": "string" }, "zipCode": { "type": "integer" } } },
                "extra": { "type": "object", "additionalProperties": true, "properties": { "any": {} } },
                "tags": { "type": "array", "items": { "type": "string" } },
                "flag": { "type": "boolean" },
                "day": { "type": "string", "format": "date" },
                "price": { "type": "number" },
            }},
            "supported_sync_modes": ["full_refresh", "incremental"],
        },
        "sync_mode": "full_refresh",
        "destination_sync_mode": "append",
        "cursor_field": ["at"],
    });
    if let Some(generation) = generation {
        for key in ["generation_id", "minimum_generation_id", "sync_id"] {
            stream[key] = json!(generation);
        }
    }
    json!({ "streams": [stream] })
}

fn new_rows(ids: std::ops::Range<u64>) -> String {
    ids.map(|id| {
        let data = json!({
            "id": id, "name": format!("new {id}"), "at": format!("2024-01-{id:02}T12:00:00.5+02:00"),
            "userInfo": { "firstName": "Grace", "zipCode": id }, "extra": { "any": [id, "é"] }, "tags": ["c"],
            "flag": null, "day": format!("2023-12-{id:02}"),
            "price": id as f64 + 0.5,
        });
        let record = json!({ "stream": "My Stream", "data": data, "emitted_at": 1_700_000_000_000_u64 });
        format!("{}\n", json!({ "type": "RECORD", "record": record }))
    })
    .collect()
}

fn old_row(id: u64) -> Value {
    json!({
        "id": id, "name": format!("old {id}"), "at": format!("2024-01-0{id} 10:00:00.123"),
        "userinfo": { "firstName": "Ada", "zipCode": 100 + id },
        "extra": if id == 2 { "null".to_owned() } else { format!("{{\"any\": [{id}, \"\\u00e9\"]}}") },
        "tags": ["a", "b"], "flag": id.is_multiple_of(2), "day": format!("2023-12-0{id}"),
        "price": id as f64 + 0.25,
    })
}

fn new_row(id: u64) -> Value {
    json!({
        "id": id, "name": format!("new {id}"), "at": format!("2024-01-0{id} 10:00:00.500"),
        "userinfo": { "firstName": "Grace", "zipCode": id }, "extra": format!("{{\"any\":[{id},\"é\"]}}"),
        "tags": ["c"], "flag": null, "day": format!("2023-12-0{id}"),
        "price": id as f64 + 0.5,
    })
}

const ALL: &str = "SELECT id, name, \"at\", userinfo, extra, tags, flag, day, price::double price FROM demo.my_stream ORDER BY id, name DESC";

/// The older connector's tables in each format, with partitions and without: an append by us, then an overwrite as platforms
/// send it that know nothing of generations, then refreshes, all with its configuration. Every row is read back whole.
#[test]
fn tables_of_the_older_connector_are_continued_and_replaced() {
    RECORDED.into_iter().for_each(|name| continued_and_replaced(name, &Recorded::of(name)));
}

fn continued_and_replaced(what: &str, recorded: &Recorded) {
    let lab = Lab::new();
    let endpoint = lab.sandbox().endpoint().to_owned();
    let file = recorded.file();
    let definition = python("incumbent.py", &[endpoint.as_ref(), file.as_os_str()]);
    let definition: Value = serde_json::from_str(&definition).unwrap();
    let (config, old_objects) = (recorded.config(&lab), lab.objects());
    let location = definition["StorageDescriptor"]["Location"].as_str().unwrap();

    lab.sync(&config, &recorded.catalog(None, "append"), &recorded.messages(&new_rows(3..6)));
    let mut expected = recorded.rows();
    expected.splice(3..3, [new_row(3), new_row(4), new_row(5)]);
    assert_eq!(recorded.shown(&lab), expected, "{what}: appended");
    let table = recorded.entry(&lab);
    for (key, value) in definition.as_object().unwrap() {
        assert_eq!(&table[key], value, "{what}: an append changes no {key}");
    }
    assert_eq!(table["VersionId"], "0", "{what}: nothing was written");
    let appended: Vec<String> = lab.objects().into_iter().filter(|key| !old_objects.contains(key)).collect();
    let folder = location.strip_prefix("s3://lake/").unwrap();
    assert!(appended.iter().all(|key| key.starts_with(folder)), "{what}: {appended:?}");
    looks_like_the_old_ones(&lab, old_objects.last().unwrap(), &appended[0], what);

    let input = recorded.messages(&(new_rows(2..5) + &state("My Stream", 1)));
    let ran = lab.sync(&config, &recorded.catalog(None, "overwrite"), &input);
    assert_eq!(ran.state_ids(), [1], "{what}");
    assert_eq!(recorded.shown(&lab), [new_row(2), new_row(3), new_row(4)], "{what}: replaced");
    let table = recorded.entry(&lab);
    let parameters = definition["Parameters"].as_object().unwrap();
    assert!(parameters.iter().all(|(key, value)| &table["Parameters"][key] == value), "{what}: {table}");
    assert_eq!(table["PartitionKeys"], definition["PartitionKeys"], "{what}");
    for key in ["InputFormat", "OutputFormat", "SerdeInfo", "NumberOfBuckets", "Parameters"] {
        assert_eq!(table["StorageDescriptor"][key], definition["StorageDescriptor"][key], "{what}: {key}");
    }
    assert_eq!(table["Parameters"]["airbyte.previous_location"], location, "{what}");
    // The old rows are still there for whoever has begun to read them; the next refresh deletes them.
    assert!(old_objects.iter().all(|key| lab.objects().contains(key)), "{what}");
    for generation in [7, 8] {
        let input = recorded.messages(&(new_rows(1..2) + &complete("My Stream") + &state("My Stream", 1)));
        let ran = lab.sync(&config, &recorded.catalog(Some(generation), "append"), &input);
        assert_eq!((ran.state_ids(), recorded.shown(&lab)), (vec![1], vec![new_row(1)]), "{what}");
    }
    assert!(!old_objects.iter().any(|key| lab.objects().contains(key)), "{what}: {:?}", lab.objects());
}

/// New tables beside those that are recorded: for a stream whose name needs no change, entries of ours are the older
/// connector's, field by field, but for what is named here.
#[test]
fn new_entries_are_those_that_the_older_connector_was_seen_to_make() {
    for name in RECORDED {
        let recorded = Recorded::of(name);
        let text = std::fs::read_to_string(recorded.file()).unwrap().replace("My Stream", "my_stream");
        let theirs: Value = serde_json::from_str(&text).unwrap();
        let lab = Lab::new();
        let rename = |text: String| text.replace("My Stream", "my_stream");
        let catalog: Value = serde_json::from_str(&rename(recorded.catalog(None, "append").to_string())).unwrap();
        lab.sync(&recorded.config(&lab), &catalog, &rename(recorded.messages(&new_rows(1..4))));

        let ours = as_written(recorded.entry(&lab));
        let mut expected = theirs["table"].clone();
        // The index of a data frame is no column of the stream.
        let columns = expected["StorageDescriptor"]["Columns"].as_array_mut().unwrap();
        columns.retain(|column| column["Name"] != "__index_level_0__");
        // What a field was called, and the members of a struct.
        let userinfo = columns.iter_mut().find(|column| column["Name"] == "userinfo").unwrap();
        userinfo["Comment"] = json!("userInfo");
        userinfo["Parameters"] = json!({ "airbyte.field": "userInfo" });
        expected["Description"] = json!(format!(
            "stream {}, written by destination-aws-datalake",
            if recorded.is_elsewhere() { "sales.my_stream" } else { "my_stream" }
        ));
        let added = ours["Parameters"].as_object().unwrap().iter().filter(|(key, _)| {
            ["EXTERNAL", "airbyte.stream", "airbyte.json_timestamps", "airbyte.parquet_timestamps"]
                .contains(&key.as_str())
        });
        expected["Parameters"].as_object_mut().unwrap().extend(added.map(|(key, value)| (key.clone(), value.clone())));
        assert_eq!(ours, expected, "{name}");

        let found = lab.ask(
            "glue",
            "get_partitions",
            &json!({ "DatabaseName": recorded.database(), "TableName": "my_stream" }),
        );
        for partition in found["Partitions"].as_array().unwrap() {
            let theirs = theirs["partitions"].as_array().unwrap();
            let theirs = theirs.iter().find(|theirs| theirs["Values"] == partition["Values"]).unwrap();
            let mut ours = as_written(partition.clone());
            let mut theirs = theirs.clone();
            theirs.as_object_mut().unwrap().remove("Parameters");
            // Theirs leave out what is the table's.
            for key in ["Parameters", "SortColumns"] {
                let ours = ours["StorageDescriptor"].as_object_mut().unwrap().remove(key).unwrap();
                assert_eq!(ours, expected["StorageDescriptor"][key], "{name}");
            }
            let columns = theirs["StorageDescriptor"]["Columns"].as_array_mut().unwrap();
            columns.retain(|column| column["Name"] != "__index_level_0__");
            let userinfo = columns.iter_mut().find(|column| column["Name"] == "userinfo").unwrap();
            userinfo["Comment"] = json!("userInfo");
            assert_eq!(ours, theirs, "{name}");
        }
        let endings = |keys: Vec<&str>| keys[0].split_once('.').unwrap().1.to_owned();
        let objects = lab.objects();
        let theirs = theirs["objects"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(endings(objects.iter().map(String::as_str).collect()), endings(theirs), "{name}");
    }
}

/// New objects have their values in the form that the old ones have them in.
#[track_caller]
fn looks_like_the_old_ones(lab: &Lab, old: &str, new: &str, what: &str) {
    if new.contains(".json") {
        let [old, new] = [old, new].map(|key| {
            assert!(key.ends_with(if what.contains(".gz") { ".json.gz" } else { ".json" }), "{key}");
            let bytes = std::fs::read(lab.object_path(key)).unwrap();
            let text = if key.ends_with(".gz") {
                std::io::read_to_string(flate2::read::GzDecoder::new(&*bytes)).unwrap()
            } else {
                String::from_utf8(bytes).unwrap()
            };
            serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()
        });
        for column in ["at", "day"] {
            assert!(old[column].is_i64() && new[column].is_i64(), "{what}: {column} of {old} and {new}");
        }
        return;
    }
    let [old, new] = [old, new].map(|key| {
        let out = python("readback.py", &["parquet".as_ref(), lab.object_path(key).as_os_str()]);
        serde_json::from_str::<Value>(&out).unwrap()
    });
    assert_eq!(old["physical"]["at"], "INT96", "{what}");
    assert_eq!(new["physical"], old["physical"], "{what}");
    assert_eq!(new["schema"], old["schema"], "{what}");
}

/// The SDK does not send what is false, which is what the service then takes it for.
fn with_defaults(storage: &Value) -> Value {
    let mut storage = storage.clone();
    for name in ["Compressed", "StoredAsSubDirectories"] {
        storage.as_object_mut().unwrap().entry(name).or_insert(json!(false));
    }
    storage
}

/// A stream of every type, with names that the catalog does not take: the fields' schemas, and the columns that the older
/// connector makes of them.
fn every_type(float: &str) -> (Value, Value) {
    let fields = [
        ("id", json!({ "type": "integer" }), "id", "bigint"),
        ("Version", json!({ "type": ["null", "string"] }), "version", "string"),
        ("at", json!({ "type": "string", "format": "date-time" }), "at", "timestamp"),
        ("day", json!({ "type": "string", "format": "date" }), "day", "date"),
        ("hour", json!({ "type": "string", "format": "time" }), "hour", "string"),
        ("flag", json!({ "type": "boolean" }), "flag", "boolean"),
        ("price", json!({ "type": "number" }), "price", float),
        ("count", json!({ "type": "number", "airbyte_type": "integer" }), "count", "bigint"),
        ("tags", json!({ "type": "array", "items": { "type": "string" } }), "tags", "array<string>"),
        (
            "userInfo",
            json!({ "type": "object", "properties": { "firstName": { "type": "string" }, "zipCode": { "type": "integer" } } }),
            "userinfo",
            "struct<firstName:string,zipCode:bigint>",
        ),
        ("free", json!({ "type": "object" }), "free", "string"),
        (
            "more",
            json!({ "type": "object", "additionalProperties": true, "properties": { "a": {} } }),
            "more",
            "string",
        ),
        ("either", json!({ "oneOf": [{ "type": "string" }, { "type": "integer" }] }), "either", "string"),
        ("$dollar", json!({ "type": "string" }), "_dollar", "string"),
        ("a.b", json!({ "type": "string" }), "a_b", "string"),
        ("\u{fc}nicode", json!({ "type": "string" }), "unicode", "string"),
    ];
    let mut all = catalog(&["My Things"], "append");
    let mut properties = serde_json::Map::new();
    let mut columns = Vec::new();
    for (field, schema, name, kind) in fields {
        properties.insert(field.to_owned(), schema);
        let mut column = json!({ "Name": name, "Type": kind });
        if field != name {
            column["Comment"] = json!(field);
        }
        columns.push(column);
    }
    all["streams"][0]["stream"]["json_schema"]["properties"] = Value::Object(properties);
    (all, Value::Array(columns))
}

/// Columns of a table of ours: what a field was called is a parameter too, which no edit of a comment loses.
fn with_fields(columns: &Value) -> Value {
    let mut columns = columns.clone();
    for column in columns.as_array_mut().unwrap() {
        if column["Comment"].is_string() {
            column["Parameters"] = json!({ "airbyte.field": column["Comment"] });
        }
    }
    columns
}

/// An entry without what the service adds to it.
fn as_written(mut entry: Value) -> Value {
    let service = [
        "CatalogId",
        "CreateTime",
        "CreatedBy",
        "CreationTime",
        "DatabaseName",
        "IsRegisteredWithLakeFormation",
        "TableName",
        "UpdateTime",
        "VersionId",
    ];
    entry.as_object_mut().unwrap().retain(|key, _| !service.contains(&key.as_str()));
    let storage = &mut entry["StorageDescriptor"];
    *storage = with_defaults(storage);
    entry
}

/// New tables, field by field: our entries are the older connector's and say nothing else, but for what is named here.
#[test]
fn new_entries_say_what_the_older_connectors_say() {
    let words = |classification: &str, compression: &str| json!({ "classification": classification, "compressionType": compression, "typeOfData": "file" });
    let text = (
        "org.apache.hadoop.mapred.TextInputFormat".to_owned(),
        "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat".to_owned(),
        json!({ "SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe", "Parameters": {} }),
    );
    let columnar = (
        format!("{PARQUET}.MapredParquetInputFormat"),
        format!("{PARQUET}.MapredParquetOutputFormat"),
        json!({ "SerializationLibrary": format!("{PARQUET}.serde.ParquetHiveSerDe"), "Parameters": { "serialization.format": "1" } }),
    );
    let cases = [
        (json!({ "format_type": "JSONL" }), &text, words("json", "none"), false),
        (json!({ "format_type": "JSONL", "compression_codec": "GZIP" }), &text, words("json", "gzip"), true),
        (json!({ "format_type": "Parquet" }), &columnar, words("parquet", "snappy"), true),
        (json!({ "format_type": "Parquet", "compression_codec": "GZIP" }), &columnar, words("parquet", "gzip"), true),
        (json!({ "format_type": "Parquet", "compression_codec": "ZSTD" }), &columnar, words("parquet", "zstd"), true),
        (
            json!({ "format_type": "Parquet", "compression_codec": "UNCOMPRESSED" }),
            &columnar,
            words("parquet", "none"),
            false,
        ),
    ];
    for (nth, (format, (input_format, output_format, serde), words, compressed)) in cases.into_iter().enumerate() {
        for partitioning in ["NO PARTITIONING", "YEAR/MONTH/DAY", "DATE"] {
            let lab = Lab::new();
            let decimal = nth.is_multiple_of(2);
            let (streams, columns) = every_type(if decimal { "decimal(38,25)" } else { "double" });
            let config = lab.config(json!({
                "format": format, "partitioning": partitioning, "bucket_prefix": "p", "glue_catalog_float_as_decimal": decimal,
            }));
            lab.sync(&config, &streams, &records("My Things", 0..2, "x"));
            let mut storage_words = words.clone();
            let is_parquet = words["classification"] == "parquet";
            if is_parquet {
                storage_words["CrawlerSchemaDeserializerVersion"] = json!("1.0");
            } else {
                storage_words["projection.enabled"] = json!("false");
            }
            // The older connector puts the raw name there, spaces and all. Tables of ours lie where every engine and tool
            // can go (docs/migration.md); tables that exist stay where they are.
            let storage = json!({
                "Columns": with_fields(&columns), "Location": "s3://lake/p/demo/my_things/", "InputFormat": input_format,
                "OutputFormat": output_format, "Compressed": compressed, "NumberOfBuckets": -1, "SerdeInfo": serde,
                "BucketColumns": [], "SortColumns": [], "Parameters": storage_words, "StoredAsSubDirectories": false,
            });
            let keys = match partitioning {
                "DATE" => json!([{ "Name": "at_date", "Type": "date" }]),
                "NO PARTITIONING" => json!([]),
                _ => {
                    json!([{ "Name": "at_year", "Type": "bigint" }, { "Name": "at_month", "Type": "bigint" }, { "Name": "at_day", "Type": "bigint" }])
                }
            };
            let mut parameters = words.clone();
            parameters["projection.enabled"] = json!("false");
            // Ours in addition: where the table comes from, in which form its timestamps are, and what Hive adds itself.
            parameters["airbyte.stream"] = json!("My Things");
            parameters["EXTERNAL"] = json!("TRUE");
            let (mark, form) =
                if is_parquet { ("airbyte.parquet_timestamps", "millis") } else { ("airbyte.json_timestamps", "sql") };
            parameters[mark] = json!(form);
            let expected = json!({
                "Name": "my_things", "TableType": "EXTERNAL_TABLE", "PartitionKeys": keys, "Parameters": parameters,
                "StorageDescriptor": storage, "Description": "stream My Things, written by destination-aws-datalake",
            });
            assert_eq!(as_written(lab.table("my_things")), expected, "{config}");
            let found = lab.ask("glue", "get_partitions", &json!({ "DatabaseName": "demo", "TableName": "my_things" }));
            let partitions = found["Partitions"].as_array().unwrap();
            assert_eq!(partitions.len(), if partitioning == "NO PARTITIONING" { 0 } else { 2 });
            for partition in partitions {
                let values: Vec<&str> =
                    partition["Values"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
                let named = keys.as_array().unwrap().iter().zip(&values);
                let folder: String =
                    named.map(|(key, value)| format!("{}={value}/", key["Name"].as_str().unwrap())).collect();
                let mut storage = storage.clone();
                storage["Location"] = json!(format!("s3://lake/p/demo/my_things/{folder}"));
                storage["Columns"] = columns.clone();
                let expected = json!({ "Values": values, "StorageDescriptor": storage });
                assert_eq!(as_written(partition.clone()), expected, "{config}");
            }
            let ending = match (is_parquet, compressed, nth) {
                (false, false, _) => ".json",
                (false, true, _) => ".json.gz",
                (true, _, 2) => ".snappy.parquet",
                (true, _, 3) => ".gz.parquet",
                (true, _, 4) => ".zstd.parquet",
                _ => ".parquet",
            };
            assert!(
                lab.objects().iter().all(|key| key.split_once('.').unwrap().1 == &ending[1..]),
                "{:?}",
                lab.objects()
            );
        }
    }
}

/// Engines with projection compute where partitions lie: rows that they would not find are not written.
#[test]
fn a_projected_table_is_appended_to_only_where_engines_look() {
    for (template, accepted) in
        [(None, true), (Some("s3://lake/demo/a/at_day=${at_day}/"), true), (Some("s3://lake/demo/a/${at_day}/"), false)]
    {
        let lab = Lab::new();
        let config = lab.config(json!({ "partitioning": "DAY" }));
        lab.sync(&config, &catalog(&["a"], "append"), &record("a", 0, "x"));
        let table = lab.table("a");
        let mut parameters = table["Parameters"].clone();
        parameters["projection.enabled"] = json!("true");
        if let Some(template) = template {
            parameters["storage.location.template"] = json!(template);
        }
        let changed = json!({ "Name": "a", "TableType": "EXTERNAL_TABLE", "PartitionKeys": table["PartitionKeys"],
            "Parameters": parameters, "StorageDescriptor": table["StorageDescriptor"] });
        lab.ask("glue", "update_table", &json!({ "DatabaseName": "demo", "TableInput": changed }));
        let ran = lab.write(&config, &catalog(&["a"], "append"), &record("a", 1, "x"));
        if accepted {
            assert_eq!(ran.code, Some(0), "{}", ran.stdout);
        } else {
            let (kind, message) = ran.error();
            assert_eq!((ran.code, kind.as_str()), (Some(1), "config_error"));
            assert!(message.contains("storage.location.template") && message.contains("demo.a"), "{message}");
        }
    }
}
