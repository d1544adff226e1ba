//! Objects in S3 by their names: listed, told apart from those of others, and deleted.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::TOKEN_CHARS;
use super::table::Location;
use crate::aws::{Aws, AwsError, Doubt, Operation, Patience};

/// The most keys one `DeleteObjects` takes.
const KEYS_PER_DELETE: usize = 1000;

pub(super) const fn s3(name: &'static str) -> Operation {
    Operation { service: "s3", name }
}

/// An object in a listing.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) key: String,
    /// Seconds since 1970, where S3 says so.
    pub(super) modified: Option<i64>,
}

/// What lies below a location, page by page.
pub(super) struct Listing<'a> {
    aws: &'a Aws,
    location: &'a Location,
    next: Option<String>,
    ended: bool,
}

impl<'a> Listing<'a> {
    pub(super) fn of(aws: &'a Aws, location: &'a Location) -> Self {
        Self { aws, location, next: None, ended: false }
    }

    /// The next objects, at most 1,000; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Listed>>, AwsError> {
        if self.ended {
            return Ok(None);
        }
        let prefix = format!("{}/", self.location.folder);
        let page = page(self.aws, &self.location.bucket, &prefix, None, self.next.take()).await?;
        self.ended = page.next_continuation_token.is_none();
        self.next = page.next_continuation_token;
        let listed = page.contents.unwrap_or_default().into_iter().filter_map(|object| {
            let modified = object.last_modified.map(|time| time.secs());
            object.key.map(|key| Listed { key, modified })
        });
        Ok(Some(listed.collect()))
    }
}

/// One page of the keys that begin with `prefix`; with a `delimiter`, of what is between the two.
pub(super) async fn page(
    aws: &Aws,
    bucket: &str,
    prefix: &str,
    delimiter: Option<&str>,
    token: Option<String>,
) -> Result<ListObjectsV2Output, AwsError> {
    Patience::standard()
        .run(Doubt::Repeat, || async {
            let request = aws.s3.list_objects_v2().bucket(bucket).prefix(prefix);
            let request = request.set_delimiter(delimiter.map(str::to_owned)).set_continuation_token(token.clone());
            aws.call(s3("ListObjectsV2"), &format!("s3://{bucket}/{prefix}"), || request.send()).await
        })
        .await
}

/// Whether nothing lies below a location.
pub(super) async fn is_empty(aws: &Aws, location: &Location) -> Result<bool, AwsError> {
    let page = Patience::standard()
        .run(Doubt::Repeat, || async {
            let request =
                aws.s3.list_objects_v2().bucket(&location.bucket).prefix(format!("{}/", location.folder)).max_keys(1);
            aws.call(s3("ListObjectsV2"), &location.uri(), || request.send()).await
        })
        .await?;
    Ok(page.contents().is_empty())
}

/// Deletes objects, by the thousand. A refusal of one of them hides in a successful answer: the others are deleted, and
/// these come back, each in words.
pub(super) async fn delete(aws: &Aws, bucket: &str, keys: &[String]) -> anyhow::Result<Vec<String>> {
    let mut refused = Vec::new();
    for chunk in keys.chunks(KEYS_PER_DELETE) {
        let objects =
            chunk.iter().map(|key| ObjectIdentifier::builder().key(key).build()).collect::<Result<Vec<_>, _>>()?;
        let request = Delete::builder().set_objects(Some(objects)).quiet(true).build()?;
        let answer = Patience::standard()
            .run(Doubt::Repeat, || async {
                let call = aws.s3.delete_objects().bucket(bucket).delete(request.clone());
                aws.call(s3("DeleteObjects"), &format!("s3://{bucket}"), || call.send()).await
            })
            .await?;
        refused.extend(answer.errors().iter().map(|error| {
            let (key, code) = (error.key().unwrap_or_default(), error.code().unwrap_or("an unnamed error"));
            format!("s3:DeleteObject of {key} was refused with {code}")
        }));
    }
    Ok(refused)
}

/// By the names of objects: ours, or the incumbent's 32 hexadecimal digits.
pub(super) fn is_written_by_us(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let incumbent = stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit());
    process_of(name).is_some() || incumbent
}

/// The process token in an object's name: `<token>-<time>-<counter>.<ending>`.
pub(super) fn process_of(name: &str) -> Option<&str> {
    let (stem, _) = name.split_once('.')?;
    let mut parts = stem.split('-');
    let (token, time, counter) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let fits = parts.next().is_none()
        && token.len() == TOKEN_CHARS
        && token.bytes().all(|b| b.is_ascii_hexdigit())
        && time.len() == 15
        && time.split_once('T').is_some_and(|(date, time)| digits(date) && digits(time))
        && counter.len() >= 6
        && digits(counter);
    fits.then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_ours() {
        assert_eq!(process_of("0123456789abcdef-20260102T030405-000007.snappy.parquet"), Some("0123456789abcdef"));
        for foreign in ["part-0001.parquet", "0123456789abcdef.json", "0123456789abcdef-2026-000007.json", "x"] {
            assert_eq!(process_of(foreign), None, "{foreign}");
        }
    }
}
