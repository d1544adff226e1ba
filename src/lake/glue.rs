//! The Glue calls the lakes make. Reading is repeated freely; a doubtful write is handed back, to be resolved by
//! reading.

use aws_sdk_glue::types::{DatabaseInput, Partition, StorageDescriptor, Table, TableInput};

use super::table::Location;
use crate::aws::{Aws, AwsError, Doubt, Operation, Patience, Trouble};

/// How often a guarded write is tried, or a switch compares and corrects, before it is left to the next sync.
pub(super) const ROUNDS: u32 = 20;

pub(super) const fn glue(name: &'static str) -> Operation {
    Operation { service: "glue", name }
}

/// A table by the names Glue knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TableName {
    pub(crate) database: String,
    pub(crate) table: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// Whether Glue keeps the definition that an update replaces, as a version of the table. Versions are the user's history
/// of schema changes and count against a quota; nothing else of ours writes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// The replaced definition stays as a version.
    Keep,
    /// It does not.
    Skip,
}

/// The catalog, with the patience of the work at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Catalog<'a> {
    pub(crate) aws: &'a Aws,
    pub(crate) patience: &'a Patience,
    /// Governed tables are read and changed inside a transaction.
    pub(crate) transaction: Option<&'a str>,
}

impl<'a> Catalog<'a> {
    pub(crate) fn new(aws: &'a Aws, patience: &'a Patience) -> Self {
        Self { aws, patience, transaction: None }
    }

    /// Whether a database exists.
    pub(crate) async fn has_database(&self, name: &str) -> Result<bool, AwsError> {
        let answer = self
            .patience
            .run(Doubt::Repeat, || async {
                self.aws.call(glue("GetDatabase"), name, || self.aws.glue.get_database().name(name).send()).await
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.has_code("EntityNotFoundException") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a database exist.
    pub(crate) async fn ensure_database(&self, name: &str) -> Result<(), AwsError> {
        let operation = glue("CreateDatabase");
        if self.has_database(name).await? {
            return Ok(());
        }
        let input = DatabaseInput::builder().name(name).description("made by destination-aws-datalake");
        let input = input.build().map_err(|_| AwsError::odd_answer(operation, name, "a name"))?;
        // Repeating is harmless: the second time says AlreadyExists.
        let answer = self
            .patience
            .run(Doubt::Repeat, || async {
                let request = self.aws.glue.create_database().database_input(input.clone());
                self.aws.call(operation, name, || request.send()).await
            })
            .await;
        match answer {
            Err(error) if error.trouble != Trouble::Exists => Err(error),
            _ => Ok(()),
        }
    }

    /// The table, if it exists and may be seen.
    pub(crate) async fn table(&self, name: &TableName) -> Result<Option<Table>, AwsError> {
        let operation = glue("GetTable");
        let answer = self
            .patience
            .run(Doubt::Repeat, || async {
                let request = self
                    .aws
                    .glue
                    .get_table()
                    .database_name(&name.database)
                    .name(&name.table)
                    .set_transaction_id(self.transaction.map(str::to_owned));
                self.aws.call(operation, &name.to_string(), || request.send()).await
            })
            .await;
        match answer {
            Ok(answer) => match answer.table {
                Some(table) => Ok(Some(table)),
                None => Err(AwsError::odd_answer(operation, name.to_string(), "a table")),
            },
            Err(error) if error.has_code("EntityNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All tables of a database, page by page.
    pub(crate) async fn each_table(&self, database: &str, take: impl FnMut(Vec<Table>)) -> Result<(), AwsError> {
        let page = |next| async {
            let request = self.aws.glue.get_tables().database_name(database).set_next_token(next);
            let page = self.aws.call(glue("GetTables"), database, || request.send()).await?;
            Ok((page.table_list.unwrap_or_default(), page.next_token))
        };
        self.each_page(page, take).await
    }

    /// Names of all databases.
    pub(crate) async fn databases(&self) -> Result<Vec<String>, AwsError> {
        self.pages(|next| async {
            let request = self.aws.glue.get_databases().set_next_token(next);
            let page = self.aws.call(glue("GetDatabases"), "the catalog", || request.send()).await?;
            let names = page.database_list.into_iter().map(|database| database.name).collect();
            Ok((names, page.next_token))
        })
        .await
    }

    /// Everything that a listing has: `page` answers with its items and the token of the next page.
    pub(super) async fn pages<T, Fut>(&self, page: impl FnMut(Option<String>) -> Fut) -> Result<Vec<T>, AwsError>
    where
        Fut: Future<Output = Result<(Vec<T>, Option<String>), AwsError>>,
    {
        let mut all = Vec::new();
        self.each_page(page, |mut items| all.append(&mut items)).await?;
        Ok(all)
    }

    /// The same, page by page.
    pub(super) async fn each_page<T, Fut>(
        &self,
        mut page: impl FnMut(Option<String>) -> Fut,
        mut take: impl FnMut(Vec<T>),
    ) -> Result<(), AwsError>
    where
        Fut: Future<Output = Result<(Vec<T>, Option<String>), AwsError>>,
    {
        let mut next = None;
        loop {
            let (items, token) = self.patience.run(Doubt::Repeat, || page(next.clone())).await?;
            take(items);
            match token {
                Some(token) if !token.is_empty() => next = Some(token),
                _ => return Ok(()),
            }
        }
    }

    /// Creates a table. A doubtful answer comes back as an error: read the table to know.
    pub(crate) async fn create_table(&self, name: &TableName, input: &TableInput) -> Result<(), AwsError> {
        self.patience
            .run(Doubt::Ask, || async {
                // Definitions are large, and thousands may wait for their turn.
                let send = || {
                    let request = self.aws.glue.create_table().database_name(&name.database);
                    let transaction = self.transaction.map(str::to_owned);
                    request.table_input(input.clone()).set_transaction_id(transaction).send()
                };
                self.aws.call(glue("CreateTable"), &name.to_string(), send).await.map(|_| ())
            })
            .await
    }

    /// Replaces a table's definition, if it is still at `version`. Once only: a conflict or a doubtful answer comes
    /// back as an error, to be resolved by reading.
    pub(crate) async fn update_table(
        &self,
        name: &TableName,
        version: Option<String>,
        input: &TableInput,
        history: History,
    ) -> Result<(), AwsError> {
        let mut attempt = 0;
        loop {
            let send = || {
                let request = self.aws.glue.update_table().database_name(&name.database).table_input(input.clone());
                let transaction = self.transaction.map(str::to_owned);
                let request = request.set_version_id(version.clone()).set_transaction_id(transaction);
                request.skip_archive(history == History::Skip).send()
            };
            let result = self.aws.call(glue("UpdateTable"), &name.to_string(), send).await;
            let Err(error) = result else { return Ok(()) };
            attempt += 1;
            let untouched = matches!(error.trouble, Trouble::Throttled | Trouble::Unreachable)
                || error.has_code("ResourceNotReadyException");
            if !(untouched && self.patience.pause(attempt).await) {
                return Err(error);
            }
        }
    }

    /// Waits before a table is read again after a write that failed: either our doubtful call has happened, or someone
    /// else's change has to be merged.
    ///
    /// # Errors
    /// The write's, if reading again is no use or the patience is over.
    pub(crate) async fn pause_or(&self, error: AwsError, attempt: u32) -> Result<(), AwsError> {
        let again = error.is_doubtful() || matches!(error.trouble, Trouble::Exists | Trouble::Contended);
        if again && attempt <= ROUNDS && self.patience.pause(attempt).await { Ok(()) } else { Err(error) }
    }

    /// Deletes a table; that it is gone already is success.
    pub(crate) async fn delete_table(&self, name: &TableName) -> Result<(), AwsError> {
        let answer = self
            .patience
            .run(Doubt::Repeat, || async {
                let request = self
                    .aws
                    .glue
                    .delete_table()
                    .database_name(&name.database)
                    .name(&name.table)
                    .set_transaction_id(self.transaction.map(str::to_owned));
                self.aws.call(glue("DeleteTable"), &name.to_string(), || request.send()).await
            })
            .await;
        match answer {
            Err(error) if !error.has_code("EntityNotFoundException") => Err(error),
            _ => Ok(()),
        }
    }
}

/// A table as read, as the input that would leave it as it is: `UpdateTable` replaces everything.
pub(crate) fn input_of(table: &Table) -> TableInput {
    let builder = TableInput::builder()
        .name(table.name())
        .set_description(table.description.clone())
        .set_owner(table.owner.clone())
        .set_last_access_time(table.last_access_time)
        .set_last_analyzed_time(table.last_analyzed_time)
        .retention(table.retention)
        .set_storage_descriptor(table.storage_descriptor.clone())
        .set_partition_keys(table.partition_keys.clone())
        .set_view_original_text(table.view_original_text.clone())
        .set_view_expanded_text(table.view_expanded_text.clone())
        .set_table_type(table.table_type.clone())
        .set_parameters(table.parameters.clone())
        .set_target_table(table.target_table.clone());
    // The name is set, which is all that the builder demands.
    builder.build().unwrap_or_else(|_| unreachable!("the table has a name"))
}

/// A parameter of a table.
pub(crate) fn parameter<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    table.parameters.as_ref()?.get(key).map(String::as_str)
}

/// A table's location without the slash at its end.
pub(crate) fn location(table: &Table) -> Option<&str> {
    let location = table.storage_descriptor.as_ref().and_then(StorageDescriptor::location)?;
    Some(location.trim_end_matches('/'))
}

/// Where a partition lies.
pub(crate) fn partition_location(partition: &Partition) -> Option<Location> {
    Location::parse(partition.storage_descriptor.as_ref().and_then(StorageDescriptor::location)?)
}
