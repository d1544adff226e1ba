//! The Glue calls the lakes make. Reading is repeated freely; a doubtful write is handed back, to be resolved by
//! reading.

use aws_sdk_glue::types::{
    BatchUpdatePartitionRequestEntry, DatabaseInput, Partition, PartitionInput, PartitionValueList, StorageDescriptor,
    Table, TableInput,
};

use crate::aws::{Aws, AwsError, Doubt, Operation, Patience, Trouble};
use crate::failure::Failure;

/// The most partitions one `BatchCreatePartition` takes (service model).
const PARTITIONS_PER_CREATE: usize = 100;
/// The most partitions one `BatchGetPartition` takes (service model).
const PARTITIONS_PER_GET: usize = 1000;

const fn glue(name: &'static str) -> Operation {
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
                self.aws.call(glue("GetDatabase"), name, self.aws.glue.get_database().name(name).send()).await
            })
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.has_code("EntityNotFoundException") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a database exist.
    pub(crate) async fn ensure_database(&self, name: &str) -> anyhow::Result<()> {
        if self.has_database(name).await? {
            return Ok(());
        }
        let input = DatabaseInput::builder()
            .name(name)
            .description("made by destination-aws-datalake")
            .build()
            .map_err(|error| Failure::system(error.to_string()))?;
        // Repeating is harmless: the second time says AlreadyExists.
        let answer = self
            .patience
            .run(Doubt::Repeat, || async {
                let request = self.aws.glue.create_database().database_input(input.clone());
                self.aws.call(glue("CreateDatabase"), name, request.send()).await
            })
            .await;
        match answer {
            Err(error) if error.trouble != Trouble::Exists => Err(error.into()),
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
                self.aws.call(operation, &name.to_string(), request.send()).await
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

    /// All tables of a database.
    pub(crate) async fn tables(&self, database: &str) -> Result<Vec<Table>, AwsError> {
        let mut tables = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = self
                .patience
                .run(Doubt::Repeat, || async {
                    let request = self.aws.glue.get_tables().database_name(database).set_next_token(next.clone());
                    self.aws.call(glue("GetTables"), database, request.send()).await
                })
                .await?;
            tables.extend(page.table_list.unwrap_or_default());
            match page.next_token {
                Some(token) if !token.is_empty() => next = Some(token),
                _ => return Ok(tables),
            }
        }
    }

    /// Creates a table. A doubtful answer comes back as an error: read the table to know.
    pub(crate) async fn create_table(&self, name: &TableName, input: TableInput) -> Result<(), AwsError> {
        self.patience
            .run(Doubt::Ask, || async {
                let request = self
                    .aws
                    .glue
                    .create_table()
                    .database_name(&name.database)
                    .table_input(input.clone())
                    .set_transaction_id(self.transaction.map(str::to_owned));
                self.aws.call(glue("CreateTable"), &name.to_string(), request.send()).await.map(|_| ())
            })
            .await
    }

    /// Replaces a table's definition, if it is still at `version`. Once only: a conflict or a doubtful answer comes
    /// back as an error, to be resolved by reading.
    pub(crate) async fn update_table(
        &self,
        name: &TableName,
        version: Option<String>,
        input: TableInput,
    ) -> Result<(), AwsError> {
        // Old versions are the user's history of schema changes; nothing else of ours writes one.
        self.replace_table(name, version, input, false).await
    }

    /// The same without keeping the version that is replaced: for tables with a history of their own.
    pub(crate) async fn update_table_unarchived(
        &self,
        name: &TableName,
        version: Option<String>,
        input: TableInput,
    ) -> Result<(), AwsError> {
        self.replace_table(name, version, input, true).await
    }

    async fn replace_table(
        &self,
        name: &TableName,
        version: Option<String>,
        input: TableInput,
        skip_archive: bool,
    ) -> Result<(), AwsError> {
        let mut attempt = 0;
        loop {
            let request = self
                .aws
                .glue
                .update_table()
                .database_name(&name.database)
                .table_input(input.clone())
                .set_version_id(version.clone())
                .skip_archive(skip_archive)
                .set_transaction_id(self.transaction.map(str::to_owned));
            let result = self.aws.call(glue("UpdateTable"), &name.to_string(), request.send()).await;
            let Err(error) = result else { return Ok(()) };
            attempt += 1;
            let untouched = matches!(error.trouble, Trouble::Throttled | Trouble::Unreachable)
                || error.has_code("ResourceNotReadyException");
            if !(untouched && self.patience.pause(attempt).await) {
                return Err(error);
            }
        }
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
                self.aws.call(glue("DeleteTable"), &name.to_string(), request.send()).await
            })
            .await;
        match answer {
            Err(error) if !error.has_code("EntityNotFoundException") => Err(error),
            _ => Ok(()),
        }
    }

    /// Those of `partitions` (values in the order of the keys) that exist.
    pub(crate) async fn known_partitions(
        &self,
        name: &TableName,
        partitions: &[Vec<String>],
    ) -> Result<Vec<Partition>, AwsError> {
        let mut known = Vec::new();
        for chunk in partitions.chunks(PARTITIONS_PER_GET) {
            let mut ask: Vec<PartitionValueList> = chunk.iter().filter_map(|values| value_list(values)).collect();
            // The service may answer a part and name the rest.
            while !ask.is_empty() {
                let answer = self
                    .patience
                    .run(Doubt::Repeat, || async {
                        let request = self
                            .aws
                            .glue
                            .batch_get_partition()
                            .database_name(&name.database)
                            .table_name(&name.table)
                            .set_partitions_to_get(Some(ask.clone()));
                        self.aws.call(glue("BatchGetPartition"), &name.to_string(), request.send()).await
                    })
                    .await?;
                let found = answer.partitions.unwrap_or_default();
                let unprocessed = answer.unprocessed_keys.unwrap_or_default();
                if found.is_empty() && unprocessed.len() == ask.len() {
                    return Err(AwsError::odd_answer(glue("BatchGetPartition"), name.to_string(), "any progress"));
                }
                known.extend(found);
                ask = unprocessed;
            }
        }
        Ok(known)
    }

    /// Where a table's partitions lie.
    pub(crate) async fn partition_locations(&self, name: &TableName) -> Result<Vec<String>, AwsError> {
        let mut locations = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = self
                .patience
                .run(Doubt::Repeat, || async {
                    let request = self
                        .aws
                        .glue
                        .get_partitions()
                        .database_name(&name.database)
                        .table_name(&name.table)
                        .exclude_column_schema(true)
                        .set_next_token(next.clone());
                    self.aws.call(glue("GetPartitions"), &name.to_string(), request.send()).await
                })
                .await?;
            for partition in page.partitions() {
                locations.extend(partition.storage_descriptor().and_then(|s| s.location()).map(str::to_owned));
            }
            match page.next_token {
                Some(token) if !token.is_empty() => next = Some(token),
                _ => return Ok(locations),
            }
        }
    }

    /// Registers partitions. That one exists already is success, and it is among the answer; any other entry of
    /// `Errors[]` is an error.
    pub(crate) async fn create_partitions(
        &self,
        name: &TableName,
        partitions: &[PartitionInput],
    ) -> anyhow::Result<Vec<Vec<String>>> {
        let mut existed = Vec::new();
        for chunk in partitions.chunks(PARTITIONS_PER_CREATE) {
            let mut ask = chunk.to_vec();
            let mut attempt = 0;
            loop {
                // Repeating is harmless: what exists answers AlreadyExists.
                let answer = self
                    .patience
                    .run(Doubt::Repeat, || async {
                        let request = self
                            .aws
                            .glue
                            .batch_create_partition()
                            .database_name(&name.database)
                            .table_name(&name.table)
                            .set_partition_input_list(Some(ask.clone()));
                        self.aws.call(glue("BatchCreatePartition"), &name.to_string(), request.send()).await
                    })
                    .await?;
                let mut again = Vec::new();
                for error in answer.errors.unwrap_or_default() {
                    let detail = error.error_detail();
                    let code = detail.and_then(|d| d.error_code()).unwrap_or("an unnamed error");
                    match code {
                        "AlreadyExistsException" => existed.push(error.partition_values().to_vec()),
                        "ThrottlingException"
                        | "ConcurrentModificationException"
                        | "InternalServiceException"
                        | "OperationTimeoutException" => again.push(error.partition_values().to_vec()),
                        _ => {
                            let text = detail.and_then(|d| d.error_message()).unwrap_or_default();
                            return Err(Failure::system(format!(
                                "glue:BatchCreatePartition refused partition {} of {name} with {code} ({text})",
                                error.partition_values().join("/")
                            )));
                        }
                    }
                }
                if again.is_empty() {
                    break;
                }
                ask.retain(|input| again.iter().any(|values| values == input.values()));
                attempt += 1;
                if ask.is_empty() || attempt >= 8 || !self.patience.pause(attempt).await {
                    return Err(Failure::transient(format!("glue did not register all partitions of {name}")));
                }
            }
        }
        Ok(existed)
    }

    /// Replaces the definitions of partitions that exist.
    pub(crate) async fn update_partitions(
        &self,
        name: &TableName,
        partitions: Vec<PartitionInput>,
    ) -> anyhow::Result<()> {
        for chunk in partitions.chunks(PARTITIONS_PER_CREATE) {
            let entries = chunk
                .iter()
                .map(|input| {
                    BatchUpdatePartitionRequestEntry::builder()
                        .set_partition_value_list(Some(input.values().to_vec()))
                        .partition_input(input.clone())
                        .build()
                })
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| Failure::system(error.to_string()))?;
            // Repeating is harmless: the definition is the same.
            let answer = self
                .patience
                .run(Doubt::Repeat, || async {
                    let request = self
                        .aws
                        .glue
                        .batch_update_partition()
                        .database_name(&name.database)
                        .table_name(&name.table)
                        .set_entries(Some(entries.clone()));
                    self.aws.call(glue("BatchUpdatePartition"), &name.to_string(), request.send()).await
                })
                .await?;
            if let Some(error) = answer.errors().first() {
                let code = error.error_detail().and_then(|d| d.error_code()).unwrap_or("an unnamed error");
                return Err(Failure::transient(format!(
                    "glue:BatchUpdatePartition refused partition {} of {name} with {code}",
                    error.partition_value_list().join("/")
                )));
            }
        }
        Ok(())
    }

    /// Names of all databases.
    pub(crate) async fn databases(&self) -> Result<Vec<String>, AwsError> {
        let mut names = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = self
                .patience
                .run(Doubt::Repeat, || async {
                    let request = self.aws.glue.get_databases().set_next_token(next.clone());
                    self.aws.call(glue("GetDatabases"), "the catalog", request.send()).await
                })
                .await?;
            names.extend(page.database_list().iter().map(|database| database.name().to_owned()));
            match page.next_token {
                Some(token) if !token.is_empty() => next = Some(token),
                _ => return Ok(names),
            }
        }
    }
}

fn value_list(values: &[String]) -> Option<PartitionValueList> {
    PartitionValueList::builder().set_values(Some(values.to_vec())).build().ok()
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
