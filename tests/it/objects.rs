//! Objects as users pay for them: how large, how encrypted, in how many requests.

use std::time::Duration;

use serde_json::json;

use crate::lab::{Lab, catalog, complete, record, records, refresh_of, state};

fn small_warning(ran: &crate::lab::Ran) -> Option<&str> {
    ran.logs("WARN").into_iter().find(|text| text.contains("in the mean"))
}

#[test]
fn objects_are_encrypted_with_the_key_that_is_named() {
    let lab = Lab::new();
    let key = "arn:aws:kms:us-east-1:111111111111:key/1234abcd";
    let config = lab.config(json!({ "s3_kms_key_id": key }));
    // One object is put, the other uploaded in parts.
    let padding = "x".repeat(1_000_000);
    let large: String = (0..10).map(|id| record("b", id, &padding)).collect();
    lab.sync(&config, &catalog(&["a", "b"], "append"), &(records("a", 0..3, "x") + &large));
    assert_eq!((lab.calls("PutObject").len(), lab.calls("CompleteMultipartUpload").len()), (1, 1));
    let head = |key: &str| lab.ask("s3", "head_object", &json!({ "Bucket": "lake", "Key": key }));
    for object in lab.objects() {
        let head = head(&object);
        assert_eq!((&head["ServerSideEncryption"], &head["SSEKMSKeyId"]), (&json!("aws:kms"), &json!(key)), "{object}");
    }
    assert_eq!(lab.check(&config).status().0, "SUCCEEDED");
    // A refresh of a partitioned table.
    let config = lab.config(json!({ "s3_kms_key_id": key, "partitioning": "DAY" }));
    let mut refresh = refresh_of(Some(1));
    refresh["streams"][0]["stream"]["name"] = json!("c");
    let input = records("c", 0..2, "x") + &state("c", 1) + &complete("c");
    lab.sync(&config, &refresh, &input);
    let area: Vec<String> = lab.objects().into_iter().filter(|key| key.starts_with("demo/c.airbyte-")).collect();
    assert_eq!(area.len(), 2, "{:?}", lab.objects());
    assert!(area.iter().all(|object| head(object)["SSEKMSKeyId"] == json!(key)));
    let before = lab.objects();
    lab.sync(&lab.config(json!({})), &catalog(&["a"], "append"), &records("a", 3..5, "x"));
    let plain = lab.objects().into_iter().find(|key| !before.contains(key)).unwrap();
    assert!(head(&plain)["SSEKMSKeyId"].is_null(), "without a key the bucket decides");
}

#[test]
fn a_key_that_cannot_be_used_is_the_users_matter() {
    let lab = Lab::new();
    let refusal = sandbox::Refusal::new(400, "KMS.DisabledException", "the key is disabled");
    lab.sandbox()
        .faults()
        .add(sandbox::Fault { times: None, ..sandbox::Fault::next("s3:PutObject", sandbox::Action::Refuse(refusal)) });
    let config = lab.config(json!({ "s3_kms_key_id": "alias/none" }));
    let ran = lab.write(&config, &catalog(&["a"], "append"), &record("a", 1, "x"));
    let (kind, message) = ran.error();
    assert_eq!((ran.code, kind.as_str()), (Some(1), "config_error"));
    assert!(message.contains("s3_kms_key_id"), "{message}");
    let (status, message) = lab.check(&config).status();
    assert!(status == "FAILED" && message.contains("s3_kms_key_id"), "{message}");
}

#[test]
fn many_small_objects_are_a_warning_with_the_setting_that_helps() {
    let lab = Lab::new();
    let day = lab.config(json!({ "partitioning": "DAY" }));
    let ran = lab.sync(&day, &catalog(&["a"], "append"), &records("a", 0..12, "x"));
    let warning = small_warning(&ran).unwrap();
    assert!(
        warning.contains("stream a") && warning.contains("12 objects") && warning.contains("partition_fields"),
        "{warning}"
    );
    // A few are nobody's trouble.
    let ran = lab.sync(&day, &catalog(&["a"], "append"), &records("a", 0..4, "x"));
    assert_eq!(small_warning(&ran), None);

    let lab = Lab::new();
    let often = lab.config(json!({ "commit_interval_minutes": 0.01 }));
    let mut running = lab.spawn(&often, &catalog(&["a"], "append"));
    for id in 0..12 {
        running.feed(&record("a", id, "x"));
        std::thread::sleep(Duration::from_millis(1200));
    }
    let ran = running.end();
    assert!(small_warning(&ran).unwrap().contains("commit_interval_minutes"), "{}", ran.stdout);

    let lab = Lab::new();
    let tiny = lab.config(json!({ "target_file_size_mb": 1 }));
    let padding = "x".repeat(1_100_000);
    let input: String = (0..12).map(|id| record("a", id, &padding)).collect();
    let ran = lab.sync(&tiny, &catalog(&["a"], "append"), &input);
    assert!(small_warning(&ran).unwrap().contains("target_file_size_mb"), "{}", ran.stdout);
}

/// Objects end at the size that was asked for, in every format, whatever commits come between for others.
#[test]
fn objects_have_the_size_that_is_asked_for() {
    let formats = [
        json!({ "format_type": "JSONL" }),
        json!({ "format_type": "JSONL", "compression_codec": "GZIP" }),
        json!({ "format_type": "Parquet" }),
    ];
    for format in formats {
        let lab = Lab::new();
        let config = lab.config(json!({ "format": format, "target_file_size_mb": 2, "parquet_row_group_mb": 1 }));
        // Digits of a generator: no codec makes much of them.
        let mut seed = 1_u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{:016x}", seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        };
        let mut text = || (0..256).map(|_| noise()).collect::<String>();
        let input: String = (0..4000).map(|id| record("a", id, &text())).collect();
        lab.sync(&config, &catalog(&["a"], "append"), &input);
        let mut sizes: Vec<f64> = lab
            .objects()
            .iter()
            .map(|key| std::fs::metadata(lab.object_path(key)).unwrap().len() as f64 / f64::from(1 << 20))
            .collect();
        let last = sizes.pop().unwrap();
        assert!(sizes.len() >= 3 && last < 3.1, "{format}: {sizes:?}, {last}");
        assert!(sizes.iter().all(|size| (1.9..3.1).contains(size)), "{format}: {sizes:?}");
        assert_eq!(lab.value("SELECT count(DISTINCT version) FROM demo.a"), 4000, "{format}");
    }
}

/// What is appended is committed at every interval. What waits for a switch gains nothing from that, so its objects
/// grow on.
#[test]
fn objects_of_a_refresh_grow_over_checkpoints() {
    let lab = Lab::new();
    let config = lab.config(json!({ "commit_interval_minutes": 0.01 }));
    let mut streams = catalog(&["a", "b"], "append");
    for (key, value) in [("generation_id", 2), ("minimum_generation_id", 2), ("sync_id", 1)] {
        streams["streams"][1][key] = json!(value);
    }
    let mut running = lab.spawn(&config, &streams);
    for id in 0..4 {
        running.feed(&(record("a", id, "x") + &state("a", id) + &record("b", id, "x")));
        std::thread::sleep(Duration::from_millis(1200));
    }
    running.feed(&(state("b", 9) + &complete("b") + &complete("a")));
    let ran = running.end();
    assert_eq!((ran.code, ran.state_ids().len()), (Some(0), 5), "{}", ran.stdout);
    let count = |table: &str| lab.objects().iter().filter(|key| key.starts_with(&format!("demo/{table}"))).count();
    assert!(count("a") >= 3, "{:?}", lab.objects());
    assert_eq!(count("b"), 1, "{:?}", lab.objects());
    assert_eq!(
        (lab.value("SELECT count(*) FROM demo.a"), lab.value("SELECT count(*) FROM demo.b")),
        (json!(4), json!(4))
    );
}

#[test]
fn the_log_says_how_many_requests_a_sync_made() {
    let lab = Lab::new();
    let mut running = lab.spawn(&lab.config(json!({ "partitioning": "DAY" })), &catalog(&["a"], "append"));
    // The clean-up runs beside the sync: it gets the time to end first.
    std::thread::sleep(Duration::from_secs(1));
    running.feed(&records("a", 0..3, "x"));
    let ran = running.end();
    let said = ran.logs("INFO").into_iter().find_map(|text| text.strip_prefix("AWS requests: ")).unwrap().to_owned();
    let made = lab.sandbox().journal().calls().len();
    assert!(said.starts_with(&format!("{made} (")) && said.contains("PutObject 3"), "{said}: {made}");
}
