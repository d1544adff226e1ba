"""A table as the Python connector leaves it: objects and Glue entry, as measured on its version 0.1.58.

    incumbent.py ENDPOINT FORMAT PARTITIONED      FORMAT is json or parquet; PARTITIONED is yes or no

Stream `My Stream`, table demo.my_stream, three rows. Prints the table's definition as it was put.
"""

import datetime as dt
import io
import json
import sys
import uuid

import boto3
import pyarrow as pa
import pyarrow.parquet as pq

LOCATION = "s3://lake/demo/My Stream/"
ROWS = [
    {
        "id": number,
        "name": f"old {number}",
        "at": dt.datetime(2024, 1, number, 10, 0, 0, 123000),
        "userinfo": {"firstName": "Ada", "zipCode": 100 + number},
        "extra": json.dumps({"any": [number, "é"]}),
        "tags": ["a", "b"],
        "flag": number % 2 == 0,
        "day": dt.date(2023, 12, number),
    }
    for number in (1, 2, 3)
]
COLUMNS = [
    ("id", "bigint"),
    ("name", "string"),
    ("at", "timestamp"),
    ("userinfo", "struct<firstName:string,zipCode:bigint>"),
    ("extra", "string"),
    ("tags", "array<string>"),
    ("flag", "boolean"),
    ("day", "date"),
]


def parquet(rows):
    """One row group, snappy, format 1.0, INT96 timestamps without a zone, list elements called `element`."""
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("name", pa.string()),
            ("at", pa.timestamp("ns")),
            ("userinfo", pa.struct([("firstName", pa.string()), ("zipCode", pa.int64())])),
            ("extra", pa.string()),
            ("tags", pa.list_(pa.field("element", pa.string()))),
            ("flag", pa.bool_()),
            ("day", pa.date32()),
        ]
    )
    out = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, out, version="1.0", compression="snappy", use_deprecated_int96_timestamps=True)
    return out.getvalue()


def lines(rows):
    """Timestamps and dates as milliseconds since 1970, non-ASCII escaped, and the index that pandas leaves behind."""

    def millis(moment):
        return int(moment.replace(tzinfo=dt.timezone.utc).timestamp() * 1000)

    def plain(row, index):
        day = millis(dt.datetime.combine(row["day"], dt.time()))
        return json.dumps({**row, "at": millis(row["at"]), "day": day, "__index_level_0__": index}, separators=(",", ":"))

    return "".join(plain(row, index) + "\n" for index, row in enumerate(rows)).encode()


def main():
    endpoint, kind, partitioned = sys.argv[1:]
    options = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    glue, s3 = boto3.client("glue", **options), boto3.client("s3", **options)
    is_json = kind == "json"
    columns = COLUMNS + ([("__index_level_0__", "bigint")] if is_json else [])
    words = {"classification": kind, "compressionType": "none" if is_json else "snappy", "typeOfData": "file"}
    text = "org.apache.hadoop.mapred.TextInputFormat", "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"
    hive = "org.apache.hadoop.hive.ql.io.parquet"
    columnar = f"{hive}.MapredParquetInputFormat", f"{hive}.MapredParquetOutputFormat"
    serde = {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe", "Parameters": {}}
    if not is_json:
        serde = {"SerializationLibrary": f"{hive}.serde.ParquetHiveSerDe", "Parameters": {"serialization.format": "1"}}
    storage = {
        "Columns": [{"Name": name, "Type": type_} for name, type_ in columns],
        "Location": LOCATION,
        "InputFormat": (text if is_json else columnar)[0],
        "OutputFormat": (text if is_json else columnar)[1],
        "Compressed": not is_json,
        "NumberOfBuckets": -1,
        "SerdeInfo": serde,
        "BucketColumns": [],
        "SortColumns": [],
        "Parameters": dict(words) if is_json else {**words, "CrawlerSchemaDeserializerVersion": "1.0"},
        "StoredAsSubDirectories": False,
    }
    keys = ["at_year", "at_month", "at_day"] if partitioned == "yes" else []
    definition = {
        "Name": "my_stream",
        "PartitionKeys": [{"Name": key, "Type": "bigint"} for key in keys],
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {**words, "projection.enabled": "false", "data owner": "somebody"},
        "StorageDescriptor": storage,
    }
    glue.create_database(DatabaseInput={"Name": "demo"})
    glue.create_table(DatabaseName="demo", TableInput=definition)
    for rows in [[row] for row in ROWS] if keys else [ROWS]:
        at = rows[0]["at"]
        values = [str(at.year), str(at.month), str(at.day)] if keys else []
        folder = "".join(f"{key}={value}/" for key, value in zip(keys, values))
        ending = ".json" if is_json else ".snappy.parquet"
        body = lines(rows) if is_json else parquet(rows)
        s3.put_object(Bucket="lake", Key=f"demo/My Stream/{folder}{uuid.uuid4().hex}{ending}", Body=body)
        if keys:
            own = {**storage, "Location": LOCATION + folder}
            partition = {"Values": values, "StorageDescriptor": own, "Parameters": {}}
            glue.batch_create_partition(DatabaseName="demo", TableName="my_stream", PartitionInputList=[partition])
    print(json.dumps(definition))


if __name__ == "__main__":
    main()
