//! `views.sql`: the tables as views of DuckDB, over exactly the objects that are committed.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::catalog::{Catalog, Table, location};
use crate::iceberg::{Manifests, Shown};
use crate::s3::store::{Store, split_uri};

/// The statements, for the objects as they are now.
pub(crate) fn sql(root: &Path, catalog: &Catalog, store: &Store, manifests: &Manifests) -> String {
    let mut sql =
        String::from("-- Written by the sandbox: every table as a view over the objects that are committed.\n");
    for (name, database) in &catalog.databases {
        sql.push_str(&format!("\nCREATE SCHEMA IF NOT EXISTS {};\n", quoted(name)));
        for (table_name, table) in &database.tables {
            let place = format!("{}.{}", quoted(name), quoted(table_name));
            let query = match iceberg_metadata(table) {
                None => select(root, table, store),
                Some(metadata) => {
                    // For readers that know the format.
                    sql.push_str(&format!("-- The metadata of {place} is {metadata}.\n"));
                    match manifests.shown(store, metadata) {
                        Ok(shown) => select_iceberg(root, &shown),
                        Err(why) => {
                            let why = why.to_string().replace('\n', " ");
                            sql.push_str(&format!("-- {place} is an Iceberg table without a view: {why}.\n"));
                            continue;
                        }
                    }
                }
            };
            sql.push_str(&format!("CREATE OR REPLACE VIEW {place} AS\n{query};\n"));
        }
    }
    manifests.forget(store);
    sql
}

/// Where the metadata of an Iceberg table lies.
fn iceberg_metadata(table: &Table) -> Option<&str> {
    let parameters = table.definition().get("Parameters")?;
    let kind = parameters.get("table_type")?.as_str()?;
    kind.eq_ignore_ascii_case("ICEBERG").then(|| parameters.get("metadata_location")?.as_str()).flatten()
}

/// The query over an Iceberg table's data files, by the ids of its columns.
fn select_iceberg(root: &Path, shown: &Shown) -> String {
    let columns: Vec<_> =
        shown.columns.iter().map(|c| (c.id, &*c.name, duckdb_type_of_iceberg(&c.data_type))).collect();
    let typed = |(_, name, kind): &(i64, &str, String)| format!("CAST(NULL AS {kind}) AS {}", quoted(name));
    let empty = format!("SELECT {} WHERE false", columns.iter().map(typed).collect::<Vec<_>>().join(", "));
    let path = |uri: &String| {
        let (bucket, key) = split_uri(uri)?;
        Some(literal(&root.join("s3").join(bucket).join(key).to_string_lossy()))
    };
    let files: Vec<String> = shown.files.iter().filter_map(path).collect();
    if files.is_empty() {
        return empty;
    }
    let entry = |(id, name, kind): &(i64, &str, String)| {
        format!("{id}: {{name: {}, type: {}, default_value: NULL}}", literal(name), literal(kind))
    };
    let schema: Vec<_> = columns.iter().map(entry).collect();
    let names: Vec<_> = columns.iter().map(|(_, name, _)| quoted(name)).collect();
    format!(
        "SELECT {}\nFROM read_parquet([{}], hive_partitioning=false, schema=MAP {{{}}})",
        names.join(", "),
        files.join(", "),
        schema.join(", ")
    )
}

/// The type of DuckDB for a type of Iceberg, as its metadata has it.
fn duckdb_type_of_iceberg(data_type: &Value) -> String {
    if let Some(name) = data_type.as_str() {
        return match name.split(['(', '[']).next().unwrap_or_default() {
            "boolean" => "BOOLEAN".to_owned(),
            "int" => "INTEGER".to_owned(),
            "long" => "BIGINT".to_owned(),
            "float" => "FLOAT".to_owned(),
            "double" => "DOUBLE".to_owned(),
            "decimal" => name.to_uppercase(),
            "date" => "DATE".to_owned(),
            "time" => "TIME".to_owned(),
            "timestamp" => "TIMESTAMP".to_owned(),
            "timestamptz" => "TIMESTAMP WITH TIME ZONE".to_owned(),
            "uuid" => "UUID".to_owned(),
            "fixed" | "binary" => "BLOB".to_owned(),
            _ => "VARCHAR".to_owned(),
        };
    }
    let inner = |key: &str| duckdb_type_of_iceberg(&data_type[key]);
    match data_type["type"].as_str() {
        Some("list") => format!("{}[]", inner("element")),
        Some("map") => format!("MAP({}, {})", inner("key"), inner("value")),
        _ => {
            let fields = data_type["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
            let field = |field: &Value| {
                let name = field["name"].as_str().unwrap_or_default();
                format!("{} {}", quoted(name), duckdb_type_of_iceberg(&field["type"]))
            };
            format!("STRUCT({})", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A name between double quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text between single quotes.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The files of a table, as SQL texts, by the values of their partition.
fn files(root: &Path, table: &Table, store: &Store) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut files: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    let shown = |bucket: &str, key: &str| literal(&root.join("s3").join(bucket).join(key).to_string_lossy());
    if table.is_governed() {
        for (uri, entry) in &table.manifest {
            if let Some((bucket, key)) = split_uri(uri) {
                files.entry(entry.partition_values.clone()).or_default().push(shown(bucket, key));
            }
        }
        return files;
    }
    let mut add = |values: Vec<String>, location: &str| {
        let Some((bucket, prefix)) = split_uri(location) else { return };
        let folder = format!("{}/", prefix.trim_end_matches('/'));
        let folder = folder.trim_start_matches('/');
        // A folder that cannot be read shows nothing, like one that is not there.
        for key in store.keys(bucket, folder).unwrap_or_default() {
            if !key[folder.len()..].split('/').any(|part| part.starts_with(['_', '.'])) {
                files.entry(values.clone()).or_default().push(shown(bucket, &key));
            }
        }
    };
    if table.partition_keys().is_empty() {
        add(Vec::new(), table.location());
    } else {
        for (values, partition) in &table.partitions {
            add(values.clone(), location(&partition.definition));
        }
    }
    files
}

/// The query of a view.
fn select(root: &Path, table: &Table, store: &Store) -> String {
    let (columns, keys) = (table.columns(), table.partition_keys());
    if columns.is_empty() && keys.is_empty() {
        return "SELECT NULL AS \"no columns\" WHERE false".to_owned();
    }
    // Under names of their own, because a file may carry its partition columns too and the catalog's values count.
    let hidden = |at: usize| format!("\"partition value {at}\"");
    let typed = |kind: &str, name: String| format!("CAST(NULL AS {}) AS {name}", duckdb_type(kind));
    let empty: Vec<_> = columns
        .iter()
        .map(|(name, kind)| typed(kind, quoted(name)))
        .chain(keys.iter().enumerate().map(|(at, (_, kind))| typed(kind, hidden(at))))
        .collect();
    let mut parts = vec![format!("SELECT {} WHERE false", empty.join(", "))];
    for (values, files) in files(root, table, store) {
        let files = files.join(", ");
        let constant = |(at, ((_, kind), value)): (usize, (&(&str, &str), &String))| {
            // Hive's name for the partition of NULL.
            let value = if value == "__HIVE_DEFAULT_PARTITION__" { "NULL".to_owned() } else { literal(value) };
            format!(", TRY_CAST({value} AS {}) AS {}", duckdb_type(kind), hidden(at))
        };
        let constants: String = keys.iter().zip(&values).enumerate().map(constant).collect();
        parts.push(if is_json(table) {
            format!("SELECT {}{constants} FROM {}", json_columns(&columns), read_json(&columns, &files))
        } else {
            format!("SELECT *{constants} FROM read_parquet([{files}], union_by_name=true, hive_partitioning=false)")
        });
    }
    let cast =
        |from: String, name: &str, kind: &str| format!("CAST({from} AS {}) AS {}", duckdb_type(kind), quoted(name));
    let shown: Vec<_> = columns
        .iter()
        .map(|(name, kind)| cast(quoted(name), name, kind))
        .chain(keys.iter().enumerate().map(|(at, (name, kind))| cast(hidden(at), name, kind)))
        .collect();
    format!("SELECT {}\nFROM (\n  {}\n)", shown.join(", "), parts.join("\n  UNION ALL BY NAME\n  "))
}

/// Whether the table's files are JSON lines.
fn is_json(table: &Table) -> bool {
    let descriptor = table.definition().get("StorageDescriptor");
    let serde = descriptor.and_then(|descriptor| descriptor.get("SerdeInfo")?.get("SerializationLibrary")?.as_str());
    let parameters = table.definition().get("Parameters");
    let classification = parameters.and_then(|parameters| parameters.get("classification")?.as_str());
    match serde {
        Some(serde) => serde.to_lowercase().contains("json"),
        None => classification == Some("json"),
    }
}

fn is_timestamp(kind: &str) -> bool {
    kind.trim().eq_ignore_ascii_case("timestamp")
}

fn is_date(kind: &str) -> bool {
    kind.trim().eq_ignore_ascii_case("date")
}

fn read_json(columns: &[(&str, &str)], files: &str) -> String {
    let columns: Vec<_> = columns
        .iter()
        .map(|(name, kind)| {
            let kind = if is_timestamp(kind) || is_date(kind) { "VARCHAR".to_owned() } else { duckdb_type(kind) };
            format!("{}: {}", literal(name), literal(&kind))
        })
        .collect();
    format!(
        "read_json([{files}], format='newline_delimited', compression='auto_detect', hive_partitioning=false, \
         maximum_object_size=134217728, columns={{{}}})",
        columns.join(", ")
    )
}

/// The columns of JSON lines; a timestamp or a date is a text or, in older tables, milliseconds since 1970.
fn json_columns(columns: &[(&str, &str)]) -> String {
    let column = |(name, kind): &(&str, &str)| {
        let name = quoted(name);
        if is_timestamp(kind) {
            format!(
                "coalesce(TRY_CAST({name} AS TIMESTAMP), make_timestamp(TRY_CAST({name} AS BIGINT) * 1000)) AS {name}"
            )
        } else if is_date(kind) {
            format!(
                "coalesce(TRY_CAST({name} AS DATE), \
                 CAST(make_timestamp(TRY_CAST({name} AS BIGINT) * 1000) AS DATE)) AS {name}"
            )
        } else {
            name
        }
    };
    if columns.is_empty() {
        "NULL AS \"no columns\"".to_owned()
    } else {
        columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }
}

/// The type of DuckDB for a type of Hive.
fn duckdb_type(hive: &str) -> String {
    let hive = hive.trim();
    let lower = hive.to_lowercase();
    let inside = |prefix: &str| {
        let rest = lower.starts_with(prefix).then(|| &hive[prefix.len()..])?;
        rest.trim().strip_prefix('<')?.strip_suffix('>')
    };
    if let Some(element) = inside("array") {
        return format!("{}[]", duckdb_type(element));
    }
    if let Some(entry) = inside("map") {
        let parts = split(entry);
        if let [key, value] = parts[..] {
            return format!("MAP({}, {})", duckdb_type(key), duckdb_type(value));
        }
    }
    if let Some(fields) = inside("struct") {
        let field = |field: &str| {
            let (name, kind) = field.split_once(':').unwrap_or((field, "string"));
            format!("{} {}", quoted(name.trim()), duckdb_type(kind))
        };
        return format!("STRUCT({})", split(fields).into_iter().map(field).collect::<Vec<_>>().join(", "));
    }
    match lower.split('(').next().unwrap_or_default().trim() {
        "boolean" => "BOOLEAN".to_owned(),
        "tinyint" => "TINYINT".to_owned(),
        "smallint" => "SMALLINT".to_owned(),
        "int" | "integer" => "INTEGER".to_owned(),
        "bigint" | "long" => "BIGINT".to_owned(),
        "float" => "FLOAT".to_owned(),
        "double" => "DOUBLE".to_owned(),
        "decimal" => lower.replace("decimal", "DECIMAL"),
        "binary" => "BLOB".to_owned(),
        "date" => "DATE".to_owned(),
        "timestamp" => "TIMESTAMP".to_owned(),
        _ => "VARCHAR".to_owned(),
    }
}

/// Splits at the commas that are not inside of another type.
fn split(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (at, character) in list.char_indices() {
        match character {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (hive, duckdb) in [
            ("bigint", "BIGINT"),
            ("decimal(38, 25)", "DECIMAL(38, 25)"),
            ("varchar(10)", "VARCHAR"),
            (
                "array<struct<a:int,b:map<string,array<double>>>>",
                "STRUCT(\"a\" INTEGER, \"b\" MAP(VARCHAR, DOUBLE[]))[]",
            ),
            ("struct<A b:string>", "STRUCT(\"A b\" VARCHAR)"),
        ] {
            assert_eq!(duckdb_type(hive), duckdb);
        }
    }
}
