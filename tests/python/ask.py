"""One call of botocore, its answer as JSON: ask.py ENDPOINT SERVICE OPERATION PARAMETERS"""

import json
import sys

import boto3

endpoint, service, operation, parameters = sys.argv[1:]
client = boto3.client(
    service,
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="t",
    aws_secret_access_key="t",
)
print(json.dumps(getattr(client, operation)(**json.loads(parameters)), default=str))
