//! `check`: tries what a sync will do, one permission at a time, and undoes each try.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ServerSideEncryption;

use crate::aws::{Aws, AwsError, Doubt, Operation, Patience};
use crate::config::{Config, TableFormat};
use crate::failure::{Failure, FailureKind};
use crate::lake;
use crate::protocol::Level;
use crate::schema::names::identifier;

/// A person waits.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Probes everything. Answers with what the user should hear although it works.
///
/// # Errors
/// The first thing that is missing, in one sentence.
pub async fn run(config: &Config, token: &str) -> anyhow::Result<Vec<(Level, String)>> {
    let mut remarks = Vec::new();
    let aws = in_time("asking for credentials", Aws::connect(config)).await?;
    remarks.extend(in_time("asking who we are", identity(&aws, config)).await?.map(|text| (Level::Warn, text)));
    bucket(&aws, config, token).await?;
    let database = identifier(&config.database);
    let exists = in_time("looking for the database", lake::has_database(&aws, &database)).await?;
    if !exists {
        remarks.push((Level::Info, format!("database {database} does not exist yet: the first sync creates it")));
    }
    if let Some(tag) = &config.default_tag {
        let remark = in_time("looking for the LF-tag", lake::probe_tag(&aws, tag)).await?;
        remarks.extend(remark.map(|text| (Level::Warn, text)));
    }
    if config.table_format == TableFormat::Governed {
        let database = exists.then_some(database.as_str());
        let probe = Box::pin(lake::probe_transaction(&aws, config, database, token));
        in_time("probing a transaction", probe).await?;
    }
    if config.table_format == TableFormat::Iceberg && exists {
        in_time("probing the catalog", Box::pin(lake::probe_iceberg(&aws, &database, token))).await?;
    }
    Ok(remarks)
}

async fn in_time<T>(what: &str, step: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(STEP_LIMIT, Box::pin(step)).await {
        Ok(result) => result.map_err(|error| error.context(what.to_owned())),
        Err(_) => Err(Failure::transient(format!(
            "{what} took longer than {} s: check the network, region and endpoint_url",
            STEP_LIMIT.as_secs()
        ))),
    }
}

/// The account behind the credentials; another one than the user believes is worth a warning.
async fn identity(aws: &Aws, config: &Config) -> anyhow::Result<Option<String>> {
    let found = account(aws, &Patience::brief()).await?;
    Ok(differs(config, &found))
}

/// The caller's account. Needs no permission.
async fn account(aws: &Aws, patience: &Patience) -> Result<String, AwsError> {
    let operation = Operation { service: "sts", name: "GetCallerIdentity" };
    let answer = patience
        .run(Doubt::Repeat, || async {
            aws.call(operation, "the credentials", || aws.sts.get_caller_identity().send()).await
        })
        .await?;
    answer.account.ok_or_else(|| AwsError::odd_answer(operation, "the credentials", "an account"))
}

fn differs(config: &Config, found: &str) -> Option<String> {
    let wanted = config.account_id.as_ref()?;
    (wanted != found).then(|| format!("the credentials belong to account {found}, not to aws_account_id {wanted}"))
}

/// For `write`: a warning when the account is another one; that STS cannot be asked is none of a sync's business.
pub async fn account_remark(aws: &Aws, config: &Config) -> Option<String> {
    config.account_id.as_ref()?;
    let found = account(aws, &Patience::brief()).await.ok()?;
    differs(config, &found)
}

/// Writes, reads and deletes an object where the tables will be. It is deleted whatever became of the reading.
async fn bucket(aws: &Aws, config: &Config, token: &str) -> anyhow::Result<()> {
    let folder = if config.prefix.is_empty() { String::new() } else { format!("{}/", config.prefix) };
    let key = format!("{folder}_airbyte_check_{token}");
    let resource = format!("s3://{}/{key}", config.bucket);
    let patience = Patience::brief();
    let call = |name| Operation { service: "s3", name };
    let written = in_time("writing to the bucket", async {
        let put = patience.run(Doubt::Repeat, || async {
            let body = ByteStream::from_static(b"airbyte");
            let encryption = config.kms_key_id.as_ref().map(|_| ServerSideEncryption::AwsKms);
            let request = aws
                .s3
                .put_object()
                .bucket(&config.bucket)
                .key(&key)
                .set_server_side_encryption(encryption)
                .set_ssekms_key_id(config.kms_key_id.clone())
                .body(body);
            aws.call(call("PutObject"), &resource, || request.send()).await
        });
        Ok(put.await?)
    });
    let written = written.await;
    let refused = written.as_ref().is_err_and(|error| {
        error.chain().filter_map(|cause| cause.downcast_ref::<AwsError>()).any(|error| !error.is_doubtful())
    });
    if refused {
        return written.map(|_| ());
    }
    let read = match &written {
        Ok(_) => in_time("reading from the bucket", read_back(aws, config, &key, &resource, &patience)).await,
        Err(_) => Ok(()),
    };
    let deleted = in_time("deleting from the bucket", async {
        let delete = patience.run(Doubt::Repeat, || async {
            let request = aws.s3.delete_object().bucket(&config.bucket).key(&key);
            aws.call(call("DeleteObject"), &resource, || request.send()).await
        });
        Ok(delete.await?)
    });
    let deleted = deleted.await;
    written?;
    read?;
    deleted?;
    Ok(())
}

async fn read_back(aws: &Aws, config: &Config, key: &str, resource: &str, patience: &Patience) -> anyhow::Result<()> {
    // Syncs list too: before a new table is made, and before a table is switched.
    patience
        .run(Doubt::Repeat, || async {
            let request = aws.s3.list_objects_v2().bucket(&config.bucket).prefix(key).max_keys(1);
            aws.call(Operation { service: "s3", name: "ListObjectsV2" }, resource, || request.send()).await
        })
        .await?;
    let answer = patience
        .run(Doubt::Repeat, || async {
            let request = aws.s3.get_object().bucket(&config.bucket).key(key);
            aws.call(Operation { service: "s3", name: "GetObject" }, resource, || request.send()).await
        })
        .await?;
    let body = answer.body.collect().await.map_err(|error| {
        Failure::because(FailureKind::Transient, "the probe object could not be read back", anyhow::Error::new(error))
    })?;
    if body.into_bytes().as_ref() != b"airbyte" {
        return Err(Failure::system("the probe object came back with other bytes than were written"));
    }
    Ok(())
}
