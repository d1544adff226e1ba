//! S3: which operation a request is, and the buckets, objects and uploads behind it.

pub(crate) mod buckets;
mod checksum;
mod inbound;
mod listing;
mod objects;
pub(crate) mod store;
mod uploads;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, Method};
use hyper::body::Incoming;

use self::inbound::Inbound;
use crate::auth::Signature;
use crate::refusal::{Answer, Refusal};
use crate::state::State;

/// A request to S3, its body unread.
pub(crate) struct Request {
    pub(crate) operation: &'static str,
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: HeaderMap,
    body: Incoming,
}

impl Request {
    pub(crate) fn read(parts: &Parts, body: Incoming) -> Self {
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let query: BTreeMap<String, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|field| !field.is_empty())
            .map(|field| field.split_once('=').unwrap_or((field, "")))
            .map(|(name, value)| (decode(name), decode(&value.replace('+', " "))))
            .collect();
        let operation = operation(&parts.method, bucket, key, &query, &parts.headers);
        Self { operation, bucket: decode(bucket), key: decode(key), query, headers: parts.headers.clone(), body }
    }

    /// `bucket/key`, `bucket`, or nothing.
    pub(crate) fn target(&self) -> String {
        if self.key.is_empty() { self.bucket.clone() } else { format!("{}/{}", self.bucket, self.key) }
    }

    /// The length of the content, without the frames of a chunked encoding.
    pub(crate) fn length(&self) -> Option<u64> {
        let header = |name| self.header(name)?.parse().ok();
        header("x-amz-decoded-content-length").or_else(|| header("content-length"))
    }

    /// Reads the body and forgets it.
    pub(crate) async fn drain(self) {
        Inbound::new(self).drain().await;
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, Refusal> {
        let Some(text) = self.query.get(name).filter(|text| !text.is_empty()) else { return Ok(default) };
        text.parse().map_err(|_| {
            Refusal::new(400, "InvalidArgument", format!("Provided {name} not an integer or within integer range"))
        })
    }

    fn text(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// The name of the operation in the API.
fn operation(
    method: &Method,
    bucket: &str,
    key: &str,
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
) -> &'static str {
    const SUBRESOURCES: [&str; 12] = [
        "acl",
        "cors",
        "encryption",
        "lifecycle",
        "object-lock",
        "policy",
        "retention",
        "tagging",
        "versioning",
        "versions",
        "website",
        "attributes",
    ];
    let has = |name| query.contains_key(name);
    if SUBRESOURCES.into_iter().any(has) {
        return "Unknown";
    }
    match (method.as_str(), bucket.is_empty(), key.is_empty()) {
        ("GET", true, _) => "ListBuckets",
        ("GET", _, true) if has("location") => "GetBucketLocation",
        ("GET", _, true) if has("uploads") => "ListMultipartUploads",
        ("GET", _, true) if has("list-type") => "ListObjectsV2",
        ("GET", _, true) => "ListObjects",
        ("HEAD", false, true) => "HeadBucket",
        ("PUT", false, true) => "CreateBucket",
        ("DELETE", false, true) => "DeleteBucket",
        ("POST", false, true) if has("delete") => "DeleteObjects",
        ("PUT", _, false) if has("uploadId") && headers.contains_key("x-amz-copy-source") => "UploadPartCopy",
        ("PUT", _, false) if has("uploadId") => "UploadPart",
        ("PUT", _, false) if headers.contains_key("x-amz-copy-source") => "CopyObject",
        ("PUT", _, false) => "PutObject",
        ("POST", _, false) if has("uploads") => "CreateMultipartUpload",
        ("POST", _, false) if has("uploadId") => "CompleteMultipartUpload",
        ("GET", _, false) if has("uploadId") => "ListParts",
        ("GET", _, false) => "GetObject",
        ("HEAD", _, false) => "HeadObject",
        ("DELETE", _, false) if has("uploadId") => "AbortMultipartUpload",
        ("DELETE", _, false) => "DeleteObject",
        _ => "Unknown",
    }
}

/// Does what is asked.
pub(crate) async fn perform(
    state: &Arc<State>,
    request: Request,
    signature: Option<&Signature>,
) -> Result<Answer, Refusal> {
    let checked = check_bucket(state, &request, signature);
    let changes = ["Put", "Copy", "Delete", "Complete"].iter().any(|verb| request.operation.starts_with(verb));
    let answered = match (checked, request.operation) {
        (Err(refusal), _) => {
            request.drain().await;
            return Err(refusal);
        }
        (_, "PutObject") => objects::put(state, request).await,
        (_, "UploadPart") => uploads::upload_part(state, request).await,
        (_, "CompleteMultipartUpload") => uploads::complete(state, request).await,
        (_, "DeleteObjects") => objects::delete_many(state, request).await,
        (_, operation) => {
            let answered = match operation {
                "ListBuckets" => buckets::list(state),
                "GetBucketLocation" => buckets::location(state, &request),
                "HeadBucket" => buckets::head(state, &request),
                "CreateBucket" => buckets::create(state, &request),
                "DeleteBucket" => buckets::delete(state, &request),
                "ListObjects" | "ListObjectsV2" => listing::objects(state, &request),
                "ListMultipartUploads" => listing::uploads(state, &request),
                "ListParts" => listing::parts(state, &request),
                "GetObject" | "HeadObject" => objects::get(state, &request),
                "CopyObject" => objects::copy(state, &request),
                "DeleteObject" => objects::delete(state, &request),
                "CreateMultipartUpload" => uploads::create(state, &request),
                "AbortMultipartUpload" => uploads::abort(state, &request),
                _ => Err(Refusal::new(501, "NotImplemented", "The sandbox does not implement this operation.")),
            };
            request.drain().await;
            answered
        }
    };
    if answered.is_ok() && changes {
        state.objects_changed();
    }
    answered
}

/// Refuses a bucket that does not exist, and redirects from a region that is not the bucket's.
fn check_bucket(state: &State, request: &Request, signature: Option<&Signature>) -> Result<(), Refusal> {
    if request.bucket.is_empty() {
        return Ok(());
    }
    let settings = state.settings();
    let region = settings.bucket_regions.get(&request.bucket);
    let exists = state.store.has_bucket(&request.bucket);
    if request.operation == "CreateBucket" || (request.operation == "GetBucketLocation" && exists) {
        return Ok(());
    }
    if !exists {
        return Err(Refusal::new(404, "NoSuchBucket", "The specified bucket does not exist"));
    }
    let signed_for = signature.map(|signature| signature.region.as_str());
    if let Some(region) = region
        && signed_for != Some(region)
    {
        let message = "The bucket you are attempting to access must be addressed using the specified endpoint. \
                       Please send all future requests to this endpoint.";
        let mut refusal = Refusal::new(301, "PermanentRedirect", message);
        refusal.headers.insert("x-amz-bucket-region".to_owned(), region.clone());
        return Err(refusal);
    }
    Ok(())
}
