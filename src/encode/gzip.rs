//! One gzip member, whose compressor exists from its first bytes on.

use anyhow::Context as _;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// What a compressor at [`LEVEL`] holds; measured.
pub(super) const COMPRESSOR_BYTES: u64 = 384 * 1024;

/// The level everybody's gzip has. Level 1 costs a third of the CPU and gives files two thirds larger, which every
/// later query pays for by the byte; beyond 6 there is next to nothing to be had.
const LEVEL: u32 = 6;

/// Compresses into a single gzip member.
#[derive(Debug)]
pub(super) struct Gzip {
    compress: Option<Compress>,
    crc: Crc,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { compress: None, crc: Crc::new() }
    }

    /// Compresses `input`. Output may lag behind.
    pub(super) fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        self.crc.update(input);
        self.run(input, FlushCompress::None, out)
    }

    /// Ends the member.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> anyhow::Result<()> {
        self.run(&[], FlushCompress::Finish, out)?;
        out.extend_from_slice(&self.crc.sum().to_le_bytes());
        out.extend_from_slice(&self.crc.amount().to_le_bytes());
        Ok(())
    }

    pub(super) fn memory(&self) -> u64 {
        if self.compress.is_some() { COMPRESSOR_BYTES } else { 0 }
    }

    fn run(&mut self, mut input: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> anyhow::Result<()> {
        let compress = self.compress.get_or_insert_with(|| {
            // Deflate, no name, no time (a file's bytes depend on its rows alone), no level hint, system unknown.
            out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
            Compress::new(Compression::new(LEVEL), false)
        });
        loop {
            out.reserve(16 * 1024);
            let before = compress.total_in();
            let status = compress.compress_vec(input, out, flush).context("compressing")?;
            let consumed = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(consumed..).unwrap_or_default();
            let room = out.capacity() > out.len();
            match flush {
                FlushCompress::Finish if status == Status::StreamEnd => return Ok(()),
                FlushCompress::Finish => {}
                // With room left over, everything there was has been written.
                _ if input.is_empty() && room => return Ok(()),
                _ => {}
            }
        }
    }
}
