"""Iceberg tables as PyIceberg sees and changes them, through the Glue catalog.

    tables.py describe ENDPOINT DATABASE TABLE          schema, snapshots, properties, files, as JSON
    tables.py partitions ENDPOINT DATABASE TABLE        what its partitions are, and what PyIceberg makes of its rows
    tables.py rows ENDPOINT DATABASE TABLE SNAPSHOT     all its rows at a snapshot, as JSON
    tables.py act ENDPOINT DATABASE TABLE ACTION…       append, add_column, drop_column, rename_column, comment, rewrite,
                                                        property NAME [VALUE], drop,
                                                        add_partition COLUMN, remove_partition COLUMN, forget_partitions,
                                                        delete_position ID, delete_equality ID,
                                                        busy ROUNDS PROGRESS, upgrade
    tables.py act ENDPOINT DATABASE TABLE create_…      v1, v3, mixed, partitioned, decimals, ours, columns TYPES
"""

import datetime as dt
import json
import sys
import uuid


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


def referenced(table):
    """All objects that the table knows: its metadata, manifests and files."""
    metadata = table.metadata
    found = {table.metadata_location, *(entry.metadata_file for entry in metadata.metadata_log)}
    for snapshot in metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
            found.update(entry.data_file.file_path for entry in entries)
    return sorted(found)


def describe(table):
    def bounds(file, side):
        readable = file["readable_metrics"] or {}
        return {name: str(metrics[side]) for name, metrics in readable.items() if metrics[side] is not None}

    from pyiceberg.schema import index_name_by_id

    metadata = table.metadata
    files = table.inspect.files().to_pylist()
    snapshots = sorted(metadata.snapshots, key=lambda snapshot: snapshot.sequence_number)
    return {
        "uuid": str(metadata.table_uuid),
        "format_version": metadata.format_version,
        "location": metadata.location,
        "properties": metadata.properties,
        "columns": [
            {"id": f.field_id, "name": f.name, "type": str(f.field_type), "required": f.required, "doc": f.doc}
            for f in table.schema().fields
        ],
        "ids": {name: id for id, name in index_name_by_id(table.schema()).items()},
        "spec": str(table.spec()),
        "partition_fields": [
            {"name": f.name, "transform": str(f.transform), "source": table.schema().find_column_name(f.source_id)}
            for f in table.spec().fields
        ],
        "snapshots": [
            {"snapshot": str(s.snapshot_id), "operation": s.summary.operation.value, **s.summary.additional_properties}
            for s in snapshots
        ],
        "metadata_log": len(metadata.metadata_log),
        "referenced": referenced(table),
        "delete_files": len(table.inspect.delete_files().to_pylist()) if snapshots else 0,
        "schemas": len(metadata.schemas),
        "manifests": len(table.inspect.manifests().to_pylist()) if snapshots else 0,
        "files": [
            {
                "path": file["file_path"],
                "rows": file["record_count"],
                "spec": file["spec_id"],
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


def stored(value):
    """A value as the specification keeps it in partitions."""
    from pyiceberg.utils import datetime as convert

    if isinstance(value, dt.datetime):
        return convert.datetime_to_micros(value.replace(tzinfo=None))
    if isinstance(value, dt.date):
        return convert.date_to_days(value)
    if isinstance(value, dt.time):
        return convert.time_to_micros(value)
    return value


def partitions(table):
    """The partitions of a table as its manifests have them, and as PyIceberg's transforms make them of its rows; and
    values by which a scan finds other rows than a look at all of them."""
    from pyiceberg.expressions import EqualTo, IsNull

    def counted(shares):
        counts = {}
        for share, rows in shares:
            key = json.dumps([str(value) if value is not None else None for value in share])
            counts[key] = counts.get(key, 0) + rows
        return sorted(counts.items())

    rows = table.scan().to_arrow()
    schema, fields = table.schema(), table.spec().fields
    # Files that were written for other partitions stay in those.
    tasks = [task for task in table.scan().plan_files() if task.file.spec_id == table.spec().spec_id]
    found = [([task.file.partition[i] for i in range(len(fields))], task.file.record_count) for task in tasks]
    columns = [rows[schema.find_column_name(field.source_id)].to_pylist() for field in fields]
    made = [field.transform.transform(schema.find_type(field.source_id)) for field in fields]
    transformed = [([how(stored(value)) for how, value in zip(made, row)], 1) for row in zip(*columns)]
    inspected = {json.dumps(row["partition"], default=str) for row in table.inspect.partitions().to_pylist()}
    wrong = []
    for source in sorted({field.source_id for field in fields}):
        column = schema.find_column_name(source)
        values = rows[column].to_pylist()
        for value in set(values):
            literal = value.isoformat() if isinstance(value, (dt.date, dt.time)) else value
            matching = table.scan(IsNull(column) if value is None else EqualTo(column, literal)).to_arrow().num_rows
            if matching != values.count(value):
                wrong.append([column, str(value), matching, values.count(value)])
    return {
        "partitions": counted(found),
        "transformed": counted(transformed),
        "inspected": len(inspected),
        "wrong": wrong,
        "rows": rows.num_rows,
    }


def patiently(catalog, table, change, progress):
    """A change, again on the table as it is then as long as others are faster."""
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    while True:
        try:
            change(catalog.load_table(table.name()))
            break
        except (CommitFailedException, ValidationException):
            progress("conflict")
    progress("done")


def busy(catalog, table, rounds, path):
    """Appends, evolves and rewrites, beside whoever else does."""
    import pyarrow as pa
    from pyiceberg.types import LongType

    def progress(what):
        with open(path, "a") as file:
            file.write(what + "\n")

    def append(number):
        rows = pa.table({"id": pa.array([1000 + number], pa.int64()), "version": pa.array(["theirs"])})
        return lambda table: table.append(rows)

    def evolve(number):
        def change(table):
            with table.update_schema() as update:
                update.add_column(f"theirs_{number}", LongType())

        return change

    def rewrite(table):
        table.overwrite(table.scan().to_arrow())

    for number in range(rounds):
        for change in (append(number), evolve(number), rewrite):
            patiently(catalog, table, change, progress)


def delete_position(table, row):
    """Deletes the row with this id by its place, as merge-on-read writers do; PyIceberg does not."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.manifest import DataFileContent

    place = None
    for task in table.scan().plan_files():
        with table.io.new_input(task.file.file_path).open() as file:
            ids = pq.read_table(file)["id"].to_pylist()
        if row in ids:
            place = (task.file.file_path, ids.index(row))
    ids = [2147483546, 2147483545]
    fields = [
        pa.field(name, kind, nullable=False, metadata={"PARQUET:field_id": str(id)})
        for (name, kind), id in zip([("file_path", pa.string()), ("pos", pa.int64())], ids)
    ]
    deletes = pa.table([[place[0]], [place[1]]], schema=pa.schema(fields))
    commit_deletes(table, DataFileContent.POSITION_DELETES, deletes, {ids[0]: place[0].encode()}, None)


def delete_equality(table, row):
    """Deletes the rows that have this id now, whatever file they are in, as streaming writers do; PyIceberg does not."""
    import pyarrow as pa
    from pyiceberg.manifest import DataFileContent

    id = table.schema().find_field("id").field_id
    field = pa.field("id", pa.int64(), metadata={"PARQUET:field_id": str(id)})
    bound = {id: row.to_bytes(8, "little", signed=True)}
    commit_deletes(table, DataFileContent.EQUALITY_DELETES, pa.table([[row]], schema=pa.schema([field])), bound, [id])


def commit_deletes(table, content, deletes, bound, equality_ids):
    """A snapshot that adds a delete file of one row, with the parts that PyIceberg has for other files."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.manifest import (
        DataFile,
        FileFormat,
        ManifestContent,
        ManifestEntry,
        ManifestEntryStatus,
        ManifestWriterV2,
        write_manifest_list,
    )
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.table.snapshots import Operation, Snapshot, Summary
    from pyiceberg.table.update import AddSnapshotUpdate, AssertRefSnapshotId, SetSnapshotRefUpdate
    from pyiceberg.typedef import Record

    class Deletes(ManifestWriterV2):
        def content(self):
            return ManifestContent.DELETES

        @property
        def _meta(self):
            return {**super()._meta, "content": "deletes"}

    base, metadata = f"{table.location()}/data/{uuid.uuid4()}", table.metadata
    buffer = pa.BufferOutputStream()
    pq.write_table(deletes, buffer)
    written = buffer.getvalue().to_pybytes()
    with table.io.new_output(f"{base}-deletes.parquet").create() as file:
        file.write(written)
    snapshot_id, sequence = uuid.uuid4().int >> 65, metadata.last_sequence_number + 1
    data_file = DataFile.from_args(
        content=content,
        file_path=f"{base}-deletes.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=len(written),
        lower_bounds=bound,
        upper_bounds=bound,
        column_sizes={},
        value_counts={},
        null_value_counts={},
        nan_value_counts={},
        split_offsets=[4],
        equality_ids=equality_ids,
        sort_order_id=None,
        spec_id=0,
    )
    where = f"{table.location()}/metadata/{uuid.uuid4()}"
    output = table.io.new_output(f"{where}-m0.avro")
    with Deletes(PartitionSpec(), table.schema(), output, snapshot_id, "deflate") as writer:
        writer.add_entry(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=data_file))
    manifest = writer.to_manifest_file()
    parent = table.current_snapshot()
    output = table.io.new_output(f"{where}-list.avro")
    with write_manifest_list(2, output, snapshot_id, parent.snapshot_id, sequence, "deflate") as writer:
        writer.add_manifests([manifest, *parent.manifests(table.io)])
    snapshot = Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=sequence,
        timestamp_ms=int(dt.datetime.now().timestamp() * 1000),
        manifest_list=f"{where}-list.avro",
        summary=Summary(Operation.OVERWRITE, **{"added-delete-files": "1", "total-delete-files": "1"}),
        schema_id=table.schema().schema_id,
    )
    changes = (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=snapshot_id),
    )
    with table.transaction() as transaction:
        transaction._apply(changes, (AssertRefSnapshotId(ref="main", snapshot_id=parent.snapshot_id),))


def act(catalog, table, action, *rest):
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
    elif action == "rename_column":
        with table.update_schema() as update:
            update.rename_column("version", "called")
    elif action == "rewrite":
        # What a compaction does: the same rows in one file.
        table.overwrite(table.scan().to_arrow())
    elif action == "property":
        with table.transaction() as transaction:
            if len(rest) == 2:
                transaction.set_properties({rest[0]: rest[1]})
            else:
                transaction.remove_properties(rest[0])
    elif action == "upgrade":
        with table.transaction() as transaction:
            transaction.upgrade_table_version(2)
    elif action == "delete_position":
        delete_position(table, int(rest[0]))
    elif action == "delete_equality":
        delete_equality(table, int(rest[0]))
    elif action == "drop":
        catalog.drop_table(table.name())
    elif action == "add_partition":
        with table.update_spec() as update:
            update.add_identity(rest[0])
    elif action == "remove_partition":
        with table.update_spec() as update:
            update.remove_field(rest[0])
    elif action == "forget_partitions":
        rewrite_metadata(table, lambda metadata: metadata | {"partition-specs": [
            spec for spec in metadata["partition-specs"] if spec["spec-id"] == metadata["default-spec-id"]
        ]})
    elif action == "busy":
        busy(catalog, table, int(rest[0]), rest[1])
    else:
        raise ValueError(action)


def rewrite_metadata(table, change):
    """Changes the metadata where it lies, which no writer does, to what PyIceberg does not write."""
    with table.io.new_input(table.metadata_location).open() as file:
        metadata = json.loads(file.read())
    with table.io.new_output(table.metadata_location).create(overwrite=True) as file:
        file.write(json.dumps(change(metadata)).encode())


def type_of(kind, ids):
    """Iceberg's type for one of Glue, as `values.parse_type` has it."""
    from pyiceberg import types

    if kind[0] == "array":
        return types.ListType(next(ids), type_of(kind[1], ids), element_required=False)
    if kind[0] == "struct":
        members = [types.NestedField(next(ids), key, type_of(inner, ids), required=False) for key, inner in kind[1]]
        return types.StructType(*members)
    if kind[0] == "decimal":
        return types.DecimalType(kind[1], kind[2])
    return {"bigint": types.LongType(), "double": types.DoubleType(), "string": types.StringType()}[kind]


def create(catalog, database, name, action, *rest):
    from pyiceberg.schema import Schema
    from pyiceberg.types import DecimalType, FloatType, IntegerType, LongType, NestedField, StringType, StructType

    location = f"s3://lake/{database}/{name}"
    if action == "create_v1":
        import pyarrow as pa

        rows = pa.table({"id": pa.array([1000], pa.int64()), "version": pa.array(["theirs"])})
        catalog.create_table((database, name), rows.schema, location, properties={"format-version": "1"}).append(rows)
    elif action == "create_partitioned":
        import pyarrow as pa
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import IdentityTransform

        rows = pa.table({"id": pa.array([1, 2, None], pa.int32()), "version": pa.array(["theirs"] * 3)})
        schema = Schema(NestedField(1, "id", IntegerType(), required=False), NestedField(2, "version", StringType(), required=False))
        spec = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "id"))
        catalog.create_table((database, name), schema, location, partition_spec=spec).append(rows)
    elif action == "create_decimals":
        from pyiceberg.types import TimeType

        schema = Schema(
            NestedField(1, "id", LongType(), required=False),
            NestedField(2, "price", DecimalType(30, 25), required=False),
            NestedField(3, "noon", TimeType(), required=False),
        )
        catalog.create_table((database, name), schema, location)
    elif action == "create_v3":
        schema = Schema(NestedField(1, "id", LongType(), required=False))
        table = catalog.create_table((database, name), schema, location)
        # PyIceberg reads version 3 and does not write it.
        rewrite_metadata(table, lambda metadata: metadata | {"format-version": 3, "next-row-id": 0})
    elif action == "create_columns":
        import itertools

        from values import parse_type

        ids = itertools.count(1)
        columns = json.loads(rest[0]).items()
        fields = [NestedField(next(ids), key, type_of(parse_type(kind), ids), required=False) for key, kind in columns]
        catalog.create_table((database, name), Schema(*fields), location)
    elif action == "create_ours":
        # With the columns and ids that we would give it.
        from pyiceberg.types import TimestamptzType

        schema = Schema(
            NestedField(1, "id", LongType(), required=False),
            NestedField(2, "version", StringType(), required=False),
            NestedField(3, "at", TimestamptzType(), required=False),
        )
        catalog.create_table((database, name), schema, location)
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
        catalog.create_table((database, name), schema, location)


def main():
    command, endpoint, database, name, *rest = sys.argv[1:]
    catalog = load(endpoint)
    if command == "rows":
        rows = catalog.load_table((database, name)).scan(snapshot_id=int(rest[0])).to_arrow()
        print(json.dumps(rows.to_pylist(), default=str))
    elif command == "partitions":
        print(json.dumps(partitions(catalog.load_table((database, name)))))
    elif command == "describe":
        print(json.dumps(describe(catalog.load_table((database, name)))))
    elif rest[0].startswith("create"):
        create(catalog, database, name, *rest)
    else:
        act(catalog, catalog.load_table((database, name)), *rest)


if __name__ == "__main__":
    main()
