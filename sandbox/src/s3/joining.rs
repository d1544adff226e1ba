//! Completing an upload: `s3s-fs` joins the parts, but only once, and without asking anything.

use std::fs;

use s3s::dto::*;
use s3s::{S3 as _, S3Result};

use super::checksum::Checksum;
use super::folder::{Folder, UPLOADED, inner, internal};
use super::store::{Attributes, Conditions, Kept, STAGED, Staged};
use super::uploads::{Part as Arrived, Upload, inner_id};

impl Folder {
    /// The parts as one object that nobody sees yet. The upload stays, because the conditions may not hold: `s3s-fs`
    /// consumes what it completes, and wants parts numbered from 1, so it is given other names of the same files.
    async fn join(&self, id: &str, parts: &[Arrived]) -> S3Result<Staged> {
        let store = &self.0.store;
        let staged = store.stage();
        let input =
            CreateMultipartUploadInput { bucket: STAGED.to_owned(), key: staged.key.clone(), ..Default::default() };
        let joined = store.files.create_multipart_upload(inner(input)).await?.output.upload_id.unwrap_or_default();
        let metadata = |key: &str, id: &str| store.record(STAGED, key, &format!("upload-{id}.metadata"));
        fs::copy(metadata(UPLOADED, inner_id(id)), metadata(&staged.key, &joined)).map_err(internal)?;
        // What was thrown away is not there to be joined: the object only becomes as long.
        let is_empty = parts.iter().any(|part| part.discarded);
        let joinable = if is_empty { &parts[parts.len() - 1..] } else { parts };
        let mut named = Vec::with_capacity(joinable.len());
        for (number, part) in (1_u32..).zip(joinable) {
            fs::hard_link(store.part(inner_id(id), part.number), store.part(&joined, number)).map_err(internal)?;
            named.push(CompletedPart { part_number: i32::try_from(number).ok(), ..Default::default() });
        }
        let input = CompleteMultipartUploadInput {
            bucket: STAGED.to_owned(),
            key: staged.key.clone(),
            upload_id: joined,
            multipart_upload: Some(CompletedMultipartUpload { parts: Some(named) }),
            ..Default::default()
        };
        store.files.complete_multipart_upload(inner(input)).await?;
        if is_empty {
            staged.set_len(parts.iter().map(|part| part.size).sum()).map_err(internal)?;
        }
        Ok(staged)
    }

    /// Ends an upload in `s3s-fs`.
    pub(super) async fn forget(&self, id: &str) -> S3Result<()> {
        let input = AbortMultipartUploadInput {
            bucket: STAGED.to_owned(),
            key: UPLOADED.to_owned(),
            upload_id: inner_id(id).to_owned(),
            ..Default::default()
        };
        self.0.store.files.abort_multipart_upload(inner(input)).await?;
        Ok(())
    }

    /// Makes the object exist, and ends the upload then.
    pub(super) async fn finish(
        &self,
        (id, upload): (&str, Upload),
        parts: &[Arrived],
        conditions: &Conditions,
    ) -> S3Result<Attributes> {
        let staged = self.join(id, parts).await?;
        let checksums: Option<Vec<_>> = parts.iter().map(|part| part.checksum.as_ref()).collect();
        let checksum = upload.algorithm.zip(checksums);
        let checksum = checksum.map(|(algorithm, parts)| Checksum::composite(algorithm, &parts));
        let kept = Kept { checksum, encryption: upload.encryption };
        let attributes = self.0.store.publish((&upload.bucket, &upload.key), &staged, kept, conditions)?;
        // It can have been aborted meanwhile; the object is there.
        if self.0.store.uploads.remove(id).is_ok() {
            self.forget(id).await?;
        }
        Ok(attributes)
    }
}
