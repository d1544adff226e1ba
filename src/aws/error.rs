//! What an AWS call said, as facts ([`AwsError`]) and as advice (the [`Failure`] it carries).

use std::fmt;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::failure::{Failure, FailureKind};

/// An AWS call by its names, as IAM and CloudTrail spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// IAM's prefix of the service: `s3`, `glue`, `lakeformation`, `sts`.
    pub service: &'static str,
    /// The operation, `UpdateTable`.
    pub name: &'static str,
}

/// What kind of refusal or accident a failed call was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Too many requests; nothing was done.
    Throttled,
    /// Someone else is changing the same thing, or it is not ready yet; nothing was done.
    Contended,
    /// The service failed: it may have been done.
    Server,
    /// No answer: it may have been done.
    Lost,
    /// No connection was made: nothing was done.
    Unreachable,
    /// Permission is missing.
    Denied,
    /// The credentials are missing, wrong or expired.
    Credentials,
    /// It does not exist.
    Missing,
    /// It exists already, or a precondition failed (`If-None-Match`).
    Exists,
    /// The bucket is in another region.
    WrongRegion,
    /// Anything else the service refused.
    Refused,
}

impl Trouble {
    /// Whether the same call may be sent again with hope.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Contended | Self::Server | Self::Lost | Self::Unreachable)
    }

    /// Whether the call may have had its effect although it failed.
    #[must_use]
    pub fn is_doubtful(self) -> bool {
        matches!(self, Self::Server | Self::Lost)
    }
}

/// A failed AWS call. Its [`std::error::Error::source`] is the [`Failure`] that tells the user what to do.
#[derive(Debug)]
pub struct AwsError {
    /// The call.
    pub operation: Operation,
    /// What it was about: a bucket and key, a table, a transaction.
    pub resource: String,
    /// The service's error code, where it gave one.
    pub code: Option<String>,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The service's own words, or the transport's.
    pub message: String,
    /// What kind of trouble this is.
    pub trouble: Trouble,
    failure: Box<Failure>,
}

impl AwsError {
    /// Takes the facts out of the SDK's error.
    pub(super) fn new<E>(operation: Operation, resource: String, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let code = error.code().map(str::to_owned);
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        let region_hint =
            error.raw_response().and_then(|raw| raw.headers().get("x-amz-bucket-region")).map(str::to_owned);
        let message = match error {
            SdkError::ServiceError(_) => error.message().map(str::to_owned).unwrap_or_default(),
            other => innermost(other),
        };
        let trouble = trouble_of(error, code.as_deref(), status, &message);
        let failure = Box::new(advise(operation, &resource, trouble, code.as_deref(), &message, region_hint));
        Self { operation, resource, code, status, message, trouble, failure }
    }

    /// An error of our own making about an answer that makes no sense, such as a missing member.
    #[must_use]
    pub fn odd_answer(operation: Operation, resource: impl Into<String>, what: &str) -> Self {
        let resource = resource.into();
        let text = format!("{}:{} answered without {what}", operation.service, operation.name);
        Self {
            operation,
            code: None,
            status: None,
            message: format!("the answer has no {what}"),
            trouble: Trouble::Refused,
            failure: Box::new(Failure::new(FailureKind::System, text)),
            resource,
        }
    }

    /// An error of our own making about something that did not come to its end in time: trying again may help.
    #[must_use]
    pub fn undecided(operation: Operation, resource: impl Into<String>, what: &str) -> Self {
        let mut error = Self::odd_answer(operation, resource, what);
        error.trouble = Trouble::Contended;
        *error.failure = Failure::new(FailureKind::Transient, format!("{}: try again", error.message));
        error
    }

    /// What the service said of one member of a batch, in the batch's answer.
    #[must_use]
    pub fn of_member(operation: Operation, resource: String, code: &str, message: &str) -> Self {
        let trouble = trouble_of_code(code, None);
        let failure = Box::new(advise(operation, &resource, trouble, Some(code), message, None));
        let (code, message) = (Some(code.to_owned()), message.to_owned());
        Self { operation, resource, code, status: None, message, trouble, failure }
    }

    /// Whether the service gave this error code.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether the call may have had its effect although it failed.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.trouble.is_doubtful()
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} of {} failed", self.operation.service, self.operation.name, self.resource)?;
        if let Some(code) = &self.code {
            write!(f, " with {code}")?;
        } else if let Some(status) = self.status {
            write!(f, " with HTTP {status}")?;
        }
        if !self.message.is_empty() {
            write!(f, " ({})", self.message.trim_end_matches('.'))?;
        }
        Ok(())
    }
}

impl std::error::Error for AwsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.failure.as_ref())
    }
}

/// The last cause of a transport error: `connection refused` says more than `dispatch failure`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn trouble_of<E>(error: &SdkError<E, HttpResponse>, code: Option<&str>, status: Option<u16>, message: &str) -> Trouble {
    match error {
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => return Trouble::Lost,
        SdkError::ConstructionFailure(_) => return Trouble::Credentials,
        SdkError::DispatchFailure(failure) => {
            let never_connected =
                failure.as_connector_error().is_some_and(|e| e.connection_metadata().is_none() && e.is_io());
            let text = format!("{message} {}", chain(error));
            return if text.contains("credentials") || text.contains("dentity") {
                Trouble::Credentials
            } else if never_connected && (text.contains("refused") || text.contains("dns error")) {
                Trouble::Unreachable
            } else {
                Trouble::Lost
            };
        }
        _ => {}
    }
    trouble_of_code(code.unwrap_or_default(), status)
}

fn trouble_of_code(code: &str, status: Option<u16>) -> Trouble {
    match code {
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "PriorRequestNotComplete"
        | "BandwidthLimitExceeded"
        | "LimitExceededException" => Trouble::Throttled,
        "ConcurrentModificationException"
        | "ResourceNotReadyException"
        | "ConditionalRequestConflict"
        | "OperationAborted" => Trouble::Contended,
        // Glue and Lake Formation answer a slow call with HTTP 400: it may still be at work.
        "OperationTimeoutException"
        | "RequestTimeout"
        | "InternalServiceException"
        | "InternalError"
        | "InternalFailure" => Trouble::Server,
        // Damaged or cut off on the way.
        "BadDigest" | "IncompleteBody" => Trouble::Lost,
        "AccessDenied"
        | "AccessDeniedException"
        | "AllAccessDisabled"
        | "UnauthorizedOperation"
        | "UnauthorizedException" => Trouble::Denied,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidToken"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "RequestExpired" => Trouble::Credentials,
        "EntityNotFoundException" | "NoSuchBucket" | "NoSuchKey" | "NotFound" | "NoSuchUpload" => Trouble::Missing,
        "AlreadyExistsException" | "PreconditionFailed" | "BucketAlreadyOwnedByYou" => Trouble::Exists,
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "TemporaryRedirect"
        | "IllegalLocationConstraintException" => Trouble::WrongRegion,
        _ => match status {
            Some(429) => Trouble::Throttled,
            Some(500..=599) => Trouble::Server,
            Some(408) => Trouble::Lost,
            Some(301 | 307 | 308) => Trouble::WrongRegion,
            Some(401 | 403) => Trouble::Denied,
            Some(404) => Trouble::Missing,
            Some(412) => Trouble::Exists,
            Some(409) => Trouble::Contended,
            _ => Trouble::Refused,
        },
    }
}

fn chain<E>(error: &SdkError<E, HttpResponse>) -> String {
    match error {
        SdkError::DispatchFailure(failure) => format!("{failure:?}"),
        _ => String::new(),
    }
}

/// The one table from trouble to advice.
fn advise(
    operation: Operation,
    resource: &str,
    trouble: Trouble,
    code: Option<&str>,
    message: &str,
    region_hint: Option<String>,
) -> Failure {
    let Operation { service, name } = operation;
    match trouble {
        Trouble::Denied => {
            // Lake Formation answers with the same code as IAM, but says what it wants.
            let lake_formation = message.contains("Lake Formation");
            let grant = if lake_formation {
                format!(
                    "grant the missing Lake Formation permission on {resource}, or {} in IAM",
                    permission(operation)
                )
            } else {
                format!("allow {} on {resource} in the IAM policy{}", permission(operation), hint(service))
            };
            Failure::new(FailureKind::Config, format!("permission {} is missing: {grant}", permission(operation)))
        }
        Trouble::Credentials => Failure::new(
            FailureKind::Config,
            match code {
                Some("ExpiredToken" | "ExpiredTokenException" | "RequestExpired") => {
                    "the AWS credentials have expired: supply new ones".to_owned()
                }
                Some("SignatureDoesNotMatch" | "InvalidSignatureException") => {
                    "the secret access key does not belong to the access key id: check both".to_owned()
                }
                Some("RequestTimeTooSkewed") => {
                    "the clock of this machine is wrong: AWS refuses its requests".to_owned()
                }
                Some(_) => "AWS does not know the access key: check aws_access_key_id".to_owned(),
                None => "no usable AWS credentials were found: check the credentials in the configuration, or the \
                         environment's"
                    .to_owned(),
            },
        ),
        Trouble::Missing if code == Some("NoSuchBucket") || (service == "s3" && name == "HeadBucket") => Failure::new(
            FailureKind::Config,
            format!("the bucket does not exist: create it, or correct bucket_name ({resource})"),
        ),
        Trouble::WrongRegion => Failure::new(
            FailureKind::Config,
            match region_hint {
                Some(region) => format!("the bucket is in region {region}: set region to it"),
                None => "the bucket is in another region: set region to the bucket's".to_owned(),
            },
        ),
        Trouble::Throttled => {
            Failure::new(FailureKind::Transient, format!("{service} throttles requests: try again later"))
        }
        Trouble::Contended => {
            Failure::new(FailureKind::Transient, format!("{resource} is being changed by someone else: try again"))
        }
        Trouble::Server => Failure::new(FailureKind::Transient, format!("{service} failed: try again later")),
        Trouble::Lost => {
            Failure::new(FailureKind::Transient, format!("no answer from {service}: check the network, try again"))
        }
        Trouble::Unreachable => Failure::new(
            FailureKind::Transient,
            format!("{service} cannot be reached: check network, region and endpoint_url"),
        ),
        _ if code.is_some_and(|code| code.starts_with("KMS.")) => Failure::new(
            FailureKind::Config,
            "the KMS key cannot be used: check s3_kms_key_id, or the bucket's default encryption, and that the key is \
             enabled and in the bucket's region",
        ),
        _ if code == Some("ResourceNumberLimitExceededException") => Failure::new(
            FailureKind::Config,
            format!("a quota of {service} is used up: raise it, or delete what is not needed ({resource})"),
        ),
        _ if code == Some("GlueEncryptionException") => Failure::new(
            FailureKind::Config,
            "the key that encrypts the Glue catalog cannot be used: allow kms:Decrypt and kms:GenerateDataKey on it",
        ),
        // Lake Formation gave up a transaction that was idle, or in the way of another.
        _ if code == Some("TransactionCanceledException") => {
            Failure::new(FailureKind::Transient, format!("{resource} was cancelled by Lake Formation: try again"))
        }
        Trouble::Missing | Trouble::Exists | Trouble::Refused => {
            Failure::new(FailureKind::System, format!("{service}:{name} was refused"))
        }
    }
}

/// The IAM action that allows a call; most are named like it.
fn permission(operation: Operation) -> String {
    let action = match (operation.service, operation.name) {
        ("s3", "HeadObject") => "GetObject",
        ("s3", "HeadBucket" | "ListObjectsV2") => "ListBucket",
        ("s3", "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload") => "PutObject",
        ("s3", "DeleteObjects") => "DeleteObject",
        ("s3", "ListMultipartUploads") => "ListBucketMultipartUploads",
        (_, name) => name,
    };
    format!("{}:{action}", operation.service)
}

fn hint(service: &str) -> &'static str {
    match service {
        "glue" => ", and check the Lake Formation grants on the database and its location",
        "s3" => ", and check the bucket policy and KMS key",
        _ => "",
    }
}
