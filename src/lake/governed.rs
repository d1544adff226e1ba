//! Governed tables: one transaction for all tables of a checkpoint, opened after everything is published.

use futures_util::stream::{self, StreamExt as _};
use tokio::time::Instant;

use super::generation::Shown;
use super::glue::{Catalog, History};
use super::table::{Mode, Plan};
use super::transaction::{self, Interrupted, Transaction};
use super::{CONCURRENT_TABLES, Staged, Watch, Work, definition, external};
use crate::aws::{Aws, AwsError, Patience, Trouble};
use crate::failure::Failure;

/// After so many conflicts in a row the tables are committed one by one, so that one contended table does not hold
/// up the others.
const CONFLICTS_TOGETHER: u32 = 2;

/// Why an attempt did not commit.
enum Setback {
    /// Tables' own errors, by their place in the work list; the others may go on without them.
    Tables(Vec<(usize, anyhow::Error)>),
    /// The transaction is void; the same work may be tried again.
    Void(AwsError),
    /// Nothing can be committed.
    All(anyhow::Error),
}

/// Commits all work in one transaction, or, where that is allowed and needed, in several. The answer has one entry
/// for each piece of work, in order: whether it is committed.
pub(super) async fn commit(
    aws: &Aws,
    work: &[&mut Work<'_>],
    watch: &Watch,
    deadline: Instant,
) -> Vec<anyhow::Result<()>> {
    let mut results: Vec<Option<anyhow::Result<()>>> = work.iter().map(|_| None).collect();
    let patience = Patience::until(deadline);
    let mut conflicts = 0;
    loop {
        let open: Vec<usize> = (0..work.len()).filter(|&i| results[i].is_none()).collect();
        let Some(&first) = open.first() else { break };
        let together = watch.indivisible || conflicts < CONFLICTS_TOGETHER;
        let members = if together { open } else { vec![first] };
        match attempt(aws, work, &members, watch, patience).await {
            Ok(()) => {
                for &i in &members {
                    results[i] = Some(Ok(()));
                }
                if together {
                    conflicts = 0;
                }
            }
            Err(Setback::Tables(errors)) => {
                for (i, error) in errors {
                    results[i] = Some(Err(error));
                }
                if watch.indivisible {
                    for &other in &members {
                        results[other].get_or_insert_with(|| Err(super::consequence::follows()));
                    }
                }
            }
            Err(Setback::Void(error)) => {
                conflicts += 1;
                if patience.is_over() || !patience.pause(conflicts).await {
                    fail(&mut results, &members, error.into());
                }
            }
            Err(Setback::All(error)) => fail(&mut results, &members, error),
        }
    }
    results.into_iter().map(|result| result.unwrap_or_else(|| Err(Failure::system("a table was forgotten")))).collect()
}

/// The first table carries the cause, the others the fact.
fn fail(results: &mut [Option<anyhow::Result<()>>], members: &[usize], error: anyhow::Error) {
    let mut cause = Some(error);
    for &i in members {
        let error = cause.take().unwrap_or_else(super::consequence::follows);
        results[i] = Some(Err(error));
    }
}

async fn attempt(
    aws: &Aws,
    work: &[&mut Work<'_>],
    members: &[usize],
    watch: &Watch,
    patience: Patience,
) -> Result<(), Setback> {
    let transaction = Transaction::begin(aws, patience).await.map_err(|error| {
        if transaction::retired(&error) {
            Setback::All(transaction::retirement(error))
        } else {
            Setback::All(error.into())
        }
    })?;
    let applying: Vec<_> = members
        .iter()
        .map(|&i| {
            let (transaction, work): (_, &Work<'_>) = (&transaction, &*work[i]);
            async move { (i, Box::pin(apply(aws, transaction, work)).await) }
        })
        .collect();
    let applied: Vec<(usize, Result<(), Refused>)> =
        stream::iter(applying).buffer_unordered(CONCURRENT_TABLES).collect().await;
    let mut void = None;
    let mut refused = Vec::new();
    for (i, result) in applied {
        match result {
            Ok(()) => {}
            Err(Refused::Interrupted(Interrupted::Void(error))) => void = Some(error),
            Err(Refused::Interrupted(Interrupted::Refused(error))) if transaction::retired(&error) => {
                refused.push((i, transaction::retirement(error)));
            }
            Err(error) => refused.push((i, error.into_error())),
        }
    }
    // What would be refused again need not be tried again.
    let mut setback = if refused.is_empty() { void.map(Setback::Void) } else { Some(Setback::Tables(refused)) };
    if setback.is_none() && members.iter().any(|&i| work[i].switch) && !watch.is_heard() {
        setback = Some(Setback::All(Failure::transient("nobody reads our output any more, so no table is switched")));
    }
    if let Some(setback) = setback {
        // What is not committed has no effect, whether the cancel arrives or not.
        drop(transaction.cancel().await);
        return Err(setback);
    }
    transaction.commit().await.map_err(|interrupted| match interrupted {
        Interrupted::Void(error) => Setback::Void(error),
        Interrupted::Refused(error) => Setback::All(error.into()),
    })
}

/// Why a table's changes were not accepted.
enum Refused {
    Interrupted(Interrupted),
    Ours(anyhow::Error),
}

impl Refused {
    fn into_error(self) -> anyhow::Error {
        match self {
            Self::Interrupted(interrupted) => interrupted.into_error().into(),
            Self::Ours(error) => error,
        }
    }
}

impl From<AwsError> for Refused {
    fn from(error: AwsError) -> Self {
        Self::Interrupted(error.into())
    }
}

impl From<Interrupted> for Refused {
    fn from(interrupted: Interrupted) -> Self {
        Self::Interrupted(interrupted)
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Ours(error)
    }
}

/// Puts one table's changes into the transaction.
async fn apply(aws: &Aws, transaction: &Transaction, work: &Work<'_>) -> Result<(), Refused> {
    let plan = &work.table.plan;
    let catalog = Catalog { aws, patience: transaction.patience(), transaction: Some(transaction.id()) };
    if work.switch {
        return Box::pin(switch(&catalog, transaction, work)).await;
    }
    if !work.table.ready {
        match catalog.table(&plan.name).await? {
            None => create(&catalog, definition::new_table(plan, &plan.location)?, plan).await?,
            Some(table) => {
                if let Some(input) = definition::with_added(&table, &external::missing(plan))? {
                    catalog.update_table(&plan.name, table.version_id, &input, History::Keep).await?;
                }
            }
        }
    }
    let operations = additions(&work.staged)?;
    transaction.write(&plan.name.database, &plan.name.table, &operations).await?;
    Ok(())
}

/// The table shows the area and nothing else, and records the generation: all in this transaction.
async fn switch(catalog: &Catalog<'_>, transaction: &Transaction, work: &Work<'_>) -> Result<(), Refused> {
    let plan = &work.table.plan;
    let Mode::Replace { generation, area } = &plan.mode else {
        return Err(Refused::Ours(Failure::system("a switch of a stream that appends")));
    };
    let mut operations = Vec::new();
    match catalog.table(&plan.name).await? {
        None => {
            let mut input = definition::new_table(plan, &plan.location)?;
            definition::record(*generation, plan.sync_id, &mut input);
            create(catalog, input, plan).await?;
        }
        Some(table) => {
            let objects = transaction.objects(&plan.name.database, &plan.name.table).await?;
            super::still_ours(plan, *generation, Shown::of(&table, &objects).generation)?;
            let stale = objects.iter().filter(|object| !area.holds(&object.uri));
            for object in stale {
                let operation = transaction::delete(object)
                    .ok_or_else(|| Failure::system(format!("{} lists an object without a name", plan.name)))?;
                operations.push(operation);
            }
            let mut input = definition::switched(&table, plan, &plan.location)?;
            definition::record(*generation, plan.sync_id, &mut input);
            let history = definition::history(&table, &input);
            catalog.update_table(&plan.name, table.version_id, &input, history).await?;
        }
    }
    operations.extend(additions(work.table.waiting.objects())?);
    transaction.write(&plan.name.database, &plan.name.table, &operations).await?;
    Ok(())
}

async fn create(catalog: &Catalog<'_>, input: aws_sdk_glue::types::TableInput, plan: &Plan) -> Result<(), Refused> {
    match catalog.create_table(&plan.name, &input).await {
        // Somebody was faster, or a call of ours whose answer was lost belongs to a void transaction: begin again.
        Err(error) if error.trouble == Trouble::Exists => Err(Refused::Interrupted(Interrupted::Void(error))),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

fn additions(staged: &[Staged]) -> Result<Vec<aws_sdk_lakeformation::types::WriteOperation>, anyhow::Error> {
    staged
        .iter()
        .map(|staged| {
            transaction::add(&staged.object, &staged.partition)
                .ok_or_else(|| Failure::system(format!("{} cannot be registered", staged.object.name())))
        })
        .collect()
}
