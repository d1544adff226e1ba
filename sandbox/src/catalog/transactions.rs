//! Transactions: a snapshot of the tables at the start, changes on top, and the rules of their commit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Catalog, Database, Effect, Event, Table, Tables, not_found};
use crate::clock;
use crate::refusal::Refusal;
use crate::settings::{Outcome, StatusCase};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Status {
    Active,
    CommitInProgress,
    Committed,
    Aborted,
}

impl Status {
    pub(crate) fn text(self, case: StatusCase) -> String {
        let upper = match self {
            Self::Active => "ACTIVE",
            Self::CommitInProgress => "COMMIT_IN_PROGRESS",
            Self::Committed => "COMMITTED",
            Self::Aborted => "ABORTED",
        };
        match case {
            StatusCase::Upper => upper.to_owned(),
            StatusCase::Lower => upper.to_lowercase(),
        }
    }
}

/// When and how a commit in progress is settled.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) at: Option<Instant>,
    pub(crate) describes: Option<u32>,
    pub(crate) outcome: Outcome,
}

/// A transaction.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) status: Status,
    pub(crate) read_only: bool,
    pub(crate) started: f64,
    pub(crate) ended: Option<f64>,
    /// Why it was aborted.
    pub(crate) reason: Option<String>,
    /// Objects to delete if it is aborted.
    #[serde(default)]
    delete_on_cancel: Vec<String>,
    /// The commit before its start.
    began_at: u64,
    #[serde(skip)]
    snapshot: Arc<BTreeMap<String, Arc<Database>>>,
    #[serde(skip)]
    changes: BTreeMap<(String, String), Change>,
    #[serde(skip, default = "Instant::now")]
    active_at: Instant,
    #[serde(skip)]
    pending: Option<Pending>,
}

/// What a transaction has done to a table.
#[derive(Clone, Default)]
struct Change {
    table: Option<Arc<Table>>,
    redefines: bool,
    removes: bool,
}

impl Transaction {
    fn base(&self, database: &str, name: &str) -> Option<&Arc<Table>> {
        self.snapshot.get(database)?.tables.get(name)
    }

    /// A table as it sees it.
    pub(crate) fn table(&self, database: &str, name: &str) -> Option<Arc<Table>> {
        match self.changes.get(&(database.to_owned(), name.to_owned())) {
            Some(change) => change.table.clone(),
            None => self.base(database, name).cloned(),
        }
    }

    /// The tables of a database as it sees them.
    pub(crate) fn tables(&self, database: &str) -> Tables {
        let mut tables = self.snapshot.get(database).map(|database| database.tables.clone()).unwrap_or_default();
        for ((_, name), change) in self.changes.iter().filter(|((changed, _), _)| changed == database) {
            match &change.table {
                Some(table) => tables.insert(name.clone(), Arc::clone(table)),
                None => tables.remove(name),
            };
        }
        tables
    }

    pub(super) fn edit<R>(
        &mut self,
        database: &str,
        name: &str,
        effect: Effect,
        work: impl FnOnce(&mut Option<Arc<Table>>) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let place = (database.to_owned(), name.to_owned());
        let Some(mut change) = self.changes.remove(&place) else {
            let mut change = Change { table: self.base(database, name).cloned(), ..Change::default() };
            let done = work(&mut change.table)?;
            self.changes.insert(place, change.with(effect));
            return Ok(done);
        };
        // Taken out, so that the table is not shared and need not be copied.
        let done = work(&mut change.table);
        let change = if done.is_ok() { change.with(effect) } else { change };
        self.changes.insert(place, change);
        done
    }

    pub(crate) fn describe(&self, id: &str, case: StatusCase) -> Value {
        let mut described = json!({
            "TransactionId": id,
            "TransactionStatus": self.status.text(case),
            "TransactionStartTime": self.started,
        });
        if let Some(ended) = self.ended {
            described["TransactionEndTime"] = json!(ended);
        }
        described
    }
}

impl Change {
    fn with(mut self, effect: Effect) -> Self {
        self.redefines |= effect == Effect::Definition;
        self.removes |= effect == Effect::Removal;
        self
    }
}

impl Catalog {
    fn event(&mut self, transaction: &str, name: &'static str, detail: Value) {
        self.events.push(Event { transaction: transaction.to_owned(), name, detail, delete: Vec::new() });
    }

    fn transaction(&mut self, id: &str) -> Result<&mut Transaction, Refusal> {
        self.transactions.get_mut(id).ok_or_else(|| not_found(format!("Transaction {id} not found.")))
    }

    pub(crate) fn start(&mut self, read_only: bool) -> String {
        let id = clock::unique(32);
        let transaction = Transaction {
            status: Status::Active,
            read_only,
            started: clock::epoch_seconds(),
            ended: None,
            reason: None,
            delete_on_cancel: Vec::new(),
            began_at: self.sequence,
            snapshot: Arc::new(self.databases.clone()),
            changes: BTreeMap::new(),
            active_at: Instant::now(),
            pending: None,
        };
        self.transactions.insert(id.clone(), transaction);
        self.event(&id, "start", json!({ "readOnly": read_only }));
        id
    }

    /// A transaction that has not ended, to read in.
    pub(crate) fn readable(&mut self, id: &str) -> Result<&mut Transaction, Refusal> {
        let transaction = self.transaction(id)?;
        match transaction.status {
            Status::Committed => Err(committed()),
            Status::Aborted => Err(canceled(transaction)),
            Status::Active | Status::CommitInProgress => {
                transaction.active_at = Instant::now();
                Ok(transaction)
            }
        }
    }

    /// A transaction that is open; read-only ones count.
    pub(crate) fn open(&mut self, id: &str) -> Result<&mut Transaction, Refusal> {
        let transaction = self.readable(id)?;
        if transaction.status == Status::CommitInProgress {
            let message = "The transaction is being committed.";
            return Err(Refusal::new(400, "TransactionCommitInProgressException", message));
        }
        Ok(transaction)
    }

    /// A transaction that is open for writes.
    pub(crate) fn writable(&mut self, id: &str) -> Result<&mut Transaction, Refusal> {
        let transaction = self.open(id)?;
        if transaction.read_only {
            return Err(super::invalid("The transaction is read-only and cannot write."));
        }
        Ok(transaction)
    }

    /// Has objects deleted if the transaction is aborted.
    pub(crate) fn delete_on_cancel(&mut self, id: &str, uris: Vec<String>) -> Result<(), Refusal> {
        self.writable(id)?.delete_on_cancel.extend(uris);
        Ok(())
    }

    /// Writes down what was done to the objects of a table.
    pub(crate) fn objects_updated(&mut self, id: &str, table: &str, added: &[&str], deleted: &[&str]) {
        self.event(id, "objects", json!({ "table": table, "added": added, "deleted": deleted }));
    }

    /// Commits, or begins to.
    pub(crate) fn commit(&mut self, id: &str, pending: impl FnOnce() -> Option<Pending>) -> Result<Status, Refusal> {
        let transaction = self.transaction(id)?;
        match transaction.status {
            Status::Committed | Status::CommitInProgress => return Ok(transaction.status),
            Status::Aborted => return Err(canceled(transaction)),
            Status::Active => {}
        }
        if let Some(conflict) = self.conflict(id) {
            self.abort(id, "conflict", &conflict);
            return Err(Refusal::new(400, "ConcurrentModificationException", conflict));
        }
        if let Some(pending) = pending() {
            let transaction = self.transaction(id)?;
            transaction.status = Status::CommitInProgress;
            transaction.pending = Some(pending);
            self.event(id, "commit in progress", json!({}));
            return Ok(Status::CommitInProgress);
        }
        self.apply(id);
        Ok(Status::Committed)
    }

    /// Cancels; again and again, if asked.
    pub(crate) fn cancel(&mut self, id: &str) -> Result<(), Refusal> {
        if self.transaction(id)?.status != Status::Aborted {
            self.open(id)?;
            self.abort(id, "cancel", "canceled by the client");
        }
        Ok(())
    }

    /// A transaction as DescribeTransaction answers; counts towards the end of a commit in progress.
    pub(crate) fn describe(&mut self, id: &str, case: StatusCase) -> Result<Value, Refusal> {
        let transaction = self.transaction(id)?;
        if let Some(pending) = &mut transaction.pending
            && let Some(left) = &mut pending.describes
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.settle_commit(id);
            }
        }
        Ok(self.transaction(id)?.describe(id, case))
    }

    /// Whether [`Catalog::settle`] would do anything.
    pub(crate) fn is_due(&self, idle: Duration) -> bool {
        self.transactions.values().any(|transaction| due(transaction, idle))
    }

    /// Aborts what was idle too long, and settles commits in progress whose time has come.
    pub(crate) fn settle(&mut self, idle: Duration) {
        let due: Vec<_> =
            self.transactions.iter().filter(|(_, it)| due(it, idle)).map(|(id, it)| (id.clone(), it.status)).collect();
        for (id, status) in due {
            if status == Status::CommitInProgress {
                self.settle_commit(&id);
            } else {
                self.abort(&id, "idle abort", "the transaction was idle for too long");
            }
        }
    }

    /// Aborts what is open.
    pub(crate) fn abort_open(&mut self, reason: &str) {
        let is_open = |transaction: &Transaction| transaction.ended.is_none();
        let open: Vec<_> = self.transactions.iter().filter(|(_, it)| is_open(it)).map(|(id, _)| id.clone()).collect();
        for id in open {
            self.abort(&id, "abort", reason);
        }
    }

    /// What GET `/_sandbox/transactions` shows.
    pub(crate) fn describe_transactions(&self) -> Vec<Value> {
        let describe = |(id, transaction): (&String, &Transaction)| {
            let tables: Vec<_> =
                transaction.changes.keys().map(|(database, table)| format!("{database}.{table}")).collect();
            let mut described = transaction.describe(id, StatusCase::Upper);
            described["readOnly"] = json!(transaction.read_only);
            described["reason"] = json!(transaction.reason);
            described["changedTables"] = json!(tables);
            described["deleteOnCancel"] = json!(transaction.delete_on_cancel);
            described
        };
        let mut all: Vec<_> = self.transactions.iter().collect();
        all.sort_by(|(_, one), (_, other)| one.started.total_cmp(&other.started));
        all.into_iter().map(describe).collect()
    }

    fn settle_commit(&mut self, id: &str) {
        let pending = self.transactions.get_mut(id).and_then(|transaction| transaction.pending.take());
        match (pending.map(|pending| pending.outcome), self.conflict(id)) {
            (Some(Outcome::Committed), None) => self.apply(id),
            (_, Some(conflict)) => self.abort(id, "conflict", &conflict),
            _ => self.abort(id, "abort", "the commit did not succeed"),
        }
    }

    fn abort(&mut self, id: &str, event: &'static str, reason: &str) {
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        transaction.end(Status::Aborted);
        transaction.reason = Some(reason.to_owned());
        let delete = std::mem::take(&mut transaction.delete_on_cancel);
        let detail = json!({ "reason": reason, "deletes": delete.len() });
        self.events.push(Event { transaction: id.to_owned(), name: event, detail, delete });
    }

    /// Why a transaction cannot be committed.
    fn conflict(&self, id: &str) -> Option<String> {
        let transaction = self.transactions.get(id)?;
        transaction.changes.iter().find_map(|((database, name), change)| {
            let base = transaction.base(database, name);
            let current = self.databases.get(database).and_then(|database| database.tables.get(name));
            let exclusive = change.redefines || change.removes;
            let what = match (base, current) {
                (None, None) if self.databases.contains_key(database) => return None,
                (None, None) => "its database was dropped",
                (None, Some(_)) => "it was created",
                (Some(_), None) => "it was dropped",
                (Some(base), Some(current)) if base.id != current.id => "it was dropped and created",
                (Some(_), Some(current)) if exclusive && current.changed > transaction.began_at => "it was changed",
                (Some(base), Some(current)) if !exclusive => {
                    let added = change.table.as_ref()?.manifest.keys().filter(|uri| !base.manifest.contains_key(*uri));
                    let mut twice = added.filter(|uri| current.manifest.contains_key(*uri));
                    twice.next().map(|_| "the same object was added")?
                }
                _ => return None,
            };
            Some(format!("Table {database}.{name}: {what} by another transaction since this one began."))
        })
    }

    fn apply(&mut self, id: &str) {
        self.sequence += 1;
        let Some(transaction) = self.transactions.get_mut(id) else { return };
        let changes = std::mem::take(&mut transaction.changes);
        let snapshot = std::mem::take(&mut transaction.snapshot);
        transaction.end(Status::Committed);
        let mut tables = Vec::new();
        for ((database_name, name), change) in changes {
            let Some(database) = self.databases.get_mut(&database_name) else { continue };
            let committed = &mut Arc::make_mut(database).tables;
            tables.push(format!("{database_name}.{name}"));
            match (change.table, committed.get_mut(&name)) {
                (Some(table), Some(current)) if !change.redefines && !change.removes => {
                    let base = snapshot.get(&database_name).and_then(|database| database.tables.get(&name));
                    let is_new = |uri: &String| base.is_none_or(|base| !base.manifest.contains_key(uri));
                    let added = table.manifest.iter().filter(|(uri, _)| is_new(uri));
                    let current = Arc::make_mut(current);
                    current.manifest.extend(added.map(|(uri, entry)| (uri.clone(), Arc::clone(entry))));
                    current.changed = self.sequence;
                }
                (Some(mut table), current) => {
                    let edited = Arc::make_mut(&mut table);
                    edited.changed = self.sequence;
                    if let Some(current) = current {
                        // Partitions are outside of transactions.
                        edited.partitions.clone_from(&current.partitions);
                    }
                    committed.insert(name, table);
                }
                (None, _) => {
                    committed.remove(&name);
                }
            }
        }
        self.event(id, "commit", json!({ "tables": tables }));
    }
}

impl Transaction {
    fn end(&mut self, status: Status) {
        self.status = status;
        self.ended = Some(clock::epoch_seconds());
        self.pending = None;
        self.changes.clear();
        self.snapshot = Arc::default();
    }
}

fn due(transaction: &Transaction, idle: Duration) -> bool {
    match transaction.status {
        Status::Active => !transaction.read_only && transaction.active_at.elapsed() >= idle,
        Status::CommitInProgress => {
            let at = transaction.pending.as_ref().and_then(|pending| pending.at);
            at.is_some_and(|at| at <= Instant::now())
        }
        Status::Committed | Status::Aborted => false,
    }
}

fn committed() -> Refusal {
    Refusal::new(400, "TransactionCommittedException", "The transaction has already been committed.")
}

fn canceled(transaction: &Transaction) -> Refusal {
    let reason = transaction.reason.as_deref().unwrap_or("no reason is known");
    Refusal::new(400, "TransactionCanceledException", format!("The transaction was canceled: {reason}."))
}
