"""Records tables as the Python connector leaves them, with the library that it writes through: awswrangler 3.7.1.

    python3 -m venv wr && wr/bin/pip install awswrangler==3.7.1 pandas==2.0.3 pyarrow==14.0.2
    cargo run -p sandbox -- --root EMPTY_FOLDER --bucket lake          (one for each table; it prints its endpoint)
    wr/bin/python record_incumbent.py ENDPOINT FORMAT PARTITIONING > tests/incumbent/FORMAT-PARTITIONING.json

FORMAT is json, json.gz, parquet, parquet.gz, parquet.zstd, parquet.none, or decimal, which is parquet with numbers as
decimals; PARTITIONING is no, day (year, month and day), year, month or date. `FORMAT-elsewhere` is a stream with a
namespace under a bucket prefix. The data frame is made as connector version 0.1.58 makes it of records of stream
`My Stream`: three rows, and a fourth without a cursor where there are years, months or days, which lies in partition 0.
"""

import base64
import decimal
import json
import os
import sys

import awswrangler as wr
import boto3
import pandas as pd

ROWS = [
    {
        "id": number,
        "name": f"old {number}",
        "at": f"2024-01-0{number}T10:00:00.123Z",
        "userinfo": {"firstName": "Ada", "zipCode": 100 + number},
        # NULL in a column of JSON is the word.
        "extra": json.dumps({"any": [number, "é"]} if number != 2 else None),
        "tags": ["a", "b"],
        "flag": number % 2 == 0,
        "day": f"2023-12-0{number}",
        "price": number + 0.25,
    }
    for number in (1, 2, 3)
]
TYPES = {
    "id": "bigint",
    "name": "string",
    "at": "timestamp",
    "userinfo": "struct<firstName:string,zipCode:bigint>",
    "extra": "string",
    "tags": "array<string>",
    "flag": "boolean",
    "day": "date",
    "price": "double",
}
PARTS = {"no": [], "elsewhere": [], "year": ["year"], "month": ["month"], "day": ["year", "month", "day"], "date": ["date"]}
STRFTIME = {"year": "%Y", "month": "%m", "day": "%d", "date": "%Y-%m-%d"}
CODECS = {"parquet": "snappy", "decimal": "snappy", "parquet.gz": "gzip", "parquet.zstd": "zstd", "parquet.none": None}


def frame(variant, partitioning):
    parts = PARTS[partitioning]
    rows = ROWS + ([{**ROWS[0], "id": 9, "name": "old 9", "at": None}] if parts and parts != ["date"] else [])
    df = pd.DataFrame(rows).astype({"id": "Int64", "name": "string", "flag": "bool", "price": "float64"})
    df["at"] = pd.to_datetime(df["at"])
    df["day"] = pd.to_datetime(df["day"])
    types = dict(TYPES)
    if variant == "decimal":
        df["price"] = df["price"].apply(lambda value: decimal.Decimal(str(value)))
        types["price"] = "decimal(38, 25)"
    for part in parts:
        values = df["at"].dt.strftime(STRFTIME[part])
        df[f"at_{part}"] = values if part == "date" else values.fillna("0").astype("Int64")
        types[f"at_{part}"] = "date" if part == "date" else "bigint"
    return df, types, [f"at_{part}" for part in parts]


def main():
    endpoint, variant, partitioning = sys.argv[1:]
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    wr.config.s3_endpoint_url = wr.config.glue_endpoint_url = endpoint
    session = boto3.Session(aws_access_key_id="t", aws_secret_access_key="t", region_name="us-east-1")
    df, types, parts = frame(variant, partitioning)
    database, prefix = ("sales", "p/") if partitioning == "elsewhere" else ("demo", "")
    wr.catalog.create_database(database, boto3_session=session, exist_ok=True)
    options = {
        "df": df,
        "path": f"s3://lake/{prefix}{database}/My Stream/",
        "boto3_session": session,
        "dataset": True,
        "database": database,
        "table": "My Stream",
        "mode": "append",
        "use_threads": False,
        "dtype": types,
        "partition_cols": parts or None,
    }
    if variant.startswith("json"):
        compression = "gzip" if variant == "json.gz" else None
        wr.s3.to_json(**options, orient="records", lines=True, compression=compression)
    else:
        wr.s3.to_parquet(**options, compression=CODECS[variant])

    glue, s3 = session.client("glue", endpoint_url=endpoint), session.client("s3", endpoint_url=endpoint)
    name = {"DatabaseName": database}
    table = glue.get_table(**name, Name="my_stream")["Table"]
    partitions = glue.get_partitions(**name, TableName="my_stream")["Partitions"]
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="lake")["Contents"]]
    bodies = {key: s3.get_object(Bucket="lake", Key=key)["Body"].read() for key in keys}
    recorded = {
        "database": database,
        # As put: without what the service adds.
        "table": pick(table, ["Name", "Description", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor"]),
        "partitions": [pick(partition, ["Values", "StorageDescriptor", "Parameters"]) for partition in partitions],
        "objects": {key: base64.b64encode(body).decode() for key, body in bodies.items()},
    }
    print(json.dumps(recorded, indent=1, sort_keys=True))


def pick(entry, keys):
    return {key: entry[key] for key in keys if key in entry}


if __name__ == "__main__":
    main()
