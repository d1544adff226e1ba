//! Everything a request may touch.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;

use crate::auth::Keys;
use crate::catalog::{Catalog, Event};
use crate::faults::Faults;
use crate::iceberg::Manifests;
use crate::journal::Journal;
use crate::s3::store::Store;
use crate::server::Options;
use crate::settings::Settings;
use crate::{clock, views};

/// A mutex's content, also after a thread died with it: what it guards is changed in single steps.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a file so that a reader finds the old content or the new, never a part.
pub(crate) fn replace_file(path: &Path, content: impl AsRef<[u8]>) -> std::io::Result<()> {
    let beside = path.with_extension(format!("{}.new", clock::unique(8)));
    fs::write(&beside, content)?;
    fs::rename(&beside, path)
}

/// Everything a request may touch.
pub(crate) struct State {
    pub(crate) root: PathBuf,
    pub(crate) region: String,
    pub(crate) account_id: String,
    transaction_idle: Duration,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) keys: Keys,
    pub(crate) store: Store,
    settings: Mutex<Settings>,
    catalog: Mutex<Catalog>,
    log: Mutex<fs::File>,
    unsaved: AtomicBool,
    outdated: AtomicBool,
    /// What Iceberg tables showed when the views were written last.
    manifests: Manifests,
    saving: Mutex<()>,
    /// Held while `views.sql` is made: whoever finds it up to date shall find it there.
    showing: Mutex<()>,
}

impl State {
    /// Reads what the folder holds; transactions that were open are aborted.
    pub(crate) fn load(root: &Path, options: &Options) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("creating {}", root.display()))?;
        let store = Store::load(root).context("reading the objects")?;
        let path = root.join("catalog.json");
        let catalog = match fs::read(&path) {
            Ok(content) => serde_json::from_slice(&content).with_context(|| format!("reading {}", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Catalog::default(),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let log = fs::File::options().create(true).append(true).open(root.join("transactions.jsonl"))?;
        let state = Self {
            root: root.to_owned(),
            region: options.region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
            account_id: options.account_id.clone().unwrap_or_else(|| "123456789012".to_owned()),
            transaction_idle: options.transaction_idle.unwrap_or(Duration::from_secs(300)),
            faults: Faults::default(),
            journal: Journal::default(),
            keys: Keys::default(),
            store,
            settings: Mutex::default(),
            catalog: Mutex::new(catalog),
            log: Mutex::new(log),
            unsaved: AtomicBool::new(true),
            outdated: AtomicBool::new(true),
            manifests: Manifests::default(),
            saving: Mutex::default(),
            showing: Mutex::default(),
        };
        state.with_catalog(|catalog| catalog.abort_open("the sandbox was started again"));
        Ok(state)
    }

    /// A copy of the settings.
    pub(crate) fn settings(&self) -> Settings {
        locked(&self.settings).clone()
    }

    /// Changes the settings in place.
    pub(crate) fn change_settings<R>(&self, change: impl FnOnce(&mut Settings) -> R) -> R {
        change(&mut locked(&self.settings))
    }

    /// How long a transaction may be idle.
    pub(crate) fn transaction_idle(&self) -> Duration {
        locked(&self.settings).transaction_idle_ms.map_or(self.transaction_idle, Duration::from_millis)
    }

    /// Runs a short piece of work on the catalog, has it saved, and does what follows from it.
    pub(crate) fn with_catalog<R>(&self, work: impl FnOnce(&mut Catalog) -> R) -> R {
        let (done, events) = {
            let mut catalog = locked(&self.catalog);
            (work(&mut catalog), std::mem::take(&mut catalog.events))
        };
        for event in events {
            self.follow(event);
        }
        self.unsaved.store(true, Ordering::SeqCst);
        self.outdated.store(true, Ordering::SeqCst);
        done
    }

    /// Runs a short piece of work on the catalog that changes nothing worth saving.
    pub(crate) fn read_catalog<R>(&self, work: impl FnOnce(&mut Catalog) -> R) -> R {
        work(&mut locked(&self.catalog))
    }

    /// The views have to be written again, because objects came or went.
    pub(crate) fn objects_changed(&self) {
        self.outdated.store(true, Ordering::SeqCst);
    }

    /// Writes down what happened to a transaction, and deletes the objects it takes with it.
    fn follow(&self, event: Event) {
        let mut line = serde_json::json!({
            "at": clock::iso(std::time::SystemTime::now()), "event": event.name, "transaction": event.transaction,
        });
        if let (Some(line), Some(detail)) = (line.as_object_mut(), event.detail.as_object()) {
            line.extend(detail.clone());
        }
        // The log is for people; a full disk shows elsewhere.
        drop(locked(&self.log).write_all(format!("{line}\n").as_bytes()));
        for uri in &event.delete {
            self.store.delete_uri(uri);
        }
    }

    /// What time brings: idle transactions are aborted, commits in progress are settled.
    pub(crate) fn tick(&self) {
        let idle = self.transaction_idle();
        if self.read_catalog(|catalog| catalog.is_due(idle)) {
            self.with_catalog(|catalog| catalog.settle(idle));
        }
    }

    /// Writes `catalog.json` if it has changed.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let _one_at_a_time = locked(&self.saving);
        if !self.unsaved.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        // Cloning shares the tables, so the lock is not held while they are written out.
        let catalog = self.read_catalog(|catalog| catalog.clone());
        let saved = serde_json::to_vec_pretty(&catalog)
            .context("writing the catalog")
            .and_then(|content| Ok(replace_file(&self.root.join("catalog.json"), content)?));
        if saved.is_err() {
            self.unsaved.store(true, Ordering::SeqCst);
        }
        saved
    }

    /// Writes `views.sql` if something it shows has changed.
    pub(crate) fn save_views(&self) -> anyhow::Result<()> {
        let _one_at_a_time = locked(&self.showing);
        if !self.outdated.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let catalog = self.read_catalog(|catalog| catalog.clone());
        let sql = views::sql(&self.root, &catalog, &self.store, &self.manifests);
        replace_file(&self.root.join("views.sql"), sql).context("writing views.sql")
    }
}
