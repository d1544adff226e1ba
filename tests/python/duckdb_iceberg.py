"""Rows of a query over an Iceberg table `t`, read by DuckDB's own Iceberg extension from S3.

    duckdb_iceberg.py ENDPOINT METADATA SQL

Runs with the packages of `tests/requirements-duckdb-iceberg.txt`: the extensions come as packages, and only for this
version of DuckDB.
"""

import json
import site
import sys
from pathlib import Path
from urllib.parse import urlparse

import duckdb


def main():
    endpoint, metadata, sql = sys.argv[1:]
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for extension in ("avro", "httpfs", "iceberg"):
        places = [Path(base) / f"duckdb_extension_{extension}" for base in site.getsitepackages()]
        (file,) = [file for place in places for file in place.rglob(f"{extension}.duckdb_extension")]
        connection.execute(f"LOAD '{file}'")
    connection.execute(
        "CREATE SECRET sandbox (TYPE s3, KEY_ID 'reader', SECRET 'reader', REGION 'us-east-1', URL_STYLE 'path', "
        f"USE_SSL false, ENDPOINT '{urlparse(endpoint).netloc}')"
    )
    connection.execute(f"CREATE VIEW t AS SELECT * FROM iceberg_scan('{metadata}')")
    result = connection.execute(sql)
    names = [column[0] for column in result.description]
    for row in result.fetchall():
        print(json.dumps(dict(zip(names, row)), default=str))


if __name__ == "__main__":
    main()
