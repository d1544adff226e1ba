"""Iceberg tables as PyIceberg sees and changes them, through the Glue catalog.

    tables.py describe ENDPOINT DATABASE TABLE          schema, snapshots, properties, files, as JSON
    tables.py act ENDPOINT DATABASE TABLE ACTION        append, add_column, drop_column, comment, rewrite, create_v3
"""

import json
import sys


def load(endpoint):
    from pyiceberg.catalog import load_catalog

    keys = {"access-key-id": "reader", "secret-access-key": "reader", "region": "us-east-1", "endpoint": endpoint}
    options = {f"{service}.{name}": value for service in ("glue", "s3") for name, value in keys.items()}
    return load_catalog("glue", type="glue", **options)


def arrow(table):
    """All rows, with instants as their UTC reading: DuckDB shows zoned ones only with help."""
    import pyarrow as pa

    rows = table.scan().to_arrow()
    fields = [
        field.with_type(pa.timestamp("us")) if pa.types.is_timestamp(field.type) and field.type.tz else field
        for field in rows.schema
    ]
    return rows.cast(pa.schema(fields))


def describe(table):
    def bounds(file, side):
        readable = file["readable_metrics"] or {}
        return {name: str(metrics[side]) for name, metrics in readable.items() if metrics[side] is not None}

    metadata = table.metadata
    files = table.inspect.files().to_pylist()
    snapshots = sorted(metadata.snapshots, key=lambda snapshot: snapshot.sequence_number)
    return {
        "format_version": metadata.format_version,
        "location": metadata.location,
        "properties": metadata.properties,
        "columns": [
            {"id": f.field_id, "name": f.name, "type": str(f.field_type), "required": f.required}
            for f in table.schema().fields
        ],
        "spec": str(table.spec()),
        "partition_fields": [
            {"name": f.name, "transform": str(f.transform), "source": table.schema().find_column_name(f.source_id)}
            for f in table.spec().fields
        ],
        "snapshots": [{"operation": s.summary.operation.value, **s.summary.additional_properties} for s in snapshots],
        "metadata_log": len(metadata.metadata_log),
        "schemas": len(metadata.schemas),
        "manifests": len(table.inspect.manifests().to_pylist()) if snapshots else 0,
        "files": [
            {
                "path": file["file_path"],
                "rows": file["record_count"],
                "bytes": file["file_size_in_bytes"],
                "partition": {key: str(value) for key, value in (file.get("partition") or {}).items()},
                "lower": bounds(file, "lower_bound"),
                "upper": bounds(file, "upper_bound"),
                "nulls": {n: m["null_value_count"] for n, m in (file["readable_metrics"] or {}).items()},
                "values": {n: m["value_count"] for n, m in (file["readable_metrics"] or {}).items()},
            }
            for file in files
        ],
    }


def act(table, action):
    import pyarrow as pa

    if action == "append":
        table.append(pa.table({"id": pa.array([1000], pa.int64()), "version": pa.array(["theirs"])}))
    elif action == "add_column":
        from pyiceberg.types import LongType

        with table.update_schema() as update:
            update.add_column("theirs", LongType())
    elif action == "drop_column":
        with table.update_schema() as update:
            update.delete_column("version")
    elif action == "comment":
        with table.update_schema() as update:
            update.update_column("id", doc="the key")
    elif action == "rewrite":
        # What a compaction does: the same rows in one file.
        table.overwrite(table.scan().to_arrow())
    else:
        raise ValueError(action)


def create(catalog, database, name, action):
    from pyiceberg.schema import Schema
    from pyiceberg.types import DecimalType, FloatType, IntegerType, LongType, NestedField, StringType, StructType

    if action == "create_v3":
        schema = Schema(NestedField(1, "id", LongType(), required=False))
        table = catalog.create_table((database, name), schema, f"s3://lake/{database}/{name}")
        # PyIceberg reads version 3 and does not write it.
        with table.io.new_input(table.metadata_location).open() as file:
            metadata = json.loads(file.read())
        metadata |= {"format-version": 3, "next-row-id": 0}
        with table.io.new_output(table.metadata_location).create(overwrite=True) as file:
            file.write(json.dumps(metadata).encode())
    else:
        nested = StructType(NestedField(10, "a", IntegerType(), required=True))
        schema = Schema(
            NestedField(1, "id", IntegerType(), required=True),
            NestedField(2, "version", StringType(), required=False),
            NestedField(3, "price", FloatType(), required=False),
            NestedField(4, "gone", StringType(), required=True),
            NestedField(5, "nested", nested, required=False),
            NestedField(6, "amount", DecimalType(9, 2), required=False),
        )
        catalog.create_table((database, name), schema, f"s3://lake/{database}/{name}")


def main():
    command, endpoint, database, name, *rest = sys.argv[1:]
    catalog = load(endpoint)
    if command == "describe":
        print(json.dumps(describe(catalog.load_table((database, name)))))
    elif rest[0].startswith("create"):
        create(catalog, database, name, rest[0])
    else:
        act(catalog.load_table((database, name)), rest[0])


if __name__ == "__main__":
    main()
