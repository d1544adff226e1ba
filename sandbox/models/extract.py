"""Writes the shapes that the sandbox validates requests against.

Reads the service models that botocore carries and keeps, for the operations the sandbox answers, what a
request may look like: types, required members, ranges, patterns, enumerations. No documentation text.

    pip install botocore==1.43.11
    python3 sandbox/models/extract.py
"""

import gzip
import json
import pathlib
import re

import botocore

OPERATIONS = {
    "glue": """
        CreateDatabase GetDatabase GetDatabases DeleteDatabase
        CreateTable GetTable GetTables UpdateTable DeleteTable BatchDeleteTable GetTableVersions
        CreatePartition BatchCreatePartition GetPartition GetPartitions BatchGetPartition
        UpdatePartition BatchUpdatePartition DeletePartition BatchDeletePartition
    """,
    "lakeformation": """
        StartTransaction ExtendTransaction CommitTransaction CancelTransaction DescribeTransaction ListTransactions
        UpdateTableObjects GetTableObjects DeleteObjectsOnCancel
        CreateLFTag GetLFTag ListLFTags AddLFTagsToResource GetResourceLFTags
    """,
}

# How the Java patterns of the models spell "any character outside the basic plane".
ASTRAL = r"\uD800\uDC00-\uDBFF\uDFFF"


def pattern(java):
    """The pattern in the syntax of Rust's regex crate, or None where it has no counterpart."""
    if "(?" in java:
        return None
    rust = java.replace(ASTRAL, r"\x{10000}-\x{10FFFF}")
    return re.sub(r"\\u([0-9A-Fa-f]{4})", r"\\x{\1}", rust)


def shape(source):
    kept = {"type": source["type"]}
    for key in ("min", "max", "enum"):
        if key in source:
            kept[key] = source[key]
    if source.get("required"):
        kept["required"] = source["required"]
    if "pattern" in source and (translated := pattern(source["pattern"])) is not None:
        kept["pattern"] = translated
    if "members" in source:
        kept["members"] = {name: member["shape"] for name, member in source["members"].items()}
    for key in ("member", "key", "value"):
        if key in source:
            kept[key] = source[key]["shape"]
    return kept


def references(source):
    yield from source.get("members", {}).values()
    for key in ("member", "key", "value"):
        if key in source:
            yield source[key]


def extract(service):
    folder = pathlib.Path(botocore.__file__).parent / "data" / service
    versions = sorted(path.name for path in folder.iterdir() if path.is_dir())
    path = folder / versions[-1] / "service-2.json.gz"
    with gzip.open(path) if path.exists() else open(path.with_suffix("")) as file:
        model = json.load(file)
    operations, wanted = {}, []
    for name in OPERATIONS[service].split():
        operations[name] = model["operations"][name].get("input", {}).get("shape")
        wanted.append(operations[name])
    shapes = {}
    while wanted:
        name = wanted.pop()
        if name is None or name in shapes:
            continue
        shapes[name] = shape(model["shapes"][name])
        wanted.extend(reference["shape"] for reference in references(model["shapes"][name]))
    return {"operations": operations, "shapes": dict(sorted(shapes.items()))}


if __name__ == "__main__":
    for service in OPERATIONS:
        target = pathlib.Path(__file__).with_name(f"{service}.json")
        target.write_text(json.dumps(extract(service), indent=1, ensure_ascii=True) + "\n")
