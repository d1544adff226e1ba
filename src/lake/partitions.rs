//! The partitions of plain tables in the Glue catalog: read, registered, replaced and removed by the hundred.
//!
//! The batch calls answer HTTP 200 with an `Errors[]` that names the partitions they refused, so every answer is looked
//! at. Each call may be repeated: what exists, or is gone, says so.

use std::collections::BTreeMap;

use aws_sdk_glue::types::{
    BatchUpdatePartitionRequestEntry, ErrorDetail, Partition, PartitionError, PartitionInput, PartitionValueList,
};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::glue::{Catalog, TableName, glue};
use crate::aws::{AwsError, Doubt, Operation};
use crate::failure::Failure;

/// The most partitions one `BatchCreatePartition` or `BatchUpdatePartition` takes (service model).
const PER_WRITE: usize = 100;
/// The most partitions one `BatchDeletePartition` takes (service model).
const PER_DELETE: usize = 25;
/// The most partitions one `BatchGetPartition` takes (service model).
pub(super) const PER_GET: usize = 1000;
/// Calls of one table at one time: enough for thousands of partitions in seconds, few enough not to be throttled.
const CONCURRENT_CALLS: usize = 4;
/// How often refused members of a batch are sent again.
const ATTEMPTS: u32 = 8;

/// Values of a partition's keys, in the order of the keys.
pub(crate) type Values = Vec<String>;

/// A batch call: what it is called, and which refusal of a member means that nothing is left to do for it.
struct Batch {
    operation: Operation,
    harmless: &'static str,
}

/// A member that was refused, and why.
type Refused = (Values, Option<ErrorDetail>);

impl Catalog<'_> {
    /// Those of `partitions` that exist.
    pub(crate) async fn known_partitions(
        &self,
        name: &TableName,
        partitions: &[Values],
    ) -> Result<Vec<Partition>, AwsError> {
        let operation = glue("BatchGetPartition");
        let mut known = Vec::new();
        for chunk in partitions.chunks(PER_GET) {
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
                        self.aws.call(operation, &name.to_string(), || request.send()).await
                    })
                    .await?;
                let found = answer.partitions.unwrap_or_default();
                let unprocessed = answer.unprocessed_keys.unwrap_or_default();
                if found.is_empty() && unprocessed.len() == ask.len() {
                    return Err(AwsError::odd_answer(operation, name.to_string(), "any progress"));
                }
                known.extend(found);
                ask = unprocessed;
            }
        }
        Ok(known)
    }

    /// All partitions of a table, without their columns, page by page.
    pub(crate) async fn each_partition(
        &self,
        name: &TableName,
        take: impl FnMut(Vec<Partition>),
    ) -> Result<(), AwsError> {
        let page = |next| async {
            let request = self
                .aws
                .glue
                .get_partitions()
                .database_name(&name.database)
                .table_name(&name.table)
                .exclude_column_schema(true)
                .set_next_token(next);
            let page = self.aws.call(glue("GetPartitions"), &name.to_string(), || request.send()).await?;
            Ok((page.partitions.unwrap_or_default(), page.next_token))
        };
        self.each_page(page, take).await
    }

    /// Registers partitions. Answers with those that existed already, which is success. Definitions are made as they are
    /// sent: each has all columns, and there may be many thousands.
    pub(crate) async fn create_partitions<T: Clone>(
        &self,
        name: &TableName,
        partitions: Vec<(Values, T)>,
        define: impl Fn(&Values, &T) -> PartitionInput,
    ) -> anyhow::Result<Vec<Values>> {
        let batch = Batch { operation: glue("BatchCreatePartition"), harmless: "AlreadyExistsException" };
        let send = |members: Vec<(Values, T)>| async {
            let inputs = members.into_iter().map(|(values, member)| define(&values, &member));
            let request = self
                .aws
                .glue
                .batch_create_partition()
                .database_name(&name.database)
                .table_name(&name.table)
                .set_partition_input_list(Some(inputs.collect()));
            let answer = self.aws.call(glue("BatchCreatePartition"), &name.to_string(), || request.send()).await?;
            Ok(refused(answer.errors))
        };
        self.in_batches(&batch, name, partitions, PER_WRITE, send).await
    }

    /// Replaces the definitions of partitions, which are made as they are sent. Answers with those that do not exist.
    pub(crate) async fn update_partitions<T: Clone>(
        &self,
        name: &TableName,
        partitions: Vec<(Values, T)>,
        define: impl Fn(&T) -> PartitionInput,
    ) -> anyhow::Result<Vec<Values>> {
        let batch = Batch { operation: glue("BatchUpdatePartition"), harmless: "EntityNotFoundException" };
        let send = |members: Vec<(Values, T)>| async {
            let entries = members.into_iter().filter_map(|(values, member)| {
                // Both members are set, which is all that the builder demands.
                BatchUpdatePartitionRequestEntry::builder()
                    .set_partition_value_list(Some(values))
                    .partition_input(define(&member))
                    .build()
                    .ok()
            });
            let request = self
                .aws
                .glue
                .batch_update_partition()
                .database_name(&name.database)
                .table_name(&name.table)
                .set_entries(Some(entries.collect()));
            let answer = self.aws.call(glue("BatchUpdatePartition"), &name.to_string(), || request.send()).await?;
            let errors = answer.errors.unwrap_or_default();
            Ok(errors.into_iter().map(|e| (e.partition_value_list.unwrap_or_default(), e.error_detail)).collect())
        };
        self.in_batches(&batch, name, partitions, PER_WRITE, send).await
    }

    /// Removes partitions from the catalog; their objects stay. That one is gone already is success.
    pub(crate) async fn delete_partitions(&self, name: &TableName, partitions: Vec<Values>) -> anyhow::Result<()> {
        let batch = Batch { operation: glue("BatchDeletePartition"), harmless: "EntityNotFoundException" };
        let send = |members: Vec<(Values, ())>| async {
            let lists = members.into_iter().filter_map(|(values, ())| value_list(&values));
            let request = self
                .aws
                .glue
                .batch_delete_partition()
                .database_name(&name.database)
                .table_name(&name.table)
                .set_partitions_to_delete(Some(lists.collect()));
            let answer = self.aws.call(glue("BatchDeletePartition"), &name.to_string(), || request.send()).await?;
            Ok(refused(answer.errors))
        };
        let members = partitions.into_iter().map(|values| (values, ())).collect();
        self.in_batches(&batch, name, members, PER_DELETE, send).await.map(drop)
    }

    /// Sends members in batches, and those again whose refusal may pass. Answers with those refused harmlessly.
    async fn in_batches<T, Fut>(
        &self,
        batch: &Batch,
        name: &TableName,
        members: Vec<(Values, T)>,
        size: usize,
        send: impl Fn(Vec<(Values, T)>) -> Fut,
    ) -> anyhow::Result<Vec<Values>>
    where
        T: Clone,
        Fut: Future<Output = Result<Vec<Refused>, AwsError>>,
    {
        let batches: Vec<_> = members.chunks(size).map(|chunk| self.one_batch(batch, name, chunk, &send)).collect();
        let done: Vec<Vec<Values>> = stream::iter(batches).buffer_unordered(CONCURRENT_CALLS).try_collect().await?;
        Ok(done.into_iter().flatten().collect())
    }

    async fn one_batch<T, Fut>(
        &self,
        batch: &Batch,
        name: &TableName,
        members: &[(Values, T)],
        send: &impl Fn(Vec<(Values, T)>) -> Fut,
    ) -> anyhow::Result<Vec<Values>>
    where
        T: Clone,
        Fut: Future<Output = Result<Vec<Refused>, AwsError>>,
    {
        let mut ask: BTreeMap<&[String], &T> = members.iter().map(|(values, member)| (&values[..], member)).collect();
        let mut harmless = Vec::new();
        let mut attempt = 0;
        loop {
            let members = || ask.iter().map(|(values, member)| (values.to_vec(), (*member).clone())).collect();
            let answer = self.patience.run(Doubt::Repeat, || send(members())).await?;
            let mut again = BTreeMap::new();
            for (values, detail) in answer {
                let code = detail.as_ref().and_then(ErrorDetail::error_code).unwrap_or("an unnamed error");
                if code == batch.harmless {
                    harmless.push(values);
                } else if is_passing(code) {
                    again.extend(ask.remove_entry(&values[..]));
                } else {
                    let text = detail.as_ref().and_then(ErrorDetail::error_message).unwrap_or_default();
                    // Which one it is would be told by values of its rows.
                    let resource = format!("a partition of {name}");
                    return Err(AwsError::of_member(batch.operation, resource, code, text).into());
                }
            }
            if again.is_empty() {
                return Ok(harmless);
            }
            ask = again;
            attempt += 1;
            if attempt >= ATTEMPTS || !self.patience.pause(attempt).await {
                let call = batch.operation.name;
                return Err(Failure::transient(format!("glue:{call} did not take all partitions of {name}")));
            }
        }
    }
}

/// Whether a member's refusal may pass by itself.
fn is_passing(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingException"
            | "ConcurrentModificationException"
            | "ResourceNotReadyException"
            | "InternalServiceException"
            | "OperationTimeoutException"
    )
}

fn refused(errors: Option<Vec<PartitionError>>) -> Vec<Refused> {
    let errors = errors.unwrap_or_default();
    errors.into_iter().map(|error| (error.partition_values.unwrap_or_default(), error.error_detail)).collect()
}

fn value_list(values: &[String]) -> Option<PartitionValueList> {
    PartitionValueList::builder().set_values(Some(values.to_vec())).build().ok()
}
