//! Claims and receipts: how the ledger learns that records are safe.
//!
//! A [`Claim`] stands for records that are somewhere between the input and the lake. It cannot be cloned; whoever
//! holds the records holds it. If it is lost, the states behind it are never released: silence is never success.

use std::marker::PhantomData;

/// A place in the order of all records of a sync; the first record has position 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// The stream's place in the configured catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamIndex(pub usize);

/// The records of one stream that one batch carries. Opened by the ledger, grown by the ledger, not clonable.
#[derive(Debug)]
pub struct Claim {
    stream: StreamIndex,
    first: Position,
    records: u64,
    bytes: u64,
}

impl Claim {
    /// Opens a claim for a batch whose first record will be `first`. Called by the ledger alone.
    pub(crate) fn open(stream: StreamIndex, first: Position) -> Self {
        Self { stream, first, records: 0, bytes: 0 }
    }

    /// Adds one record of `bytes` input bytes. Called by the ledger alone.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.records += 1;
        self.bytes += bytes;
    }

    /// The stream whose records these are.
    #[must_use]
    pub fn stream(&self) -> StreamIndex {
        self.stream
    }

    /// The position of the first record; it names the claim, since no two claims share it.
    #[must_use]
    pub fn first(&self) -> Position {
        self.first
    }

    /// How many records the claim carries.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// How many bytes of input they were.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Turns the claim into a receipt. `proof` shows who says so: the ledger takes only receipts whose proof is the
    /// lake's, and only the lake can make that proof.
    #[must_use]
    pub fn settle<Proof>(self, _proof: &Proof) -> Receipt<Proof> {
        Receipt { claim: self, proof: PhantomData }
    }
}

/// Proof that a claim's records were committed. Consumed once, by the ledger.
#[derive(Debug)]
pub struct Receipt<Proof> {
    claim: Claim,
    proof: PhantomData<Proof>,
}

impl<Proof> Receipt<Proof> {
    /// The claim that was settled, for whoever may consume the receipt.
    #[must_use]
    pub fn into_claim(self) -> Claim {
        self.claim
    }
}

/// Says that a stream has come to its end, so that its table may be switched and old data dropped. Minted only from
/// the end of the stream.
#[derive(Debug)]
pub struct CompleteStream(StreamIndex);

impl CompleteStream {
    /// Called by the pipeline's judgement of the end of a stream alone.
    pub(crate) fn mint(stream: StreamIndex) -> Self {
        Self(stream)
    }

    /// The stream that is complete.
    #[must_use]
    pub fn stream(&self) -> StreamIndex {
        self.0
    }
}
