//! `check`'s questions to the catalog: is there a database, is there a tag, does a transaction with a governed table in
//! it work here?

use aws_sdk_glue::types::TableInput;

use super::definition;
use super::glue::{Catalog, History, TableName};
use super::table::{Kind, Location, Mode, Plan};
use super::transaction::{self, Transaction};
use crate::aws::{Aws, AwsError, Doubt, Operation, Patience, Trouble};
use crate::config::{Config, DefaultTag, FileFormat};
use crate::failure::{Failure, StreamName};

/// Whether a database exists.
///
/// # Errors
/// What is missing.
pub async fn has_database(aws: &Aws, name: &str) -> anyhow::Result<bool> {
    Ok(Catalog::new(aws, &Patience::brief()).has_database(name).await?)
}

/// Whether the tag exists with its values. Not being allowed to look is only worth a remark.
///
/// # Errors
/// A tag that does not exist, or lacks a value.
pub async fn probe_tag(aws: &Aws, tag: &DefaultTag) -> anyhow::Result<Option<String>> {
    let operation = Operation { service: "lakeformation", name: "GetLFTag" };
    let answer = Patience::brief()
        .run(Doubt::Repeat, || async {
            let request = aws.lakeformation.get_lf_tag().tag_key(&tag.key);
            aws.call(operation, &tag.key, || request.send()).await
        })
        .await;
    match answer {
        Ok(answer) => match tag.values.iter().find(|value| !answer.tag_values().contains(value)) {
            None => Ok(None),
            Some(value) => Err(Failure::config(format!(
                "the LF-tag {} has no value {value}: add it, or correct lakeformation_database_default_tag_values",
                tag.key
            ))),
        },
        Err(error) if error.trouble == Trouble::Missing => Err(Failure::config(format!(
            "the LF-tag {} does not exist: create it, or remove lakeformation_database_default_tag_key",
            tag.key
        ))),
        Err(error) if error.trouble == Trouble::Denied => Ok(Some(format!(
            "whether the LF-tag {} exists is not known, since lakeformation:GetLFTag is not allowed",
            tag.key
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Creates a governed table in a transaction, cancels it and looks whether the table is gone. Without a database to
/// put a table in, the transaction alone is tried.
///
/// # Errors
/// What is missing, or that AWS has retired governed tables.
pub async fn probe_transaction(aws: &Aws, config: &Config, database: Option<&str>, token: &str) -> anyhow::Result<()> {
    let say = |error: AwsError| {
        if transaction::retired(&error) { transaction::retirement(error) } else { error.into() }
    };
    let patience = Patience::brief();
    let Some(database) = database else {
        let open = Transaction::begin(aws, patience).await.map_err(say)?;
        return Ok(open.cancel().await?);
    };
    let name = TableName { database: database.to_owned(), table: format!("airbyte_check_{token}") };
    let folder = [config.prefix.as_str(), database, &name.table];
    let folder = folder.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
    let plan = Plan {
        stream: StreamName { namespace: None, name: name.table.clone() },
        name: name.clone(),
        kind: Kind::Governed,
        location: Location { bucket: config.bucket.clone(), folder },
        columns: vec![crate::schema::Field::plain("probe", crate::schema::DataType::Boolean)],
        metadata: Vec::new(),
        added: Vec::new(),
        dropped: Vec::new(),
        partition_by: None,
        key_columns: Vec::new(),
        file_format: FileFormat::Jsonl { gzip: false },
        whole_record: false,
        timestamps: crate::encode::TimestampStyle::default(),
        exists: false,
        gone: Vec::new(),
        replaced: None,
        shown: super::generation::Shown::default(),
        sync_id: None,
        mode: Mode::Append,
        warnings: Vec::new(),
    };
    let open = Transaction::begin(aws, patience).await.map_err(say)?;
    let created = {
        let catalog = Catalog { aws, patience: &patience, transaction: Some(open.id()) };
        catalog.create_table(&name, &definition::new_table(&plan, &plan.location)?).await
    };
    let cancelled = open.cancel().await;
    created.map_err(say)?;
    cancelled?;
    let catalog = Catalog::new(aws, &patience);
    if catalog.table(&name).await?.is_some() {
        catalog.delete_table(&name).await?;
        return Err(Failure::config(
            "a table made in a Lake Formation transaction stayed after the transaction was cancelled: governed tables \
             do not work here; use table_format ICEBERG or EXTERNAL",
        ));
    }
    Ok(())
}

/// Asks for a table that is not there, and to change it: both are answered with `EntityNotFoundException` where they are
/// allowed, and nothing is made. That tables may be created is seen by the first sync.
///
/// # Errors
/// What is missing.
pub async fn probe_iceberg(aws: &Aws, database: &str, token: &str) -> anyhow::Result<()> {
    let name = TableName { database: database.to_owned(), table: format!("airbyte_check_{token}") };
    let patience = Patience::brief();
    let catalog = Catalog::new(aws, &patience);
    catalog.table(&name).await?;
    let input = TableInput::builder().name(&name.table).build().map_err(|error| Failure::system(error.to_string()))?;
    match catalog.update_table(&name, Some("0".to_owned()), &input, History::Skip).await {
        Err(error) if error.trouble != Trouble::Missing => Err(error.into()),
        _ => Ok(()),
    }
}
