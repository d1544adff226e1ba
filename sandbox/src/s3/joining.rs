//! Completing an upload, and ending it. `s3s-fs` would consume the parts also where a condition does not hold, wants
//! them numbered from 1, hashes every byte once more, and to end an upload reads through the records of all objects.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::checksum::Checksum;
use super::store::{Attributes, Conditions, Kept, STAGED, Staged, Store};
use super::uploads::{Part, UPLOADED, Upload, inner_id, multipart_etag};
use crate::refusal::Refusal;

impl Store {
    /// Makes the object exist, and ends the upload then.
    pub(super) fn complete(
        &self,
        (id, upload): (&str, Upload),
        parts: &[Part],
        conditions: &Conditions,
    ) -> Result<Attributes, Refusal> {
        let staged = self.join(id, parts).map_err(Refusal::internal)?;
        let checksums: Option<Vec<_>> = parts.iter().map(|part| part.checksum.as_ref()).collect();
        let checksum = upload.algorithm.zip(checksums);
        let checksum = checksum.map(|(algorithm, parts)| Checksum::composite(algorithm, &parts));
        let kept = Kept { checksum, encryption: upload.encryption };
        let attributes = self.publish((&upload.bucket, &upload.key), &staged, kept, conditions)?;
        // It can have been aborted meanwhile; the object is there.
        drop(self.end_upload(id));
        Ok(attributes)
    }

    /// The parts as one object that nobody sees yet. They stay, because the conditions may not hold.
    fn join(&self, id: &str, parts: &[Part]) -> io::Result<Staged> {
        let staged = self.stage();
        let mut joined = File::create(&staged.file)?;
        // What was thrown away is not there to be joined: the object only becomes as long.
        for part in parts.iter().filter(|part| !part.discarded) {
            io::copy(&mut File::open(self.part(inner_id(id), part.number))?, &mut joined)?;
        }
        joined.set_len(parts.iter().map(|part| part.size).sum())?;
        fs::hard_link(self.upload_metadata(id), &staged.metadata)?;
        let record = Map::from_iter([("e_tag".to_owned(), Value::from(multipart_etag(parts)))]);
        fs::write(&staged.record, serde_json::to_vec(&record)?)?;
        Ok(staged)
    }

    /// Forgets an upload and removes what `s3s-fs` keeps of it.
    pub(super) fn end_upload(&self, id: &str) -> Result<(), Refusal> {
        let upload = self.uploads.remove(id)?;
        let parts = upload.parts.keys().map(|number| self.part(inner_id(id), *number));
        for file in parts.chain([self.upload_metadata(id), self.upload_mark(inner_id(id))]) {
            // What cannot be removed is swept when the sandbox is started again.
            drop(fs::remove_file(file));
        }
        Ok(())
    }

    fn upload_metadata(&self, id: &str) -> PathBuf {
        self.record(STAGED, UPLOADED, &format!("upload-{}.metadata", inner_id(id)))
    }
}
