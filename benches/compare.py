"""What others take for the same work: `compare.py duckdb|pyarrow MESSAGES CATALOG OUT`.

Both read the lines of the messages, put every declared field of every stream into a typed column, and write one snappy
Parquet file for each stream. Neither checks values, keeps states or uploads anything. Each is written in the fastest of
the ways that were tried: one pass over the lines with all columns declared, then a file for each stream.
"""

import json
import os
import sys


def streams(path):
    with open(path, encoding="utf-8") as file:
        return {s["stream"]["name"]: s["stream"]["json_schema"]["properties"] for s in json.load(file)["streams"]}


def kind(schema):
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return "timestamp" if schema.get("format") == "date-time" else next(k for k in kinds if k != "null")


def by_duckdb(messages, catalog, out):
    import duckdb

    def sql(schema):
        if kind(schema) == "object":
            return "STRUCT(" + ", ".join(f'"{k}" {sql(v)}' for k, v in schema["properties"].items()) + ")"
        return {"timestamp": "TIMESTAMP", "integer": "BIGINT", "number": "DOUBLE", "string": "VARCHAR"}[kind(schema)]

    properties = streams(catalog)
    together = {name: sql(schema) for stream in properties.values() for name, schema in stream.items()}
    data = ", ".join(f'"{name}" {of}' for name, of in together.items())
    lake = duckdb.connect()
    lake.execute("SET preserve_insertion_order = false")
    lake.execute(
        f"CREATE TABLE messages AS SELECT record.stream AS stream, record.data AS data FROM read_ndjson('{messages}', "
        f"columns = {{'record': 'STRUCT(stream VARCHAR, data STRUCT({data}))'}}) WHERE record.stream IS NOT NULL"
    )
    for stream, columns in properties.items():
        chosen = ", ".join(f'data."{name}" AS "{name}"' for name in columns)
        path = os.path.join(out, f"{stream}.parquet")
        lake.execute(f"COPY (SELECT {chosen} FROM messages WHERE stream = '{stream}') TO '{path}' (CODEC 'snappy')")


def by_pyarrow(messages, catalog, out):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.json
    import pyarrow.parquet

    def arrow(schema):
        if kind(schema) == "object":
            return pa.struct([(k, arrow(v)) for k, v in schema["properties"].items()])
        kinds = {"timestamp": pa.string(), "integer": pa.int64(), "number": pa.float64(), "string": pa.string()}
        return kinds[kind(schema)]

    properties = streams(catalog)
    together = {name: arrow(schema) for stream in properties.values() for name, schema in stream.items()}
    record = pa.struct([("stream", pa.string()), ("data", pa.struct(list(together.items())))])
    options = pa.json.ParseOptions(
        explicit_schema=pa.schema([("record", record)]), unexpected_field_behavior="ignore"
    )
    writers = {}
    with pa.json.open_json(messages, pa.json.ReadOptions(block_size=8 << 20), options) as batches:
        for batch in batches:
            records = batch.column("record")
            names = records.field("stream")
            for stream, columns in properties.items():
                rows = records.field("data").filter(pc.fill_null(pc.equal(names, stream), False))
                arrays = {name: rows.field(name) for name in columns}
                for name, schema in columns.items():
                    if kind(schema) == "timestamp":
                        # The reader of JSON takes no mixture of offsets and fractions.
                        text = pc.utf8_slice_codeunits(arrays[name], 0, 19)
                        arrays[name] = pc.strptime(text, "%Y-%m-%dT%H:%M:%S", "ms")
                table = pa.table(arrays)
                if stream not in writers:
                    path = os.path.join(out, f"{stream}.parquet")
                    writers[stream] = pa.parquet.ParquetWriter(path, table.schema, compression="snappy")
                writers[stream].write_table(table)
    for writer in writers.values():
        writer.close()


if __name__ == "__main__":
    {"duckdb": by_duckdb, "pyarrow": by_pyarrow}[sys.argv[1]](*sys.argv[2:])
