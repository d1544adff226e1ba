//! A stand-in for S3, Glue, Lake Formation and STS over a local folder.
//!
//! One loopback port speaks the wire protocols of the four services; the folder holds what they store. Objects are
//! plain files under `s3/<bucket>/<key>`, the Glue catalog and the Lake Formation transactions are `catalog.json`,
//! every step of a transaction is a line of `transactions.jsonl`, and `views.sql` makes the tables queryable in DuckDB
//! over exactly the objects that are committed.
//!
//! It refuses what the services refuse, as far as their published models and known behaviour say: see `README.md`.
//! [`Faults`] script what goes wrong, [`Journal`] tells what was asked. Both can also be reached over HTTP under
//! `/_sandbox/`.
//!
//! A request passes, in this order: `front` (which service, which operation), the journal, the faults, `auth`, then
//! `s3`, `glue`, `lake_formation` or `sts`. Glue and Lake Formation change `catalog`; S3 is the `s3s` and
//! `s3s-fs` libraries, with `s3` before and around them.

mod auth;
mod catalog;
mod clock;
mod control;
mod faults;
mod front;
mod glue;
mod iceberg;
mod journal;
mod lake_formation;
mod model;
mod refusal;
mod s3;
mod server;
mod settings;
mod state;
mod sts;
mod views;

pub use crate::faults::{Action, Fault, Faults};
pub use crate::journal::{Call, Journal};
pub use crate::refusal::Refusal;
pub use crate::server::{Options, Sandbox};
pub use crate::settings::{InProgress, Outcome, PartitionRefusal, Role, Settings, StatusCase};
