//! A Lake Formation transaction as a value: what changes governed tables is a method of an open one, and ending it
//! consumes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_lakeformation::types::{AddObjectInput, DeleteObjectInput, TableObject, TransactionType, WriteOperation};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::aws::{Aws, AwsError, Doubt, Operation, Patience, Trouble};
use crate::failure::{Failure, FailureKind};

/// The most operations one `UpdateTableObjects` takes (service model).
const OPERATIONS_PER_CALL: usize = 100;
/// How often an open transaction is extended; idle ones are cancelled by the service.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
/// How long a commit that the service has begun is watched.
const COMMIT_IN_PROGRESS_LIMIT: Duration = Duration::from_secs(600);

const fn lakeformation(name: &'static str) -> Operation {
    Operation { service: "lakeformation", name }
}

/// Why a transaction did not come to its commit.
#[derive(Debug)]
pub(super) enum Interrupted {
    /// It is void through a conflict or a doubtful answer; the same work may be tried in a new one.
    Void(AwsError),
    /// The service will not have it; a new transaction would not either.
    Refused(AwsError),
}

impl Interrupted {
    pub(super) fn into_error(self) -> AwsError {
        match self {
            Self::Void(error) | Self::Refused(error) => error,
        }
    }
}

/// An error inside a transaction. Whatever is doubtful makes the transaction void: a transaction that is never
/// committed has no effect, so that beginning again asks nothing of the doubtful call.
impl From<AwsError> for Interrupted {
    fn from(error: AwsError) -> Self {
        let void = error.trouble.is_retryable() || error.has_code("TransactionCanceledException");
        if void { Self::Void(error) } else { Self::Refused(error) }
    }
}

/// An object of a governed table, as its manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ManifestObject {
    pub(super) uri: String,
    pub(super) e_tag: Option<String>,
    pub(super) partition: Vec<String>,
}

/// An open transaction. Dropped without an end, it is no longer extended and the service cancels it.
#[derive(Debug)]
pub(super) struct Transaction {
    aws: Aws,
    id: String,
    patience: Patience,
    extender: AbortHandle,
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.extender.abort();
    }
}

impl Transaction {
    /// Opens a transaction and keeps it alive until it ends.
    pub(super) async fn begin(aws: &Aws, patience: Patience) -> Result<Self, AwsError> {
        let operation = lakeformation("StartTransaction");
        // A transaction that was opened without our hearing of it is never used and cancelled by the service.
        let answer = patience
            .run(Doubt::Repeat, || async {
                let request = aws.lakeformation.start_transaction().transaction_type(TransactionType::ReadAndWrite);
                aws.call(operation, "a transaction", || request.send()).await
            })
            .await?;
        let id = answer
            .transaction_id
            .ok_or_else(|| AwsError::odd_answer(operation, "a transaction", "a transaction id"))?;
        let extender = tokio::spawn(extend(aws.clone(), id.clone())).abort_handle();
        Ok(Self { aws: aws.clone(), id, patience, extender })
    }

    /// The id, for Glue's calls.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// All objects of a table as this transaction sees it.
    pub(super) async fn objects(&self, database: &str, table: &str) -> Result<Vec<ManifestObject>, AwsError> {
        objects(&self.aws, self.patience, Some(&self.id), database, table).await
    }

    /// Changes what a table consists of, 100 operations a call.
    pub(super) async fn write(
        &self,
        database: &str,
        table: &str,
        operations: &[WriteOperation],
    ) -> Result<(), Interrupted> {
        let resource = format!("{database}.{table}");
        for chunk in operations.chunks(OPERATIONS_PER_CALL) {
            let mut attempt = 0;
            loop {
                let request = self
                    .aws
                    .lakeformation
                    .update_table_objects()
                    .database_name(database)
                    .table_name(table)
                    .transaction_id(&self.id)
                    .set_write_operations(Some(chunk.to_vec()));
                let call = self.aws.call(lakeformation("UpdateTableObjects"), &resource, || request.send());
                let Err(error) = call.await else { break };
                attempt += 1;
                // A table that was just made is not ready for a moment, and a throttled call did nothing.
                let untouched = error.has_code("ResourceNotReadyException")
                    || matches!(error.trouble, Trouble::Throttled | Trouble::Unreachable);
                if !(untouched && self.patience.pause(attempt).await) {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Makes everything visible at once. On an error nothing is, unless the message says that it is not known.
    pub(super) async fn commit(self) -> Result<(), Interrupted> {
        let operation = lakeformation("CommitTransaction");
        let doubted = AtomicBool::new(false);
        // Committing again with the same id is harmless: the service answers the same.
        let answer = self
            .patience
            .run(Doubt::Repeat, || async {
                let request = self.aws.lakeformation.commit_transaction().transaction_id(&self.id);
                match self.aws.call(operation, &self.id, || request.send()).await {
                    // A conflict ends the calls; what it means is decided below.
                    Err(error) if error.has_code("ConcurrentModificationException") => Ok(Err(error)),
                    Err(error) => {
                        doubted.fetch_or(error.is_doubtful(), Ordering::Relaxed);
                        Err(error)
                    }
                    Ok(answer) => Ok(Ok(answer)),
                }
            })
            .await;
        let error = match answer {
            Ok(Ok(answer)) => {
                let status = answer.transaction_status.map(|status| status.as_str().to_owned());
                return self.settle(status.unwrap_or_default()).await;
            }
            Ok(Err(conflict)) => conflict,
            Err(error) => error,
        };
        // After a doubtful call the last error proves nothing: the transaction itself is asked.
        let ask = doubted.load(Ordering::Relaxed)
            || error.has_code("TransactionCommittedException")
            || error.has_code("TransactionCommitInProgressException");
        if ask { self.settle(String::new()).await } else { Err(error.into()) }
    }

    /// Watches until the transaction is committed or aborted. Real services answer in either case of letters.
    async fn settle(&self, mut status: String) -> Result<(), Interrupted> {
        let operation = lakeformation("DescribeTransaction");
        let watch = Patience::until(Instant::now() + COMMIT_IN_PROGRESS_LIMIT);
        let is = |status: &str, wanted: &str| status.eq_ignore_ascii_case(wanted);
        let mut attempt = 0;
        loop {
            if is(&status, "COMMITTED") {
                return Ok(());
            }
            if is(&status, "ABORTED") {
                let aborted = "a commit: the transaction was aborted";
                return Err(Interrupted::Void(AwsError::undecided(operation, &self.id, aborted)));
            }
            // After a commit call that never arrived nothing is visible, and a cancelled transaction stays so.
            if is(&status, "ACTIVE") && self.patience.is_over() && self.cancel_call().await.is_ok() {
                return Err(Interrupted::Refused(AwsError::undecided(operation, &self.id, "a commit in time")));
            }
            attempt += 1;
            if !watch.pause(attempt).await {
                return Err(Interrupted::Refused(AwsError::undecided(
                    operation,
                    &self.id,
                    "an end of the commit; whether it is committed is not known",
                )));
            }
            if is(&status, "ACTIVE") && !self.patience.is_over() {
                let request = self.aws.lakeformation.commit_transaction().transaction_id(&self.id);
                // Whatever the answer, the next look decides.
                drop(self.aws.call(lakeformation("CommitTransaction"), &self.id, || request.send()).await);
            }
            let answer = watch
                .run(Doubt::Repeat, || async {
                    let request = self.aws.lakeformation.describe_transaction().transaction_id(&self.id);
                    self.aws.call(operation, &self.id, || request.send()).await
                })
                .await?;
            let description = answer.transaction_description.and_then(|description| description.transaction_status);
            status = description.map(|status| status.as_str().to_owned()).unwrap_or_default();
        }
    }

    async fn cancel_call(&self) -> Result<(), AwsError> {
        Patience::brief()
            .run(Doubt::Repeat, || async {
                let request = self.aws.lakeformation.cancel_transaction().transaction_id(&self.id);
                match self.aws.call(lakeformation("CancelTransaction"), &self.id, || request.send()).await {
                    Err(error) if error.has_code("TransactionCanceledException") => Ok(()),
                    other => other.map(|_| ()),
                }
            })
            .await
    }

    /// Ends the transaction without effect. A cancel that fails is no error: what is not committed has no effect.
    pub(super) async fn cancel(self) -> Result<(), AwsError> {
        self.cancel_call().await
    }
}

/// All objects of a table as a transaction sees it, or as it is committed.
pub(super) async fn objects(
    aws: &Aws,
    patience: Patience,
    transaction: Option<&str>,
    database: &str,
    table: &str,
) -> Result<Vec<ManifestObject>, AwsError> {
    let resource = format!("{database}.{table}");
    let mut objects = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let page = patience
            .run(Doubt::Repeat, || async {
                let request = aws
                    .lakeformation
                    .get_table_objects()
                    .database_name(database)
                    .table_name(table)
                    .set_transaction_id(transaction.map(str::to_owned))
                    .max_results(1000)
                    .set_next_token(next.clone());
                aws.call(lakeformation("GetTableObjects"), &resource, || request.send()).await
            })
            .await?;
        for group in page.objects() {
            let partition = group.partition_values().to_vec();
            objects.extend(group.objects().iter().map(|object: &TableObject| ManifestObject {
                uri: object.uri().unwrap_or_default().to_owned(),
                e_tag: object.e_tag().map(str::to_owned),
                partition: partition.clone(),
            }));
        }
        match page.next_token {
            Some(token) if !token.is_empty() => next = Some(token),
            _ => return Ok(objects),
        }
    }
}

/// An `AddObject`; `None` for sizes that no object has.
pub(super) fn add(object: &crate::stage::Published, partition: &[String]) -> Option<WriteOperation> {
    let input = AddObjectInput::builder()
        .uri(object.name().uri())
        .e_tag(object.e_tag())
        .size(i64::try_from(object.size()).ok()?)
        .set_partition_values((!partition.is_empty()).then(|| partition.to_vec()))
        .build()
        .ok()?;
    Some(WriteOperation::builder().add_object(input).build())
}

/// A `DeleteObject`: the object leaves the table, not S3.
pub(super) fn delete(object: &ManifestObject) -> Option<WriteOperation> {
    let input = DeleteObjectInput::builder()
        .uri(&object.uri)
        .set_e_tag(object.e_tag.clone())
        .set_partition_values((!object.partition.is_empty()).then(|| object.partition.clone()))
        .build()
        .ok()?;
    Some(WriteOperation::builder().delete_object(input).build())
}

async fn extend(aws: Aws, id: String) {
    loop {
        tokio::time::sleep(EXTEND_EVERY).await;
        let request = aws.lakeformation.extend_transaction().transaction_id(&id);
        // A refusal shows at the next call of the transaction itself.
        if let Err(error) = aws.call(lakeformation("ExtendTransaction"), &id, || request.send()).await
            && !error.trouble.is_retryable()
        {
            return;
        }
    }
}

/// Whether a refusal is how AWS treats governed tables since it has retired them, and what to say then.
pub(super) fn retired(error: &AwsError) -> bool {
    match error.operation.name {
        "StartTransaction" => matches!(error.trouble, Trouble::Denied | Trouble::Refused | Trouble::Missing),
        // A definition that is merely wrong is refused with the same code.
        "CreateTable" => {
            let about_kind = ["governed", "tabletype", "table type"];
            let message = error.message.to_lowercase();
            error.trouble == Trouble::Refused && about_kind.iter().any(|words| message.contains(words))
        }
        _ => false,
    }
}

/// The sentence for [`retired`].
pub(super) fn retirement(error: AwsError) -> anyhow::Error {
    let denied = error.trouble == Trouble::Denied;
    let advice = if denied {
        format!(
            "AWS refuses governed tables: either lakeformation:{} is not allowed, or AWS has retired governed tables \
             here; use table_format ICEBERG or EXTERNAL",
            error.operation.name
        )
    } else {
        "AWS has retired governed tables; use table_format ICEBERG or EXTERNAL".to_owned()
    };
    Failure::because(FailureKind::Config, advice, anyhow::anyhow!("{error}"))
}
