//! What `s3s` serves: `s3s-fs`, and in its place what that lacks or does otherwise than S3.

use std::io::SeekFrom;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
#[allow(clippy::wildcard_imports, reason = "the inputs and outputs of every operation")]
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::checksum::{Algorithm, Checksum};
use super::inbound::Arrival;
use super::store::{Attributes, Conditions, Encryption, Kept, STAGED};
use super::uploads::{Part as Arrived, UPLOADED, Upload, chosen, inner_id};
use crate::refusal::Refusal;
use crate::state::State;

/// The most entries of a list.
const MAX_ENTRIES: i32 = 1000;

/// What `encoding-type=url` leaves as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// The buckets of a sandbox.
pub(super) struct Folder(pub(super) Arc<State>);

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        let code = S3ErrorCode::from_bytes(refusal.code.as_bytes()).unwrap_or(S3ErrorCode::InternalError);
        let mut error = Self::with_message(code, refusal.message);
        if let Ok(status) = http::StatusCode::from_u16(refusal.status) {
            error.set_status_code(status);
        }
        error
    }
}

fn internal(error: impl std::fmt::Display) -> S3Error {
    Refusal::internal(error).into()
}

/// A request to `s3s-fs` that comes from here.
fn inner<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: http::Method::GET,
        uri: http::Uri::default(),
        headers: http::HeaderMap::default(),
        extensions: http::Extensions::default(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

/// The body of a request, once it was read.
fn arrival<T>(request: &S3Request<T>) -> Arc<Arrival> {
    request.extensions.get::<Arc<Arrival>>().cloned().unwrap_or_default()
}

/// Puts a checksum in its place in an output.
macro_rules! tell {
    ($output:expr, $checksum:expr) => {
        if let Some(Checksum { algorithm, value }) = $checksum {
            let value = Some(value.clone());
            match algorithm {
                Algorithm::Crc32 => $output.checksum_crc32 = value,
                Algorithm::Crc32C => $output.checksum_crc32c = value,
                Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
                Algorithm::Sha1 => $output.checksum_sha1 = value,
                Algorithm::Sha256 => $output.checksum_sha256 = value,
            }
        }
    };
}

/// Reads from an input the encryption it asks for.
macro_rules! encryption_of {
    ($input:expr) => {
        Encryption {
            algorithm: $input.server_side_encryption.as_ref().map(|algorithm| algorithm.as_str().to_owned()),
            kms_key_id: $input.ssekms_key_id.clone(),
        }
    };
}

/// Puts the encryption that was asked for in its place in an output.
macro_rules! tell_encryption {
    ($output:expr, $encryption:expr) => {
        $output.server_side_encryption = $encryption.algorithm.clone().map(ServerSideEncryption::from);
        $output.ssekms_key_id = $encryption.kms_key_id.clone();
    };
}

/// What `s3s-fs` leaves out of GetObject and HeadObject.
macro_rules! complete_output {
    ($output:expr, $found:expr, $mode:expr) => {
        $output.content_type.get_or_insert_with(|| "binary/octet-stream".to_owned());
        $output.accept_ranges = Some("bytes".to_owned());
        ($output.checksum_crc32, $output.checksum_crc32c, $output.checksum_crc64nvme) = (None, None, None);
        ($output.checksum_sha1, $output.checksum_sha256) = (None, None);
        let whole = $output.content_range.is_none();
        if whole && $mode.as_ref().is_some_and(|mode| mode.as_str().eq_ignore_ascii_case("enabled")) {
            tell!($output, &$found.kept.checksum);
            $output.checksum_type = kind(&$found.kept.checksum);
        }
        tell_encryption!($output, $found.kept.encryption);
    };
}

fn kind(checksum: &Option<Checksum>) -> Option<ChecksumType> {
    checksum.as_ref().map(|checksum| ChecksumType::from_static(checksum.kind()))
}

fn is_url(encoding: Option<&EncodingType>) -> bool {
    encoding.is_some_and(|encoding| encoding.as_str() == "url")
}

/// A key, a prefix or the like as the request wants it written.
fn encode(url: bool, text: &mut Option<String>) {
    if let Some(text) = text.as_mut().filter(|_| url) {
        *text = utf8_percent_encode(text, KEPT).to_string();
    }
}

impl Folder {
    fn region(&self, bucket: &str) -> String {
        self.0.settings().bucket_regions.get(bucket).cloned().unwrap_or_else(|| self.0.region.clone())
    }

    fn listed(&self, at: SystemTime) -> Timestamp {
        (at - Duration::from_secs(self.0.settings().listed_age_seconds)).into()
    }

    /// An object, if the conditions of a read hold.
    fn readable(
        &self,
        (bucket, key): (&str, &str),
        if_match: Option<&ETagCondition>,
        if_none_match: Option<&ETagCondition>,
    ) -> S3Result<Attributes> {
        let found = self.0.store.find(bucket, key)?.ok_or_else(|| s3_error!(NoSuchKey))?;
        let matches = |wanted: &ETagCondition| wanted.as_etag().is_none_or(|etag| etag.value() == found.etag);
        if if_match.is_some_and(|wanted| !matches(wanted)) {
            let message = "At least one of the pre-conditions you specified did not hold";
            return Err(s3_error!(PreconditionFailed, "{message}"));
        }
        if if_none_match.is_some_and(matches) {
            return Err(s3_error!(NotModified));
        }
        Ok(found)
    }

    /// Whether an object is what it was; else what `s3s-fs` read meanwhile may be of two.
    fn is_still(&self, (bucket, key): (&str, &str), found: &Attributes) -> S3Result<bool> {
        let now = self.0.store.find(bucket, key)?;
        Ok(now.is_none_or(|now| now.modified == found.modified && now.etag == found.etag))
    }

    /// Adds what `s3s-fs` does not list, and writes keys as they are wanted.
    fn fill(
        &self,
        bucket: &str,
        url: bool,
        contents: &mut Option<ObjectList>,
        prefixes: &mut Option<CommonPrefixList>,
    ) {
        for object in contents.iter_mut().flatten() {
            let key = object.key.clone().unwrap_or_default();
            if let Ok(Some(found)) = self.0.store.find(bucket, &key) {
                object.last_modified = Some(self.listed(found.modified));
                object.size = i64::try_from(found.size).ok();
                object.e_tag = Some(ETag::Strong(found.etag));
            }
            object.storage_class = Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD));
            encode(url, &mut object.key);
        }
        for prefix in prefixes.iter_mut().flatten() {
            encode(url, &mut prefix.prefix);
        }
    }
}

#[async_trait::async_trait]
impl S3 for Folder {
    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let mut response = self.0.store.files.list_buckets(request).await?;
        if let Some(buckets) = &mut response.output.buckets {
            buckets.sort_by(|one, other| one.name.cmp(&other.name));
        }
        response.output.owner = Some(Owner { id: Some(self.0.account_id.clone()), ..Default::default() });
        Ok(response)
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket.clone();
        if self.0.store.has_bucket(&bucket) {
            let message = "Your previous request to create the named bucket succeeded and you already own it.";
            return Err(s3_error!(BucketAlreadyOwnedByYou, "{message}"));
        }
        let mut response = self.0.store.files.create_bucket(request).await?;
        response.output.location = Some(format!("/{bucket}"));
        Ok(response)
    }

    async fn delete_bucket(&self, request: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        match self.0.store.delete_bucket(&request.input.bucket) {
            Ok(()) => Ok(S3Response::new(DeleteBucketOutput {})),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {
                Err(s3_error!(BucketNotEmpty, "The bucket you tried to delete is not empty"))
            }
            Err(error) => Err(internal(error)),
        }
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let region = self.region(&request.input.bucket);
        let mut response = self.0.store.files.get_bucket_location(request).await?;
        response.output.location_constraint = (region != "us-east-1").then(|| region.into());
        Ok(response)
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        let region = self.region(&request.input.bucket);
        let mut response = self.0.store.files.head_bucket(request).await?;
        response.output.bucket_region = Some(region);
        Ok(response)
    }

    async fn list_objects(&self, request: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let ListObjectsInput { marker, encoding_type, .. } = request.input.clone();
        let output = self.list_objects_v2(request.map_input(Into::into)).await?.output;
        let mut next_marker = output.next_continuation_token;
        encode(is_url(encoding_type.as_ref()), &mut next_marker);
        Ok(S3Response::new(ListObjectsOutput {
            name: output.name,
            prefix: output.prefix,
            marker: marker.or_else(|| Some(String::new())),
            max_keys: output.max_keys,
            is_truncated: output.is_truncated,
            contents: output.contents,
            common_prefixes: output.common_prefixes,
            delimiter: output.delimiter,
            next_marker,
            encoding_type: output.encoding_type,
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        mut request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let url = is_url(request.input.encoding_type.as_ref());
        let bucket = request.input.bucket.clone();
        request.input.max_keys = Some(request.input.max_keys.unwrap_or(MAX_ENTRIES).clamp(0, MAX_ENTRIES));
        let mut tries = 0;
        let mut response = loop {
            match self.0.store.files.list_objects_v2(inner(request.input.clone())).await {
                // A file or a folder was deleted while the list was made.
                Err(error) if *error.code() == S3ErrorCode::InternalError && tries < 100 => tries += 1,
                other => break other?,
            }
        };
        let output = &mut response.output;
        self.fill(&bucket, url, &mut output.contents, &mut output.common_prefixes);
        for text in [&mut output.prefix, &mut output.delimiter, &mut output.start_after] {
            encode(url, text);
        }
        Ok(response)
    }

    async fn get_object(&self, mut request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        loop {
            let input = &mut request.input;
            let (bucket, key, mode) = (input.bucket.clone(), input.key.clone(), input.checksum_mode.clone());
            let found = self.readable((&bucket, &key), input.if_match.as_ref(), input.if_none_match.as_ref())?;
            if let Some(Range::Suffix { length }) = &mut input.range {
                *length = found.size.min(*length);
            }
            let (named_bucket, named_key) = self.0.store.named(&bucket, &key);
            let named = GetObjectInput { bucket: named_bucket, key: named_key, ..input.clone() };
            let mut response = self.0.store.files.get_object(inner(named)).await?;
            // Its own body comes in pieces of 4 KiB, a switch of threads each.
            let range = input.range.as_ref().map_or(Ok(0..found.size), |range| range.check(found.size))?;
            let path = self.0.store.path(&bucket, &key)?;
            let mut file = tokio::fs::File::open(path).await.map_err(|_| s3_error!(NoSuchKey))?;
            file.seek(SeekFrom::Start(range.start)).await.map_err(internal)?;
            let stream = ReaderStream::with_capacity(file.take(range.end - range.start), 256 << 10);
            response.output.body = Some(StreamingBlob::wrap(stream));
            if self.is_still((&bucket, &key), &found)? {
                complete_output!(response.output, found, mode);
                return Ok(response);
            }
        }
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        loop {
            let HeadObjectInput { bucket, key, checksum_mode: mode, if_match, if_none_match, .. } = &request.input;
            let found = self.readable((bucket, key), if_match.as_ref(), if_none_match.as_ref())?;
            let (named_bucket, named_key) = self.0.store.named(bucket, key);
            let named = HeadObjectInput { bucket: named_bucket, key: named_key, ..request.input.clone() };
            let mut response = self.0.store.files.head_object(inner(named)).await?;
            if self.is_still((bucket, key), &found)? {
                complete_output!(response.output, found, mode);
                return Ok(response);
            }
        }
    }

    async fn put_object(&self, mut request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (store, arrival, input) = (&self.0.store, arrival(&request), &mut request.input);
        let conditions = Conditions::new(input.if_none_match.take(), input.if_match.take())?;
        store.path(&input.bucket, &input.key)?;
        let staged = store.stage();
        let bucket = std::mem::replace(&mut input.bucket, STAGED.to_owned());
        let key = std::mem::replace(&mut input.key, staged.key.clone());
        (input.checksum_algorithm, input.storage_class) = (None, None);
        let encryption = encryption_of!(input);
        let mut response = store.files.put_object(request).await?;
        if arrival.discards() {
            staged.set_len(arrival.size()).map_err(internal)?;
        }
        let kept = Kept { checksum: arrival.checksum(), encryption };
        let Attributes { kept, .. } = store.publish((&bucket, &key), &staged, kept, &conditions)?;
        tell!(response.output, &kept.checksum);
        response.output.checksum_type = kind(&kept.checksum);
        tell_encryption!(response.output, kept.encryption);
        Ok(response)
    }

    async fn copy_object(&self, mut request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let (store, input) = (&self.0.store, &mut request.input);
        let CopySource::Bucket { bucket: from, key: source, .. } = &mut input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        if !store.has_bucket(from) {
            return Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"));
        }
        let found = store.find(from, source)?.ok_or_else(|| s3_error!(NoSuchKey))?;
        let (named_bucket, named_key) = store.named(from, source);
        (*from, *source) = (named_bucket.into(), named_key.into());
        store.path(&input.bucket, &input.key)?;
        let staged = store.stage();
        let bucket = std::mem::replace(&mut input.bucket, STAGED.to_owned());
        let key = std::mem::replace(&mut input.key, staged.key.clone());
        let condition = |name| {
            let value = request.headers.get(name).map(|value| ETagCondition::parse_http_header(value.as_bytes()));
            value.transpose().map_err(|_| s3_error!(InvalidArgument))
        };
        let conditions = Conditions::new(condition("if-none-match")?, condition("if-match")?)?;
        let encryption = encryption_of!(input);
        let mut response = store.files.copy_object(request).await?;
        let kept = Kept { checksum: found.kept.checksum, encryption };
        let Attributes { kept, .. } = store.publish((&bucket, &key), &staged, kept, &conditions)?;
        tell_encryption!(response.output, kept.encryption);
        Ok(response)
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.store.delete(&request.input.bucket, &request.input.key)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        if delete.objects.is_empty() || delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML));
        }
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for ObjectIdentifier { key, .. } in delete.objects {
            let refused = self.0.settings().refused_deletes.get(&key).cloned();
            let done = match refused {
                Some(code) => Err(Refusal::new(403, &code, "refused by settings")),
                None => self.0.store.delete(&bucket, &key),
            };
            match done {
                Ok(_) => deleted.push(DeletedObject { key: Some(key), ..Default::default() }),
                Err(Refusal { code, message, .. }) => errors.push(Error {
                    key: Some(key),
                    code: Some(code),
                    message: Some(message),
                    ..Default::default()
                }),
            }
        }
        let deleted = (delete.quiet != Some(true)).then_some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, errors: Some(errors), ..Default::default() }))
    }

    async fn create_multipart_upload(
        &self,
        mut request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let (store, input) = (&self.0.store, &mut request.input);
        store.path(&input.bucket, &input.key)?;
        let checksum_algorithm = input.checksum_algorithm.clone();
        let unsupported = || s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported.");
        let algorithm = checksum_algorithm.as_ref().map(|name| Algorithm::named(name.as_str()).ok_or_else(unsupported));
        let bucket = std::mem::replace(&mut input.bucket, STAGED.to_owned());
        let key = std::mem::replace(&mut input.key, UPLOADED.to_owned());
        let encryption = encryption_of!(input);
        let upload = Upload::new(&bucket, &key, algorithm.transpose()?, encryption.clone());
        let mut response = store.files.create_multipart_upload(request).await?;
        let output = &mut response.output;
        let id = store.uploads.create(upload, output.upload_id.as_deref().unwrap_or_default()).map_err(internal)?;
        (output.bucket, output.key, output.upload_id) = (Some(bucket), Some(key), Some(id));
        tell_encryption!(output, encryption);
        if checksum_algorithm.is_some() {
            output.checksum_algorithm = checksum_algorithm;
            output.checksum_type = Some(ChecksumType::from_static(ChecksumType::COMPOSITE));
        }
        Ok(response)
    }

    async fn upload_part(&self, mut request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let (store, arrival, input) = (&self.0.store, arrival(&request), &mut request.input);
        store.uploads.find(&input.bucket, &input.key, &input.upload_id)?;
        let number = u32::try_from(input.part_number).ok().filter(|number| (1..=10_000).contains(number));
        let Some(number) = number else {
            let message = "Part number must be an integer between 1 and 10000, inclusive";
            return Err(s3_error!(InvalidArgument, "{message}"));
        };
        let id = input.upload_id.clone();
        input.upload_id = inner_id(&id).to_owned();
        let mut response = store.files.upload_part(request).await?;
        let part = Arrived {
            number,
            etag: response.output.e_tag.as_ref().map(|etag| etag.value().to_owned()).unwrap_or_default(),
            size: arrival.size(),
            checksum: arrival.checksum(),
            modified: SystemTime::now(),
            discarded: arrival.discards(),
        };
        tell!(response.output, &part.checksum);
        store.uploads.add_part(&id, part)?;
        Ok(response)
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let ListPartsInput { bucket, key, upload_id, max_parts, part_number_marker, .. } = request.input;
        let upload = self.0.store.uploads.find(&bucket, &key, &upload_id)?;
        let after = part_number_marker.unwrap_or(0);
        let max = max_parts.unwrap_or(MAX_ENTRIES).clamp(0, MAX_ENTRIES);
        let listed = upload.parts.values().filter_map(|part| {
            let mut listed = Part {
                part_number: i32::try_from(part.number).ok(),
                last_modified: Some(part.modified.into()),
                e_tag: Some(ETag::Strong(part.etag.clone())),
                size: i64::try_from(part.size).ok(),
                ..Default::default()
            };
            tell!(listed, &part.checksum);
            Some(listed).filter(|part| part.part_number > Some(after))
        });
        let mut parts: Vec<_> = listed.collect();
        let truncated = parts.len() > max as usize;
        parts.truncate(max as usize);
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(bucket),
            key: Some(key),
            upload_id: Some(upload_id),
            max_parts: Some(max),
            part_number_marker: Some(after),
            is_truncated: Some(truncated),
            next_part_number_marker: parts.last().filter(|_| truncated).and_then(|part| part.part_number),
            parts: Some(parts),
            ..Default::default()
        }))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let ListMultipartUploadsInput {
            bucket, prefix, encoding_type, key_marker, max_uploads, upload_id_marker, ..
        } = request.input;
        let url = is_url(encoding_type.as_ref());
        let max = max_uploads.unwrap_or(MAX_ENTRIES).clamp(0, MAX_ENTRIES);
        let mut open = self.0.store.uploads.list(&bucket, prefix.as_deref().unwrap_or_default());
        if let Some(after) = key_marker.as_ref().filter(|marker| !marker.is_empty()) {
            // Ids begin with the time, so their order is the order of age.
            let id_after = upload_id_marker.as_ref().filter(|marker| !marker.is_empty());
            open.retain(|(id, upload)| {
                upload.key > *after || (upload.key == *after && id_after.is_some_and(|after| id > after))
            });
        }
        let truncated = open.len() > max as usize;
        open.truncate(max as usize);
        let last = open.last().filter(|_| truncated).cloned();
        let uploads = open.into_iter().map(|(id, upload)| {
            let mut key = Some(upload.key);
            encode(url, &mut key);
            MultipartUpload {
                key,
                upload_id: Some(id),
                initiated: Some(self.listed(upload.initiated)),
                storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
                ..Default::default()
            }
        });
        let mut output = ListMultipartUploadsOutput {
            bucket: Some(bucket),
            prefix,
            encoding_type,
            key_marker: key_marker.or_else(|| Some(String::new())),
            upload_id_marker: upload_id_marker.or_else(|| Some(String::new())),
            max_uploads: Some(max),
            is_truncated: Some(truncated),
            next_key_marker: last.as_ref().map(|(_, upload)| upload.key.clone()),
            next_upload_id_marker: last.map(|(id, _)| id),
            uploads: Some(uploads.collect()),
            ..Default::default()
        };
        for text in [&mut output.prefix, &mut output.key_marker, &mut output.next_key_marker] {
            encode(url, text);
        }
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = request.input;
        self.0.store.uploads.find(&bucket, &key, &upload_id)?;
        self.0.store.end_upload(&upload_id)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let CompleteMultipartUploadInput { bucket, key, upload_id, multipart_upload, if_match, if_none_match, .. } =
            request.input;
        let conditions = Conditions::new(if_none_match, if_match)?;
        let upload = self.0.store.uploads.find(&bucket, &key, &upload_id)?;
        let named = multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let parts = chosen(&upload, &named)?;
        while !self.0.store.uploads.begin_completing(&upload_id)? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let state = Arc::clone(&self.0);
        // Goes on to its end even if the client does not wait, as on S3.
        let done = tokio::task::spawn_blocking(move || {
            let done = state.store.complete((&upload_id, upload), &parts, &conditions);
            state.store.uploads.end_completing(&upload_id);
            state.objects_changed();
            done
        });
        let Attributes { etag, kept, .. } = done.await.map_err(internal)??;
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            bucket: Some(bucket),
            key: Some(key),
            e_tag: Some(ETag::Strong(etag)),
            checksum_type: kind(&kept.checksum),
            ..Default::default()
        };
        tell!(output, &kept.checksum);
        tell_encryption!(output, kept.encryption);
        Ok(S3Response::new(output))
    }
}
