"""Writes tables in every physical variant and has Spark read them, by their Glue types.

    spark.py CONNECTOR SANDBOX

CONNECTOR and SANDBOX are the built programs. Needs boto3, pyspark and a Java that it runs on. Not part of CI, which does
not depend on half a gigabyte of another engine; `docs/engines.md` says when it was run and with what.
"""

import datetime as dt
import decimal
import glob
import json
import os
import subprocess
import sys
import tempfile

os.environ["TZ"] = "UTC"
SCHEMA = {
    "id": {"type": "integer"},
    "Größe in cm": {"type": "number"},
    "1st": {"type": "string"},
    "select": {"type": "boolean"},
    "day": {"type": "string", "format": "date"},
    "at": {"type": "string", "format": "date-time"},
    "clock": {"type": "string", "format": "time"},
    "any": {"oneOf": [{"type": "object"}, {"type": "string"}]},
    "o": {
        "type": "object",
        "properties": {
            "camelCase": {"type": "integer"},
            "a.b": {"type": "string"},
            "zip code": {"type": "string"},
            "30d": {"type": "number"},
            "date": {"type": "string", "format": "date"},
            "at": {"type": "string", "format": "date-time"},
            "deeper": {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}}},
        },
    },
    "l": {"type": "array", "items": {"type": "object", "properties": {"x-y": {"type": "boolean"}, "at": {"type": "string", "format": "date-time"}}}},
}
AT = "2024-02-29T12:34:56.789123Z"
RECORDS = [
    {
        "id": 2**53 + 1, "Größe in cm": 1.5, "1st": "é\u2028\n\"", "select": True, "day": "1969-12-31", "at": AT, "clock": "10:11:12",
        "any": {"b": 1.10, "a": [None]},
        "o": {"camelCase": -1, "a.b": "dot", "zip code": "012", "30d": 0.25, "date": "9999-12-31", "at": AT, "deeper": {"list": [[1, None], [], None]}},
        "l": [{"x-y": False, "at": AT}, None, {}],
    },
    {"id": 2, "day": "2024-02-29", "o": {}, "l": []},
    {"id": 3},
]
# A table of another tool, with types that we do not make.
FOREIGN = [("id", "int"), ("gr__e_in_cm", "float"), ("1st", "varchar(9)"), ("price", "decimal(9,2)"), ("tiny", "tinyint"), ("small", "smallint")]


def expected(timestamps, decimals):
    at = dt.datetime(2024, 2, 29, 12, 34, 56, 789123 if timestamps in ("MICROS", "INT96") else 789000)
    number = decimal.Decimal if decimals else float
    first = {
        "id": 2**53 + 1, "gro_e_in_cm": number("1.5"), "1st": "é\u2028\n\"", "select": True, "day": dt.date(1969, 12, 31), "at": at,
        "clock": "10:11:12", "any": '{"b":1.1,"a":[null]}',
        "o": {"camelCase": -1, "a_b": "dot", "zip_code": "012", "_30d": number("0.25"), "date": dt.date(9999, 12, 31), "at": at,
              "deeper": {"list": [[1, None], [], None]}},
        "l": [{"x_y": False, "at": at}, None, {"x_y": None, "at": None}],
    }
    empty = {key: None for key in first}
    inner = {key: None for key in first["o"]}
    return [first, {**empty, "id": 2, "day": dt.date(2024, 2, 29), "o": inner, "l": []}, {**empty, "id": 3}]


def plain(value):
    """A row of Spark's as Python's own kinds."""
    if hasattr(value, "asDict"):
        return {key: plain(inner) for key, inner in value.asDict().items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


class Lake:
    def __init__(self, connector, endpoint, folder):
        import boto3

        self.connector, self.endpoint, self.folder = connector, endpoint, folder
        keys = dict(region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any")
        self.glue = boto3.client("glue", endpoint_url=endpoint, **keys)

    def write(self, database, settings, schema, records):
        config = {
            "credentials": {"credentials_title": "IAM User", "aws_access_key_id": "any", "aws_secret_access_key": "any-key"},
            "region": "us-east-1", "bucket_name": "lake", "lakeformation_database_name": database, **settings,
        }
        stream = {"name": "v", "json_schema": {"type": "object", "properties": schema}, "supported_sync_modes": ["full_refresh"]}
        catalog = {"streams": [{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}]}
        paths = [os.path.join(self.folder, name) for name in ("config.json", "catalog.json")]
        for path, content in zip(paths, (config, catalog)):
            json.dump(content, open(path, "w"))
        lines = (json.dumps({"type": "RECORD", "record": {"stream": "v", "emitted_at": 1, "data": data}}) + "\n" for data in records)
        command = [self.connector, "write", "--config", paths[0], "--catalog", paths[1]]
        environment = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}
        ran = subprocess.run(command, input="".join(lines), text=True, capture_output=True, env=environment)
        if ran.returncode != 0:
            sys.exit(ran.stdout[-4000:])

    def table(self, database):
        """The columns of the table, and the folder of its files."""
        table = self.glue.get_table(DatabaseName=database, Name="v")["Table"]["StorageDescriptor"]
        columns = [(column["Name"], column["Type"]) for column in table["Columns"]]
        return columns, os.path.join(self.folder, "lake", "s3", table["Location"].removeprefix("s3://"))

    def create_foreign(self, database):
        package = "org.apache.hadoop.hive.ql.io.parquet"
        self.glue.create_database(DatabaseInput={"Name": database})
        self.glue.create_table(DatabaseName=database, TableInput={
            "Name": "v", "TableType": "EXTERNAL_TABLE", "PartitionKeys": [],
            "StorageDescriptor": {
                "Location": f"s3://lake/{database}/v/", "Columns": [{"Name": name, "Type": kind} for name, kind in FOREIGN],
                "InputFormat": f"{package}.MapredParquetInputFormat",
                "SerdeInfo": {"SerializationLibrary": f"{package}.serde.ParquetHiveSerDe"},
            },
        })


class Reader:
    def __init__(self):
        from pyspark.sql import SparkSession

        # Of a table in a catalog Spark makes `varchar` a string by itself; a schema that is given to it has to be told.
        options = {
            "spark.ui.enabled": "false", "spark.sql.session.timeZone": "UTC", "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.legacy.charVarcharAsString": "true",
        }
        builder = SparkSession.builder.master("local[1]")
        for key, value in options.items():
            builder = builder.config(key, value)
        self.spark = builder.getOrCreate()
        self.spark.sparkContext.setLogLevel("OFF")

    def rows(self, columns, folder, parquet):
        # As Spark reads a column of the Hive catalog: by its type's text. A name with odd characters needs backticks here.
        schema = ", ".join(f"`{name}` {kind}" for name, kind in columns)
        read = self.spark.read.schema(schema)
        files = glob.glob(os.path.join(folder, "*"))
        frame = read.parquet(*files) if parquet else read.option("timestampFormat", "yyyy-MM-dd HH:mm:ss.SSS").json(files)
        return sorted((plain(row) for row in frame.collect()), key=lambda row: -row["id"])


def main():
    connector, sandbox = sys.argv[1:]
    import pyspark

    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        options = [sandbox, "--root", f"{folder}/lake", "--bucket", "lake"]
        stand_in = subprocess.Popen(options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lake, reader = Lake(connector, stand_in.stdout.readline().strip(), folder), Reader()
        print(f"PySpark {pyspark.__version__}")

        def compare(what, database, want, parquet=True):
            nonlocal wrong
            columns, place = lake.table(database)
            try:
                found = reader.rows(columns, place, parquet)
            except Exception as error:
                found = str(error)[:1000]
            print(f"{what}: {'as sent' if found == want else 'WRONG'}")
            if found != want:
                wrong += 1
                print(f"  {found}\n  {want}")

        variants = [(unit, codec) for unit in ("MILLIS", "MICROS", "INT96") for codec in ("UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD")]
        order = lambda rows: sorted(rows, key=lambda row: -row["id"])
        for decimals in (False, True):
            for unit, codec in variants if not decimals else variants[1:10:4]:
                database = f"{unit}_{codec}_{decimals}".lower()
                settings = {
                    "format": {"format_type": "Parquet", "compression_codec": codec},
                    "parquet_timestamp_unit": unit, "glue_catalog_float_as_decimal": decimals,
                }
                lake.write(database, settings, SCHEMA, RECORDS)
                compare(f"Parquet, {unit}, {codec}{', decimals' if decimals else ''}", database, order(expected(unit, decimals)))
            for codec in ("UNCOMPRESSED", "GZIP"):
                database = f"jsonl_{codec}_{decimals}".lower()
                settings = {"format": {"format_type": "JSONL", "compression_codec": codec}, "glue_catalog_float_as_decimal": decimals}
                lake.write(database, settings, SCHEMA, RECORDS)
                compare(f"JSON Lines, {codec}{', decimals' if decimals else ''}", database, order(expected("SQL", decimals)), parquet=False)
        lake.create_foreign("foreign")
        kinds = {"id": "integer", "gr__e_in_cm": "number", "1st": "string", "price": "number", "tiny": "integer", "small": "integer"}
        record = {"id": 7, "gr__e_in_cm": 0.5, "1st": "äöü", "price": 1234567.89, "tiny": -128, "small": 300}
        lake.write("foreign", {}, {name: {"type": kind} for name, kind in kinds.items()}, [record])
        compare("Parquet, a table of another tool", "foreign", [{**record, "price": decimal.Decimal("1234567.89")}])
        wrong += members(reader)
        stand_in.stdin.close()
        stand_in.wait()
    sys.exit(1 if wrong else 0)


def members(reader):
    """Which names of members Spark takes in a type's text: the reason for `schema::names::nested_identifier`."""
    from pyspark.sql.types import _parse_datatype_string

    def takes(name):
        try:
            return bool(_parse_datatype_string(f"struct<{name}:bigint>"))
        except Exception:
            return False

    taken = ["a", "aB", "_a", "1a", "1st", "7d_click", "date", "select", "_30d", "1e", "1dd"]
    refused = ["a.b", "a b", "a-b", "a$b", "größe", "名前", "1", "12", "1e5", "30d", "1L", "7S", "1bd"]
    odd = [name for name in taken if not takes(name)] + [name for name in refused if takes(name)]
    print(f"names of members: {len(taken)} taken, {len(refused)} refused" + (f", other than thought: {odd}" if odd else ""))
    return len(odd)


if __name__ == "__main__":
    main()
