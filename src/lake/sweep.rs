//! What may be deleted, and only that: uploads and areas of dead processes, and locations that a switch replaced.
//!
//! Nothing is ever deleted by guessing. A refusal, or a doubt about what is still in use, is a warning.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::glue::{self, Catalog};
use super::table::{Kind, Location, parameter};
use super::transaction::Transaction;
use super::{Lake, TOKEN_CHARS, area, mark};
use crate::aws::{Aws, AwsError, Doubt, Operation, Patience};
use crate::stage::ObjectName;

/// What is younger may belong to a process that lives.
const DEAD_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Folders of a governed table that are looked into, since nothing comes of it but a warning.
const LOOKED_AT: usize = 16;
/// The most keys one `DeleteObjects` takes.
const KEYS_PER_DELETE: usize = 1000;

const fn s3(name: &'static str) -> Operation {
    Operation { service: "s3", name }
}

/// The clean-up at the start of a sync, as a task of its own: it never delays a record.
#[derive(Debug)]
pub struct Sweep {
    aws: Aws,
    token: String,
    tables: Vec<Swept>,
}

#[derive(Clone, Debug)]
struct Swept {
    kind: Kind,
    database: String,
    table: String,
    location: Location,
    replaces: bool,
    exists: bool,
}

impl Lake {
    /// What a clean-up has to know of our tables.
    #[must_use]
    pub fn sweep(&self, token: &str) -> Sweep {
        let tables = self.tables.iter().map(|table| Swept {
            kind: table.plan.kind,
            database: table.plan.name.database.clone(),
            table: table.plan.name.table.clone(),
            location: table.plan.location.clone(),
            replaces: matches!(table.plan.mode, super::Mode::Replace { .. }),
            exists: table.plan.exists,
        });
        Sweep { aws: self.aws.clone(), token: token.to_owned(), tables: tables.collect() }
    }
}

impl Sweep {
    /// Aborts dead uploads and deletes dead areas. Returns what the user should hear.
    pub async fn run(self) -> Vec<String> {
        let mut warnings = Vec::new();
        let parents: BTreeSet<(String, String)> =
            self.tables.iter().map(|table| (table.location.bucket.clone(), parent(&table.location.folder))).collect();
        for (bucket, parent) in &parents {
            if let Err(error) = self.abort_dead_uploads(bucket, parent).await {
                warnings.push(format!("unfinished uploads of dead syncs are not cleaned up: {error}"));
            }
        }
        for table in self.tables.iter().filter(|table| table.replaces && table.exists && table.kind != Kind::Iceberg) {
            match self.delete_dead_areas(table).await {
                Ok(mut kept) => warnings.append(&mut kept),
                Err(error) => warnings.push(format!(
                    "what dead syncs left beside {}.{} is not cleaned up: {error}",
                    table.database, table.table
                )),
            }
        }
        warnings
    }

    async fn abort_dead_uploads(&self, bucket: &str, parent: &str) -> Result<(), AwsError> {
        let mut key_marker: Option<String> = None;
        let mut upload_marker: Option<String> = None;
        let patience = Patience::standard();
        loop {
            let page = patience
                .run(Doubt::Repeat, || async {
                    let request = self
                        .aws
                        .s3
                        .list_multipart_uploads()
                        .bucket(bucket)
                        .prefix(parent)
                        .set_key_marker(key_marker.clone())
                        .set_upload_id_marker(upload_marker.clone());
                    self.aws.call(s3("ListMultipartUploads"), &format!("s3://{bucket}/{parent}"), request.send()).await
                })
                .await?;
            for upload in page.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                let old = upload.initiated().is_some_and(|time| is_dead(time.secs()));
                if !(old && self.is_ours(bucket, key)) {
                    continue;
                }
                let name = ObjectName { bucket: bucket.to_owned(), key: key.to_owned() };
                patience
                    .run(Doubt::Repeat, || async {
                        let request = self.aws.s3.abort_multipart_upload().bucket(bucket).key(key).upload_id(id);
                        match self.aws.call(s3("AbortMultipartUpload"), &name.to_string(), request.send()).await {
                            Err(error) if error.has_code("NoSuchUpload") => Ok(()),
                            other => other.map(|_| ()),
                        }
                    })
                    .await?;
            }
            if page.is_truncated() != Some(true) {
                return Ok(());
            }
            key_marker = page.next_key_marker;
            upload_marker = page.next_upload_id_marker;
        }
    }

    /// Whether an upload bears our name pattern, of another process, under one of our tables' prefixes.
    fn is_ours(&self, bucket: &str, key: &str) -> bool {
        let Some(token) = key.rsplit('/').next().and_then(process_of) else { return false };
        token != self.token
            && self.tables.iter().any(|table| {
                let first = area::first_folder(&table.location.folder);
                let rest = (table.location.bucket == bucket).then(|| key.strip_prefix(first)).flatten();
                rest.is_some_and(|rest| {
                    let areas = area::search_prefix(table.kind, &table.location.folder);
                    rest.starts_with('/') || key.starts_with(&areas)
                })
            })
    }

    /// Deletes areas of dead processes that nothing refers to. Returns warnings about those it keeps.
    async fn delete_dead_areas(&self, table: &Swept) -> anyhow::Result<Vec<String>> {
        let mut found = self.areas_of(table).await?;
        if table.kind == Kind::External && !found.is_empty() {
            // Most of what is found is in use by the table itself or its neighbours, which is quickly asked.
            let near = locations_of(&self.aws, &table.database).await?;
            let bucket = &table.location.bucket;
            let free = |folder: &String| Location { bucket: bucket.clone(), folder: folder.clone() };
            found.retain(|folder| !near.iter().any(|used| used.overlaps(&free(folder))));
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        if table.kind == Kind::Governed {
            return self.kept_for_time_travel(table, &found).await;
        }
        // Any table of the catalog may refer to it, and others may have put files there: what is kept at a switch for
        // such a reason is not taken for a dead sync's here.
        let in_use = all_locations(&self.aws).await?;
        let mut warnings = Vec::new();
        for folder in found {
            let location = Location { bucket: table.location.bucket.clone(), folder };
            if in_use.iter().any(|used| used.overlaps(&location)) {
                continue;
            }
            let objects = list(&self.aws, &location).await?;
            let spared =
                |(key, modified): &(String, Option<i64>)| !modified.is_some_and(is_dead) || !is_written_by_us(key);
            if objects.is_empty() || objects.iter().any(spared) {
                continue;
            }
            let keys = objects.into_iter().map(|(key, _)| key).collect();
            delete(&self.aws, &location.bucket, keys).await?;
            warnings.push(format!("deleted {}, which a dead sync had left and nothing refers to", location.uri()));
        }
        Ok(warnings)
    }

    async fn areas_of(&self, table: &Swept) -> anyhow::Result<Vec<String>> {
        let first = match table.kind {
            Kind::Governed => table.location.folder.as_str(),
            Kind::External | Kind::Iceberg => area::first_folder(&table.location.folder),
        };
        let prefix = area::search_prefix(table.kind, &table.location.folder);
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = Patience::standard()
                .run(Doubt::Repeat, || async {
                    let request = self
                        .aws
                        .s3
                        .list_objects_v2()
                        .bucket(&table.location.bucket)
                        .prefix(&prefix)
                        .delimiter("/")
                        .set_continuation_token(next.clone());
                    self.aws.call(s3("ListObjectsV2"), &table.location.uri(), request.send()).await
                })
                .await?;
            for common in page.common_prefixes() {
                let folder = common.prefix().unwrap_or_default().trim_end_matches('/');
                let own = folder.ends_with(&self.token);
                if area::is_area_of(table.kind, first, folder) && !own {
                    found.push(folder.to_owned());
                }
            }
            match page.next_continuation_token {
                Some(token) => next = Some(token),
                None => return Ok(found),
            }
        }
    }

    /// A governed table's former objects serve time travel, and what a dead process left looks just the same, so
    /// nothing is deleted. Says what lies there unregistered for more than a day.
    async fn kept_for_time_travel(&self, table: &Swept, areas: &[String]) -> anyhow::Result<Vec<String>> {
        let transaction = Transaction::begin(&self.aws, Patience::standard()).await?;
        let objects = transaction.objects(&table.database, &table.table).await;
        drop(transaction.cancel().await);
        let objects = objects?;
        let bucket = &table.location.bucket;
        let idle = areas.iter().filter(|area| {
            let prefix = format!("s3://{bucket}/{area}/");
            !objects.iter().any(|object| object.uri.starts_with(&prefix))
        });
        let mut old = 0;
        for folder in idle.take(LOOKED_AT) {
            let location = Location { bucket: bucket.clone(), folder: folder.clone() };
            let mut objects = list(&self.aws, &location).await?.into_iter();
            old += usize::from(objects.all(|(_, modified)| modified.is_some_and(is_dead)));
        }
        let (place, name) = (table.location.uri(), format!("{}.{}", table.database, table.table));
        Ok(match old {
            0 => Vec::new(),
            _ => vec![format!(
                "folders generation-* in {place} that hold no current object of {name} are kept, since time travel may \
                 need them: at least {old}"
            )],
        })
    }
}

/// The process token in an object's name: `<token>-<time>-<counter>.<ending>`.
fn process_of(name: &str) -> Option<&str> {
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

fn parent(folder: &str) -> String {
    folder.rsplit_once('/').map_or_else(String::new, |(parent, _)| format!("{parent}/"))
}

fn is_dead(modified_seconds: i64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now.saturating_sub(DEAD_AFTER.as_secs())).is_ok_and(|limit| modified_seconds < limit)
}

/// Locations that the tables of a database use now or are switching to. Partitions lie where their table's
/// parameters or location say; those elsewhere are read too.
async fn locations_of(aws: &Aws, database: &str) -> anyhow::Result<Vec<Location>> {
    let patience = Patience::standard();
    let catalog = Catalog::new(aws, &patience);
    let mut used = Vec::new();
    for table in catalog.tables(database).await? {
        let parameters = [parameter::PREVIOUS_LOCATION, "metadata_location"];
        let texts = parameters.iter().filter_map(|key| glue::parameter(&table, key));
        used.extend(texts.chain(glue::location(&table)).filter_map(Location::parse));
        used.extend(glue::parameter(&table, parameter::SWITCHING).and_then(mark::location_in));
        if !table.partition_keys().is_empty() && glue::parameter(&table, "table_type").is_none() {
            let name = glue::TableName { database: database.to_owned(), table: table.name().to_owned() };
            used.extend(catalog.partitions(&name).await?.iter().filter_map(glue::partition_location));
        }
    }
    Ok(used)
}

/// Deletes locations that switches replaced, unless anything in the whole catalog refers to them. What others put
/// there stays.
pub(super) async fn delete_leftovers(aws: &Aws, leftovers: Vec<Location>) -> Vec<String> {
    let mut warnings = Vec::new();
    if leftovers.is_empty() {
        return warnings;
    }
    let used = match all_locations(aws).await {
        Ok(used) => used,
        Err(error) => {
            let kept: Vec<String> = leftovers.iter().map(Location::uri).collect();
            let kept = kept.join(", ");
            return vec![format!("replaced data in {kept} is kept, since it is not known what is in use: {error:#}")];
        }
    };
    for location in leftovers {
        if location.folder.is_empty() || used.iter().any(|other| other.overlaps(&location)) {
            warnings.push(format!("replaced data in {} is kept: another table refers to it", location.uri()));
            continue;
        }
        let result = async {
            let keys = list(aws, &location).await?.into_iter().map(|(key, _)| key);
            let (ours, foreign): (Vec<String>, Vec<String>) = keys.partition(|key| is_written_by_us(key));
            delete(aws, &location.bucket, ours).await?;
            anyhow::Ok(foreign)
        };
        match result.await {
            Ok(foreign) if foreign.is_empty() => {}
            Ok(foreign) => warnings.push(format!(
                "{} objects in {} are kept, since neither this connector nor the one before it wrote them, such as {}",
                foreign.len(),
                location.uri(),
                foreign.first().map_or("", String::as_str)
            )),
            Err(error) => {
                warnings.push(format!("replaced data in {} could not be deleted: {error:#}", location.uri()));
            }
        }
    }
    warnings
}

async fn all_locations(aws: &Aws) -> anyhow::Result<Vec<Location>> {
    let patience = Patience::standard();
    let databases = Catalog::new(aws, &patience).databases().await?;
    let mut used = Vec::new();
    for database in databases {
        used.append(&mut locations_of(aws, &database).await?);
    }
    Ok(used)
}

/// By the names of objects: ours, or the incumbent's 32 hexadecimal digits.
pub(super) fn is_written_by_us(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or_default();
    let stem = name.split('.').next().unwrap_or_default();
    let incumbent = stem.len() == 32 && stem.bytes().all(|b| b.is_ascii_hexdigit());
    process_of(name).is_some() || incumbent
}

/// Whether nothing lies below a location.
pub(super) async fn is_empty(aws: &Aws, location: &Location) -> Result<bool, AwsError> {
    let page = Patience::standard()
        .run(Doubt::Repeat, || async {
            let request =
                aws.s3.list_objects_v2().bucket(&location.bucket).prefix(format!("{}/", location.folder)).max_keys(1);
            aws.call(s3("ListObjectsV2"), &location.uri(), request.send()).await
        })
        .await?;
    Ok(page.contents().is_empty())
}

/// Keys below a location, with the seconds at which they were modified.
pub(super) async fn list(aws: &Aws, location: &Location) -> Result<Vec<(String, Option<i64>)>, AwsError> {
    let mut found = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let page = Patience::standard()
            .run(Doubt::Repeat, || async {
                let request = aws
                    .s3
                    .list_objects_v2()
                    .bucket(&location.bucket)
                    .prefix(format!("{}/", location.folder))
                    .set_continuation_token(next.clone());
                aws.call(s3("ListObjectsV2"), &location.uri(), request.send()).await
            })
            .await?;
        for object in page.contents() {
            if let Some(key) = object.key() {
                found.push((key.to_owned(), object.last_modified().map(|time| time.secs())));
            }
        }
        match page.next_continuation_token {
            Some(token) => next = Some(token),
            None => return Ok(found),
        }
    }
}

async fn delete(aws: &Aws, bucket: &str, keys: Vec<String>) -> anyhow::Result<()> {
    for chunk in keys.chunks(KEYS_PER_DELETE) {
        let objects =
            chunk.iter().map(|key| ObjectIdentifier::builder().key(key).build()).collect::<Result<Vec<_>, _>>()?;
        let request = Delete::builder().set_objects(Some(objects)).quiet(true).build()?;
        let answer = Patience::standard()
            .run(Doubt::Repeat, || async {
                let call = aws.s3.delete_objects().bucket(bucket).delete(request.clone());
                aws.call(s3("DeleteObjects"), &format!("s3://{bucket}"), call.send()).await
            })
            .await?;
        if let Some(error) = answer.errors().first() {
            anyhow::bail!(
                "s3:DeleteObject of {} was refused with {}",
                error.key().unwrap_or_default(),
                error.code().unwrap_or_default()
            );
        }
    }
    Ok(())
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
