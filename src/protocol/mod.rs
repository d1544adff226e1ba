//! The wire: messages in, the configured catalog, the reader of stdin, and the only writer of stdout.
//!
//! Nothing here knows AWS, tables or time. A STATE comes in as an [`IncomingState`], is kept as a [`ReceivedState`],
//! and leaves as a [`ReleasedState`]; only the holder of the [`ReleaseKey`] turns one into the other.

mod catalog;
mod emitter;
mod envelope;
mod message;
mod reader;
mod scan;
mod splice;
mod state;
mod wire;

pub use catalog::{Catalog, ConfiguredStream, SyncMode, Truncation};
pub use emitter::{Closed, Emitter, Level, ReleaseKey, Status};
pub use message::{
    IncomingState, Message, ParseError, ParseErrorKind, Record, StateScope, StreamStatus, parse, parse_whole,
};
pub use reader::{Chunk, Lines, Waited, spawn, stdin};
pub use state::{CommittedCounts, ReceivedState, ReleasedState, StateStats};
