"""DuckDB with its own Iceberg extension, which reads tables from S3 by their metadata.

Needs the packages of `tests/requirements-duckdb-iceberg.txt`: the extensions come as packages, and only for this version
of DuckDB.
"""

import contextlib
import functools
import importlib.util
import site
from pathlib import Path
from urllib.parse import urlparse


def is_here():
    return importlib.util.find_spec("duckdb_extension_iceberg") is not None


@functools.cache
def connection():
    """Kept, since loading the extensions takes far longer than most queries."""
    import duckdb

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for extension in ("avro", "httpfs", "iceberg"):
        places = [Path(base) / f"duckdb_extension_{extension}" for base in site.getsitepackages()]
        (file,) = [file for place in places for file in place.rglob(f"{extension}.duckdb_extension")]
        connection.execute(f"LOAD '{file}'")
    connection.execute("SET enable_external_file_cache = false")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


@contextlib.contextmanager
def database(endpoint):
    """An empty database, and the sandbox as S3."""
    kept = connection()
    kept.execute(
        "CREATE OR REPLACE SECRET sandbox (TYPE s3, KEY_ID 'reader', SECRET 'reader', REGION 'us-east-1', "
        f"URL_STYLE 'path', USE_SSL false, ENDPOINT '{urlparse(endpoint).netloc}')"
    )
    kept.execute("ATTACH ':memory:' AS lab")
    kept.execute("USE lab")
    try:
        yield kept
    finally:
        kept.execute("USE memory")
        kept.execute("DETACH lab")


def view(connection, name, metadata):
    """All rows of a table, with instants as their UTC reading, as `tables.arrow` has them."""
    scan = f"SELECT * FROM iceberg_scan('{metadata}')"
    columns = connection.execute(f"DESCRIBE {scan}").fetchall()
    zone = " WITH TIME ZONE"
    read = [f'CAST("{c}" AS {kind.replace(zone, "")}) AS "{c}"' for c, kind, *_ in columns if zone in kind]
    replaced = f"SELECT * REPLACE ({', '.join(read)})" if read else "SELECT *"
    connection.execute(f"CREATE OR REPLACE VIEW {name} AS {replaced} FROM ({scan})")
