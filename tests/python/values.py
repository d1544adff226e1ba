"""Compares what tables hold with what was sent, value by value, with PyArrow and DuckDB as the readers.

    values.py table ENDPOINT DATABASE TABLE CASES     the hand-written cases: row i of the table is case i
    values.py iceberg ENDPOINT ENTRY CASES            the same for an Iceberg table, by its entry in Glue: read by DuckDB's
                                                      Iceberg extension where Python has it, else by PyIceberg
    values.py generate SEED FOLDER                    a random schema and records: catalog.json, messages.jsonl, sent.json
    values.py equal ENDPOINT TABLE FOLDER DATABASE... the tables of several databases hold the generated records
    values.py timestamps ENDPOINT DATABASE TABLE      the form of timestamps in the table's files, and all its rows
    values.py chunks ENDPOINT DATABASE TABLE          encodings and sizes of the column chunks of the table's files
"""

import datetime as dt
import decimal
import io
import json
import os
import random
import re
import struct
import sys
import tempfile

EPOCH = dt.datetime(1970, 1, 1)


# Glue types: a word, ("decimal", p, s), ("array", T) or ("struct", [(name, T), ...])


def parse_type(text):
    def read(at):
        word = re.compile(r"\w+(\([\d, ]+\))?").match(text, at)
        name, at = word.group(0), word.end()
        if name == "array":
            inner, at = read(at + 1)
            return ("array", inner), at + 1
        if name == "struct":
            members = []
            while text[at] != ">":
                key, at = text[at + 1 :].split(":", 1)[0], text.index(":", at) + 1
                inner, at = read(at)
                members.append((key, inner))
            return ("struct", members), at + 1
        if name.startswith("decimal"):
            return ("decimal", *map(int, re.findall(r"\d+", name))), at
        return name.split("(")[0], at

    return read(0)[0]


def duckdb_type(kind, timestamp="TIMESTAMP"):
    if kind[0] == "array":
        return duckdb_type(kind[1], timestamp) + "[]"
    if kind[0] == "struct":
        return "STRUCT(" + ", ".join(f'"{key}" {duckdb_type(inner, timestamp)}' for key, inner in kind[1]) + ")"
    if kind[0] == "decimal":
        return f"DECIMAL({kind[1]}, {kind[2]})"
    return {"string": "VARCHAR", "int": "INTEGER", "timestamp": timestamp}.get(kind, kind.upper())


def json_type(kind, times="text"):
    """The type in which PyArrow reads a column of JSON Lines: it knows no dates there."""
    import pyarrow as pa

    if kind[0] == "array":
        return pa.list_(json_type(kind[1], times))
    if kind[0] == "struct":
        return pa.struct([(key, json_type(inner, times)) for key, inner in kind[1]])
    if kind[0] == "decimal":
        return pa.decimal128(kind[1], kind[2])
    words = {"boolean": pa.bool_(), "float": pa.float32(), "double": pa.float64()}
    if kind in ("tinyint", "smallint", "int", "bigint") or (kind == "timestamp" and times == "number"):
        return pa.int64()
    return words.get(kind, pa.string())


def canonical(value, kind):
    """One form for one value, whichever reader it comes from: timestamps in UTC without a zone."""
    if value is None:
        return None
    if kind[0] == "array":
        return [canonical(inner, kind[1]) for inner in value]
    if kind[0] == "struct":
        return {key: canonical(value.get(key), inner) for key, inner in kind[1]}
    if kind == "date" and isinstance(value, str):
        return dt.date.fromisoformat(value)
    if kind == "timestamp":
        if isinstance(value, int):
            return EPOCH + dt.timedelta(milliseconds=value)
        value = dt.datetime.fromisoformat(value.replace("Z", "")) if isinstance(value, str) else value
        return value.replace(tzinfo=None)
    return value


def in_millis(value):
    """What is left of a value where timestamps have milliseconds."""
    if isinstance(value, dict):
        return {key: in_millis(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [in_millis(inner) for inner in value]
    if isinstance(value, dt.datetime):
        return value.replace(microsecond=value.microsecond // 1000 * 1000)
    return value


class Table:
    def __init__(self, endpoint, database, name):
        import boto3

        options = dict(
            endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="reader", aws_secret_access_key="reader"
        )
        entry = boto3.client("glue", **options).get_table(DatabaseName=database, Name=name)["Table"]
        storage = entry["StorageDescriptor"]
        self.columns = [(column["Name"], parse_type(column["Type"])) for column in storage["Columns"]]
        self.parquet = "Parquet" in storage["SerdeInfo"]["SerializationLibrary"]
        self.epoch = entry["Parameters"].get("airbyte.json_timestamps", "epoch_millis") == "epoch_millis"
        bucket, prefix = storage["Location"].removeprefix("s3://").split("/", 1)
        s3 = boto3.client("s3", **options)
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        self.files = [s3.get_object(Bucket=bucket, Key=o["Key"])["Body"].read() for o in listed]
        self.readers = [self.by_arrow, self.by_duckdb]

    def rows(self, read):
        kinds = dict(self.columns)
        return [{name: self.shown(canonical(row.get(name), kinds[name]), kinds[name]) for name in kinds} for row in read()]

    @staticmethod
    def shown(value, kind):
        return value

    def by_arrow(self):
        import pyarrow as pa
        import pyarrow.json as pj
        import pyarrow.parquet as pq

        rows = []
        times = "number" if self.epoch else "text"
        schema = pa.schema([(name, json_type(kind, times)) for name, kind in self.columns])
        for file in self.files:
            if self.parquet:
                table = pq.read_table(io.BytesIO(file), coerce_int96_timestamp_unit="us")
            else:
                parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
                table = pj.read_json(io.BytesIO(file), pj.ReadOptions(block_size=1 << 26), parse)
            rows += table.to_pylist()
        return rows

    def by_duckdb(self):
        import duckdb

        connection = duckdb.connect()
        connection.execute("SET TimeZone = 'UTC'")
        casts = ", ".join(f'CAST("{name}" AS {duckdb_type(kind)}) AS "{name}"' for name, kind in self.columns)
        rows = []
        for file in self.files:
            with tempfile.NamedTemporaryFile() as copy:
                copy.write(file)
                copy.flush()
                if self.parquet:
                    source = f"read_parquet('{copy.name}')"
                    have = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
                    shown = ", ".join(
                        f'CAST({chr(34) + name + chr(34) if name in have else "NULL"} AS {duckdb_type(kind)}) AS "{name}"'
                        for name, kind in self.columns
                    )
                else:
                    timestamp = "BIGINT" if self.epoch else "TIMESTAMP"
                    types = ", ".join(f"'{name}': '{duckdb_type(kind, timestamp)}'" for name, kind in self.columns)
                    source = f"read_json('{copy.name}', format='newline_delimited', columns={{{types}}})"
                    shown = "*" if self.epoch else casts
                result = connection.execute(f"SELECT {shown} FROM {source}")
                names = [column[0] for column in result.description]
                rows += [dict(zip(names, row)) for row in result.fetchall()]
        return rows


class IcebergTable(Table):
    def __init__(self, endpoint, entry):
        self.endpoint, self.place = endpoint, (entry["DatabaseName"], entry["Name"])
        self.metadata = entry["Parameters"]["metadata_location"]
        columns = entry["StorageDescriptor"]["Columns"]
        self.columns = [(column["Name"], parse_type(column["Type"])) for column in columns]
        self.parquet = True
        self.readers = [self.by_iceberg]

    def by_iceberg(self):
        import iceberg_extension

        if not iceberg_extension.is_here():
            import tables

            return tables.load(self.endpoint).load_table(self.place).scan().to_arrow().to_pylist()
        with iceberg_extension.database(self.endpoint) as connection:
            iceberg_extension.view(connection, "t", self.metadata)
            result = connection.execute("SELECT * FROM t")
            names = [column[0] for column in result.description]
            return [dict(zip(names, row)) for row in result.fetchall()]

    @staticmethod
    def shown(value, kind):
        return blurred(in_millis(value), kind)


def blurred(value, kind):
    """Without the difference that PyIceberg does not show: of an empty list of structs and none."""
    import iceberg_extension

    if value is None or iceberg_extension.is_here():
        return value
    if kind[0] == "array":
        return [blurred(inner, kind[1]) for inner in value] or (None if kind[1][0] == "struct" else [])
    if kind[0] == "struct":
        return {key: blurred(value.get(key), inner) for key, inner in kind[1]}
    return value


def open_table(endpoint, database, name):
    import boto3

    options = dict(
        endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="reader", aws_secret_access_key="reader"
    )
    entry = boto3.client("glue", **options).get_table(DatabaseName=database, Name=name)["Table"]
    iceberg = entry["Parameters"].get("table_type") == "ICEBERG"
    return IcebergTable(endpoint, entry) if iceberg else Table(endpoint, database, name)


def exact_json(text):
    return json.loads(text, parse_float=decimal.Decimal)


def same(want, found, kind):
    """Whether a value read is the one that a JSON text of the case table says."""
    if want is None or found is None:
        return want is None and found is None
    if kind[0] == "array":
        return len(want) == len(found) and all(same(w, f, kind[1]) for w, f in zip(want, found))
    if kind[0] == "struct":
        return set(want) <= {key for key, _ in kind[1]} and all(
            same(want.get(key), found[key], inner) for key, inner in kind[1]
        )
    if kind[0] == "decimal":
        return decimal.Decimal(want) == found
    if kind == "float":
        return struct.pack("f", float(want)) == struct.pack("f", found)
    if kind == "double":
        return float(want) == found
    if kind == "date":
        return want == found.isoformat()
    if kind == "timestamp":
        return want == found.isoformat(sep=" ", timespec="milliseconds")
    return type(want) is type(found) and want == found


FATES = {
    ("NULLED", "DESTINATION_SERIALIZATION_ERROR"): "nulled: not of the type",
    ("NULLED", "DESTINATION_FIELD_SIZE_LIMITATION"): "nulled: too large",
    ("TRUNCATED", "DESTINATION_FIELD_SIZE_LIMITATION"): "truncated: too large",
    ("TRUNCATED", "DESTINATION_SERIALIZATION_ERROR"): "truncated: half a pair",
}


def iceberg(endpoint, entry, cases):
    compare(IcebergTable(endpoint, json.load(open(entry, encoding="utf-8"))), cases)


def table(endpoint, database, name, cases):
    compare(Table(endpoint, database, name), cases)


def compare(read, cases):
    lines = [line for line in open(cases, encoding="utf-8", newline="\n").read().split("\n") if line and line[0] != "#"]
    wanted, column = [], -1
    for line in lines:
        if line.startswith("column "):
            column += 1
        else:
            wanted.append((column, *(line.split("\t") + [""])[:3], line))
    kinds = dict(read.columns)
    wrong = []
    # DuckDB takes JSON's decimals for doubles.
    readers = [reader for reader in read.readers if reader != read.by_duckdb or read.parquet]
    for reader in readers:
        rows = {row["n"]: row for row in read.rows(reader)}
        for n, (column, _, stored, fate, line) in enumerate(wanted):
            found, key = rows[n][f"c{column}"], f"c{column}"
            changes = rows[n]["_airbyte_meta"]["changes"] or []
            fates = list(dict.fromkeys(FATES.get((c["change"], c["reason"]), "?") for c in changes))
            elsewhere = [k for k, v in rows[n].items() if k[0] == "c" and k != key and v is not None]
            want = exact_json(stored)
            if isinstance(read, IcebergTable):
                want = blurred(want, kinds[key])
            if not same(want, found, kinds[key]) or " ".join(fates) != fate or elsewhere:
                wrong.append([reader.__name__, line, repr(found), fates, elsewhere])
    print(json.dumps({"cases": len(wanted), "rows": len(rows), "wrong": wrong}))


# Generated schemas and records. What fits its type has a known value; of what may not fit only equality is asked.

ANY = "any"


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.decimals = seed % 2 == 0

    def schema(self, depth=3):
        r = self.random
        kind = r.choice(["scalar"] * 4 + (["array", "struct"] if depth else []))
        if kind == "array":
            return {"type": ["null", "array"], "items": self.schema(depth - 1)}
        if kind == "struct":
            keys = r.sample(["a", "b", "camelCase", "d1", "x_y"], r.randint(1, 4))
            return {"type": "object", "properties": {key: self.schema(depth - 1) for key in keys}}
        return r.choice(
            [
                {"type": "boolean"},
                {"type": ["null", "integer"]},
                {"type": "number"},
                {"type": "string"},
                {"type": "string", "format": "date"},
                {"type": "string", "format": "date-time"},
                {"type": "string", "format": "date-time", "airbyte_type": "timestamp_without_timezone"},
                {"type": "string", "format": "time"},
            ]
            + ([{"type": ["integer", "boolean"]}, {"type": "object"}] if depth == 3 else [])
        )

    def text(self):
        letters = ['"', "\\", "\n", "\t", "\u2028", "\u0085", "\x7f", "é", "😀", "a", "Z", " ", "0", ",", "\ufeff"]
        return "".join(self.random.choice(letters) for _ in range(self.random.randint(0, 6)))

    def quoted(self, text):
        return json.dumps(text, ensure_ascii=self.random.random() < 0.5)

    def junk(self, depth=2):
        r = self.random
        scalars = ["null", "true", "0", "-1.5", "1e400", "99999999999999999999", '""', '"x"', '"12"', '"2024-02-30"', '"\\ud83d"']
        kind = r.choice(["scalar"] * 3 + (["array", "object"] if depth else []))
        if kind == "array":
            return "[" + ",".join(self.junk(depth - 1) for _ in range(r.randint(0, 3))) + "]"
        if kind == "object":
            members = [f'"{key}":{self.junk(depth - 1)}' for key in r.sample(["a", "b", "camelCase", "zz"], r.randint(0, 3))]
            return "{" + ",".join(members) + "}"
        return r.choice(scalars)

    def value(self, schema, inside_array=False):
        """The text of a value that fits, and what it is; the second is plain JSON."""
        r = self.random
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if r.random() < 0.1:
            return "null", None
        if "array" in kinds:
            pairs = [self.value(schema["items"], True) for _ in range(r.randint(0, 3))]
            return "[" + " ,".join(text for text, _ in pairs) + "]", [value for _, value in pairs]
        if "properties" in schema:
            pairs = {key: self.value(inner) for key, inner in schema["properties"].items() if r.random() < 0.9}
            text = "{" + ", ".join(f'"{key}": {text}' for key, (text, _) in pairs.items()) + "}"
            return text, {key: pairs[key][1] if key in pairs else None for key in schema["properties"]}
        if kinds == ["integer", "boolean"] or kinds == ["object"]:
            text = r.choice(["7", "1.50", "true", '{"b":[1.0,null],"a":"\\u00e9"}', "[]"])
            return text, text
        if "boolean" in kinds:
            value = r.random() < 0.5
            return str(value).lower(), value
        if "integer" in kinds:
            value = r.choice([0, -1, 2**63 - 1, -(2**63), 2**53 + 1, r.randint(-(10**6), 10**6)])
            return r.choice([str(value), f'"{value}"', f"{value}.0"]), value
        if "number" in kinds and self.decimals:
            whole, places = r.randint(0, 10**13 - 1), r.randint(1, 25)
            text = f"{r.choice(['', '-'])}{whole}.{r.randint(0, 10**places - 1):0{places}d}"
            return text, ["decimal", text]
        if "number" in kinds:
            value = r.choice([0.1, 1e-7, 1.7976931348623157e308, r.random() * 10 ** r.randint(-300, 300), float(r.randint(-9, 9))])
            return repr(value), value
        if schema.get("format") == "date":
            day = dt.date.fromordinal(r.randint(1, dt.date.max.toordinal())).isoformat()
            return f'"{day}"', day
        if schema.get("format") == "date-time":
            return self.moment(schema, inside_array)
        text = self.text()
        return self.quoted(text), text

    def moment(self, schema, inside_array):
        r = self.random
        clock = EPOCH + dt.timedelta(days=r.randint(-700_000, 2_900_000), microseconds=r.randint(0, 86_399_999_999))
        offset = r.choice([None, 0, 90, -330, 720])
        zone = "" if offset is None else "Z" if offset == 0 else f"{'+' if offset > 0 else '-'}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
        text = clock.isoformat(sep=r.choice(["T", " "]), timespec="microseconds") + zone
        if inside_array:
            return f'"{text}"', text
        local = "airbyte_type" in schema
        utc = clock if local else clock - dt.timedelta(minutes=offset or 0)
        return f'"{text}"', utc.isoformat(sep=" ", timespec="milliseconds")


def generate(seed, folder):
    generator = Generator(int(seed))
    r = generator.random
    names = [r.choice(["c{}", "Col {}", "ünï{}", "x.y{}"]).format(i) for i in range(r.randint(1, 8))]
    properties = {"n": {"type": "integer"}, **{name: generator.schema() for name in names}}
    stream = {"name": "generated", "json_schema": {"type": "object", "properties": properties}, "supported_sync_modes": []}
    catalog = {"streams": [{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}]}
    lines, sent = [], []
    for n in range(40):
        members, expected = [f'"n":{n}'], [n]
        for name in names:
            fits = r.random() < 0.75
            text, value = generator.value(properties[name]) if fits else (generator.junk(), ANY)
            members.append(f"{json.dumps(name)}:{text}")
            expected.append({"is": value} if fits else ANY)
        r.shuffle(members)
        record = f'{{"stream":"generated","emitted_at":1,"data":{{{",".join(members)}}}}}'
        lines.append(f'{{"type":"RECORD","record":{record}}}\n')
        sent.append(expected)
    for file, text in [
        ("catalog.json", json.dumps(catalog)),
        ("messages.jsonl", "".join(lines)),
        ("sent.json", json.dumps({"decimals": generator.decimals, "rows": sent})),
    ]:
        with open(os.path.join(folder, file), "w", encoding="utf-8", newline="") as out:
            out.write(text)
    print(json.dumps({"decimals": generator.decimals}))


def unwrapped(value):
    """Expected values as JSON; a decimal comes as its text."""
    if isinstance(value, list) and len(value) == 2 and value[0] == "decimal":
        return decimal.Decimal(value[1])
    if isinstance(value, list):
        return [unwrapped(inner) for inner in value]
    if isinstance(value, dict):
        return {key: unwrapped(inner) for key, inner in value.items()}
    return value


def close(a, b):
    """Equality for a reader that takes JSON numbers for doubles before it makes decimals of them: DuckDB."""
    if isinstance(a, decimal.Decimal) and isinstance(b, decimal.Decimal):
        return abs(a - b) <= max(abs(a), 1) * decimal.Decimal("1e-14")
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    return a == b


def equal(endpoint, name, folder, *databases):
    sent = json.load(open(os.path.join(folder, "sent.json"), encoding="utf-8"))["rows"]
    report = {"values": 0, "known": 0, "wrong": []}
    oracle = None
    for database in databases:
        read = open_table(endpoint, database, name)
        for reader in read.readers:
            rows = sorted(read.rows(reader), key=lambda row: row["n"])
            agree = close if reader == read.by_duckdb and not read.parquet else lambda a, b: a == b
            oracle = oracle or rows
            if len(rows) != len(sent):
                report["wrong"].append([database, reader.__name__, "rows", len(rows)])
            for row, first, expected in zip(rows, oracle, sent):
                for (column, kind), want in zip(read.columns, expected):
                    report["values"] += 1
                    if not agree(first[column], row[column]):
                        report["wrong"].append([database, reader.__name__, column, repr(first[column]), repr(row[column])])
                    if isinstance(want, dict) and row is first:
                        report["known"] += 1
                        if not same(unwrapped(want["is"]), row[column], kind):
                            report["wrong"].append([database, "sent", column, repr(want), repr(row[column])])
    report["wrong"] = report["wrong"][:5]
    print(json.dumps(report))


def timestamps(endpoint, database, name):
    import pyarrow.parquet as pq

    read = Table(endpoint, database, name)
    if read.parquet:
        leaves = [pq.ParquetFile(io.BytesIO(file)).schema for file in read.files]
        forms = [[f"{c.path} {c.physical_type} {c.logical_type}" for c in map(leaf.column, range(len(leaf)))] for leaf in leaves]
        forms = [[form for form in file if form.split()[0].endswith("at")] for file in forms]
    else:
        forms = [json.loads(file.decode().split("\n")[0]) for file in read.files]
    arrow, duck = read.rows(read.by_arrow), read.rows(read.by_duckdb)
    print(json.dumps({"forms": forms, "arrow": arrow, "duckdb": duck}, default=str))


def chunks(endpoint, database, name):
    import pyarrow.parquet as pq

    def chunk(column):
        # The dictionary lies before the first page of data.
        dictionary = column.data_page_offset - column.dictionary_page_offset if column.has_dictionary_page else 0
        return {
            "encodings": column.encodings,
            "values": column.num_values,
            "bytes": column.total_compressed_size,
            "dictionary_bytes": dictionary,
        }

    files = [pq.ParquetFile(io.BytesIO(file)).metadata.row_group(0) for file in Table(endpoint, database, name).files]
    print(json.dumps([{c.path_in_schema: chunk(c) for c in map(g.column, range(g.num_columns))} for g in files]))


if __name__ == "__main__":
    {"table": table, "iceberg": iceberg, "generate": generate, "equal": equal, "timestamps": timestamps, "chunks": chunks}[sys.argv[1]](*sys.argv[2:])
