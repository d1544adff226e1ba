"""Puts small objects into the lake: put.py ENDPOINT KEYS, one key on a line."""

import sys

import boto3

endpoint, keys = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
for key in keys.splitlines():
    client.put_object(Bucket="lake", Key=key, Body=b"{}")
