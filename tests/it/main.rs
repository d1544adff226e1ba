//! The connector as its users meet it: the real binary, real HTTP, and readers that we did not write.

#![expect(clippy::unwrap_used, clippy::panic, clippy::type_complexity, reason = "a test ends at the first surprise")]

mod calls;
mod commands;
mod deletion;
mod evolution;
mod faults;
mod formats;
mod governed;
mod iceberg;
mod iceberg_commits;
mod iceberg_others;
mod iceberg_partitions;
mod lab;
mod limits;
mod migration;
mod moves;
mod names;
mod objects;
mod partition_fields;
mod partitioned;
mod patience;
mod plain;
mod progress;
mod python;
mod ranks;
mod readers;
mod running;
mod shutdown;
mod transcripts;
mod upkeep;
mod values;
