//! Properties of encoding, over generated schemas and records. A failure prints its seed.

use super::readback::{LINES, PARQUET, of_json, options, round_trip};
use super::*;
use crate::config::JsonTimestamps;
use crate::schema::merge::TableColumn;
use crate::schema::{DataType, Field, FloatWidth, IntWidth, Originals, hive};

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

const SCALARS: [DataType; 17] = [
    DataType::Boolean,
    DataType::Integer(IntWidth::I8),
    DataType::Integer(IntWidth::I32),
    DataType::INTEGER,
    DataType::NUMBER,
    DataType::Number(FloatWidth::F32),
    DataType::Decimal { precision: 38, scale: 25 },
    DataType::Decimal { precision: 5, scale: 2 },
    DataType::STRING,
    DataType::String { max_chars: Some(3) },
    DataType::Date,
    DataType::Timestamp { zoned: true },
    DataType::Timestamp { zoned: false },
    DataType::JSON,
    DataType::Json { max_chars: Some(6) },
    DataType::Integer(IntWidth::I16),
    DataType::Time { zoned: true },
];

fn any_type(random: &mut Random, depth: u64) -> DataType {
    match random.below(if depth > 0 { 5 } else { 3 }) {
        3 => DataType::Array(Box::new(any_type(random, depth - 1))),
        4 => {
            let names = ["a", "B", "é", "x y", "\"q\\"];
            let count = usize::try_from(1 + random.below(5)).unwrap();
            let field = |name: &&str| Field {
                source: (*name).to_owned(),
                name: crate::schema::names::nested_identifier(name),
                data_type: any_type(random, depth - 1),
            };
            let mut fields: Vec<Field> = names.iter().take(count).map(field).collect();
            let stored = crate::schema::names::distinct_nested(fields.iter().map(|f| f.source.as_str()));
            fields.iter_mut().zip(stored).for_each(|(field, name)| field.name = name);
            DataType::Struct(fields)
        }
        _ => random.pick(&SCALARS).clone(),
    }
}

fn any_value(random: &mut Random, depth: u64) -> String {
    const NUMBERS: [&str; 16] = [
        "0",
        "-0",
        "1",
        "-7",
        "1.0",
        "1.5",
        "1e3",
        "-2.5E-3",
        "127",
        "128",
        "2147483648",
        "9223372036854775807",
        "9223372036854775808",
        "1e400",
        "12345678901234.5",
        "0.1234567890123456789012345678901234567890",
    ];
    const STRINGS: [&str; 18] = [
        "",
        "a",
        "12",
        " 1.5 ",
        "true",
        "NaN",
        "null",
        "2024-02-29",
        "2024-02-29T12:34:56.789+02:00",
        "2024-02-29 1:2",
        "20240229",
        "9999-12-31T23:59:59-01:00",
        "héllo",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\n\\u0000\\\\\\\"",
        "\u{2028}é\u{85}",
        "0001-01-01T00:00:00Z BC",
    ];
    let space = if random.below(4) == 0 { " " } else { "" };
    match random.below(if depth > 0 { 9 } else { 6 }) {
        0 => "null".to_owned(),
        1 => (*random.pick(&["true", "false"])).to_owned(),
        2 => (*random.pick(&NUMBERS)).to_owned(),
        3 => random.next().cast_signed().to_string(),
        4 | 5 => format!("\"{}\"", random.pick(&STRINGS)),
        6 => {
            let values: Vec<String> = (0..random.below(4)).map(|_| any_value(random, depth - 1)).collect();
            format!("[{space}{}]", values.join(&format!("{space},")))
        }
        _ => {
            let keys = ["a", "B", "é", "\\u00e9", "x y", "\\\"q\\\\", "b", "\\ud800"];
            let members: Vec<String> = (0..random.below(6))
                .map(|_| format!("\"{}\"{space}:{space}{}", random.pick(&keys), any_value(random, depth - 1)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

/// A value that the type holds without loss, and how it reads back.
fn fitting_value(random: &mut Random, data_type: &DataType) -> (String, String) {
    let number = random.next().cast_signed();
    let (sent, stored) = match data_type {
        DataType::Boolean => (number % 2 == 0).to_string().into_both(),
        DataType::Integer(IntWidth::I8) => (number % 128).to_string().into_both(),
        DataType::Integer(IntWidth::I16) => (number % 32_768).to_string().into_both(),
        DataType::Integer(IntWidth::I32) => (number % (1 << 31)).to_string().into_both(),
        DataType::Integer(IntWidth::I64) => number.to_string().into_both(),
        DataType::Number(FloatWidth::F64) => {
            let value = f64::from_bits(random.next());
            format!("{:e}", if value.is_finite() { value } else { 0.5 }).into_both()
        }
        DataType::Number(FloatWidth::F32) => format!("{}", number % (1 << 24)).into_both(),
        DataType::Decimal { precision, scale } => {
            let limit = 10_i128.pow(u32::from(*precision));
            let value = (i128::from(number) * i128::from(random.next())) % limit;
            let mut text = Vec::new();
            crate::schema::coerce::write_decimal(value, *scale, &mut text);
            String::from_utf8(text).unwrap().into_both()
        }
        DataType::Json { max_chars: Some(_) } => ("true".to_owned(), r#""true""#.to_owned()),
        DataType::String { .. } | DataType::Time { .. } | DataType::Json { .. } => {
            let text: String = (0..random.below(4))
                .filter_map(|_| char::from_u32(u32::try_from(random.below(0x3000)).unwrap()))
                .collect();
            let sent = serde_json::to_string(&text).unwrap();
            let stored = if matches!(data_type, DataType::Json { .. }) {
                serde_json::to_string(&sent).unwrap()
            } else {
                sent.clone()
            };
            (sent, stored)
        }
        DataType::Date => {
            let mut text = vec![b'"'];
            json::write_date(number.rem_euclid(3_652_059) - 719_162, &mut text);
            text.push(b'"');
            String::from_utf8(text).unwrap().into_both()
        }
        DataType::Timestamp { zoned } => {
            let instant = crate::schema::coerce::Instant {
                seconds: number.rem_euclid(315_537_897_600) - 62_135_596_800,
                nanos: u32::try_from(random.below(1_000_000_000)).unwrap(),
            };
            let styles = [JsonTimestamps::Iso8601, JsonTimestamps::Sql];
            let [sent, stored] = styles.map(|style| {
                let mut text = Vec::new();
                json::write_timestamp(instant, *zoned, style, &mut text);
                String::from_utf8(text).unwrap()
            });
            (sent, stored)
        }
        DataType::TimeOfDay { .. } => unreachable!("only Iceberg has it"),
        DataType::Array(element) => {
            let values: Vec<(String, String)> = (0..random.below(4)).map(|_| fitting_value(random, element)).collect();
            let join = |part: fn(&(String, String)) -> &String| {
                format!("[{}]", values.iter().map(part).cloned().collect::<Vec<_>>().join(","))
            };
            (join(|v| &v.0), join(|v| &v.1))
        }
        DataType::Struct(fields) => {
            let members: Vec<(String, String)> = fields
                .iter()
                .filter_map(|field| {
                    let (sent, stored) = fitting_value(random, &field.data_type);
                    let source = serde_json::to_string(&field.source).unwrap();
                    let name = serde_json::to_string(&field.name).unwrap();
                    (random.below(5) > 0).then(|| (format!("{source}:{sent}"), format!("{name}:{stored}")))
                })
                .collect();
            let join = |part: fn(&(String, String)) -> &String| {
                format!("{{{}}}", members.iter().map(part).cloned().collect::<Vec<_>>().join(","))
            };
            (join(|v| &v.0), join(|v| &v.1))
        }
    };
    (sent, stored)
}

trait IntoBoth {
    fn into_both(self) -> (String, String);
}

impl IntoBoth for String {
    fn into_both(self) -> (String, String) {
        (self.clone(), self)
    }
}

fn any_columns(random: &mut Random) -> Vec<Field> {
    (0..1 + random.below(6)).map(|i| Field::plain(&format!("c{i}"), any_type(random, 3))).collect()
}

#[test]
fn any_value_in_any_column_is_the_same_in_both_formats_or_a_change() {
    for seed in 1..=600_u64 {
        let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let columns = any_columns(random);
        let records: Vec<String> = (0..random.below(20))
            .map(|_| {
                let members: Vec<String> =
                    columns.iter().map(|field| format!("\"{}\":{}", field.name, any_value(random, 4))).collect();
                format!("{{{}}}", members.join(","))
            })
            .collect();
        let (lines, mut line_losses) = round_trip(options(columns.clone(), LINES), &records);
        let (parquet, mut parquet_losses) = round_trip(options(columns.clone(), PARQUET), &records);
        assert_eq!(lines, parquet, "seed {seed}: {records:?}");
        let losses = line_losses.drain();
        assert_eq!(losses, parquet_losses.drain(), "seed {seed}");
        assert_eq!(line_losses.drain_undeclared(), parquet_losses.drain_undeclared(), "seed {seed}");
        // A value that is gone is a counted one.
        for (position, field) in columns.iter().enumerate() {
            let sent = |record: &String| {
                let value: serde_json::Value =
                    serde_json::from_str(&record.replace("\\ud83d\"", "\"").replace("\\ud800", "")).unwrap_or_default();
                value.get(&field.name).is_some_and(|value| !value.is_null())
            };
            let gone =
                records.iter().zip(&lines).filter(|(record, row)| sent(record) && row[position].is_none()).count();
            let counted: u64 = losses.iter().filter(|loss| loss.field == field.source).map(|loss| loss.count).sum();
            assert!(counted >= gone as u64, "seed {seed}: {gone} of {} gone, {counted} counted", field.name);
        }
    }
}

/// Whether a stored scalar says what was sent, by other means than ours.
fn says(sent: &str, stored: &str, data_type: &DataType) -> bool {
    let text: Option<String> = serde_json::from_str(sent).ok();
    let number = text.as_deref().map_or(sent, str::trim);
    let float = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
    match data_type {
        DataType::Boolean => sent == stored,
        DataType::Integer(_) => {
            number.parse::<i128>().map_or(float(number) == float(stored), |n| stored.parse() == Ok(n))
        }
        DataType::Number(FloatWidth::F64) => float(number) == float(stored),
        DataType::Number(FloatWidth::F32) => number.parse::<f32>() == stored.parse::<f32>(),
        DataType::Decimal { .. } => (float(number) - float(stored)).abs() <= 1e-15 * float(number).abs(),
        DataType::Date => {
            let digits = |text: &str| text.chars().filter(char::is_ascii_digit).take(8).collect::<String>();
            digits(sent) == digits(stored)
        }
        DataType::Timestamp { zoned: true } => {
            let Ok(instant) = text.unwrap_or_default().parse::<jiff::Timestamp>() else { return true };
            let shown = instant.strftime("%Y-%m-%d %H:%M:%S%.9f").to_string();
            stored.trim_matches('"') == shown.get(..23).unwrap_or_default()
        }
        // Objects and arrays are compacted; what their text says is compared by the tests of `text`.
        DataType::String { .. } | DataType::Time { .. } => {
            text.map_or(sent.starts_with(['{', '[']), |text| stored == format!("{text:?}"))
                || stored == format!("{sent:?}")
        }
        DataType::Json { .. } => sent.starts_with(['{', '[']) || stored == format!("{sent:?}"),
        DataType::Timestamp { .. } | DataType::TimeOfDay { .. } | DataType::Struct(_) | DataType::Array(_) => true,
    }
}

#[test]
fn what_is_stored_without_a_change_is_what_was_sent() {
    let (mut same, mut changed) = (0, 0);
    for seed in 1..=4000_u64 {
        let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let data_type = random.pick(&SCALARS).clone();
        let sent = any_value(random, 2);
        let records = [format!("{{\"c\":{sent}}}")];
        let format = *random.pick(&[LINES, PARQUET]);
        let (rows, mut losses) = round_trip(options(vec![Field::plain("c", data_type.clone())], format), &records);
        let losses = losses.drain();
        match &rows[0][0] {
            None => assert_eq!(losses.len(), usize::from(sent != "null"), "seed {seed}: {sent} {data_type:?}"),
            Some(stored) if losses.is_empty() => {
                assert!(says(&sent, stored, &data_type), "seed {seed}: {sent} became {stored}, {data_type:?}");
                same += 1;
            }
            Some(_) => {
                assert_eq!(losses[0].change, crate::schema::coerce::ChangeKind::Truncated, "seed {seed}: {sent}")
            }
        }
        changed += losses.len();
    }
    assert!(same > 1000 && changed > 1000, "{same} {changed}");
}

#[test]
fn a_value_that_fits_reads_back_as_it_was_and_is_no_change() {
    for seed in 1..=600_u64 {
        let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let columns = any_columns(random);
        let (mut records, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            let values: Vec<_> = columns.iter().map(|field| fitting_value(random, &field.data_type)).collect();
            let members: Vec<String> =
                columns.iter().zip(&values).map(|(field, (sent, _))| format!("\"{}\":{sent}", field.name)).collect();
            records.push(format!("{{{}}}", members.join(",")));
            let stored =
                columns.iter().zip(&values).map(|(field, (_, stored))| Some(of_json(stored, &field.data_type)));
            expected.push(stored.collect::<Vec<_>>());
        }
        for format in [LINES, PARQUET] {
            let (rows, mut losses) = round_trip(options(columns.clone(), format), &records);
            assert_eq!(rows, expected, "seed {seed}, {format:?}: {records:?}");
            assert_eq!(losses.drain(), [], "seed {seed}: {records:?}");
            assert_eq!(losses.drain_undeclared(), None, "seed {seed}");
        }
    }
}

#[test]
fn mutated_records_are_read_or_refused_but_never_half_appended() {
    let columns = any_columns(&mut Random(77));
    for format in [LINES, PARQUET] {
        let layout = Arc::new(Layout::new(options(columns.clone(), format)).unwrap());
        let (mut encoder, mut losses) = (Encoder::new(Arc::clone(&layout)), Losses::default());
        let random = &mut Random(4711);
        let mut rows = 0;
        for _ in 0..20_000 {
            let members: Vec<String> =
                columns.iter().map(|field| format!("\"{}\":{}", field.name, any_value(random, 4))).collect();
            let mut bytes = format!("{{{}}}", members.join(",")).into_bytes();
            for _ in 0..random.below(3) {
                let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
                match random.below(3) {
                    0 => bytes[at] = *random.pick(b"{}[]\",:\\u0e-tn \x01"),
                    1 => bytes.truncate(at + 1),
                    _ => bytes.insert(at, *random.pick(b"{}[]\",:\\u0e-tn \x01")),
                }
            }
            let Ok(data) = String::from_utf8(bytes) else { continue };
            let valid = serde_json::from_str::<&serde_json::value::RawValue>(&data).is_ok()
                && data.trim_start().starts_with('{');
            let appended = encoder.append(&Row { data: &data, emitted_at_ms: 0, source_changes: None }, &mut losses);
            assert_eq!(appended.is_ok(), valid, "{data}");
            rows += usize::from(valid);
        }
        assert!(rows > 1000);
        assert_eq!(readback::read(&layout, encoder.finish().unwrap().bytes).len(), rows);
    }
}

/// A record of these columns: mostly with values that fit, in their order or in another, with gaps, repeated keys, fields
/// that nobody declared, spaces, and bytes that are wrong.
fn any_record(random: &mut Random, columns: &[Field]) -> Option<String> {
    let mut members = Vec::new();
    for field in columns {
        let value = if random.below(4) > 0 { fitting_value(random, &field.data_type).0 } else { any_value(random, 3) };
        let times = [1, 1, 1, 1, 1, 1, 0, 2][usize::try_from(random.below(8)).unwrap()];
        members.extend((0..times).map(|_| (field.source.clone(), value.clone())));
    }
    if random.below(8) == 0 {
        members.push(("undeclared".to_owned(), any_value(random, 2)));
    }
    if random.below(3) == 0 {
        let by = usize::try_from(random.below(1 + members.len() as u64)).unwrap();
        members.rotate_left(by);
    }
    let space = *random.pick(&["", "", "", " ", "\n"]);
    let members: Vec<String> =
        members.iter().map(|(key, value)| format!("{}:{space}{value}", serde_json::to_string(key).unwrap())).collect();
    let mut bytes = format!("{{{}}}", members.join(&format!(",{space}"))).into_bytes();
    if random.below(6) == 0 {
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        bytes[at] = *random.pick(b"{}[]\",:\\u0e-tn \x01");
    }
    String::from_utf8(bytes).ok()
}

/// Appends in the way that [`Encoder::append`] goes where it must.
fn append_by_fields(encoder: &mut Encoder, row: &Row<'_>, losses: &mut Losses) -> anyhow::Result<()> {
    if let Body::Groups(groups) = &mut encoder.body {
        groups.begin(row.data.len())?;
    }
    encoder.append_fields(row.data, Strings::of(row.data.as_bytes()), losses)?;
    match &mut encoder.body {
        Body::Lines(lines) => lines.end(),
        Body::Groups(groups) => groups.end(row.data.len()),
    }
}

/// Whether the fast way takes a record.
fn is_straight(layout: &Arc<Layout>, data: &str) -> bool {
    let mut encoder = Encoder::new(Arc::clone(layout));
    if let Body::Groups(groups) = &mut encoder.body {
        groups.begin(data.len()).unwrap();
    }
    encoder.append_straight::<false>(data, Strings::of(data.as_bytes()), &mut Losses::default())
}

#[test]
fn both_ways_of_appending_give_the_same() {
    let (mut straight, mut all) = (0, 0);
    for seed in 1..=400_u64 {
        let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut columns = any_columns(random);
        // What the source calls otherwise than the table.
        columns.iter_mut().step_by(3).for_each(|field| field.source = format!("Source {}", field.name));
        for format in [LINES, PARQUET] {
            let layout = Arc::new(Layout::new(options(columns.clone(), format)).unwrap());
            let mut encoders = [(); 2].map(|()| (Encoder::new(Arc::clone(&layout)), Losses::default()));
            let mut records: Vec<String> = Vec::new();
            for line in 1..=40 {
                let Some(data): Option<String> = any_record(random, &columns) else { continue };
                let row = Row { data: &data, emitted_at_ms: 0, source_changes: None };
                let [(one, losses), (other, other_losses)] = &mut encoders;
                losses.set_line(line);
                other_losses.set_line(line);
                (straight, all) = (straight + u32::from(is_straight(&layout, &data)), all + 1);
                let is_appended = one.append(&row, losses).is_ok();
                assert_eq!(append_by_fields(other, &row, other_losses).is_ok(), is_appended, "seed {seed}: {data}");
                if is_appended {
                    records.push(data);
                }
            }
            let [one, other] = encoders.map(|(encoder, mut losses)| {
                let object = encoder.finish().unwrap().bytes;
                (readback::read(&layout, object), losses.drain(), losses.drain_undeclared())
            });
            assert_eq!(one, other, "seed {seed}, {format:?}: {records:?}");
        }
    }
    assert!(straight > all / 4 && straight < all * 9 / 10, "{straight} of {all}");
}

#[test]
fn types_survive_their_names() {
    for seed in 1..=2000_u64 {
        let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let text = hive::type_string(&any_type(random, 4));
        let parsed = hive::parse(&text).map(|parsed| hive::type_string(&parsed));
        assert_eq!(parsed.as_deref(), Some(text.as_str()), "seed {seed}");
    }
}

/// Anything that may stand where a schema is expected, at any depth.
fn any_schema(random: &mut Random, depth: u64) -> serde_json::Value {
    use serde_json::{Map, Value, json};
    const TYPES: [&str; 9] = ["string", "integer", "int", "number", "boolean", "object", "array", "null", "?"];
    // Most schemas are as sources write them; one odd part would make the whole column JSON text.
    if random.below(12) > 0 {
        return match random.below(if depth > 0 { 4 } else { 2 }) {
            2 => {
                let count = 1 + random.below(3);
                let names = ["a", "A", "b c", "é", "1"];
                let members: Map<String, Value> =
                    (0..count).map(|_| ((*random.pick(&names)).to_owned(), any_schema(random, depth - 1))).collect();
                json!({"type": ["null", "object"], "properties": members})
            }
            3 => json!({"type": "array", "items": any_schema(random, depth - 1)}),
            _ => json!({"type": random.pick(&TYPES[..5]), "format": random.pick(&["date", "date-time", "time", ""])}),
        };
    }
    if random.below(12) == 0 {
        return [json!(null), json!(true), json!([]), json!("x"), json!({}), json!(7)]
            [usize::try_from(random.below(6)).unwrap()]
        .clone();
    }
    let mut schema = Map::new();
    let types: Vec<Value> = (0..random.below(4)).map(|_| json!(random.pick(&TYPES))).collect();
    match random.below(3) {
        0 => drop(schema.insert("type".into(), Value::Array(types))),
        1 => drop(schema.insert("type".into(), json!(random.pick(&TYPES)))),
        _ => {}
    }
    for (key, values) in [
        ("format", &["date", "date-time", "time", "uuid"][..]),
        ("airbyte_type", &["integer", "timestamp_without_timezone", "time_without_timezone", "big_number"]),
        (
            "$ref",
            &[
                "WellKnownTypes.json#/definitions/Date",
                "WellKnownTypes.json#definitions/Number",
                "#/x",
                "WellKnownTypes.json",
            ],
        ),
    ] {
        if random.below(5) == 0 {
            schema.insert(key.into(), json!(random.pick(values)));
        }
    }
    if depth == 0 {
        return Value::Object(schema);
    }
    let deeper = |random: &mut Random| any_schema(random, depth - 1);
    if random.below(2) == 0 {
        let names = ["a", "A", "b c", "b.c", "é", "", "_airbyte_meta", "1"];
        let members = (0..random.below(6)).map(|_| ((*random.pick(&names)).to_owned(), deeper(random))).collect();
        schema.insert("properties".into(), Value::Object(members));
    }
    if random.below(3) == 0 {
        let items = if random.below(3) == 0 {
            Value::Array((0..random.below(3)).map(|_| deeper(random)).collect())
        } else {
            deeper(random)
        };
        schema.insert("items".into(), items);
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if random.below(10) == 0 {
            schema.insert(key.into(), Value::Array((0..random.below(3)).map(|_| deeper(random)).collect()));
        }
    }
    if random.below(6) == 0 {
        schema.insert("additionalProperties".into(), json!(random.below(2) == 0));
    }
    Value::Object(schema)
}

fn as_made_by_us(field: &Field) -> TableColumn {
    TableColumn {
        name: field.name.clone(),
        column_type: hive::type_string(&field.data_type),
        originals: Originals::read(Originals::of(&field.data_type).to_json().as_deref(), true),
    }
}

#[test]
fn any_schema_gives_columns_that_the_table_made_of_them_takes() {
    let mut structured = 0;
    for seed in 1..=5000_u64 {
        let random = &mut Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let schema = serde_json::json!({"properties": {"x": any_schema(random, 5), "X": any_schema(random, 5)}});
        let schema = if seed % 5 == 0 { any_schema(random, 5) } else { schema };
        let options = crate::schema::SchemaOptions { float_as_decimal: seed % 2 == 0, metadata_columns: seed % 3 == 0 };
        let columns = crate::schema::columns(&schema, &options);
        let names: std::collections::HashSet<&str> = columns.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names.len(), columns.len(), "seed {seed}: {schema}");
        let table: Vec<TableColumn> = columns.iter().map(as_made_by_us).collect();
        let merged = crate::schema::merge::merge(&table, &columns).unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
        assert_eq!(merged.columns, columns, "seed {seed}: {schema}");
        assert!(merged.added.is_empty() && merged.dropped.is_empty(), "seed {seed}: {schema}");
        structured += columns.iter().filter(|field| field.data_type.depth() > 0).count();
    }
    assert!(structured > 500, "{structured}");
}
