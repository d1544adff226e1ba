"""The rules of the sandbox, each as a named check over real HTTP.

    python3 botocore_rules.py ENDPOINT ROOT PHASE

PHASE is `rules`, or `restarted` after the sandbox was stopped and started over the same folder. Prints one line a
check: `ok NAME`, or `failed NAME: why`.
"""

import base64
import concurrent.futures
import http.client
import json
import pathlib
import socket
import sys
import time
import traceback
import urllib.parse
import urllib.request
import zlib

import boto3
import botocore
import botocore.config
import botocore.exceptions

ENDPOINT, ROOT, PHASE = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
CHECKS = {"rules": [], "restarted": []}
MIB = 1 << 20


def rule(check):
    CHECKS["rules"].append(check)
    return check


def restarted(check):
    CHECKS["restarted"].append(check)
    return check


def client(service, region="us-east-1", key="AKIATEST", secret="secret", token=None, **options):
    config = botocore.config.Config(
        retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, max_pool_connections=200,
        parameter_validation=False, read_timeout=20, **options,
    )
    return boto3.client(
        service, endpoint_url=ENDPOINT, region_name=region, aws_access_key_id=key, aws_secret_access_key=secret,
        aws_session_token=token, config=config,
    )


s3, glue, lf, sts = client("s3"), client("glue"), client("lakeformation"), client("sts")


def refused(code, call, *args, status=None, text="", **kwargs):
    try:
        call(*args, **kwargs)
    except botocore.exceptions.ClientError as error:
        got = error.response["Error"]
        assert got["Code"] == code, f"wanted {code}, got {got}"
        assert text in (got.get("Message") or ""), f"wanted {text!r} in {got}"
        got_status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert status is None or got_status == status, f"wanted status {status}, got {got_status}"
        return error.response
    raise AssertionError(f"{code} was expected, nothing was refused")


def disconnected(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError):
        return
    raise AssertionError("the connection was to be closed")


def control(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{ENDPOINT}/_sandbox/{path}", data=data, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def settings(**changes):
    return control("POST", "settings", changes)


def fault(operation, action, **more):
    return control("POST", "faults", {"operation": operation, "action": action, **more})


counter = iter(range(10**6))


def fresh(prefix="t"):
    return f"{prefix}{next(counter)}"


def table_input(name, kind="GOVERNED", keys=(), columns=(("a", "bigint"),), location=None, **more):
    return {
        "Name": name, "TableType": kind,
        "PartitionKeys": [{"Name": key, "Type": type} for key, type in keys],
        "StorageDescriptor": {
            "Columns": [{"Name": column, "Type": type} for column, type in columns],
            "Location": location or f"s3://lake/db/{name}/",
            "SerdeInfo": {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe"},
        },
        "Parameters": {"classification": "json"}, **more,
    }


def make_table(kind="GOVERNED", **more):
    name = fresh()
    glue.create_table(DatabaseName="db", TableInput=table_input(name, kind, **more))
    return name


def begin(**more):
    return lf.start_transaction(**more)["TransactionId"]


def put(table, body=b'{"a":1}\n'):
    key = f"db/{table}/{fresh('object')}.json"
    etag = s3.put_object(Bucket="lake", Key=key, Body=body)["ETag"]
    return {"Uri": f"s3://lake/{key}", "ETag": etag, "Size": len(body)}


def write(table, tx=None, adds=(), deletes=(), **more):
    operations = [{"AddObject": added} for added in adds] + [{"DeleteObject": deleted} for deleted in deletes]
    named = {} if tx is None else {"TransactionId": tx}
    return lf.update_table_objects(DatabaseName="db", TableName=table, WriteOperations=operations, **named, **more)


def uris(table, tx=None, **more):
    named = {} if tx is None else {"TransactionId": tx}
    groups = lf.get_table_objects(DatabaseName="db", TableName=table, **named, **more)["Objects"]
    return sorted(found["Uri"] for group in groups for found in group["Objects"])


def commit(tx):
    return lf.commit_transaction(TransactionId=tx)["TransactionStatus"]


def status(tx):
    return lf.describe_transaction(TransactionId=tx)["TransactionDescription"]["TransactionStatus"]


# S3 ------------------------------------------------------------------------------------------------------------------


@rule
def s3_put_head_get_with_metadata():
    body = b"hello" * 1000
    answer = s3.put_object(
        Bucket="lake", Key="a/b c/ü+1.txt", Body=body, Metadata={"token": "t1"}, ContentType="text/plain",
    )
    head = s3.head_object(Bucket="lake", Key="a/b c/ü+1.txt", ChecksumMode="ENABLED")
    assert head["Metadata"] == {"token": "t1"} and head["ContentLength"] == 5000 and head["ETag"] == answer["ETag"]
    assert head["ContentType"] == "text/plain" and head["ETag"].startswith('"')
    assert head["ChecksumCRC32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert s3.get_object(Bucket="lake", Key="a/b c/ü+1.txt")["Body"].read() == body
    assert (ROOT / "s3/lake/a/b c/ü+1.txt").read_bytes() == body


@rule
def s3_get_ranges():
    s3.put_object(Bucket="lake", Key="range", Body=b"0123456789")
    for asked, wanted in [("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-2", b"89")]:
        answer = s3.get_object(Bucket="lake", Key="range", Range=asked)
        assert answer["Body"].read() == wanted and answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    refused("InvalidRange", s3.get_object, Bucket="lake", Key="range", Range="bytes=10-", status=416)
    refused("304", s3.get_object, Bucket="lake", Key="range", IfNoneMatch=s3.head_object(Bucket="lake", Key="range")["ETag"])


def raw_put(key, body, headers):
    connection = http.client.HTTPConnection(ENDPOINT.removeprefix("http://"))
    scope = "Credential=AKIATEST/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    connection.request("PUT", f"/lake/{key}", body, {"Authorization": f"AWS4-HMAC-SHA256 {scope}", **headers})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@rule
def s3_chunked_trailer_checksum():
    content = b"x" * 70000
    checksum = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    for given, wanted in [(checksum, 200), ("AAAAAA==", 400)]:
        body = b"10000\r\n" + content[:65536] + b"\r\n1170\r\n" + content[65536:] + b"\r\n0\r\n"
        body += f"x-amz-checksum-crc32:{given}\r\n\r\n".encode()
        got, text = raw_put("trailer", body, {
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "content-encoding": "aws-chunked",
            "x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": "70000",
        })
        assert got == wanted, text
    assert s3.get_object(Bucket="lake", Key="trailer")["Body"].read() == content
    assert "ContentEncoding" not in s3.head_object(Bucket="lake", Key="trailer")


@rule
def s3_wrong_checksum_is_bad_digest():
    refused("BadDigest", s3.put_object, Bucket="lake", Key="bad", Body=b"x", ChecksumCRC32="AAAAAA==", status=400)
    refused("404", s3.head_object, Bucket="lake", Key="bad")


@rule
def s3_unsigned_payload_and_cut_body():
    assert raw_put("unsigned", b"abc", {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})[0] == 200
    with socket.create_connection(urllib.parse.urlsplit(ENDPOINT).netloc.split(":")) as connection:
        connection.sendall(
            b"PUT /lake/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nAuthorization: AWS4-HMAC-SHA256 "
            b"Credential=A/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\nhalf"
        )
    time.sleep(0.05)
    refused("404", s3.head_object, Bucket="lake", Key="cut")


@rule
def s3_conditional_put():
    s3.put_object(Bucket="lake", Key="once", Body=b"1", IfNoneMatch="*")
    refused("PreconditionFailed", s3.put_object, Bucket="lake", Key="once", Body=b"2", IfNoneMatch="*", status=412)
    etag = s3.head_object(Bucket="lake", Key="once")["ETag"]
    s3.put_object(Bucket="lake", Key="once", Body=b"3", IfMatch=etag)
    refused("PreconditionFailed", s3.put_object, Bucket="lake", Key="once", Body=b"4", IfMatch=etag, status=412)
    refused("NoSuchKey", s3.put_object, Bucket="lake", Key="never", Body=b"4", IfMatch=etag, status=404)
    refused("NotImplemented", s3.put_object, Bucket="lake", Key="never", Body=b"4", IfNoneMatch='"x"')


@rule
def s3_conditional_put_race_has_one_winner():
    def attempt(number):
        try:
            s3.put_object(Bucket="lake", Key="race", Body=str(number).encode(), IfNoneMatch="*")
            return True
        except botocore.exceptions.ClientError:
            return False

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 1


def upload(key, parts, **more):
    id = s3.create_multipart_upload(Bucket="lake", Key=key, **more)["UploadId"]
    sent = []
    for number, body in enumerate(parts, 1):
        part = s3.upload_part(Bucket="lake", Key=key, UploadId=id, PartNumber=number, Body=body)
        sent.append({"PartNumber": number, "ETag": part["ETag"]} | {k: part[k] for k in ["ChecksumCRC32"] if k in part})
    return id, sent


def complete(key, id, parts, **more):
    return s3.complete_multipart_upload(
        Bucket="lake", Key=key, UploadId=id, MultipartUpload={"Parts": parts}, **more)


@rule
def s3_multipart_with_metadata_and_checksums():
    id, parts = upload("multi", [b"a" * 5 * MIB, b"b"], Metadata={"token": "t2"}, ChecksumAlgorithm="CRC32")
    refused("404", s3.head_object, Bucket="lake", Key="multi")
    assert not (ROOT / "s3/lake/multi").exists()
    answer = complete("multi", id, parts)
    assert answer["ETag"].endswith('-2"') and answer["ChecksumCRC32"].endswith("-2")
    head = s3.head_object(Bucket="lake", Key="multi")
    assert head["Metadata"] == {"token": "t2"} and head["ContentLength"] == 5 * MIB + 1 and head["ETag"] == answer["ETag"]
    refused("NoSuchUpload", complete, "multi", id, parts, status=404)
    refused("NoSuchUpload", s3.abort_multipart_upload, Bucket="lake", Key="multi", UploadId=id, status=404)


@rule
def s3_encryption_is_kept_and_told():
    key = "arn:aws:kms:us-east-1:123456789012:key/one"
    asked = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    told = lambda answer: {name: answer[name] for name in asked if name in answer}
    assert told(s3.put_object(Bucket="lake", Key="encrypted/put", Body=b"1", **asked)) == asked
    id, parts = upload("encrypted/parts", [b"1"], **asked)
    assert told(complete("encrypted/parts", id, parts)) == asked
    s3.copy_object(Bucket="lake", Key="encrypted/copy", CopySource="lake/multi", **asked)
    for name in ["put", "parts", "copy"]:
        assert told(s3.head_object(Bucket="lake", Key=f"encrypted/{name}")) == asked, name
        assert told(s3.get_object(Bucket="lake", Key=f"encrypted/{name}")) == asked, name
    # A copy is encrypted as it asks, not as its source.
    s3.copy_object(Bucket="lake", Key="encrypted/plain", CopySource="lake/encrypted/put")
    assert told(s3.head_object(Bucket="lake", Key="encrypted/plain")) == {}
    s3.put_object(Bucket="lake", Key="encrypted/put", Body=b"2")
    assert told(s3.head_object(Bucket="lake", Key="encrypted/put")) == {}


@rule
def s3_bodies_are_discarded():
    settings(discard_bodies=True)
    try:
        s3.put_object(Bucket="lake", Key="discarded/put", Body=b"a" * 100000, Metadata={"token": "t3"})
        assert raw_put("discarded/cut", b"abc", {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"})[0] == 200
        id, parts = upload("discarded/parts", [b"a" * 5 * MIB, b"b" * 5 * MIB, b"c"], ChecksumAlgorithm="CRC32")
        complete("discarded/parts", id, parts)
        mixed, sent = upload("discarded/mixed", [b"a" * 5 * MIB])
    finally:
        settings(discard_bodies=False)
    last = s3.upload_part(Bucket="lake", Key="discarded/mixed", UploadId=mixed, PartNumber=2, Body=b"b")
    complete("discarded/mixed", mixed, sent + [{"PartNumber": 2, "ETag": last["ETag"]}])
    sizes = {"put": 100000, "cut": 3, "parts": 10 * MIB + 1, "mixed": 5 * MIB + 1}
    for name, size in sizes.items():
        assert s3.head_object(Bucket="lake", Key=f"discarded/{name}")["ContentLength"] == size, name
        assert (ROOT / f"s3/lake/discarded/{name}").stat().st_size == size, name
    assert (ROOT / "s3/lake/discarded/put").read_bytes() == bytes(100000)
    assert s3.head_object(Bucket="lake", Key="discarded/put")["Metadata"] == {"token": "t3"}


@rule
def s3_multipart_refusals():
    id, parts = upload("refused", [b"a" * 1000, b"b"])
    refused("EntityTooSmall", complete, "refused", id, parts, status=400)
    refused("InvalidPartOrder", complete, "refused", id, parts[::-1], status=400)
    refused("InvalidPart", complete, "refused", id, [{"PartNumber": 1, "ETag": '"00"'}], status=400)
    refused("InvalidPart", complete, "refused", id, [{"PartNumber": 7, "ETag": parts[0]["ETag"]}])
    assert complete("refused", id, parts[:1])["ETag"].endswith('-1"')
    id, parts = upload("refused", [b"a"], ChecksumAlgorithm="CRC32")
    bare = [{"PartNumber": 1, "ETag": parts[0]["ETag"]}]
    refused("InvalidRequest", complete, "refused", id, bare, text="crc32")
    refused("PreconditionFailed", complete, "refused", id, parts, IfNoneMatch="*", status=412)
    s3.abort_multipart_upload(Bucket="lake", Key="refused", UploadId=id)
    refused("NoSuchUpload", s3.upload_part, Bucket="lake", Key="refused", UploadId=id, PartNumber=1, Body=b"x")
    refused("NoSuchUpload", complete, "refused", id, parts)
    refused("InvalidArgument", s3.upload_part, Bucket="lake", Key="refused", PartNumber=10001, Body=b"x",
            UploadId=s3.create_multipart_upload(Bucket="lake", Key="refused")["UploadId"])


@rule
def s3_list_uploads_pages_and_parts():
    ids = {key: s3.create_multipart_upload(Bucket="lake", Key=key)["UploadId"] for key in ["up/a", "up/b", "up/c"]}
    second = s3.create_multipart_upload(Bucket="lake", Key="up/a")["UploadId"]
    wanted = [("up/a", ids["up/a"]), ("up/a", second), ("up/b", ids["up/b"]), ("up/c", ids["up/c"])]
    found, marker = [], {}
    while True:
        page = s3.list_multipart_uploads(Bucket="lake", Prefix="up/", MaxUploads=1, **marker)
        found += [(it["Key"], it["UploadId"]) for it in page["Uploads"]]
        assert abs(time.time() - page["Uploads"][0]["Initiated"].timestamp()) < 60
        if not page["IsTruncated"]:
            break
        marker = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    assert found == wanted, found
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="lake", Prefix="nothing/")
    s3.upload_part(Bucket="lake", Key="up/a", UploadId=second, PartNumber=2, Body=b"zz")
    parts = s3.list_parts(Bucket="lake", Key="up/a", UploadId=second)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in parts] == [(2, 2)]
    for key, id in wanted:
        s3.abort_multipart_upload(Bucket="lake", Key=key, UploadId=id)


@rule
def s3_list_objects_pages_and_delimiter():
    for name in ["x", "d/1", "d/2", "d-1", "e/1/2"]:
        s3.put_object(Bucket="lake", Key=f"list/{name}", Body=b"1")
    found, token = [], {}
    while True:
        page = s3.list_objects_v2(Bucket="lake", Prefix="list/", MaxKeys=2, **token)
        found += [it["Key"] for it in page["Contents"]]
        if not page["IsTruncated"]:
            break
        token = {"ContinuationToken": page["NextContinuationToken"]}
    assert found == ["list/d-1", "list/d/1", "list/d/2", "list/e/1/2", "list/x"], found
    page = s3.list_objects_v2(Bucket="lake", Prefix="list/", Delimiter="/")
    assert [it["Prefix"] for it in page["CommonPrefixes"]] == ["list/d/", "list/e/"]
    assert [it["Key"] for it in page["Contents"]] == ["list/d-1", "list/x"]
    assert s3.list_objects_v2(Bucket="lake", Prefix="list/", StartAfter="list/d/2")["KeyCount"] == 2
    assert len(s3.list_objects(Bucket="lake", Prefix="list/d/")["Contents"]) == 2


@rule
def s3_delete_objects():
    keys = [f"gone/{number}" for number in range(3)]
    for key in keys:
        s3.put_object(Bucket="lake", Key=key, Body=b"1")
    every = [{"Key": key} for key in keys] + [{"Key": f"gone/none{number}"} for number in range(997)]
    assert len(s3.delete_objects(Bucket="lake", Delete={"Objects": every})["Deleted"]) == 1000
    assert "Contents" not in s3.list_objects_v2(Bucket="lake", Prefix="gone/")
    assert not (ROOT / "s3/lake/gone").exists()
    refused("MalformedXML", s3.delete_objects, Bucket="lake", Delete={"Objects": every + [{"Key": "one"}]})
    s3.delete_object(Bucket="lake", Key="gone/none")


@rule
def s3_buckets_and_regions():
    refused("NoSuchBucket", s3.put_object, Bucket="missing", Key="k", Body=b"", status=404)
    refused("404", s3.head_bucket, Bucket="missing", status=404)
    refused("NoSuchKey", s3.get_object, Bucket="lake", Key="missing", status=404)
    assert s3.get_bucket_location(Bucket="lake").get("LocationConstraint") is None
    settings(bucket_regions={"lake": "eu-west-1"})
    try:
        plain = client("s3")
        connection = http.client.HTTPConnection(ENDPOINT.removeprefix("http://"))
        scope = "Credential=AKIATEST/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        for method in ["HEAD", "GET"]:
            connection.request(method, "/lake", headers={"Authorization": f"AWS4-HMAC-SHA256 {scope}"})
            answer = connection.getresponse()
            assert answer.status == 301 and answer.headers["x-amz-bucket-region"] == "eu-west-1"
            assert method == "HEAD" or b"PermanentRedirect" in answer.read()
            answer.read()
        assert plain.get_bucket_location(Bucket="lake")["LocationConstraint"] == "eu-west-1"
        client("s3", region="eu-west-1").head_bucket(Bucket="lake")
    finally:
        settings(bucket_regions={})


@rule
def s3_objects_put_as_files_are_seen():
    (ROOT / "s3/lake/byhand").mkdir()
    (ROOT / "s3/lake/byhand/file").write_bytes(b"abc")
    head = s3.head_object(Bucket="lake", Key="byhand/file")
    assert head["ETag"] == '"900150983cd24fb0d6963f7d28e17f72"'
    assert s3.copy_object(Bucket="lake", Key="copied", CopySource="lake/byhand/file")["CopyObjectResult"]["ETag"] == head["ETag"]


@rule
def s3_many_at_once():
    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = pool.map(lambda n: raw_put(f"many/{n}", b"x" * n, {})[0], range(400))
        assert set(answers) == {200}
    assert s3.list_objects_v2(Bucket="lake", Prefix="many/")["KeyCount"] == 400


# Glue ----------------------------------------------------------------------------------------------------------------


@rule
def glue_databases():
    glue.create_database(DatabaseInput={"Name": "Other", "Description": "d"})
    assert glue.get_database(Name="OTHER")["Database"]["Name"] == "other"
    refused("AlreadyExistsException", glue.create_database, DatabaseInput={"Name": "other"}, status=400)
    assert "other" in [it["Name"] for it in glue.get_databases()["DatabaseList"]]
    glue.delete_database(Name="other")
    refused("EntityNotFoundException", glue.get_database, Name="other")
    refused("EntityNotFoundException", glue.create_table, DatabaseName="other", TableInput={"Name": "t"})


@rule
def glue_names_are_folded():
    glue.create_table(DatabaseName="DB", TableInput=table_input("Folded", "EXTERNAL_TABLE"))
    table = glue.get_table(DatabaseName="db", Name="FOLDED")["Table"]
    assert (table["Name"], table["DatabaseName"], table["VersionId"]) == ("folded", "db", "0")
    refused("AlreadyExistsException", glue.create_table, DatabaseName="db", TableInput=table_input("FOLDED"))


@rule
def glue_update_table_versions():
    name = make_table("EXTERNAL_TABLE")
    definition = table_input(name, "EXTERNAL_TABLE", Description="new")
    glue.update_table(DatabaseName="db", TableInput=definition, VersionId="0")
    refused("ConcurrentModificationException", glue.update_table, DatabaseName="db", TableInput=definition, VersionId="0")
    glue.update_table(DatabaseName="db", TableInput=definition, VersionId="1", SkipArchive=True)
    versions = glue.get_table_versions(DatabaseName="db", TableName=name)["TableVersions"]
    assert [version["VersionId"] for version in versions] == ["2", "0"]
    bare = {"Name": name, "TableType": "EXTERNAL_TABLE"}
    glue.update_table(DatabaseName="db", TableInput=bare)
    table = glue.get_table(DatabaseName="db", Name=name)["Table"]
    assert "Description" not in table and "StorageDescriptor" not in table
    refused("EntityNotFoundException", glue.update_table, DatabaseName="db", TableInput={"Name": "missing"})


@rule
def glue_governed_restrictions():
    name = make_table(keys=[("p", "string")])
    text = "Glue UpdateTable operation cannot change TableType to or from GOVERNED."
    kind = table_input(name, "EXTERNAL_TABLE", keys=[("p", "string")])
    refused("InvalidInputException", glue.update_table, DatabaseName="db", TableInput=kind, text=text)
    refused("InvalidInputException", glue.update_table, DatabaseName="db", TableInput=table_input(name))
    moved = table_input(name, keys=[("p", "string")], location="s3://lake/elsewhere/")
    refused("InvalidInputException", glue.update_table, DatabaseName="db", TableInput=moved, text="location")
    refused("InvalidInputException", glue.create_partition, DatabaseName="db", TableName=name, PartitionInput={"Values": ["1"]})
    external = make_table("EXTERNAL_TABLE")
    refused("InvalidInputException", glue.update_table, DatabaseName="db", TableInput=table_input(external), text=text)


@rule
def glue_get_tables_pages_and_expression():
    glue.create_database(DatabaseInput={"Name": "paged"})
    for number in range(5):
        glue.create_table(DatabaseName="paged", TableInput={"Name": f"t{number}"})
    page = glue.get_tables(DatabaseName="paged", MaxResults=3)
    assert len(page["TableList"]) == 3
    assert len(glue.get_tables(DatabaseName="paged", NextToken=page["NextToken"])["TableList"]) == 2
    found = glue.get_tables(DatabaseName="paged", Expression="t[12]")["TableList"]
    assert [table["Name"] for table in found] == ["t1", "t2"]
    refused("ValidationException", glue.get_tables, DatabaseName="paged", MaxResults=101)
    errors = glue.batch_delete_table(DatabaseName="paged", TablesToDelete=["t0", "none"])["Errors"]
    assert [error["ErrorDetail"]["ErrorCode"] for error in errors] == ["EntityNotFoundException"]
    glue.delete_table(DatabaseName="paged", Name="T1")
    refused("EntityNotFoundException", glue.get_table, DatabaseName="paged", Name="t1")


@rule
def glue_partitions():
    name = make_table("EXTERNAL_TABLE", keys=[("year", "int"), ("day", "string")])
    place = {"DatabaseName": "db", "TableName": name}
    glue.create_partition(PartitionInput={"Values": ["2024", "a"], "StorageDescriptor": {"Location": "s3://lake/p/", "Columns": [{"Name": "a"}]}}, **place)
    refused("AlreadyExistsException", glue.create_partition, PartitionInput={"Values": ["2024", "a"]}, **place)
    refused("InvalidInputException", glue.create_partition, PartitionInput={"Values": ["2024"]}, **place)
    refused("ValidationException", glue.create_partition, PartitionInput={"Values": ["2024", ""]}, **place)
    inputs = [{"Values": [str(year), day]} for year in (2024, 2025) for day in ("a", "b")]
    errors = glue.batch_create_partition(PartitionInputList=inputs, **place)["Errors"]
    assert [(it["PartitionValues"], it["ErrorDetail"]["ErrorCode"]) for it in errors] == [(["2024", "a"], "AlreadyExistsException")]
    refused("ValidationException", glue.batch_create_partition, PartitionInputList=inputs * 26, **place)
    found = glue.get_partitions(Expression="year = 2025 AND day = 'b'", **place)["Partitions"]
    assert [it["Values"] for it in found] == [["2025", "b"]]
    page = glue.get_partitions(MaxResults=3, ExcludeColumnSchema=True, **place)
    assert len(page["Partitions"]) == 3 and "Columns" not in page["Partitions"][0]["StorageDescriptor"]
    assert len(glue.get_partitions(NextToken=page["NextToken"], **place)["Partitions"]) == 1
    answer = glue.batch_get_partition(PartitionsToGet=[{"Values": ["2024", "b"]}, {"Values": ["1", "b"]}], **place)
    assert len(answer["Partitions"]) == 1 and answer["UnprocessedKeys"] == []
    new = {"StorageDescriptor": {"Location": "s3://lake/new/"}}
    glue.update_partition(PartitionValueList=["2024", "b"], PartitionInput=new, **place)
    got = glue.get_partition(PartitionValues=["2024", "b"], **place)["Partition"]
    assert got["StorageDescriptor"]["Location"] == "s3://lake/new/"
    entries = [{"PartitionValueList": [year, "a"], "PartitionInput": new} for year in ("2024", "1")]
    errors = glue.batch_update_partition(Entries=entries, **place)["Errors"]
    assert [it["PartitionValueList"] for it in errors] == [["1", "a"]]
    refused("EntityNotFoundException", glue.get_partition, PartitionValues=["1", "a"], **place)
    many = [{"Values": [str(n), "x"]} for n in range(26)]
    refused("ValidationException", glue.batch_delete_partition, PartitionsToDelete=many, **place)
    errors = glue.batch_delete_partition(PartitionsToDelete=[{"Values": ["2024", "a"]}, many[0]], **place)["Errors"]
    assert len(errors) == 1 and len(glue.get_partitions(**place)["Partitions"]) == 3


@rule
def glue_model_validation():
    refused("ValidationException", glue.create_table, DatabaseName="db", TableInput={"Name": "x" * 256}, status=400, text="tableInput.name")
    refused("ValidationException", glue.create_table, TableInput={"Name": "x"}, text="databaseName")
    refused("ValidationException", glue.create_table, DatabaseName="db", TableInput={"Name": "a\nb"}, text="regular expression")
    refused("ValidationException", lf.start_transaction, TransactionType="WRITE", text="enum value set")
    refused("SerializationException", glue.get_tables, DatabaseName="db", MaxResults="three")
    refused("ValidationException", lf.update_table_objects, DatabaseName="db", TableName="t", WriteOperations=[], text="writeOperations")


# Lake Formation ------------------------------------------------------------------------------------------------------


@rule
def lf_commit_makes_visible():
    name, tx = make_table(), begin()
    added = put(name)
    write(name, tx, [added])
    assert uris(name) == [] and uris(name, tx) == [added["Uri"]]
    assert commit(tx) == "COMMITTED" and uris(name) == [added["Uri"]]
    assert commit(tx) == "COMMITTED" and status(tx) == "COMMITTED"
    refused("TransactionCommittedException", write, name, tx, [put(name)])
    refused("TransactionCommittedException", lf.extend_transaction, TransactionId=tx)
    refused("TransactionCommittedException", lf.cancel_transaction, TransactionId=tx)


@rule
def lf_cancel_rolls_back():
    name, tx, made = make_table(), begin(), fresh()
    write(name, tx, [put(name)])
    glue.create_table(DatabaseName="db", TableInput=table_input(made), TransactionId=tx)
    assert glue.get_table(DatabaseName="db", Name=made, TransactionId=tx)["Table"]["Name"] == made
    refused("EntityNotFoundException", glue.get_table, DatabaseName="db", Name=made)
    lf.cancel_transaction(TransactionId=tx)
    lf.cancel_transaction(TransactionId=tx)
    assert uris(name) == [] and status(tx) == "ABORTED"
    refused("EntityNotFoundException", glue.get_table, DatabaseName="db", Name=made)
    refused("TransactionCanceledException", commit, tx)
    refused("TransactionCanceledException", write, name, tx, [put(name)])
    refused("TransactionCanceledException", lf.extend_transaction, TransactionId=tx)
    refused("TransactionCanceledException", glue.get_table, DatabaseName="db", Name=name, TransactionId=tx)
    refused("EntityNotFoundException", commit, "unknown")


@rule
def lf_snapshot_isolation():
    name, tx = make_table(), begin()
    write(name, None, [put(name)])
    made = make_table()
    assert uris(name, tx) == [] and len(uris(name)) == 1
    refused("EntityNotFoundException", glue.get_table, DatabaseName="db", Name=made, TransactionId=tx)
    glue.update_table(DatabaseName="db", TableInput=table_input(name, Description="new"))
    assert glue.get_table(DatabaseName="db", Name=name, TransactionId=tx)["Table"]["VersionId"] == "0"
    assert made not in [it["Name"] for page in glue.get_paginator("get_tables").paginate(DatabaseName="db", TransactionId=tx) for it in page["TableList"]]


@rule
def lf_adds_do_not_conflict():
    name, one, two = make_table(), begin(), begin()
    write(name, one, [put(name)])
    write(name, two, [put(name)])
    assert (commit(one), commit(two)) == ("COMMITTED", "COMMITTED") and len(uris(name)) == 2


@rule
def lf_deletes_and_definitions_conflict():
    name = make_table()
    first = put(name)
    write(name, None, [first])
    deletes, defines, adds = begin(), begin(), begin()
    write(name, deletes, deletes=[{"Uri": first["Uri"], "ETag": first["ETag"]}])
    glue.update_table(DatabaseName="db", TableInput=table_input(name, Description="x"), TransactionId=defines)
    write(name, adds, [put(name)])
    assert commit(adds) == "COMMITTED"
    refused("ConcurrentModificationException", commit, deletes)
    assert status(deletes) == "ABORTED"
    refused("TransactionCanceledException", commit, deletes)
    refused("ConcurrentModificationException", commit, defines)
    assert len(uris(name)) == 2
    again = begin()
    write(name, again, deletes=[{"Uri": first["Uri"]}])
    assert commit(again) == "COMMITTED" and len(uris(name)) == 1
    s3.head_object(Bucket="lake", Key=first["Uri"].removeprefix("s3://lake/"))


@rule
def lf_dropped_and_twice_created_conflict():
    name, adds = make_table(), begin()
    write(name, adds, [put(name)])
    glue.delete_table(DatabaseName="db", Name=name)
    refused("ConcurrentModificationException", commit, adds, text="dropped")
    name, one, two = fresh(), begin(), begin()
    for tx in (one, two):
        glue.create_table(DatabaseName="db", TableInput=table_input(name), TransactionId=tx)
    assert commit(one) == "COMMITTED"
    refused("ConcurrentModificationException", commit, two, text="created")


@rule
def lf_several_tables_in_one_commit():
    one, two, tx = make_table(), make_table(), begin()
    write(one, tx, [put(one)])
    write(two, tx, [put(two)])
    commit(tx)
    assert len(uris(one)) == len(uris(two)) == 1


@rule
def lf_update_objects_refusals():
    name, tx = make_table(keys=[("p", "string")]), begin()
    added = put(name) | {"PartitionValues": ["1"]}
    bad = lambda **change: [added | change]
    refused("InvalidInputException", write, name, tx, bad(ETag='"00"'), text="ETag")
    refused("InvalidInputException", write, name, tx, bad(Size=1), text="size")
    refused("InvalidInputException", write, name, tx, bad(Uri="s3://lake/none"), text="exist")
    refused("InvalidInputException", write, name, tx, bad(Uri="s3a://lake/none"), text="s3://")
    refused("InvalidInputException", write, name, tx, bad(PartitionValues=["1", "2"]), text="partition key")
    plain = {key: value for key, value in added.items() if key != "PartitionValues"}
    refused("InvalidInputException", write, name, tx, [plain], text="partition key")
    refused("EntityNotFoundException", write, name, tx, [], [{"Uri": added["Uri"]}])
    both = [{"AddObject": added, "DeleteObject": {"Uri": added["Uri"]}}]
    place = {"DatabaseName": "db", "TableName": name, "TransactionId": tx}
    refused("InvalidInputException", lf.update_table_objects, WriteOperations=both, text="exactly one", **place)
    refused("ValidationException", write, name, tx, [added] * 101, text="writeOperations")
    write(name, tx, [added | {"ETag": added["ETag"].strip('"')}])
    refused("InvalidInputException", write, name, tx, [added], text="already")
    refused("EntityNotFoundException", write, "missing", tx, [added])
    external = make_table("EXTERNAL_TABLE")
    refused("InvalidInputException", write, external, None, [plain], text="GOVERNED")
    reader = begin(TransactionType="READ_ONLY")
    refused("InvalidInputException", write, name, reader, [added], text="read-only")
    refused("InvalidInputException", glue.update_table, DatabaseName="db", TableInput=table_input(name), TransactionId=reader)
    assert commit(reader) == "COMMITTED"


@rule
def lf_get_objects_groups_and_pages():
    name = make_table(keys=[("p", "bigint")])
    write(name, None, [put(name) | {"PartitionValues": [str(number % 2)]} for number in range(5)])
    groups = lf.get_table_objects(DatabaseName="db", TableName=name)["Objects"]
    assert [(it["PartitionValues"], len(it["Objects"])) for it in groups] == [(["0"], 3), (["1"], 2)]
    assert groups[0]["Objects"][0]["ETag"].startswith('"') and groups[0]["Objects"][0]["Size"] == 8
    page = lf.get_table_objects(DatabaseName="db", TableName=name, MaxResults=4)
    rest = lf.get_table_objects(DatabaseName="db", TableName=name, NextToken=page["NextToken"])
    assert len(rest["Objects"]) == 1 and len(rest["Objects"][0]["Objects"]) == 1 and "NextToken" not in rest
    assert len(uris(name, PartitionPredicate="p = 1")) == 2
    assert [it["Values"] for it in glue.get_partitions(DatabaseName="db", TableName=name)["Partitions"]] == [["0"], ["1"]]


@rule
def lf_idle_transactions_are_aborted():
    settings(transaction_idle_ms=300)
    try:
        idle, kept, reader = begin(), begin(), begin(TransactionType="READ_ONLY")
        for _ in range(4):
            time.sleep(0.12)
            lf.extend_transaction(TransactionId=kept)
        assert (status(idle), status(kept), status(reader)) == ("ABORTED", "ACTIVE", "ACTIVE")
        refused("TransactionCanceledException", lf.extend_transaction, TransactionId=idle, text="idle")
    finally:
        settings(transaction_idle_ms=None)
    lf.cancel_transaction(TransactionId=kept)


@rule
def lf_delete_objects_on_cancel():
    name, tx = make_table(), begin()
    added = put(name)
    lf.delete_objects_on_cancel(DatabaseName="db", TableName=name, TransactionId=tx, Objects=[{"Uri": added["Uri"]}])
    write(name, tx, [added])
    lf.cancel_transaction(TransactionId=tx)
    refused("404", s3.head_object, Bucket="lake", Key=added["Uri"].removeprefix("s3://lake/"))
    kept, tx = put(name), begin()
    write(name, tx, [kept])
    lf.cancel_transaction(TransactionId=tx)
    s3.head_object(Bucket="lake", Key=kept["Uri"].removeprefix("s3://lake/"))
    refused("TransactionCanceledException", lf.delete_objects_on_cancel, DatabaseName="db", TableName=name, TransactionId=tx, Objects=[{"Uri": kept["Uri"]}])


@rule
def lf_commit_in_progress():
    name, tx = make_table(), begin()
    write(name, tx, [put(name)])
    settings(commit_in_progress={"commits": 1, "describes": 2})
    assert commit(tx) == "COMMIT_IN_PROGRESS" and commit(tx) == "COMMIT_IN_PROGRESS" and uris(name) == []
    refused("TransactionCommitInProgressException", lf.cancel_transaction, TransactionId=tx)
    refused("TransactionCommitInProgressException", lf.extend_transaction, TransactionId=tx)
    refused("TransactionCommitInProgressException", write, name, tx, [put(name)])
    assert (status(tx), status(tx)) == ("COMMIT_IN_PROGRESS", "COMMITTED") and len(uris(name)) == 1
    settings(commit_in_progress={"commits": 1, "for_ms": 100})
    tx = begin()
    assert commit(tx) == "COMMIT_IN_PROGRESS"
    time.sleep(0.15)
    assert status(tx) == "COMMITTED"
    settings(commit_in_progress={"commits": 1, "for_ms": 1, "outcome": "aborted"})
    tx = begin()
    commit(tx)
    time.sleep(0.05)
    assert status(tx) == "ABORTED" and commit(begin()) == "COMMITTED"


@rule
def lf_status_case_and_listing():
    settings(status_case="lower")
    try:
        tx = begin()
        assert status(tx) == "active" and commit(tx) == "committed"
    finally:
        settings(status_case="upper")
    found = lf.list_transactions(StatusFilter="COMMITTED")["Transactions"]
    assert tx in [it["TransactionId"] for it in found]
    assert tx in [it["TransactionId"] for it in control("GET", "transactions")["transactions"]]


@rule
def lf_tags():
    name = make_table()
    lf.create_lf_tag(TagKey="Team", TagValues=["a", "B"])
    assert lf.get_lf_tag(TagKey="team")["TagValues"] == ["a", "b"]
    assert "team" in [it["TagKey"] for it in lf.list_lf_tags()["LFTags"]]
    place = {"Table": {"DatabaseName": "db", "Name": name}}
    tags = [{"TagKey": "team", "TagValues": ["a"]}, {"TagKey": "none", "TagValues": ["a"]}, {"TagKey": "team", "TagValues": ["c"]}]
    failures = lf.add_lf_tags_to_resource(Resource=place, LFTags=tags)["Failures"]
    assert [it["Error"]["ErrorCode"] for it in failures] == ["EntityNotFoundException", "InvalidInputException"]
    assert lf.get_resource_lf_tags(Resource=place)["LFTagsOnTable"][0]["TagValues"] == ["a"]
    refused("EntityNotFoundException", lf.get_lf_tag, TagKey="none")
    missing = {"Table": {"DatabaseName": "db", "Name": "missing"}}
    refused("EntityNotFoundException", lf.add_lf_tags_to_resource, Resource=missing, LFTags=tags)


@rule
def lf_governed_retired():
    settings(governed_retired=True)
    try:
        refused("InvalidInputException", begin)
        refused("InvalidInputException", make_table)
        make_table("EXTERNAL_TABLE")
    finally:
        settings(governed_retired=False)


# STS and keys --------------------------------------------------------------------------------------------------------

ROLE = "arn:aws:iam::123456789012:role/path/writer"


def assume(**more):
    return sts.assume_role(**{"RoleArn": ROLE, "RoleSessionName": "session", **more})["Credentials"]


def clients_of(credentials, *services):
    keys = {"key": credentials["AccessKeyId"], "secret": credentials["SecretAccessKey"], "token": credentials["SessionToken"]}
    return [client(service, **keys) for service in services]


@rule
def sts_identity_and_role():
    me = sts.get_caller_identity()
    assert me["Account"] == "123456789012" and ":user/" in me["Arn"]
    as_role, = clients_of(assume(), "sts")
    assert as_role.get_caller_identity()["Arn"] == "arn:aws:sts::123456789012:assumed-role/writer/session"


@rule
def sts_roles_external_id_and_duration():
    refused("ValidationError", assume, RoleSessionName="x", status=400, text="roleSessionName")
    refused("ValidationError", assume, RoleSessionName="a b", text="regular expression")
    refused("ValidationError", assume, DurationSeconds=899, text="900")
    refused("ValidationError", assume, DurationSeconds=43201, text="43200")
    too_long = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
    refused("ValidationError", assume, DurationSeconds=3601, text=too_long)
    settings(roles=[{"arn": ROLE, "external_id": "secret", "max_session_seconds": 7200}])
    try:
        assume(ExternalId="secret", DurationSeconds=7200)
        refused("AccessDenied", assume, ExternalId="wrong", status=403, text="sts:AssumeRole")
        refused("AccessDenied", assume, status=403)
        refused("AccessDenied", assume, RoleArn=ROLE + "2", status=403)
        refused("ValidationError", assume, ExternalId="secret", DurationSeconds=7201, text=too_long)
    finally:
        settings(roles=[])


@rule
def credentials_expire():
    settings(credential_lifetime_seconds=1)
    try:
        credentials = assume()
    finally:
        settings(credential_lifetime_seconds=None)
    own_s3, own_glue, own_sts = clients_of(credentials, "s3", "glue", "sts")
    own_s3.head_bucket(Bucket="lake")
    own_glue.get_databases()
    time.sleep(1.1)
    refused("ExpiredToken", own_s3.list_objects_v2, Bucket="lake", status=400)
    refused("ExpiredTokenException", own_glue.get_databases, status=400)
    refused("ExpiredToken", own_sts.get_caller_identity, status=403)


@rule
def credentials_need_their_token():
    own_s3, own_glue = clients_of(assume() | {"SessionToken": None}, "s3", "glue")
    refused("InvalidToken", own_s3.list_objects_v2, Bucket="lake", status=400)
    refused("UnrecognizedClientException", own_glue.get_databases, status=400)


@rule
def keys_that_do_not_exist():
    settings(invalid_keys=["AKIANONE"])
    refused("InvalidAccessKeyId", client("s3", key="AKIANONE").list_objects_v2, Bucket="lake", status=403)
    refused("UnrecognizedClientException", client("glue", key="AKIANONE").get_databases, status=400)
    refused("UnrecognizedClientException", client("lakeformation", key="AKIANONE").start_transaction, status=400)
    refused("InvalidClientTokenId", client("sts", key="AKIANONE").get_caller_identity, status=403)
    settings(invalid_keys=[])


@rule
def requests_without_signature():
    def post(path, headers, body):
        connection = http.client.HTTPConnection(ENDPOINT.removeprefix("http://"))
        connection.request("POST" if body is not None else "GET", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    for path, headers, body, code in [
        ("/", {"X-Amz-Target": "AWSGlue.GetDatabases"}, "{}", "MissingAuthenticationTokenException"),
        ("/StartTransaction", {}, "{}", "MissingAuthenticationTokenException"),
        ("/", {"Content-Type": "application/x-www-form-urlencoded"}, "Action=GetCallerIdentity", "MissingAuthenticationToken<"),
        ("/lake", {}, None, "AccessDenied"),
    ]:
        got, text = post(path, headers, body)
        assert got == 403 and code in text, (got, text)


# Faults and journal --------------------------------------------------------------------------------------------------


@rule
def fault_refuse_in_order():
    fault("glue:GetDatabase", {"refuse": {"status": 400, "code": "AccessDeniedException", "message": "no"}}, skip=1)
    fault("glue:GetDatabase", {"refuse": {"status": 500, "code": "InternalServiceException"}}, times=2)
    glue.get_database(Name="db")
    refused("AccessDeniedException", glue.get_database, Name="db", text="no", status=400)
    refused("InternalServiceException", glue.get_database, Name="db", status=500)
    refused("InternalServiceException", glue.get_database, Name="db")
    glue.get_database(Name="db")
    assert control("GET", "faults")["pending"] == 0


@rule
def fault_matching_and_always():
    fault("s3:PutObject", {"refuse": {"status": 403, "code": "AccessDenied"}}, matching="only/this", times=None)
    for _ in range(2):
        refused("AccessDenied", s3.put_object, Bucket="lake", Key="only/this", Body=b"x" * MIB, status=403)
    s3.put_object(Bucket="lake", Key="only/that", Body=b"x")
    control("DELETE", "faults")
    s3.put_object(Bucket="lake", Key="only/this", Body=b"x")
    fault("s3:UploadPart", {"refuse": {"status": 403, "code": "AccessDenied"}}, matching="partNumber=2")
    refused("AccessDenied", upload, "parts", [b"x", b"y"])


@rule
def fault_throttle():
    for operation in ["s3:PutObject", "glue:GetDatabase", "lakeformation:StartTransaction", "sts:GetCallerIdentity"]:
        fault(operation, "throttle")
    refused("SlowDown", s3.put_object, Bucket="lake", Key="slow", Body=b"x", status=503)
    refused("ThrottlingException", glue.get_database, Name="db", status=400)
    refused("ThrottlingException", begin, status=400)
    refused("Throttling", sts.get_caller_identity, status=400)


@rule
def fault_delay_is_concurrent():
    fault("*", {"delay_ms": 200}, times=None)
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: glue.get_database(Name="db"), range(50)))
    took = time.monotonic() - started
    control("DELETE", "faults")
    assert 0.2 <= took < 1.5, took


@rule
def fault_hold_and_release():
    fault("glue:GetDatabase", "hold")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(glue.get_database, Name="db")
        for _ in range(100):
            if control("GET", "faults")["held"] == 1:
                break
            time.sleep(0.01)
        assert not held.done()
        assert control("POST", "release")["released"] == 1
        held.result(5)
    assert control("GET", "faults")["held"] == 0


@rule
def fault_drop_lose_then_refuse():
    fault("s3:PutObject", "drop")
    disconnected(s3.put_object, Bucket="lake", Key="dropped", Body=b"x" * 3 * MIB)
    refused("404", s3.head_object, Bucket="lake", Key="dropped")
    fault("s3:PutObject", "lose")
    disconnected(s3.put_object, Bucket="lake", Key="lost", Body=b"x" * 3 * MIB)
    assert s3.head_object(Bucket="lake", Key="lost")["ContentLength"] == 3 * MIB
    tx = begin()
    fault("lakeformation:CommitTransaction", "lose")
    disconnected(commit, tx)
    assert status(tx) == "COMMITTED"
    name = make_table("EXTERNAL_TABLE")
    fault("glue:UpdateTable", {"then_refuse": {"status": 500, "code": "InternalServiceException"}}, matching=name)
    refused("InternalServiceException", glue.update_table, DatabaseName="db", TableInput=table_input(name, "EXTERNAL_TABLE"))
    assert glue.get_table(DatabaseName="db", Name=name)["Table"]["VersionId"] == "1"


@rule
def journal_tells_what_was_asked():
    control("DELETE", "calls")
    name, tx = make_table(), begin()
    write(name, tx, [put(name)])
    refused("404", s3.head_object, Bucket="lake", Key="journal")
    id, parts = upload("journal", [b"x"])
    complete("journal", id, parts)
    sts.get_caller_identity()
    calls = control("GET", "calls")["calls"]
    assert [f"{it['service']}:{it['operation']}" for it in calls] == [
        "glue:CreateTable", "lakeformation:StartTransaction", "s3:PutObject", "lakeformation:UpdateTableObjects",
        "s3:HeadObject", "s3:CreateMultipartUpload", "s3:UploadPart", "s3:CompleteMultipartUpload", "sts:GetCallerIdentity",
    ]
    assert calls[0]["target"] == f"db.{name}" and calls[3]["transaction"] == tx and calls[2]["bytes"] == 8
    assert (calls[4]["status"], calls[4]["error"], calls[4]["target"]) == (404, "NoSuchKey", "lake/journal")
    assert [it["seq"] for it in calls] == sorted(it["seq"] for it in calls)
    lf.cancel_transaction(TransactionId=tx)


@rule
def settings_refuse_nonsense():
    for path, body in [("settings", {"nonsense": 1}), ("faults", {"operation": "*", "action": "nonsense"})]:
        try:
            control("POST", path, body)
        except urllib.error.HTTPError as error:
            assert error.code == 400
        else:
            raise AssertionError("was to be refused")


# Across a restart ----------------------------------------------------------------------------------------------------


@rule
def prepare_restart():
    glue.create_table(DatabaseName="db", TableInput=table_input("keep"))
    glue.update_table(DatabaseName="db", TableInput=table_input("keep", Description="kept"))
    kept, lost = put("keep"), put("keep")
    write("keep", None, [kept])
    open_tx = begin()
    write("keep", open_tx, [lost])
    glue.create_table(DatabaseName="db", TableInput=table_input("parted", "EXTERNAL_TABLE", keys=[("p", "string")]))
    glue.create_partition(DatabaseName="db", TableName="parted", PartitionInput={"Values": ["1"]})
    id, parts = upload("resumed", [b"a" * 5 * MIB], Metadata={"token": "t"})
    (ROOT / "restart.json").write_text(json.dumps({"kept": kept, "tx": open_tx, "upload": id, "parts": parts}))
    time.sleep(0.1)
    saved = json.loads((ROOT / "catalog.json").read_text())
    assert "parted" in saved["databases"]["db"]["tables"]


@restarted
def restart_keeps_tables_manifests_partitions():
    before = json.loads((ROOT / "restart.json").read_text())
    table = glue.get_table(DatabaseName="db", Name="keep")["Table"]
    assert table["VersionId"] == "1" and table["Description"] == "kept"
    assert uris("keep") == [before["kept"]["Uri"]]
    assert len(glue.get_partitions(DatabaseName="db", TableName="parted")["Partitions"]) == 1
    assert lf.get_lf_tag(TagKey="team")["TagValues"] == ["a", "b"]


@restarted
def restart_aborts_open_transactions():
    before = json.loads((ROOT / "restart.json").read_text())
    refused("TransactionCanceledException", commit, before["tx"])
    events = [json.loads(line) for line in (ROOT / "transactions.jsonl").read_text().splitlines()]
    assert {"start", "objects", "commit", "cancel", "conflict", "idle abort"} <= {it["event"] for it in events}


@restarted
def restart_keeps_objects_and_uploads():
    before = json.loads((ROOT / "restart.json").read_text())
    assert s3.head_object(Bucket="lake", Key="multi")["Metadata"] == {"token": "t2"}
    assert s3.head_object(Bucket="lake", Key="multi")["ETag"].endswith('-2"')
    part = s3.upload_part(Bucket="lake", Key="resumed", UploadId=before["upload"], PartNumber=2, Body=b"b")
    complete("resumed", before["upload"], before["parts"] + [{"PartNumber": 2, "ETag": part["ETag"]}])
    assert s3.head_object(Bucket="lake", Key="resumed")["Metadata"] == {"token": "t"}


@restarted
def views_show_committed_objects_only():
    before = json.loads((ROOT / "restart.json").read_text())
    sql = (ROOT / "views.sql").read_text()
    view = sql.split('VIEW "db"."keep" AS')[1].split(";\n")[0]
    assert view.count(".json'") == 1 and before["kept"]["Uri"].removeprefix("s3://") in view, view


def main():
    if PHASE == "rules":
        glue.create_database(DatabaseInput={"Name": "db"})
    for check in CHECKS[PHASE]:
        try:
            check()
            print("ok", check.__name__, flush=True)
        except Exception as error:  # every failure is reported, whatever it is
            place = traceback.extract_tb(error.__traceback__)[-1]
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
            print(f"failed {check.__name__}: {type(error).__name__}: {error} (lines {lines}, {place.name})", flush=True)
            control("DELETE", "faults")


main()
