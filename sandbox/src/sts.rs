//! STS: who is asking, and roles.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

use crate::auth::Signature;
use crate::clock;
use crate::refusal::{Answer, Refusal, escape};
use crate::state::State;

static SESSION_NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\w+=,.@-]*$").ok());
static EXTERNAL_ID: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\w+=,.@:/-]*$").ok());

/// Does what a form asks.
pub(crate) fn perform(
    state: &State,
    operation: &str,
    form: &HashMap<String, String>,
    signature: Option<&Signature>,
) -> Result<Answer, Refusal> {
    let (arn, user_id) = caller(state, signature);
    let result = match operation {
        "GetCallerIdentity" => format!(
            "<UserId>{}</UserId><Account>{}</Account><Arn>{}</Arn>",
            escape(&user_id),
            state.account_id,
            escape(&arn)
        ),
        "AssumeRole" => assume(state, form, &arn)?,
        _ => {
            let message = format!("Could not find operation {operation} for version 2011-06-15");
            return Err(Refusal::new(400, "InvalidAction", message));
        }
    };
    Ok(Answer::xml(
        200,
        format!(
            "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{operation}Result>{result}\
             </{operation}Result><ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{operation}Response>",
            clock::unique(32)
        ),
    ))
}

fn caller(state: &State, signature: Option<&Signature>) -> (String, String) {
    match signature.and_then(|signature| state.keys.find(&signature.key)) {
        Some(issued) => (issued.arn, issued.user_id),
        None => (format!("arn:aws:iam::{}:user/sandbox", state.account_id), "AIDASANDBOX0000000000".to_owned()),
    }
}

fn validation(problem: impl std::fmt::Display) -> Refusal {
    Refusal::new(400, "ValidationError", format!("1 validation error detected: {problem}"))
}

/// Refuses a parameter whose length or characters the model does not allow.
fn check(
    form: &HashMap<String, String>,
    name: &str,
    (shortest, longest): (usize, usize),
    pattern: Option<&Regex>,
) -> Result<(), Refusal> {
    let Some(value) = form.get(name) else { return Ok(()) };
    let mut member = name.to_owned();
    member[..1].make_ascii_lowercase();
    let fail = |constraint: String| {
        Err(validation(format!("Value '{value}' at '{member}' failed to satisfy constraint: Member must {constraint}")))
    };
    match value.chars().count() {
        length if length < shortest => fail(format!("have length greater than or equal to {shortest}")),
        length if length > longest => fail(format!("have length less than or equal to {longest}")),
        _ => match pattern {
            Some(pattern) if !pattern.is_match(value) => {
                let pattern = pattern.as_str().trim_start_matches('^').trim_end_matches('$');
                fail(format!("satisfy regular expression pattern: {pattern}"))
            }
            _ => Ok(()),
        },
    }
}

fn assume(state: &State, form: &HashMap<String, String>, caller: &str) -> Result<String, Refusal> {
    for name in ["RoleArn", "RoleSessionName"] {
        if form.get(name).is_none_or(String::is_empty) {
            let mut member = name.to_owned();
            member[..1].make_ascii_lowercase();
            let text = format!("Value null at '{member}' failed to satisfy constraint: Member must not be null");
            return Err(validation(text));
        }
    }
    check(form, "RoleArn", (20, 2048), None)?;
    check(form, "RoleSessionName", (2, 64), SESSION_NAME.as_ref())?;
    check(form, "ExternalId", (2, 1224), EXTERNAL_ID.as_ref())?;
    let text = |name: &str| form.get(name).map_or("", String::as_str);
    let seconds = match form.get("DurationSeconds") {
        None => 3600,
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| Refusal::new(400, "MalformedInput", format!("{text} is not a number of seconds")))?,
    };
    let out_of_range = |constraint: &str, bound: u64| {
        validation(format!(
            "Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: Member must have value {constraint} \
             than or equal to {bound}"
        ))
    };
    if seconds < 900 {
        return Err(out_of_range("greater", 900));
    }
    if seconds > 43_200 {
        return Err(out_of_range("less", 43_200));
    }
    let (arn, session) = (text("RoleArn"), text("RoleSessionName"));
    let prefix = format!(":iam::{}:role/", state.account_id);
    let settings = state.settings();
    let denied = || {
        let message = format!("User: {caller} is not authorized to perform: sts:AssumeRole on resource: {arn}");
        Refusal::new(403, "AccessDenied", message)
    };
    let role_path = arn.split_once(&prefix).map(|(_, path)| path).ok_or_else(denied)?;
    if !settings.roles.is_empty() {
        let role = settings.roles.iter().find(|role| role.arn == arn).ok_or_else(denied)?;
        if role.external_id.is_some() && role.external_id.as_ref() != form.get("ExternalId") {
            return Err(denied());
        }
        if seconds > role.max_session_seconds {
            let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
            return Err(Refusal::new(400, "ValidationError", message));
        }
    } else if seconds > 3600 {
        let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
        return Err(Refusal::new(400, "ValidationError", message));
    }
    let role_name = role_path.rsplit('/').next().unwrap_or(role_path);
    let session_arn = format!("arn:aws:sts::{}:assumed-role/{role_name}/{session}", state.account_id);
    let user_id = format!("AROASANDBOX0000000000:{session}");
    let lifetime = settings.credential_lifetime_seconds.unwrap_or(seconds);
    let issued = state.keys.issue(session_arn, user_id, Duration::from_secs(lifetime));
    Ok(format!(
        "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials>\
         <AssumedRoleUser><AssumedRoleId>{}</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser>",
        issued.key,
        issued.secret,
        issued.token,
        clock::iso(issued.expires),
        escape(&issued.user_id),
        escape(&issued.arn)
    ))
}
