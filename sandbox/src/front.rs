//! From a request to the service and the operation it is for, through journal and faults.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName};
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value};

use crate::auth::{self, Signature};
use crate::faults::Action;
use crate::journal::Call;
use crate::refusal::{Answer, Payload, Refusal, Service};
use crate::state::State;
use crate::{control, glue, lake_formation, model, s3, sts};

/// The longest body that is not an object's.
const MAX_BODY_BYTES: usize = 32 << 20;

/// The connection is to be closed without an answer.
#[derive(Debug)]
pub(crate) struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

/// What a service is asked to do.
enum Asked {
    S3(Box<s3::Request>),
    Json(Service, Map<String, Value>),
    Form(HashMap<String, String>),
    /// It could not be read.
    Unreadable(Service, Refusal),
}

impl Asked {
    fn service(&self) -> Service {
        match self {
            Self::S3(_) => Service::S3,
            Self::Json(service, _) | Self::Unreadable(service, _) => *service,
            Self::Form(_) => Service::Sts,
        }
    }
}

/// Answers one request.
pub(crate) async fn serve(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Payload>, Closed> {
    let (parts, body) = request.into_parts();
    if let Some(path) = parts.uri.path().strip_prefix("/_sandbox/") {
        let body = collect(body).await.unwrap_or_default();
        return Ok(control::answer(&state, &parts.method, path, &body).into_response());
    }
    let signature = Signature::of(&parts.headers);
    let head = parts.method == Method::HEAD;
    let (asked, mut call, text) = read(&parts, body, signature.as_ref()).await?;
    let service = asked.service();
    let met = state.faults.meet(&format!("{}:{}", service.name(), call.operation), &text);
    call.fault = met.action.as_ref().map(|action| match action {
        Action::Refuse(refusal) => format!("refuse {}", refusal.code),
        Action::ThenRefuse(refusal) => format!("then_refuse {}", refusal.code),
        other => format!("{other:?}").to_lowercase(),
    });
    let operation = call.operation.clone();
    let seq = state.journal.begin(call);
    if !met.delay.is_zero() {
        tokio::time::sleep(met.delay).await;
    }
    let early = match met.action {
        Some(Action::Drop) => {
            state.journal.finish(seq, |_| {});
            return Err(Closed);
        }
        Some(Action::Refuse(ref refusal)) => Some(refusal.clone()),
        Some(Action::Throttle) => Some(Refusal::throttling(service)),
        Some(Action::Hold) => {
            state.faults.wait_for_release().await;
            None
        }
        _ => None,
    };
    let early = early.or_else(|| auth::check(&state, service, signature.as_ref()).err());
    let waits = parts.headers.contains_key(EXPECT);
    let mut answer = match early {
        Some(refusal) => {
            if let Asked::S3(request) = asked
                && !waits
            {
                // A client that is still sending would meet a closed connection, not the answer.
                request.drain().await;
            }
            refusal.answer(service, head)
        }
        None => perform(&state, asked, &operation, signature.as_ref(), head).await,
    };
    if let Some(Action::Lose) = met.action {
        state.journal.finish(seq, |call| call.error.clone_from(&answer.error));
        return Err(Closed);
    }
    if waits && answer.status >= 300 {
        // The body was never asked for, so the connection ends; a client that is not told would use it again.
        answer.header("connection", "close");
    }
    let answer = match met.action {
        Some(Action::ThenRefuse(refusal)) => refusal.answer(service, head),
        _ => answer,
    };
    state.journal.finish(seq, |call| {
        call.status = Some(answer.status);
        call.error.clone_from(&answer.error);
    });
    Ok(answer.into_response())
}

async fn perform(
    state: &Arc<State>,
    asked: Asked,
    operation: &str,
    signature: Option<&Signature>,
    head: bool,
) -> Answer {
    let service = asked.service();
    let answered = match asked {
        Asked::Unreadable(_, refusal) => Err(refusal),
        Asked::S3(request) => s3::perform(state, *request, signature).await,
        Asked::Form(form) => sts::perform(state, operation, &form, signature),
        Asked::Json(service, input) => model::check(service, operation, &input)
            .and_then(|input| match service {
                Service::LakeFormation => lake_formation::perform(state, operation, &input),
                _ => glue::perform(state, operation, &input),
            })
            .map(|output| Answer::json(200, &output)),
    };
    match answered {
        Ok(mut answer) => {
            let id = if service == Service::S3 { "x-amz-request-id" } else { "x-amzn-requestid" };
            answer.header(id, &crate::clock::unique(16).to_uppercase());
            answer
        }
        Err(refusal) => refusal.answer(service, head),
    }
}

/// Which service a request is for, what it asks, and the text that faults are matched with.
async fn read(parts: &Parts, body: Incoming, signature: Option<&Signature>) -> Result<(Asked, Call, String), Closed> {
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let path = parts.uri.path().trim_start_matches('/');
    let target = header("x-amz-target");
    let is_form = header(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/x-www-form"));
    let is_post = parts.method == Method::POST;
    let service = match signature.map(|signature| signature.service.as_str()) {
        Some("glue") => Service::Glue,
        Some("lakeformation") => Service::LakeFormation,
        Some("sts") => Service::Sts,
        Some(_) => Service::S3,
        None if target.is_some_and(|target| target.starts_with("AWSGlue.")) => Service::Glue,
        None if is_post && model::has(Service::LakeFormation, path) => Service::LakeFormation,
        None if is_post && is_form && path.is_empty() => Service::Sts,
        None => Service::S3,
    };
    let mut call = Call {
        seq: 0,
        service: service.name(),
        operation: String::new(),
        target: String::new(),
        query: String::new(),
        transaction: None,
        status: None,
        error: None,
        at_ms: 0,
        done_ms: None,
        bytes: header(CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok()).unwrap_or(0),
        guards: Vec::new(),
        fault: None,
    };
    if service == Service::S3 {
        let checksums = parts.headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with("x-amz-checksum-"));
        let guards = header("x-amz-content-sha256").into_iter().chain(checksums).chain(header("x-amz-trailer"));
        call.guards = guards.map(str::to_owned).collect();
        let request = s3::Request::read(parts, body);
        call.operation = request.operation.to_owned();
        call.target = request.target();
        call.query = parts.uri.query().unwrap_or_default().to_owned();
        call.bytes = request.length().unwrap_or(0);
        let text = format!("{}?{}", call.target, call.query);
        return Ok((Asked::S3(Box::new(request)), call, text));
    }
    let body = collect(body).await?;
    call.bytes = body.len() as u64;
    let text = String::from_utf8_lossy(&body).into_owned();
    let asked = match service {
        Service::Sts => {
            let form = form(&text);
            call.operation = form.get("Action").cloned().unwrap_or_default();
            call.target = form.get("RoleArn").cloned().unwrap_or_default();
            Asked::Form(form)
        }
        _ => {
            let named =
                if service == Service::Glue { target.and_then(|it| it.strip_prefix("AWSGlue.")) } else { Some(path) };
            call.operation = named.unwrap_or_default().to_owned();
            match serde_json::from_str(if text.is_empty() { "{}" } else { &text }) {
                Ok(Value::Object(input)) => {
                    call.target = subject(&input);
                    call.transaction = input.get("TransactionId").and_then(Value::as_str).map(str::to_owned);
                    Asked::Json(service, input)
                }
                _ => Asked::Unreadable(service, Refusal::new(400, "SerializationException", "not a JSON object")),
            }
        }
    };
    Ok((asked, call, text))
}

/// `database.table`, or the database, or nothing.
fn subject(input: &Map<String, Value>) -> String {
    let text = |name: &str| input.get(name).and_then(Value::as_str);
    let nested = |outer: &str| input.get(outer).and_then(|inner| inner.get("Name")).and_then(Value::as_str);
    let database = text("DatabaseName").or_else(|| nested("DatabaseInput"));
    let table = text("TableName").or_else(|| nested("TableInput")).or_else(|| text("Name"));
    [database, table].into_iter().flatten().collect::<Vec<_>>().join(".").to_lowercase()
}

/// The fields of an HTML form.
fn form(body: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    body.split('&')
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

async fn collect(body: Incoming) -> Result<Bytes, Closed> {
    Limited::new(body, MAX_BODY_BYTES).collect().await.map(http_body_util::Collected::to_bytes).map_err(|_| Closed)
}
