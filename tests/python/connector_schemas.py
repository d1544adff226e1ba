"""Writes a record of every stream of real connectors, and has botocore validate every table that comes of it.

    connector_schemas.py CONNECTOR SANDBOX [WHEEL...]

CONNECTOR and SANDBOX are the built programs. Without wheels, those of PACKAGES are fetched from PyPI with pip; their
JSON schemas come with them. Not part of CI, which does not depend on packages of others. Needs boto3.
"""

import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import zipfile

PACKAGES = """faker amazon-ads facebook-marketing gitlab hubspot jira klaviyo mixpanel shopify stripe
zendesk-support""".split()
LONGEST_TYPE = 131_072


def fetch(folder):
    for package in PACKAGES:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        # Nothing of it is run: the connectors' own range of Python versions does not matter.
        download += ["--python-version", "3.11", "--dest", folder, f"airbyte-source-{package}"]
        subprocess.run(download, check=True)
    return sorted(glob.glob(os.path.join(folder, "*.whl")))


def resolved(schema, files, home, depth=0):
    """The schema without references to other files, which sources resolve before they show a catalog."""
    if isinstance(schema, list):
        return [resolved(inner, files, home, depth) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if isinstance(reference, str) and not reference.startswith("#") and depth < 20:
        file, _, pointer = reference.partition("#")
            # As the CDK does it: shared definitions first, so a file may refer to its namesake there.
        folders = [re.sub(r"schemas/.*", "schemas/shared", home), os.path.dirname(home), re.sub(r"schemas/.*", "schemas", home)]
        found = next((p for f in folders if (p := os.path.normpath(os.path.join(f, file))) in files), None)
        if found:
            target = files[found]
            for part in filter(None, pointer.split("/")):
                target = target.get(part, {})
            more = {key: value for key, value in schema.items() if key != "$ref"}
            return resolved({**target, **more}, files, found, depth + 1)
    return {key: resolved(inner, files, home, depth) for key, inner in schema.items()}


def streams_of(wheel):
    source = re.match(r"airbyte_source_([a-z0-9_]+)-", os.path.basename(wheel)).group(1)
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if re.search(r"(^|/)schemas/.*\.json$", n) and "test" not in n]
        files = {name: json.loads(archive.read(name)) for name in names}
    for name, schema in files.items():
        if "/shared/" not in name and isinstance(schema, dict):
            yield f"{source}_{os.path.basename(name)[:-5]}", resolved(schema, files, name)


def sample(schema, rng, depth=0):
    """Some value of the schema; wide objects are filled in part."""
    if not isinstance(schema, dict) or depth > 12:
        return "x"
    kinds = schema.get("type")
    kind = next((k for k in kinds if k != "null"), "null") if isinstance(kinds, list) and kinds else kinds
    if kind == "object" or (kind is None and "properties" in schema):
        properties = schema.get("properties") or {"anything": {}}
        return {key: sample(inner, rng, depth + 1) for key, inner in properties.items() if rng.random() < 0.8}
    if kind == "array":
        items = schema.get("items")
        return [sample(items[0] if isinstance(items, list) and items else items, rng, depth + 1) for _ in range(2)]
    formats = {"date": "2024-01-31", "date-time": "2024-01-31T23:59:59Z"}
    values = {"integer": 7, "number": 1.5, "boolean": True, "string": formats.get(schema.get("format"), "text")}
    return values.get(kind)


def record(schema, rng):
    data = sample(schema, rng)
    return data if isinstance(data, dict) else {"anything": data}


def too_long(shape, value, path=""):
    """What exceeds a maximum of the model: botocore itself looks at minima, types and required members only."""
    most = shape.metadata.get("max")
    if most is not None and hasattr(value, "__len__") and len(value) > most:
        yield f"{path}: {len(value)} > {most}"
    if shape.type_name == "structure":
        for key, inner in value.items():
            yield from too_long(shape.members[key], inner, f"{path}.{key}")
    elif shape.type_name == "list":
        for inner in value:
            yield from too_long(shape.member, inner, f"{path}[]")
    elif shape.type_name == "map":
        for key, inner in value.items():
            yield from too_long(shape.key, key, f"{path}.key")
            yield from too_long(shape.value, inner, f"{path}.{key}")


def refusals(table, shape):
    from botocore.validate import ParamValidator

    request = {key: value for key, value in table.items() if key in shape.members["TableInput"].members}
    request = {"DatabaseName": table["DatabaseName"], "TableInput": request}
    report = ParamValidator().validate(request, shape)
    found = [report.generate_report()] if report.has_errors() else []
    found += too_long(shape, request)
    names = [column["Name"] for column in table["StorageDescriptor"]["Columns"] + table.get("PartitionKeys", [])]
    for name in names:
        if not re.fullmatch(r"[a-z0-9_]{1,255}", name):
            found.append(f"column {name}")
    if len(set(names)) != len(names) or not names:
        found.append("columns that are not distinct, or none")
    return found


def main():
    connector, sandbox, *wheels = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        streams = {name: schema for wheel in wheels or fetch(folder) for name, schema in streams_of(wheel)}
        print(f"{len(wheels) or len(PACKAGES)} connectors, {len(streams)} streams")
        rng = random.Random(1)
        catalog = {"streams": [
            {
                "stream": {"name": name, "json_schema": schema, "supported_sync_modes": ["full_refresh"]},
                "sync_mode": "full_refresh",
                "destination_sync_mode": "append",
            }
            for name, schema in streams.items()
        ]}
        messages = "".join(
            json.dumps({"type": "RECORD", "record": {"stream": name, "emitted_at": 1, "data": record(schema, rng)}}) + "\n"
            for name, schema in streams.items()
        )
        json.dump(catalog, open(f"{folder}/catalog.json", "w"))
        stand_in = subprocess.Popen(
            [sandbox, "--root", f"{folder}/lake", "--bucket", "lake"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        endpoint = stand_in.stdout.readline().strip()
        try:
            failed = False
            for format_type in ("JSONL", "Parquet"):
                failed |= validate(connector, endpoint, folder, format_type, messages, streams)
        finally:
            stand_in.stdin.close()
            stand_in.wait()
    sys.exit(1 if failed else 0)


def validate(connector, endpoint, folder, format_type, messages, streams):
    import boto3

    database = format_type.lower()
    config = {
        "credentials": {"credentials_title": "IAM User", "aws_access_key_id": "any", "aws_secret_access_key": "any-key"},
        "region": "us-east-1",
        "bucket_name": "lake",
        "lakeformation_database_name": database,
        "format": {"format_type": format_type},
        "airbyte_metadata_columns": True,
    }
    json.dump(config, open(f"{folder}/config.json", "w"))
    ran = subprocess.run(
        [connector, "write", "--config", f"{folder}/config.json", "--catalog", f"{folder}/catalog.json"],
        input=messages, text=True, capture_output=True, env={"AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true"},
    )
    if ran.returncode != 0:
        print(ran.stdout[-4000:], ran.stderr[-1000:])
        return True
    glue = boto3.client(
        "glue", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
    )
    shape = glue.meta.service_model.operation_model("CreateTable").input_shape
    tables = [t for page in glue.get_paginator("get_tables").paginate(DatabaseName=database) for t in page["TableList"]]
    types = [column["Type"] for table in tables for column in table["StorageDescriptor"]["Columns"]]
    refused = {table["Name"]: found for table in tables if (found := refusals(table, shape))}
    nested = sum(t.startswith(("struct", "array")) for t in types)
    print(
        f"{format_type}: {len(tables)} tables, {len(tables) - len(refused)} accepted, {len(refused)} refused; {len(types)} columns, "
        f"{nested} of them structs and arrays, the longest type {max(map(len, types))} of {LONGEST_TYPE} characters"
    )
    for name, found in refused.items():
        print(f"  {name}: {found[:3]}")
    return bool(refused) or len(tables) != len(streams)


if __name__ == "__main__":
    main()
