"""Rows of a query over an Iceberg table `t`, read by DuckDB's own Iceberg extension from S3.

    duckdb_iceberg.py ENDPOINT METADATA SQL [SNAPSHOT]      the table as it is, or as it was at a snapshot
"""

import json
import sys

import iceberg_extension


def main():
    endpoint, metadata, sql, *snapshot = sys.argv[1:]
    at = "".join(f", snapshot_from_id => {id}" for id in snapshot)
    with iceberg_extension.database(endpoint) as connection:
        connection.execute(f"CREATE VIEW t AS SELECT * FROM iceberg_scan('{metadata}'{at})")
        result = connection.execute(sql)
        names = [column[0] for column in result.description]
        for row in result.fetchall():
            print(json.dumps(dict(zip(names, row)), default=str))


if __name__ == "__main__":
    main()
