//! Buckets.

use std::io;

use super::Request;
use crate::clock;
use crate::refusal::{Answer, Refusal, escape};
use crate::state::State;

/// Whether S3 allows the name.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (3..=63).contains(&name.len())
        && name.bytes().all(fits)
        && !name.contains("..")
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
}

pub(super) fn list(state: &State) -> Result<Answer, Refusal> {
    let buckets: String = state
        .store
        .list_buckets()
        .map_err(Refusal::internal)?
        .into_iter()
        .map(|(name, made)| {
            format!("<Bucket><Name>{}</Name><CreationDate>{}</CreationDate></Bucket>", escape(&name), clock::iso(made))
        })
        .collect();
    Ok(Answer::xml(
        200,
        format!(
            "<ListAllMyBucketsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>{}</ID></Owner>\
             <Buckets>{buckets}</Buckets></ListAllMyBucketsResult>",
            state.account_id
        ),
    ))
}

fn region(state: &State, bucket: &str) -> String {
    state.settings().bucket_regions.get(bucket).cloned().unwrap_or_else(|| state.region.clone())
}

pub(super) fn location(state: &State, request: &Request) -> Result<Answer, Refusal> {
    let region = region(state, &request.bucket);
    let region = if region == "us-east-1" { "" } else { &region };
    Ok(Answer::xml(
        200,
        format!(
            "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{}</LocationConstraint>",
            escape(region)
        ),
    ))
}

pub(super) fn head(state: &State, request: &Request) -> Result<Answer, Refusal> {
    let mut answer = Answer::empty(200);
    answer.header("x-amz-bucket-region", &region(state, &request.bucket));
    Ok(answer)
}

pub(super) fn create(state: &State, request: &Request) -> Result<Answer, Refusal> {
    if !is_name(&request.bucket) {
        return Err(Refusal::new(400, "InvalidBucketName", "The specified bucket is not valid."));
    }
    if state.store.has_bucket(&request.bucket) {
        let message = "Your previous request to create the named bucket succeeded and you already own it.";
        return Err(Refusal::new(409, "BucketAlreadyOwnedByYou", message));
    }
    state.store.create_bucket(&request.bucket).map_err(Refusal::internal)?;
    let mut answer = Answer::empty(200);
    answer.header("location", &format!("/{}", request.bucket));
    Ok(answer)
}

pub(super) fn delete(state: &State, request: &Request) -> Result<Answer, Refusal> {
    match state.store.delete_bucket(&request.bucket) {
        Ok(()) => Ok(Answer::empty(204)),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Err(Refusal::new(409, "BucketNotEmpty", "The bucket you tried to delete is not empty"))
        }
        Err(error) => Err(Refusal::internal(error)),
    }
}
