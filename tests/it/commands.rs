//! `spec`, `check`, and what happens with wrong input.

use std::time::Instant;

use sandbox::{Action, Fault, Refusal, Role};
use serde_json::{Value, json};

use crate::lab::{self, Lab, Running, catalog, record, state};

fn refuse(status: u16, code: &str, message: &str) -> Action {
    Action::Refuse(Refusal {
        status,
        code: code.into(),
        message: message.into(),
        headers: std::collections::BTreeMap::new(),
    })
}

#[test]
fn spec_prints_the_specification_at_once() {
    for argument in ["spec", "--spec"] {
        let mut command = lab::binary();
        command.arg(argument);
        let begun = Instant::now();
        let ran = Running::new(command, tempfile::tempdir().unwrap()).end();
        assert!(begun.elapsed().as_millis() < 500, "spec took {:?}", begun.elapsed());
        assert_eq!((ran.code, ran.stderr.as_str(), ran.messages.len()), (Some(0), "", 1));
        let file: Value = serde_json::from_str(include_str!("../../spec.json")).unwrap();
        assert_eq!(ran.messages[0], json!({ "type": "SPEC", "spec": file }));
    }
}

/// The platform reads stdout alone.
#[test]
fn a_wrong_command_line_is_told_in_the_protocol() {
    let cases: [(&[&str], &str); 4] = [
        (&[], "a command is missing"),
        (&["discover"], "discover"),
        (&["write", "--config", "c.json"], "--catalog"),
        (&["check", "--config"], "--config"),
    ];
    for (arguments, named) in cases {
        let mut command = lab::binary();
        command.args(arguments);
        let ran = Running::new(command, tempfile::tempdir().unwrap()).end();
        let (kind, message) = ran.error();
        assert_eq!((ran.code, ran.stderr.as_str(), kind.as_str()), (Some(1), "", "config_error"), "{}", ran.stdout);
        assert!(message.contains(named) && message.contains("write --config FILE --catalog FILE"), "{message}");
    }
}

#[test]
fn check_succeeds_and_leaves_nothing_behind() {
    for config in [json!({}), json!({ "lakeformation_governed_tables": true, "bucket_prefix": "/a/b/" })] {
        let lab = Lab::new();
        lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
        let ran = lab.check(&lab.config(config));
        assert_eq!((ran.code, ran.status().0.as_str()), (Some(0), "SUCCEEDED"), "{}", ran.stdout);
        assert!(lab.objects().is_empty());
        let tables = lab.ask("glue", "get_tables", &json!({ "DatabaseName": "demo" }));
        assert_eq!(tables["TableList"], json!([]));
    }
}

/// What the user reads when something is missing, and how fast.
#[test]
fn check_names_what_is_missing() {
    let denied = |what: &str| refuse(403, "AccessDeniedException", &format!("User is not authorized: {what}"));
    let cases: Vec<(&str, Option<(&str, Action)>, Value, &str)> = vec![
        ("bucket", None, json!({ "bucket_name": "absent" }), "the bucket does not exist"),
        ("put", Some(("s3:PutObject", refuse(403, "AccessDenied", "Access Denied"))), json!({}), "s3:PutObject"),
        ("get", Some(("s3:GetObject", refuse(403, "AccessDenied", "Access Denied"))), json!({}), "s3:GetObject"),
        (
            "delete",
            Some(("s3:DeleteObject", refuse(403, "AccessDenied", "Access Denied"))),
            json!({}),
            "s3:DeleteObject",
        ),
        ("glue", Some(("glue:GetDatabase", denied("glue:GetDatabase"))), json!({}), "glue:GetDatabase"),
        (
            "transaction",
            Some(("lakeformation:CancelTransaction", denied("x"))),
            json!({ "lakeformation_governed_tables": true }),
            "lakeformation:CancelTransaction",
        ),
        (
            "keys",
            Some(("sts:GetCallerIdentity", refuse(403, "InvalidClientTokenId", "invalid"))),
            json!({}),
            "access key",
        ),
        (
            "tag",
            None,
            json!({ "lakeformation_database_default_tag_key": "pii", "lakeformation_database_default_tag_values": "no" }),
            "LF-tag pii does not exist",
        ),
        ("region", None, json!({ "region": "eu-west-1" }), "us-west-2"),
    ];
    for (name, fault, change, expected) in cases {
        let lab = Lab::new();
        if name == "region" {
            lab.sandbox().change_settings(|s| s.bucket_regions.insert("lake".into(), "us-west-2".into()));
        }
        if let Some((operation, action)) = fault {
            lab.sandbox().faults().add(Fault { times: None, ..Fault::next(operation, action) });
        }
        let begun = Instant::now();
        let ran = lab.check(&lab.config(change));
        let (status, message) = ran.status();
        assert_eq!((ran.code, status.as_str()), (Some(0), "FAILED"), "{name}: {}", ran.stdout);
        assert!(message.contains(expected), "{name}: {message}");
        assert!(begun.elapsed().as_secs() < 5, "{name} took {:?}", begun.elapsed());
        assert!(!ran.stdout.contains("planted-secret-key"));
        if name != "delete" {
            assert!(lab.objects().is_empty(), "{name} left {:?}", lab.objects());
        }
    }
}

#[test]
fn retired_governed_tables_are_said_to_be() {
    let lab = Lab::new();
    lab.ask("glue", "create_database", &json!({ "DatabaseInput": { "Name": "demo" } }));
    lab.sandbox().change_settings(|settings| settings.governed_retired = true);
    let (status, message) = lab.check(&lab.governed(json!({}))).status();
    assert_eq!(status, "FAILED");
    assert!(message.contains("AWS has retired governed tables; use table_format ICEBERG or EXTERNAL"), "{message}");
    let ran = lab.write(&lab.governed(json!({})), &catalog(&["a"], "append"), &record("a", 1, "x"));
    assert_eq!(ran.code, Some(1));
    let (kind, message) = ran.error();
    assert_eq!(kind, "config_error");
    assert!(message.contains("AWS has retired governed tables; use table_format ICEBERG or EXTERNAL"), "{message}");
}

#[test]
fn an_unreachable_endpoint_is_told_quickly() {
    let lab = Lab::new();
    let begun = Instant::now();
    let ran = lab.check(&lab.config(json!({ "endpoint_url": "http://127.0.0.1:1" })));
    assert_eq!(ran.status().0, "FAILED");
    assert!(begun.elapsed().as_secs() < 8);
}

#[test]
fn another_account_is_a_warning() {
    let lab = Lab::new();
    let ran = lab.check(&lab.config(json!({ "aws_account_id": "999999999999" })));
    assert_eq!(ran.status().0, "SUCCEEDED");
    assert!(ran.logs("WARN").iter().any(|text| text.contains("123456789012") && text.contains("999999999999")));
}

#[test]
fn roles_are_assumed_with_session_name_and_external_id() {
    let lab = Lab::new();
    let arn = "arn:aws:iam::123456789012:role/lander";
    lab.sandbox().change_settings(|settings| {
        settings.roles = vec![Role { arn: arn.into(), external_id: Some("ext-42".into()), max_session_seconds: 3600 }];
    });
    let role = |more: Value| {
        let mut credentials = json!({ "credentials_title": "IAM Role", "role_arn": arn });
        credentials.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        lab.config(json!({ "credentials": credentials }))
    };
    let run = |config: &Value, environment: &[(&str, &str)]| {
        let mut all = vec![("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "planted-secret-key")];
        all.extend(environment);
        let mut running = lab.spawn_with(config, &catalog(&["a"], "append"), &all);
        running.feed(&(record("a", 1, "x") + &state("a", 1)));
        running.end()
    };
    let good = run(&role(json!({ "external_id": "ext-42" })), &[]);
    assert_eq!(good.code, Some(0), "{}", good.stdout);
    let environment = run(&role(json!({})), &[("AWS_ASSUME_ROLE_EXTERNAL_ID", "ext-42")]);
    assert_eq!(environment.code, Some(0), "{}", environment.stdout);
    let wrong = run(&role(json!({ "external_id": "other" })), &[]);
    let (kind, message) = wrong.error();
    assert_eq!((wrong.code, kind.as_str()), (Some(1), "config_error"));
    assert!(message.contains("external_id"), "{message}");
    let long = run(&role(json!({ "external_id": "ext-42", "session_length_seconds": 7200 })), &[]);
    assert!(long.error().1.contains("role chaining"), "{}", long.stdout);
    assert!(![good, environment, wrong, long].iter().any(|ran| ran.stdout.contains("planted-secret-key")));
}

/// Credentials that live for seconds are replaced in time, for every service.
#[test]
fn credentials_outlive_the_session() {
    let lab = Lab::new();
    lab.sandbox().change_settings(|settings| settings.credential_lifetime_seconds = Some(12));
    let credentials = json!({ "credentials_title": "IAM Role", "role_arn": "arn:aws:iam::123456789012:role/r" });
    let config = lab.governed(json!({ "credentials": credentials, "commit_interval_minutes": 0.02 }));
    let environment = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let mut running = lab.spawn_with(&config, &catalog(&["a"], "append"), &environment);
    for id in 0..15 {
        running.feed(&(record("a", id, "x") + &state("a", id)));
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let ran = running.end();
    assert_eq!((ran.code, ran.states().len()), (Some(0), 15), "{}", ran.stdout);
    assert!(lab.calls("AssumeRole").len() >= 2);
    assert_eq!(lab.value("SELECT count(*) FROM demo.a"), 15);
}

/// Every service can have an endpoint of its own, and the environment can have the credentials and the region.
#[test]
fn endpoints_and_credentials_come_from_the_environment() {
    let lab = Lab::new();
    let credentials = json!({ "credentials_title": "Environment" });
    let config =
        lab.governed(json!({ "credentials": credentials, "region": "", "format": { "format_type": "Parquet" } }));
    let endpoint = lab.sandbox().endpoint().to_owned();
    let mut environment = vec![("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), ("AWS_REGION", "us-east-1")];
    for name in
        ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_GLUE", "AWS_ENDPOINT_URL_LAKEFORMATION", "AWS_ENDPOINT_URL_STS"]
    {
        environment.push((name, endpoint.as_str()));
    }
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAENV"), ("AWS_SECRET_ACCESS_KEY", "planted-secret-key")];
    let run = |environment: &[(&str, &str)]| {
        let mut running = lab.spawn_with(&config, &catalog(&["a"], "append"), environment);
        running.feed(&(record("a", 1, "x") + &state("a", 1)));
        running.end()
    };
    let ran = run(&[&environment[..], &keys[..]].concat());
    assert_eq!((ran.code, ran.state_ids()), (Some(0), vec![1]), "{}", ran.stdout);
    assert!(!ran.stdout.contains("planted-secret-key"));
    // Without any credentials the cure is named.
    let none = run(&environment);
    let (kind, message) = none.error();
    assert_eq!((none.code, kind.as_str()), (Some(1), "config_error"));
    assert!(message.contains("no AWS credentials in the environment"), "{message}");
    let nowhere = run(&[&[("AWS_ENDPOINT_URL", endpoint.as_str())], &keys[..]].concat());
    assert!(nowhere.error().1.contains("AWS_REGION"), "{}", nowhere.stdout);
}

#[test]
fn wrong_input_is_one_clear_error() {
    let lab = Lab::new();
    let one = catalog(&["a"], "append");
    let good = lab.config(json!({}));
    let secret = "planted-value-7351";
    let cases: Vec<(&str, Value, Value, String, &str, &str)> = vec![
        (
            "no bucket",
            lab.config(json!({ "bucket_name": null })),
            one.clone(),
            String::new(),
            "config_error",
            "bucket_name",
        ),
        (
            "iceberg",
            lab.config(json!({ "table_format": "ICEBERG" })),
            one.clone(),
            String::new(),
            "config_error",
            "Iceberg tables hold Parquet",
        ),
        ("empty catalog", good.clone(), json!({ "streams": [] }), String::new(), "config_error", "stream"),
        ("dedup", good.clone(), catalog(&["a"], "append_dedup"), String::new(), "config_error", "append_dedup"),
        ("no json", good.clone(), one.clone(), format!("{}{secret}\n", record("a", 1, "x")), "system_error", "line 2"),
        (
            "cut json",
            good.clone(),
            one.clone(),
            format!("{{\"type\":\"RECORD\",\"record\":{{\"stream\":\"{secret}"),
            "system_error",
            "line 1",
        ),
        ("unknown stream", good.clone(), one.clone(), record("b", 1, secret), "system_error", "line 1"),
        ("unknown state", good.clone(), one.clone(), state("b", 1), "system_error", "line 1"),
    ];
    for (name, config, catalog, input, kind, expected) in cases {
        let ran = lab.write(&config, &catalog, &input);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{name}: {}", ran.stdout);
        let (found, message) = ran.error();
        assert_eq!(found, kind, "{name}: {message}");
        assert!(message.contains(expected), "{name}: {message}");
        assert!(!ran.stdout.contains(secret) && !ran.stdout.contains("planted-secret-key"), "{name}: {}", ran.stdout);
    }
}

#[test]
fn unreadable_files_are_named() {
    let lab = Lab::new();
    let mut command = lab.command();
    command.args(["write", "--config", "/nonexistent/config.json", "--catalog", "/nonexistent/catalog.json"]);
    let ran = Running::new(command, tempfile::tempdir().unwrap()).end();
    let (kind, message) = ran.error();
    assert_eq!((ran.code, kind.as_str()), (Some(1), "config_error"));
    assert!(message.contains("/nonexistent/config.json"), "{message}");
}
