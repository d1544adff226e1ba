//! Databases, tables, partitions and manifests, as committed and as a transaction sees them.

mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use self::transactions::{Pending, Transaction};
use crate::clock;
use crate::refusal::Refusal;

/// A structure of the API.
pub(crate) type Shape = Map<String, Value>;

/// Tables by name.
pub(crate) type Tables = BTreeMap<String, Arc<Table>>;

/// The Glue catalog and the Lake Formation transactions of the account.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Catalog {
    pub(crate) databases: BTreeMap<String, Arc<Database>>,
    pub(crate) transactions: BTreeMap<String, Transaction>,
    /// The values of each LF tag.
    pub(crate) tags: BTreeMap<String, Vec<String>>,
    /// The tags of each resource, `database` or `database.table`.
    pub(crate) tagged: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Counts commits.
    sequence: u64,
    next_table: u64,
    /// What has happened to transactions and is not written down yet.
    #[serde(skip)]
    pub(crate) events: Vec<Event>,
}

/// Something that happened to a transaction.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) transaction: String,
    pub(crate) name: &'static str,
    pub(crate) detail: Value,
    /// Objects that are to be deleted because of it.
    pub(crate) delete: Vec<String>,
}

/// A Glue database.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Database {
    pub(crate) definition: Shape,
    pub(crate) created: f64,
    pub(crate) tables: Tables,
}

/// A Glue table, governed or not.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Tells it from a table of the same name made later.
    pub(crate) id: u64,
    pub(crate) created: f64,
    /// The versions that are kept, oldest first; there is always one.
    pub(crate) versions: Vec<Arc<Version>>,
    /// The partitions of a table that is not governed, by their values.
    #[serde(with = "listed")]
    pub(crate) partitions: BTreeMap<Vec<String>, Arc<Partition>>,
    /// The objects of a governed table, by address.
    pub(crate) manifest: BTreeMap<String, Arc<Entry>>,
    /// The commit that changed it last.
    pub(crate) changed: u64,
}

/// A version of a table's definition.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) id: u64,
    pub(crate) updated: f64,
    pub(crate) definition: Shape,
}

/// A partition.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Partition {
    pub(crate) created: f64,
    pub(crate) definition: Shape,
}

/// An object of a governed table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) etag: String,
    pub(crate) size: u64,
    pub(crate) partition_values: Vec<String>,
}

/// Maps whose keys are not strings, as JSON.
mod listed {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'a, K: Deserialize<'a> + Ord, V: Deserialize<'a>, D: Deserializer<'a>>(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Vec::<(K, V)>::deserialize(deserializer).map(|entries| entries.into_iter().collect())
    }
}

/// What a change to a table conflicts with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The table is made, redefined or dropped: with any change by others.
    Definition,
    /// Objects are removed: with any change by others.
    Removal,
    /// Objects are added: with the table's being dropped.
    Addition,
}

impl Table {
    pub(crate) fn new(id: u64, definition: Shape) -> Self {
        let created = clock::epoch_seconds();
        let first = Version { id: 0, updated: created, definition };
        Self {
            id,
            created,
            versions: vec![Arc::new(first)],
            partitions: BTreeMap::new(),
            manifest: BTreeMap::new(),
            changed: 0,
        }
    }

    /// The definition that counts.
    pub(crate) fn definition(&self) -> &Shape {
        static NONE: std::sync::LazyLock<Shape> = std::sync::LazyLock::new(Shape::new);
        self.versions.last().map_or(&NONE, |version| &version.definition)
    }

    pub(crate) fn version(&self) -> u64 {
        self.versions.last().map_or(0, |version| version.id)
    }

    pub(crate) fn redefine(&mut self, definition: Shape, keep_old: bool) {
        let next = Version { id: self.version() + 1, updated: clock::epoch_seconds(), definition };
        if !keep_old {
            self.versions.pop();
        }
        self.versions.push(Arc::new(next));
    }

    pub(crate) fn is_governed(&self) -> bool {
        self.text("TableType").eq_ignore_ascii_case("GOVERNED")
    }

    /// A member of the definition that is a string.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.definition().get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The location in the storage descriptor.
    pub(crate) fn location(&self) -> &str {
        location(self.definition())
    }

    /// Names and types of the columns, without the partition keys.
    pub(crate) fn columns(&self) -> Vec<(&str, &str)> {
        let descriptor = self.definition().get("StorageDescriptor");
        columns(descriptor.and_then(|descriptor| descriptor.get("Columns")))
    }

    /// Names and types of the partition keys.
    pub(crate) fn partition_keys(&self) -> Vec<(&str, &str)> {
        columns(self.definition().get("PartitionKeys"))
    }
}

/// The location in the storage descriptor of a table or a partition.
pub(crate) fn location(definition: &Shape) -> &str {
    let descriptor = definition.get("StorageDescriptor");
    descriptor.and_then(|descriptor| descriptor.get("Location")).and_then(Value::as_str).unwrap_or_default()
}

fn columns(list: Option<&Value>) -> Vec<(&str, &str)> {
    list.and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|column| {
            let name = column.get("Name")?.as_str()?;
            Some((name, column.get("Type").and_then(Value::as_str).unwrap_or("string")))
        })
        .collect()
}

impl Catalog {
    /// A number for a table that is being made.
    pub(crate) fn next_table(&mut self) -> u64 {
        self.next_table += 1;
        self.next_table
    }

    pub(crate) fn database(&self, name: &str) -> Result<&Arc<Database>, Refusal> {
        self.databases.get(name).ok_or_else(|| not_found(format!("Database {name} not found.")))
    }

    /// The tables of a database, as committed or as a transaction sees them.
    pub(crate) fn tables(&mut self, transaction: Option<&str>, database: &str) -> Result<Tables, Refusal> {
        let committed = self.database(database)?.tables.clone();
        match transaction {
            None => Ok(committed),
            Some(id) => Ok(self.readable(id)?.tables(database)),
        }
    }

    /// A table, as committed or as a transaction sees it.
    pub(crate) fn table(
        &mut self,
        transaction: Option<&str>,
        database: &str,
        name: &str,
    ) -> Result<Arc<Table>, Refusal> {
        let committed = self.database(database)?.tables.get(name).cloned();
        let found = match transaction {
            None => committed,
            Some(id) => self.readable(id)?.table(database, name),
        };
        found.ok_or_else(|| no_such_table(name))
    }

    /// Changes a table, which is `None` where there is none, in a transaction or at once. `work` must leave it as it is
    /// when it fails.
    pub(crate) fn edit<R>(
        &mut self,
        transaction: Option<&str>,
        database: &str,
        name: &str,
        effect: Effect,
        work: impl FnOnce(&mut Option<Arc<Table>>) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        self.database(database)?;
        if let Some(id) = transaction {
            return self.writable(id)?.edit(database, name, effect, work);
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.replace(database, name, |table| {
            let done = work(table)?;
            if let Some(table) = table {
                Arc::make_mut(table).changed = sequence;
            }
            Ok(done)
        })
    }

    /// Changes a committed table without that counting as a conflict.
    pub(crate) fn edit_partitions<R>(
        &mut self,
        database: &str,
        name: &str,
        work: impl FnOnce(&mut Table) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        self.database(database)?;
        self.replace(database, name, |table| {
            let table = table.as_mut().ok_or_else(|| no_such_table(name))?;
            work(Arc::make_mut(table))
        })
    }

    /// Takes a committed table out, has it changed, and puts it back.
    fn replace<R>(
        &mut self,
        database: &str,
        name: &str,
        work: impl FnOnce(&mut Option<Arc<Table>>) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let Some(database) = self.databases.get_mut(database) else {
            return Err(not_found(format!("Database {database} not found.")));
        };
        let tables = &mut Arc::make_mut(database).tables;
        let mut table = tables.remove(name);
        let done = work(&mut table);
        if let Some(table) = table {
            tables.insert(name.to_owned(), table);
        }
        done
    }
}

pub(crate) fn not_found(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "EntityNotFoundException", message)
}

pub(crate) fn no_such_table(name: &str) -> Refusal {
    not_found(format!("Table {name} not found."))
}

pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "InvalidInputException", message)
}
