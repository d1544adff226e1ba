"""A table as the Python connector leaves it: objects and Glue entry, as measured on its version 0.1.58.

    incumbent.py ENDPOINT FORMAT PARTITIONING     FORMAT is json, json.gz, parquet or decimal, which is parquet with numbers
                                                  as decimals; PARTITIONING is no, day or date

Stream `My Stream`, table demo.my_stream, three rows, and a fourth without a cursor where there are years, months and days:
it lies in partition 0/0/0. Prints the table's definition as it was put.
"""

import datetime as dt
import decimal
import gzip
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
        "price": number + 0.25,
    }
    for number in (1, 2, 3)
]
WITHOUT_CURSOR = {**ROWS[0], "id": 9, "name": "old 9", "at": None}
COLUMNS = [
    ("id", "bigint"),
    ("name", "string"),
    ("at", "timestamp"),
    ("userinfo", "struct<firstName:string,zipCode:bigint>"),
    ("extra", "string"),
    ("tags", "array<string>"),
    ("flag", "boolean"),
    ("day", "date"),
    ("price", "double"),
]


def parquet(rows, price):
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
            ("price", price),
        ]
    )
    if pa.types.is_decimal(price):
        rows = [{**row, "price": decimal.Decimal(row["price"])} for row in rows]
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
        at = row["at"] and millis(row["at"])
        return json.dumps({**row, "at": at, "day": day, "__index_level_0__": index}, separators=(",", ":"))

    return "".join(plain(row, index) + "\n" for index, row in enumerate(rows)).encode()


def main():
    endpoint, variant, partitioning = sys.argv[1:]
    kind = "json" if variant.startswith("json") else "parquet"
    is_gzip = variant == "json.gz"
    options = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    glue, s3 = boto3.client("glue", **options), boto3.client("s3", **options)
    is_json = kind == "json"
    columns = COLUMNS + ([("__index_level_0__", "bigint")] if is_json else [])
    if variant == "decimal":
        columns = [(name, "decimal(38,25)" if name == "price" else type_) for name, type_ in columns]
    compression = "gzip" if is_gzip else "none" if is_json else "snappy"
    words = {"classification": kind, "compressionType": compression, "typeOfData": "file"}
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
        "Compressed": compression != "none",
        "NumberOfBuckets": -1,
        "SerdeInfo": serde,
        "BucketColumns": [],
        "SortColumns": [],
        "Parameters": dict(words) if is_json else {**words, "CrawlerSchemaDeserializerVersion": "1.0"},
        "StoredAsSubDirectories": False,
    }
    keys = {
        "no": [],
        "day": [("at_year", "bigint"), ("at_month", "bigint"), ("at_day", "bigint")],
        "date": [("at_date", "date")],
    }[partitioning]
    definition = {
        "Name": "my_stream",
        "PartitionKeys": [{"Name": key, "Type": type_} for key, type_ in keys],
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {**words, "projection.enabled": "false", "data owner": "somebody"},
        "StorageDescriptor": storage,
    }
    glue.create_database(DatabaseInput={"Name": "demo"})
    glue.create_table(DatabaseName="demo", TableInput=definition)
    rows = ROWS + ([WITHOUT_CURSOR] if partitioning == "day" else [])
    for rows in [[row] for row in rows] if keys else [rows]:
        at = rows[0]["at"]
        values = {
            "no": [],
            "day": [str(at.year), str(at.month), str(at.day)] if at else ["0", "0", "0"],
            "date": [str(at and at.date())],
        }[partitioning]
        folder = "".join(f"{key}={value}/" for (key, _), value in zip(keys, values))
        if is_json:
            ending, body = (".json.gz", gzip.compress(lines(rows))) if is_gzip else (".json", lines(rows))
        else:
            price = pa.decimal128(38, 25) if variant == "decimal" else pa.float64()
            ending, body = ".snappy.parquet", parquet(rows, price)
        s3.put_object(Bucket="lake", Key=f"demo/My Stream/{folder}{uuid.uuid4().hex}{ending}", Body=body)
        if keys:
            own = {**storage, "Location": LOCATION + folder}
            partition = {"Values": values, "StorageDescriptor": own, "Parameters": {}}
            glue.batch_create_partition(DatabaseName="demo", TableName="my_stream", PartitionInputList=[partition])
    print(json.dumps(definition))


if __name__ == "__main__":
    main()
