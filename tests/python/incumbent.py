"""Puts a table as the Python connector left it, which `record_incumbent.py` has recorded, into a catalog.

    incumbent.py ENDPOINT FILE

Somebody has noted the table's owner since. Prints the table's definition as it was put.
"""

import base64
import json
import sys

import boto3


def main():
    endpoint, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        recorded = json.load(file)
    options = dict(endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    glue, s3 = boto3.client("glue", **options), boto3.client("s3", **options)
    database, table = recorded["database"], recorded["table"]
    table["Parameters"]["data owner"] = "somebody"
    glue.create_database(DatabaseInput={"Name": database})
    glue.create_table(DatabaseName=database, TableInput=table)
    if recorded["partitions"]:
        glue.batch_create_partition(
            DatabaseName=database, TableName=table["Name"], PartitionInputList=recorded["partitions"]
        )
    for key, body in recorded["objects"].items():
        s3.put_object(Bucket="lake", Key=key, Body=base64.b64decode(body))
    print(json.dumps(table))


if __name__ == "__main__":
    main()
