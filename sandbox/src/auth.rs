//! Who asks. Signatures are not verified; keys and session tokens are.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::clock;
use crate::refusal::{Refusal, Service};
use crate::state::{State, locked};

/// What a request says about its signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub(crate) key: String,
    pub(crate) region: String,
    pub(crate) service: String,
    token: Option<String>,
}

impl Signature {
    /// Reads the `Authorization` header; `None` if there is none that makes sense.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (_, scope) = header.strip_prefix("AWS4-HMAC-SHA256 ")?.split_once("Credential=")?;
        let scope = scope.split(',').next()?.trim();
        let mut parts = scope.split('/');
        let (key, _date, region, service) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let token = headers.get("x-amz-security-token").and_then(|token| token.to_str().ok());
        Some(Self {
            key: key.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            token: token.map(str::to_owned),
        })
    }
}

/// Credentials AssumeRole has handed out.
#[derive(Clone, Debug)]
pub(crate) struct Issued {
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) token: String,
    pub(crate) expires: SystemTime,
    /// The ARN of the session.
    pub(crate) arn: String,
    /// The unique id of the session.
    pub(crate) user_id: String,
}

/// The credentials AssumeRole has handed out since the start.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<HashMap<String, Issued>>);

/// What the keys that AssumeRole hands out begin with.
const TEMPORARY: &str = "ASIASANDBOX";

impl Keys {
    pub(crate) fn issue(&self, arn: String, user_id: String, lifetime: Duration) -> Issued {
        let issued = Issued {
            key: format!("{TEMPORARY}{}", clock::unique(9).to_uppercase()),
            secret: format!("{}{}", clock::unique(20), clock::unique(20)),
            token: format!("{}{}", clock::unique(32), clock::unique(32)),
            expires: SystemTime::now() + lifetime,
            arn,
            user_id,
        };
        locked(&self.0).insert(issued.key.clone(), issued.clone());
        issued
    }

    pub(crate) fn find(&self, key: &str) -> Option<Issued> {
        locked(&self.0).get(key).cloned()
    }
}

/// Refuses a request that is not signed, or with a key that does not exist or no longer counts.
pub(crate) fn check(state: &State, service: Service, signature: Option<&Signature>) -> Result<(), Refusal> {
    let Some(signature) = signature else {
        return Err(match service {
            Service::S3 => Refusal::new(403, "AccessDenied", "Access Denied"),
            Service::Sts => Refusal::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token"),
            Service::Glue | Service::LakeFormation => {
                Refusal::new(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
            }
        });
    };
    if state.settings().invalid_keys.contains(&signature.key) {
        return Err(unknown(service));
    }
    let Some(issued) = state.keys.find(&signature.key) else {
        return if signature.key.starts_with(TEMPORARY) { Err(unknown(service)) } else { Ok(()) };
    };
    if signature.token.as_ref() != Some(&issued.token) {
        return Err(match service {
            Service::S3 => Refusal::new(400, "InvalidToken", "The provided token is malformed or otherwise invalid."),
            _ => unknown(service),
        });
    }
    if issued.expires <= SystemTime::now() {
        return Err(match service {
            Service::S3 => Refusal::new(400, "ExpiredToken", "The provided token has expired."),
            Service::Sts => Refusal::new(403, "ExpiredToken", "The security token included in the request is expired"),
            Service::Glue | Service::LakeFormation => {
                Refusal::new(400, "ExpiredTokenException", "The security token included in the request is expired")
            }
        });
    }
    Ok(())
}

fn unknown(service: Service) -> Refusal {
    match service {
        Service::S3 => {
            Refusal::new(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
        }
        Service::Sts => {
            Refusal::new(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        }
        Service::Glue | Service::LakeFormation => {
            Refusal::new(400, "UnrecognizedClientException", "The security token included in the request is invalid.")
        }
    }
}
