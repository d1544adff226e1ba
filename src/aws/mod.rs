//! The door to AWS: credentials, endpoints, clients, and one way to make a call.

mod error;
mod patience;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::sync::Semaphore;

pub use error::{AwsError, Operation, Trouble};
pub use patience::{Doubt, Patience};

use crate::config::{Config, Credentials};
use crate::failure::{Failure, FailureKind};

/// The name of our role sessions, as the incumbent's, so that existing trust policies keep working.
const SESSION_NAME: &str = "airbyte-destination-aws-datalake";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// Calls to one catalog that are on their way at one time. Who waits before he tries again is not among them, so a
/// throttled table keeps no other from its turn.
const CONCURRENT_CATALOG_CALLS: usize = 32;

/// The clients of one sync. Clones share everything.
#[derive(Clone, Debug)]
pub struct Aws {
    /// S3.
    pub s3: aws_sdk_s3::Client,
    /// The Glue Data Catalog.
    pub glue: aws_sdk_glue::Client,
    /// Lake Formation.
    pub lakeformation: aws_sdk_lakeformation::Client,
    /// The Security Token Service.
    pub sts: aws_sdk_sts::Client,
    /// The region all calls go to.
    pub region: String,
    calls: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    catalog_calls: Arc<Semaphore>,
}

impl Aws {
    /// Finds region and credentials, and proves that the credentials can be had.
    ///
    /// # Errors
    /// A `config_error` that says what is missing or refused.
    pub async fn connect(config: &Config) -> anyhow::Result<Self> {
        let sdk = load(config).await?;
        let region = sdk.region().map(ToString::to_string).unwrap_or_default();
        if region.is_empty() {
            return Err(Failure::config("no AWS region: set region, or AWS_REGION in the environment"));
        }
        let sdk = with_credentials(config, sdk).await?;
        let custom_s3 = sdk.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
        let s3 = aws_sdk_s3::config::Builder::from(&sdk)
            .retry_config(RetryConfig::disabled())
            // A stand-in has no name for each bucket.
            .force_path_style(custom_s3)
            .build();
        let glue = aws_sdk_glue::config::Builder::from(&sdk).retry_config(RetryConfig::disabled()).build();
        let lakeformation =
            aws_sdk_lakeformation::config::Builder::from(&sdk).retry_config(RetryConfig::disabled()).build();
        let sts = aws_sdk_sts::config::Builder::from(&sdk).retry_config(RetryConfig::disabled()).build();
        Ok(Self {
            s3: aws_sdk_s3::Client::from_conf(s3),
            glue: aws_sdk_glue::Client::from_conf(glue),
            lakeformation: aws_sdk_lakeformation::Client::from_conf(lakeformation),
            sts: aws_sdk_sts::Client::from_conf(sts),
            region,
            calls: Arc::default(),
            catalog_calls: Arc::new(Semaphore::new(CONCURRENT_CATALOG_CALLS)),
        })
    }

    /// Makes one call: counts it and turns the SDK's error into ours. Calls to the catalogs may have to wait for their
    /// turn. The SDK's futures are large, so one exists only while its call is under way: thousands may be waiting.
    ///
    /// # Errors
    /// What the service or the network said.
    pub async fn call<T, E, Sent>(
        &self,
        operation: Operation,
        resource: &str,
        send: impl FnOnce() -> Sent,
    ) -> Result<T, AwsError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        Sent: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        // Nobody closes the semaphore. Bodies have limits of their own.
        let _turn = if operation.service == "s3" { None } else { self.catalog_calls.acquire().await.ok() };
        if let Ok(mut calls) = self.calls.lock() {
            *calls.entry(operation.name).or_default() += 1;
        }
        Box::pin(send()).await.map_err(|error| AwsError::new(operation, resource.to_owned(), &error))
    }

    /// How many calls were made so far, by operation.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.calls.lock().map(|calls| calls.clone()).unwrap_or_default()
    }
}

async fn load(config: &Config) -> anyhow::Result<SdkConfig> {
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(ATTEMPT_TIMEOUT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &config.endpoint_url {
        loader = loader.endpoint_url(endpoint);
    }
    if let Credentials::User { access_key_id, secret_access_key } = &config.credentials {
        loader = loader.credentials_provider(aws_credential_types::Credentials::new(
            access_key_id,
            secret_access_key,
            None,
            None,
            "configuration",
        ));
    }
    Ok(loader.load().await)
}

/// Puts the role's credentials in place, and asks for credentials once, so that a mistake is found before any data
/// is read. The provider refreshes them for as long as the sync lasts.
async fn with_credentials(config: &Config, sdk: SdkConfig) -> anyhow::Result<SdkConfig> {
    match &config.credentials {
        Credentials::User { .. } => Ok(sdk),
        Credentials::Environment => {
            environment(&sdk).await?;
            Ok(sdk)
        }
        Credentials::Role { role_arn, external_id, session_length } => {
            // The role is assumed with the environment's own: their lack is another mistake than a refused role.
            environment(&sdk).await.context("looking for credentials to assume the role with")?;
            let mut role = AssumeRoleProvider::builder(role_arn)
                .session_name(SESSION_NAME)
                .session_length(*session_length)
                .configure(&sdk);
            if let Some(region) = sdk.region() {
                role = role.region(region.clone());
            }
            if let Some(external_id) = external_id {
                role = role.external_id(external_id);
            }
            let provider = role.build().await;
            provider
                .provide_credentials()
                .await
                .map_err(|error| refused_role(role_arn, external_id.is_some(), *session_length, error))
                .context("assuming the role")?;
            Ok(sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build())
        }
    }
}

/// Whether the environment has credentials.
async fn environment(sdk: &SdkConfig) -> anyhow::Result<()> {
    let provider = sdk.credentials_provider().ok_or_else(|| Failure::config(NO_CREDENTIALS))?;
    provider.provide_credentials().await.map(|_| ()).map_err(|error| {
        let cause = anyhow::anyhow!(innermost(&error));
        Failure::because(FailureKind::Config, NO_CREDENTIALS, cause)
    })
}

/// The last cause of an error, on one line.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

const NO_CREDENTIALS: &str = "no AWS credentials in the environment: give the connector a profile, a web identity, a \
                              pod or instance role, or choose IAM User in the configuration";

/// Why a role was not given, in terms of what to change.
fn refused_role(
    role_arn: &str,
    has_external_id: bool,
    length: Duration,
    error: aws_credential_types::provider::error::CredentialsError,
) -> anyhow::Error {
    let last = innermost(&error);
    let error = anyhow::Error::new(error);
    let said: String = error.chain().map(|cause| format!("{cause:?} ")).collect();
    let (kind, advice) = if said.contains("DurationSeconds") {
        let text = format!(
            "a session of {} s was refused: the role's maximum session duration is shorter, or the role is assumed from \
             another role, which AWS limits to 3600 s (role chaining); set session_length_seconds to 3600",
            length.as_secs()
        );
        (FailureKind::Config, text)
    } else if said.contains("AccessDenied") {
        let external = if has_external_id { "the external_id may be wrong" } else { "it may demand an external_id" };
        let text = format!(
            "{role_arn} may not be assumed: its trust policy must allow sts:AssumeRole to the environment's \
             credentials, and {external}"
        );
        (FailureKind::Config, text)
    } else if said.contains("CredentialsNotLoaded") {
        (FailureKind::Config, format!("{role_arn} cannot be assumed: {NO_CREDENTIALS}"))
    } else if ["InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ValidationError", "RegionDisabled"]
        .iter()
        .any(|code| said.contains(code))
    {
        (FailureKind::Config, format!("STS refuses to hand out {role_arn}: check role_arn and the environment's keys"))
    } else {
        (FailureKind::Transient, format!("STS did not hand out {role_arn}: try again"))
    };
    Failure::because(kind, advice, anyhow::anyhow!(service_words(&said).unwrap_or(last)))
}

/// The service's own message out of an SDK error's debug text, without the rest of it.
fn service_words(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("message: Some(\"")?;
    Some(rest.split_once("\")")?.0.to_owned())
}
