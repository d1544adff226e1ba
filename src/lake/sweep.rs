//! What dead processes have left: their uploads are aborted, their areas looked for. Those go at the end of the sync, when
//! the catalog is read once for all that may be deleted.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::objects::{self, Listing, process_of, s3};
use super::table::{Kind, Location};
use super::transaction::Transaction;
use super::{Lake, area};
use crate::aws::{Aws, AwsError, Doubt, Patience};
use crate::stage::ObjectName;

/// What is younger may belong to a process that lives.
const DEAD_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Folders of a governed table that are looked into, since nothing comes of it but a warning.
const LOOKED_AT: usize = 16;

/// Areas beside plain tables that look like those of dead processes.
#[derive(Debug, Default)]
pub struct DeadAreas(pub(super) Vec<Location>);

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
    /// What the table remembers as replaced by its last switch.
    replaced: Option<Location>,
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
            replaced: table.plan.replaced.clone(),
            replaces: matches!(table.plan.mode, super::Mode::Replace { .. }),
            exists: table.plan.exists,
        });
        Sweep { aws: self.aws.clone(), token: token.to_owned(), tables: tables.collect() }
    }
}

impl Sweep {
    /// Aborts dead uploads and finds dead areas. Answers with those, and with what the user should hear.
    pub async fn run(self) -> (DeadAreas, Vec<String>) {
        let mut warnings = Vec::new();
        let mut dead = DeadAreas::default();
        let parents: BTreeSet<(String, String)> =
            self.tables.iter().map(|table| (table.location.bucket.clone(), parent(&table.location.folder))).collect();
        for (bucket, parent) in &parents {
            if let Err(error) = self.abort_dead_uploads(bucket, parent).await {
                warnings.push(format!("unfinished uploads of dead syncs are not cleaned up: {error}"));
            }
        }
        for table in self.tables.iter().filter(|table| table.replaces && table.exists && table.kind != Kind::Iceberg) {
            match self.look_beside(table, &mut dead).await {
                Ok(mut kept) => warnings.append(&mut kept),
                Err(error) => warnings.push(format!(
                    "what dead syncs left beside {}.{} is not cleaned up: {error}",
                    table.database, table.table
                )),
            }
        }
        (dead, warnings)
    }

    /// Notes the areas beside a plain table that are not its own.
    async fn look_beside(&self, table: &Swept, dead: &mut DeadAreas) -> anyhow::Result<Vec<String>> {
        let found = self.areas_of(table).await?;
        if table.kind == Kind::Governed {
            return if found.is_empty() { Ok(Vec::new()) } else { self.kept_for_time_travel(table, &found).await };
        }
        let bucket = &table.location.bucket;
        let areas = found.into_iter().map(|folder| Location { bucket: bucket.clone(), folder });
        // What the table showed or remembered when the sync began is nobody's left-over, whatever this sync makes of it.
        let own = |area: &Location| *area == table.location || table.replaced.as_ref() == Some(area);
        dead.0.extend(areas.filter(|area| !own(area)));
        Ok(Vec::new())
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
                    self.aws
                        .call(s3("ListMultipartUploads"), &format!("s3://{bucket}/{parent}"), || request.send())
                        .await
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
                        match self.aws.call(s3("AbortMultipartUpload"), &name.to_string(), || request.send()).await {
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

    async fn areas_of(&self, table: &Swept) -> anyhow::Result<Vec<String>> {
        let first = match table.kind {
            Kind::Governed => table.location.folder.as_str(),
            Kind::External | Kind::Iceberg => area::first_folder(&table.location.folder),
        };
        let prefix = area::search_prefix(table.kind, &table.location.folder);
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = objects::page(&self.aws, &table.location.bucket, &prefix, Some("/"), next).await?;
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
            let mut listing = Listing::of(&self.aws, &location);
            let mut all_old = true;
            while let Some(page) = listing.next().await?
                && all_old
            {
                all_old = page.iter().all(|object| object.modified.is_some_and(is_dead));
            }
            old += usize::from(all_old);
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

fn parent(folder: &str) -> String {
    folder.rsplit_once('/').map_or_else(String::new, |(parent, _)| format!("{parent}/"))
}

/// Whether what was modified then is too old to be a living process's.
pub(super) fn is_dead(modified_seconds: i64) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now.saturating_sub(DEAD_AFTER.as_secs())).is_ok_and(|limit| modified_seconds < limit)
}
