//! The S3 calls that staging makes, each with its time limit.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, ServerSideEncryption};
use bytes::Bytes;

use super::{ObjectName, Shared, gate};
use crate::aws::{AwsError, Operation};

/// The key of our token in an object's user metadata.
const TOKEN: &str = "airbyte-token";
/// The slowest line we wait for, in bytes per second.
const SLOWEST: u64 = 128 * 1024;

const fn s3(name: &'static str) -> Operation {
    Operation { service: "s3", name }
}

impl Shared {
    pub(super) async fn put(&self, object: &ObjectName, token: &str, body: Bytes) -> Result<String, AwsError> {
        let operation = s3("PutObject");
        let limit = patience_for(body.len());
        let request = self
            .aws
            .s3
            .put_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .metadata(TOKEN, token)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            // A name is never reused; should it be, the older object wins and we hear of it.
            .if_none_match("*")
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .body(ByteStream::from(body))
            .customize()
            .config_override(limit)
            // The CRC32 guards the body; a SHA-256 for the signature would read it all a second time.
            .disable_payload_signing();
        let answer = self.aws.call(operation, &object.to_string(), || request.send()).await?;
        answer.e_tag.ok_or_else(|| AwsError::odd_answer(operation, object.to_string(), "an ETag"))
    }

    /// Without a key of the user's the bucket's own encryption applies, whatever it is.
    fn encryption(&self) -> Option<ServerSideEncryption> {
        self.kms_key_id.as_ref().map(|_| ServerSideEncryption::AwsKms)
    }

    pub(super) async fn create_upload(&self, object: &ObjectName, token: &str) -> Result<String, AwsError> {
        let operation = s3("CreateMultipartUpload");
        let request = self
            .aws
            .s3
            .create_multipart_upload()
            .bucket(&object.bucket)
            .key(&object.key)
            .metadata(TOKEN, token)
            .set_server_side_encryption(self.encryption())
            .set_ssekms_key_id(self.kms_key_id.clone())
            .checksum_algorithm(ChecksumAlgorithm::Crc32);
        let answer = self.aws.call(operation, &object.to_string(), || request.send()).await?;
        answer.upload_id.ok_or_else(|| AwsError::odd_answer(operation, object.to_string(), "an upload id"))
    }

    pub(super) async fn upload_part(
        &self,
        object: &ObjectName,
        upload_id: &str,
        number: i32,
        body: Bytes,
    ) -> Result<CompletedPart, AwsError> {
        let operation = s3("UploadPart");
        let limit = patience_for(body.len());
        let request = self
            .aws
            .s3
            .upload_part()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload_id)
            .part_number(number)
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .body(ByteStream::from(body))
            .customize()
            .config_override(limit)
            .disable_payload_signing();
        let answer = self.aws.call(operation, &object.to_string(), || request.send()).await?;
        let e_tag = answer.e_tag.ok_or_else(|| AwsError::odd_answer(operation, object.to_string(), "an ETag"))?;
        Ok(CompletedPart::builder().part_number(number).e_tag(e_tag).set_checksum_crc32(answer.checksum_crc32).build())
    }

    pub(super) async fn complete_upload(
        &self,
        object: &ObjectName,
        upload_id: &str,
        parts: Vec<CompletedPart>,
    ) -> Result<String, AwsError> {
        let operation = s3("CompleteMultipartUpload");
        let request = self
            .aws
            .s3
            .complete_multipart_upload()
            .bucket(&object.bucket)
            .key(&object.key)
            .upload_id(upload_id)
            .if_none_match("*")
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build());
        let answer = self.aws.call(operation, &object.to_string(), || request.send()).await?;
        answer.e_tag.ok_or_else(|| AwsError::odd_answer(operation, object.to_string(), "an ETag"))
    }

    pub(super) async fn abort_upload(&self, object: &ObjectName, upload_id: &str) -> Result<(), AwsError> {
        let request = self.aws.s3.abort_multipart_upload().bucket(&object.bucket).key(&object.key).upload_id(upload_id);
        self.aws.call(s3("AbortMultipartUpload"), &object.to_string(), || request.send()).await.map(|_| ())
    }

    /// The ETag of `object` if it exists, carries `token` and has `size` bytes: then it is what we published.
    pub(super) async fn find_ours(
        &self,
        object: &ObjectName,
        token: &str,
        size: u64,
    ) -> Result<Option<String>, AwsError> {
        let request = self.aws.s3.head_object().bucket(&object.bucket).key(&object.key);
        let answer = match self.aws.call(s3("HeadObject"), &object.to_string(), || request.send()).await {
            Ok(answer) => answer,
            Err(error) if error.status == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let same_token = answer.metadata().and_then(|all| all.get(TOKEN)).is_some_and(|value| value == token);
        let same_size = answer.content_length().and_then(|length| u64::try_from(length).ok()) == Some(size);
        Ok(if same_token && same_size { answer.e_tag } else { None })
    }
}

/// The SDK's limit for one attempt, by the size of what is sent.
fn patience_for(bytes: usize) -> aws_sdk_s3::config::Builder {
    // All bodies in flight share the line.
    let seconds = 30 + bytes as u64 * u64::from(gate::at_one_time(gate::weight(bytes))) / SLOWEST;
    let timeouts = aws_sdk_s3::config::timeout::TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(seconds))
        .build();
    aws_sdk_s3::Config::builder().timeout_config(timeouts)
}
