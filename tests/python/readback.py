"""Reads back what the connector wrote, with readers that know nothing of it.

    readback.py rows VIEWS SQL              rows of a query over the views, one JSON object a line; with a
                                            SANDBOX_ENDPOINT, Iceberg tables are read from there instead: by DuckDB's
                                            Iceberg extension where Python has it, else by PyIceberg
    readback.py compare VIEWS DATABASE MESSAGES CATALOG
                                            every row of every stream against the messages
    readback.py parquet FILE                schema, codecs and statistics by PyArrow
    readback.py poll ENDPOINT BUCKET DATABASE TABLE STOPFILE KIND
                                            reads the table again and again until STOPFILE exists
"""

import collections
import datetime as dt
import decimal
import gzip
import io
import json
import os
import re
import sys


def plain(value):
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    if isinstance(value, (dt.date, decimal.Decimal)):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def query(views, sql):
    import duckdb
    import iceberg_extension

    statements = open(views, encoding="utf-8").read()
    endpoint = os.environ.get("SANDBOX_ENDPOINT")
    found = re.findall(r'^-- The metadata of "(.+)"\."(.+)" is (.+)\.$', statements, re.MULTILINE) if endpoint else []
    # Only what the query is about.
    found = [place for place in found if "information_schema" in sql or place[1] in sql]
    if endpoint and iceberg_extension.is_here():
        with iceberg_extension.database(endpoint) as connection:
            connection.execute(statements)
            for database, table, metadata in found:
                iceberg_extension.view(connection, f'"{database}"."{table}"', metadata)
            return answer(connection, sql)
    connection = duckdb.connect()
    connection.execute(statements)
    for database, table, _ in found:
        import tables

        rows = tables.arrow(tables.load(endpoint).load_table((database, table)))
        connection.execute(f'DROP VIEW IF EXISTS "{database}"."{table}"')
        connection.register(f"{database} {table}", rows)
        connection.execute(f'CREATE TABLE "{database}"."{table}" AS SELECT * FROM "{database} {table}"')
    return answer(connection, sql)


def answer(connection, sql):
    result = connection.execute(sql)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row)) for row in result.fetchall()]


def lines_of(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        yield from lines


def instant(text):
    """What a date-time of the source means in UTC, without a zone: to the microsecond in Iceberg tables, which
    SANDBOX_ENDPOINT stands for, to the millisecond in others."""
    value = dt.datetime.fromisoformat(text)
    if value.tzinfo is not None:
        value = value.astimezone(dt.timezone.utc).replace(tzinfo=None)
    return value if os.environ.get("SANDBOX_ENDPOINT") else value.replace(microsecond=value.microsecond // 1000 * 1000)


def expected(value, schema):
    if value is None:
        return None
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "string" in kinds and schema.get("format") == "date-time":
        return instant(value)
    if "number" in kinds:
        return float(value)
    if "object" in kinds:
        return {key: expected(value.get(key), inner) for key, inner in schema["properties"].items()}
    return value


def compare(views, database, messages, catalog):
    streams = {s["stream"]["name"]: s["stream"]["json_schema"]["properties"] for s in json.load(open(catalog))["streams"]}
    sent = {name: [] for name in streams}
    for line in lines_of(messages):
        message = json.loads(line)
        if message["type"] == "RECORD":
            record = message["record"]
            sent[record["stream"]].append(record["data"])
    report = {}
    for name, properties in streams.items():
        found = {row["id"]: row for row in query(views, f'SELECT * FROM "{database}"."{name}"')}
        wrong = []
        for data in sent[name]:
            row = found.pop(data["id"], None)
            for key, schema in properties.items():
                want = expected(data.get(key), schema)
                if row is None or row.get(key) != want:
                    wrong.append([data["id"], key, repr(want), repr(None if row is None else row.get(key))])
        report[name] = {"rows": len(sent[name]), "wrong": len(wrong), "unexpected": len(found), "first": wrong[:3]}
    print(json.dumps(report))


def parquet(path):
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    print(
        json.dumps(
            {
                "schema": {field.name: str(field.type) for field in file.schema_arrow},
                "physical": {column.path_in_schema: column.physical_type for column in columns},
                "rows": file.metadata.num_rows,
                "row_groups": len(groups),
                "codecs": sorted({column.compression for column in columns}),
                "statistics": all(column.is_stats_set for column in columns),
                "page_index": all(column.has_offset_index for column in columns),
                "created_by": file.metadata.created_by,
            }
        )
    )


def registered(lake, database, table):
    """Keys of the objects of a governed table."""
    uris, token = [], None
    while True:
        extra = {"NextToken": token} if token else {}
        page = lake.get_table_objects(DatabaseName=database, TableName=table, **extra)
        uris += [o["Uri"] for group in page["Objects"] for o in group["Objects"]]
        token = page.get("NextToken")
        if not token:
            return [uri.split("/", 3)[3] for uri in uris]


def places(glue, database, table):
    """Where a plain table's rows are, by partition, and which locations are kept for readers that have begun."""
    entry = glue.get_table(DatabaseName=database, Name=table)["Table"]
    parameters = entry["Parameters"]
    kept = [entry["StorageDescriptor"]["Location"], parameters.get("airbyte.previous_location")]
    kept.append(parameters.get("airbyte.switching", "").partition(" ")[2])
    if not entry.get("PartitionKeys"):
        return {"": kept[0]}, kept
    pages = glue.get_paginator("get_partitions").paginate(DatabaseName=database, TableName=table)
    found = {"/".join(p["Values"]): p["StorageDescriptor"]["Location"] for page in pages for p in page["Partitions"]}
    return found, kept


def below(s3, bucket, location):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=location.split("/", 3)[3])
    return [o["Key"] for page in pages for o in page.get("Contents", [])]


def poll(endpoint, bucket, database, table, stop, kind):
    """Which sets of versions a reader of the table has seen in each of its parts, and how many rows each had. A part is
    what is switched in one piece: the table, or a partition of a plain one."""
    import boto3

    options = dict(
        endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="reader", aws_secret_access_key="reader"
    )
    glue, s3 = boto3.client("glue", **options), boto3.client("s3", **options)
    lake = boto3.client("lakeformation", **options)
    if kind == "iceberg":
        import tables

        catalog = tables.load(endpoint)
    seen = {}
    polls = 0
    done = False
    while not done:
        if polls:
            with open(f"{stop}.polls", "a") as file:
                file.write(".")
        # One look after the end too, so that the last state is seen.
        done = os.path.exists(stop)
        found = {}
        try:
            if kind == "iceberg":
                # As any reader does: the metadata that is current now, and then its files.
                rows = catalog.load_table((database, table)).scan(selected_fields=("version",)).to_arrow()
                look, keys = {"": dict(collections.Counter(rows["version"].to_pylist()))}, {}
            elif kind == "governed":
                look, keys = {}, {"": registered(lake, database, table)}
            else:
                found, _ = places(glue, database, table)
                look, keys = {}, {part: below(s3, bucket, location) for part, location in found.items()}
            for part, keys_of_part in keys.items():
                counts = look.setdefault(part, {})
                for key in keys_of_part:
                    body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                    for line in io.BytesIO(body):
                        version = json.loads(line)["version"]
                        counts[version] = counts.get(version, 0) + 1
        except s3.exceptions.NoSuchKey:
            look = None
        # What a reader has planned is there until the table was switched twice since; a slower one is not promised it.
        kept = [] if kind in ("governed", "iceberg") else [place for place in places(glue, database, table)[1] if place]
        if look is None or any(not any(place.startswith(k) for k in kept) for place in found.values()):
            done = False
            continue
        look = json.dumps(look, sort_keys=True)
        seen[look] = seen.get(look, 0) + 1
        polls += 1
    print(json.dumps({"polls": polls, "seen": [json.loads(look) for look in seen]}))


def main():
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "rows":
        for row in query(*arguments):
            print(json.dumps(plain(row), ensure_ascii=False))
    else:
        {"compare": compare, "parquet": parquet, "poll": poll}[command](*arguments)


if __name__ == "__main__":
    main()
