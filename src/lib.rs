//! An Airbyte destination that lands any source in an AWS data lake: S3, the Glue Data Catalog and Lake Formation.
//!
//! A sync is a river of records with stones in it: the STATE messages. Our job is to store the water, and to hand a
//! stone back only when all the water before it is stored.
//!
//! ```text
//! stdin ─ reader ─ router ─┬─ stream writer (decode → coerce → encode) ─ parts ─▶ S3 (invisible)
//!                          ├─ stream writer …                                       │
//!                          └─ ledger (positions, states)          checkpoint ──▶ commit ──▶ durable
//!                                     ▲                                              │
//!                                     └───────────────── receipt ────────────────────┘──▶ STATE on stdout
//! ```
//!
//! # A record's path
//!
//! 1. [`protocol`] reads lines in a thread of its own, in chunks that count in the [`budget`], and finds a line's
//!    envelope without touching the text of `data`.
//! 2. [`pipeline`] finds the stream's writer. The record takes the next [`claim::Position`] and joins the
//!    [`claim::Claim`] of its batch: one batch for each partition.
//! 3. [`encode`] walks the text of `data` once and coerces each declared field by the types that [`schema`] found before the
//!    first record: into the output line, or into the column's buffer. What has
//!    collected becomes Parquet pages or gzip in threads beside, for each object one slice after the other.
//! 4. Encoded bytes that have become a part leave through [`stage`] as an upload that nobody can see. Small objects
//!    wait in memory for their one `PutObject`; when memory is needed they become an upload of a single part.
//! 5. At a checkpoint every batch is sealed and [`lake::Lake::commit`] publishes the objects and registers them:
//!    governed tables all in one transaction, plain tables by lying under their location, Iceberg tables by a snapshot
//!    each.
//!
//! A stream that replaces its table publishes into an area that no reader of the table sees. When the stream is
//! complete, one switch makes the table show the area. A partitioned plain table has a location for each partition, so
//! its switch takes several calls: a mark on the table announces it, and whoever finds the mark brings it to its end.
//!
//! # A state's path
//!
//! A STATE becomes a [`protocol::ReceivedState`], which cannot be printed. The [`pipeline::Ledger`] holds it with the
//! position at its arrival. A commit that returned answers with receipts; the ledger takes them, finds the states before
//! which nothing is uncommitted, and turns each into a [`protocol::ReleasedState`], the only kind that
//! [`protocol::Emitter::state`] prints.
//!
//! # What the types forbid
//!
//! A state as received cannot be printed:
//!
//! ```compile_fail
//! use destination_aws_datalake::{budget::Budget, protocol::{Emitter, Level, Message, parse}};
//! let (emitter, _key) = Emitter::new(std::io::sink(), Level::Info);
//! let line = r#"{"type":"STATE","state":{"type":"GLOBAL","global":{"stream_states":[]}}}"#;
//! if let Ok(Message::State(state)) = parse(line) {
//!     emitter.state(state.receive(&Budget::new(1000)));
//! }
//! ```
//!
//! The right to release states cannot be made or copied; there is one for each emitter, and the ledger holds it:
//!
//! ```compile_fail
//! let (_, key) = destination_aws_datalake::protocol::Emitter::new(std::io::sink(), destination_aws_datalake::protocol::Level::Info);
//! let another = key.clone();
//! ```
//!
//! ```compile_fail
//! let key = destination_aws_datalake::protocol::ReleaseKey { _made_here: () };
//! ```
//!
//! A claim cannot be copied, nor made outside the ledger, and a receipt is consumed when it is used:
//!
//! ```compile_fail
//! fn twice(claim: destination_aws_datalake::claim::Claim) {
//!     let copy = claim.clone();
//! }
//! ```
//!
//! ```compile_fail
//! use destination_aws_datalake::{claim::Receipt, lake::Committed, pipeline::Ledger};
//! fn twice(ledger: &mut Ledger, receipt: Receipt<Committed>) {
//!     ledger.settle(receipt);
//!     ledger.settle(receipt);
//! }
//! ```
//!
//! The ledger takes no receipt but the lake's, and only the lake can say that something is committed:
//!
//! ```compile_fail
//! use destination_aws_datalake::{claim::Claim, pipeline::Ledger};
//! struct Mine;
//! fn forge(ledger: &mut Ledger, claim: Claim) {
//!     ledger.settle(claim.settle(&Mine));
//! }
//! ```
//!
//! ```compile_fail
//! let proof = destination_aws_datalake::lake::Committed(());
//! ```
//!
//! An object that S3 has not published cannot be registered, since nobody else can say that it is:
//!
//! ```compile_fail
//! use destination_aws_datalake::stage::{ObjectName, Published};
//! fn invent(name: ObjectName) -> Published {
//!     Published { name: name.into(), e_tag: String::new(), size: 0 }
//! }
//! ```
//!
//! A sealed object is published once:
//!
//! ```compile_fail
//! use destination_aws_datalake::{aws::Patience, stage::Sealed};
//! async fn twice(object: Sealed, patience: &Patience) {
//!     let _first = object.publish(patience, std::future::pending()).await;
//!     let _second = object.publish(patience, std::future::pending()).await;
//! }
//! ```
//!
//! No table is switched but by a stream that has come to its end, and only the judgement of that end can say so:
//!
//! ```compile_fail
//! use destination_aws_datalake::claim::{CompleteStream, StreamIndex};
//! let complete = CompleteStream::mint(StreamIndex(0));
//! ```
//!
//! The same, written as it is allowed, compiles:
//!
//! ```
//! use destination_aws_datalake::{claim::Receipt, lake::{Checkpoint, Committed, Lake, Outcome, Watch}};
//! use destination_aws_datalake::{pipeline::Ledger, protocol::Emitter};
//! async fn commit(lake: &mut Lake, checkpoint: Checkpoint, watch: &Watch, ledger: &mut Ledger, emitter: &Emitter) {
//!     let Outcome { receipts, .. } = lake.commit(checkpoint, watch).await;
//!     receipts.into_iter().for_each(|receipt: Receipt<Committed>| ledger.settle(receipt));
//!     for state in ledger.release() {
//!         if emitter.state(state).is_err() {
//!             return;
//!         }
//!     }
//! }
//! ```
//!
//! # Ranks
//!
//! A module imports only from ranks above its own; a test keeps it so.
//!
//! ```text
//! failure  budget  claim
//! config  protocol  schema
//! aws  encode
//! stage
//! lake
//! pipeline  check
//! cli
//! ```
//!
//! [`protocol`] never sees AWS; [`schema`] and [`encode`] never see a table format; [`lake`] never sees the pipeline or
//! stdout; only [`pipeline`] knows order and time; only [`cli`] knows exit codes.
//!
//! # Words
//!
//! | Airbyte's Java and Kotlin toolkits | does | here |
//! |---|---|---|
//! | `DestinationWriter`, `StreamLoader` | a stream's table, begun and ended | [`lake::Lake::prepare`], [`lake::Lake::commit`] |
//! | `Aggregate`, `AggregateStore` | open batches | a batch; the writers of [`pipeline`] |
//! | `SizeTrigger`, `TimeTrigger` | why a checkpoint begins | `Reason` in [`pipeline`] |
//! | `StateStore`, `StateHistogramStore`, `StateReconciler` | which states are safe | [`pipeline::Ledger`] |
//! | `StateKey` | what a state covers | a state's mark, a [`claim::Position`] |
//! | `ReservationManager`, `Reserved` | memory | [`budget::Budget`], [`budget::Reservation`] |
//! | `ValueCoercer` | values that do not fit, with reasons | [`schema::coerce`], [`schema::coerce::Change`] |
//! | `ColumnNameMapper`, `TableSchemaMapper` | names and types of columns | [`schema::names`], [`schema::hive`] |
//! | `StreamCompletionTracker` | is the stream complete? | `completion` in [`pipeline`], [`claim::CompleteStream`] |
//! | `OutputConsumer` | stdout | [`protocol::Emitter`] |
//! | `DestinationChecker` | check | [`check`] |
//!
//! # Why not …
//!
//! - *… count records, as the source does?* A source that miscounts would keep its states for ever. A position needs no
//!   cooperation: a state may go when nothing before it is uncommitted.
//! - *… keep a transaction open during the sync?* It would have to be kept alive for hours and would conflict with
//!   everything. Objects of a governed table are invisible until they are registered, so the transaction begins when
//!   all of them are published, and lives for seconds.
//! - *… one trait with an implementation for each table format?* The formats differ in when objects become visible,
//!   which is the order of the commit itself. The order stands in one place, [`lake::Lake::commit`], and asks each
//!   table what it is.
//! - *… let the SDK retry?* It repeats calls that may have had their effect. One loop, [`aws::Patience`], knows which
//!   errors are doubtful, and the caller finds out by reading.
//! - *… fail a commit whose bytes take longer than its limit?* On a slow line that would happen at every attempt again.
//!   A commit of 120 s registers what S3 has by then and leaves the rest to the next one, so that a stream in trouble
//!   holds up its own states and no others. Only tables that must move together (GLOBAL states) wait for all bytes.
//! - *… drop a table's old objects at the start of an overwrite?* Until the new rows are committed, the old ones are
//!   all that readers have.

pub mod aws;
pub mod budget;
pub mod check;
pub mod claim;
pub mod cli;
pub mod config;
pub mod encode;
pub mod failure;
pub mod lake;
pub mod pipeline;
pub mod protocol;
pub mod schema;
pub mod stage;
