//! How the services behave, as far as that can be chosen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A role that STS lets callers assume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The role's ARN.
    pub arn: String,
    /// The external id its trust policy asks for.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The longest session it allows.
    #[serde(default = "an_hour")]
    pub max_session_seconds: u64,
}

fn an_hour() -> u64 {
    3600
}

/// How transaction statuses are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusCase {
    /// `COMMITTED`, as the model says.
    #[default]
    Upper,
    /// `committed`, as clients have met it.
    Lower,
}

/// What becomes of a commit that is in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is committed.
    #[default]
    Committed,
    /// It is aborted after all.
    Aborted,
}

/// The next commits answer `COMMIT_IN_PROGRESS` first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InProgress {
    /// How many commits.
    pub commits: u32,
    /// They are settled after so many milliseconds.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// They are settled by the DescribeTransaction call with this number.
    #[serde(default)]
    pub describes: Option<u32>,
    /// How they are settled.
    #[serde(default)]
    pub outcome: Outcome,
}

/// How the services behave, as far as that can be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The roles that exist. While there is none, every role of the account can be assumed.
    pub roles: Vec<Role>,
    /// Access keys that do not exist.
    pub invalid_keys: Vec<String>,
    /// How long credentials of AssumeRole live, whatever was asked for.
    pub credential_lifetime_seconds: Option<u64>,
    /// How transaction statuses are written.
    pub status_case: StatusCase,
    /// The next commits answer `COMMIT_IN_PROGRESS` first.
    pub commit_in_progress: Option<InProgress>,
    /// Where buckets are. A request signed for another region is redirected.
    pub bucket_regions: BTreeMap<String, String>,
    /// Transactions and governed tables are refused, as on AWS today.
    pub governed_retired: bool,
    /// How much older than they are uploads and objects are listed, so that what waits for age can be tried.
    pub listed_age_seconds: u64,
    /// Bodies of objects are counted and thrown away: what is stored is as long, but all zeros. For measuring clients.
    pub discard_bodies: bool,
    /// How long a transaction may be idle before it is aborted.
    pub transaction_idle_ms: Option<u64>,
    /// Partitions that a batch to create, update or delete is answered with an error for, by their first value.
    pub refused_partitions: BTreeMap<String, PartitionRefusal>,
    /// Keys whose deletion is refused, with that code, inside the answer of `DeleteObjects`.
    pub refused_deletes: BTreeMap<String, String>,
    /// How many partitions a batch to get is answered with; it names the rest as not processed.
    pub partitions_per_get: Option<usize>,
}

/// Why a partition of a batch is refused, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionRefusal {
    /// The error's code.
    pub code: String,
    /// So many times; then it is accepted.
    pub times: u32,
}

impl Settings {
    /// These settings with the members of a JSON object put in their place.
    pub(crate) fn with(&self, changes: &serde_json::Value) -> Result<Self, serde_json::Error> {
        let mut merged = serde_json::to_value(self)?;
        if let (Some(merged), Some(changes)) = (merged.as_object_mut(), changes.as_object()) {
            merged.extend(changes.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        serde_json::from_value(merged)
    }
}
