//! S3: which operation a request is, and its way through `s3s` to the folder.
//!
//! `s3s` reads the requests and writes the answers; `folder` is what it serves: `s3s-fs` with what that lacks.

mod checksum;
mod folder;
mod inbound;
mod joining;
pub(crate) mod store;
mod uploads;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use s3s::service::S3ServiceBuilder;
use serde::Deserialize;

use self::folder::Folder;
use self::inbound::{Arrival, Inbound};
use crate::auth::Signature;
use crate::refusal::{Answer, Payload, Refusal};
use crate::state::State;

/// A request to S3, its body unread.
pub(crate) struct Request {
    pub(crate) operation: &'static str,
    bucket: String,
    key: String,
    method: Method,
    uri: Uri,
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
        let (method, uri, headers) = (parts.method.clone(), parts.uri.clone(), parts.headers.clone());
        Self { operation, bucket: decode(bucket), key: decode(key), method, uri, headers, body }
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
        inbound::drain(self.body).await;
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
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
    if let Err(refusal) = check_bucket(state, &request, signature).and_then(|()| check(&request)) {
        request.drain().await;
        return Err(refusal);
    }
    let changes = ["Put", "Copy", "Delete", "Complete"].iter().any(|verb| request.operation.starts_with(verb));
    let is_content = matches!(request.operation, "PutObject" | "UploadPart");
    let arrival = Arc::new(Arrival::new(is_content && state.settings().discard_bodies));
    let asked = plain(request, &arrival);
    let service = S3ServiceBuilder::new(Folder(Arc::clone(state))).build();
    let answered = service.call(asked).await;
    arrival.drain().await;
    if let Some(refusal) = arrival.refusal() {
        return Err(refusal);
    }
    let (parts, body) = answered.map_err(|error| Refusal::internal(format!("{error:?}")))?.into_parts();
    let body: Payload = body.map_err(|error| std::io::Error::other(error.to_string())).boxed();
    if parts.status.is_client_error() || parts.status.is_server_error() {
        let text = Limited::new(body, 1 << 20).collect().await.map_err(Refusal::internal)?.to_bytes();
        return Err(refusal(parts.status.as_u16(), &text));
    }
    if changes {
        state.objects_changed();
    }
    let mut answer = Answer::empty(parts.status.as_u16());
    answer.headers = parts.headers;
    if parts.status != http::StatusCode::NOT_MODIFIED {
        answer.body = body;
    }
    Ok(answer)
}

/// What `s3s` does not refuse by itself.
fn check(request: &Request) -> Result<(), Refusal> {
    if matches!(request.operation, "Unknown" | "UploadPartCopy") {
        return Err(Refusal::new(501, "NotImplemented", "The sandbox does not implement this operation."));
    }
    if matches!(request.operation, "PutObject" | "UploadPart") && request.length().is_none() {
        let message = "You must provide the Content-Length HTTP header.";
        return Err(Refusal::new(411, "MissingContentLength", message));
    }
    let seals = |name: &str| name == "content-md5" || name.starts_with("x-amz-checksum-") || name == "x-amz-trailer";
    if request.operation == "DeleteObjects" && !request.headers.keys().any(|name| seals(name.as_str())) {
        let message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*";
        return Err(Refusal::new(400, "InvalidRequest", message));
    }
    Ok(())
}

/// The request as an anonymous one with a plain body; `front` has seen to who sent it, `Inbound` sees to the body.
fn plain(request: Request, arrival: &Arc<Arrival>) -> http::Request<s3s::Body> {
    let mut headers = request.headers.clone();
    for name in
        ["x-amz-content-sha256", "x-amz-trailer", "x-amz-decoded-content-length", "x-amz-sdk-checksum-algorithm"]
    {
        headers.remove(name);
    }
    headers.remove(AUTHORIZATION);
    for algorithm in checksum::Algorithm::ALL {
        headers.remove(algorithm.header());
    }
    headers.remove("content-md5");
    if let Some(encoding) = request.header(CONTENT_ENCODING.as_str()) {
        let encodings = encoding.split(',').map(str::trim).filter(|encoding| *encoding != "aws-chunked");
        let left = encodings.collect::<Vec<_>>().join(",");
        headers.remove(CONTENT_ENCODING);
        if let Ok(left) = HeaderValue::from_str(&left)
            && !left.is_empty()
        {
            headers.insert(CONTENT_ENCODING, left);
        }
    }
    if let Some(length) = request.length() {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    let mut asked = http::Request::new(s3s::Body::empty());
    (*asked.method_mut(), *asked.uri_mut()) = (request.method.clone(), request.uri.clone());
    *asked.headers_mut() = headers;
    asked.extensions_mut().insert(Arc::clone(arrival));
    *asked.body_mut() = s3s::Body::http_body_unsync(Inbound::new(request, Arc::clone(arrival)));
    asked
}

/// An error that `s3s` has written, for the front to write once more.
fn refusal(status: u16, text: &[u8]) -> Refusal {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Written {
        code: String,
        #[serde(default)]
        message: String,
    }
    let written = std::str::from_utf8(text).ok().and_then(|text| quick_xml::de::from_str::<Written>(text).ok());
    let Written { code, message } =
        written.unwrap_or_else(|| Written { code: "InternalError".to_owned(), message: String::new() });
    let message = match (code.as_str(), message.is_empty()) {
        ("NoSuchKey", true) => "The specified key does not exist.".to_owned(),
        ("InvalidRange", true) => "The requested range is not satisfiable".to_owned(),
        ("MalformedXML", true) => {
            "The XML you provided was not well-formed or did not validate against our published schema".to_owned()
        }
        _ => message,
    };
    Refusal::new(status, code, message)
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
