//! An error as a service answers it, and the answer itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock;

/// Which of the services a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Service {
    S3,
    Glue,
    LakeFormation,
    Sts,
}

impl Service {
    /// The name that stands in a signature's scope, a fault's operation and the journal.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Glue => "glue",
            Self::LakeFormation => "lakeformation",
            Self::Sts => "sts",
        }
    }
}

/// An error a service answers with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The HTTP status.
    #[serde(default = "bad_request")]
    pub status: u16,
    /// The error code, such as `EntityNotFoundException` or `NoSuchKey`.
    pub code: String,
    /// The text that goes with it.
    #[serde(default)]
    pub message: String,
    /// More response headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

fn bad_request() -> u16 {
    400
}

impl Refusal {
    /// An error with a status, a code and a text.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), headers: BTreeMap::new() }
    }

    /// A failure of the sandbox itself, such as a full disk.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", error.to_string())
    }

    /// What the service answers when it is asked too often.
    pub(crate) fn throttling(service: Service) -> Self {
        match service {
            Service::S3 => Self::new(503, "SlowDown", "Please reduce your request rate."),
            Service::Glue | Service::LakeFormation => Self::new(400, "ThrottlingException", "Rate exceeded"),
            Service::Sts => Self::new(400, "Throttling", "Rate exceeded"),
        }
    }

    /// The error on the wire of a service. A HEAD request gets no body.
    pub(crate) fn answer(&self, service: Service, head: bool) -> Answer {
        let request_id = clock::unique(16).to_uppercase();
        let mut answer = match service {
            _ if head => Answer::empty(self.status),
            Service::S3 => Answer::xml(
                self.status,
                format!(
                    "<Error><Code>{}</Code><Message>{}</Message><RequestId>{request_id}</RequestId>\
                     <HostId>sandbox</HostId></Error>",
                    escape(&self.code),
                    escape(&self.message)
                ),
            ),
            Service::Sts => {
                let fault = if self.status < 500 { "Sender" } else { "Receiver" };
                Answer::xml(
                    self.status,
                    format!(
                        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{fault}</Type>\
                         <Code>{}</Code><Message>{}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
                        escape(&self.code),
                        escape(&self.message)
                    ),
                )
            }
            Service::Glue | Service::LakeFormation => {
                let mut answer = Answer::json(self.status, &json!({ "__type": self.code, "Message": self.message }));
                answer.header("x-amzn-errortype", &self.code);
                answer
            }
        };
        answer.header(if service == Service::S3 { "x-amz-request-id" } else { "x-amzn-requestid" }, &request_id);
        for (name, value) in &self.headers {
            answer.header(name, value);
        }
        answer.error = Some(self.code.clone());
        answer
    }
}

/// Text made safe between XML tags.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The body of an answer.
pub(crate) type Payload = BoxBody<Bytes, std::io::Error>;

/// What goes back to the client.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
    /// The error code, for the journal.
    pub(crate) error: Option<String>,
}

impl Answer {
    /// No body.
    pub(crate) fn empty(status: u16) -> Self {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        Self { status, headers: HeaderMap::new(), body, error: None }
    }

    /// A body that is all there.
    pub(crate) fn full(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Self {
        let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
        let mut answer = Self { status, headers: HeaderMap::new(), body, error: None };
        answer.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        answer
    }

    /// An XML document, without its declaration.
    pub(crate) fn xml(status: u16, document: impl AsRef<str>) -> Self {
        let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", document.as_ref());
        Self::full(status, "application/xml", body)
    }

    /// A JSON document.
    pub(crate) fn json(status: u16, document: &serde_json::Value) -> Self {
        Self::full(status, "application/x-amz-json-1.1", document.to_string())
    }

    /// Sets a header; one that HTTP cannot carry is left out.
    pub(crate) fn header(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()), HeaderValue::from_str(value))
        {
            self.headers.insert(name, value);
        }
    }

    /// The answer as the HTTP server sends it.
    pub(crate) fn into_response(self) -> http::Response<Payload> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = self.headers;
        response
    }
}
