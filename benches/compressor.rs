//! What compressing costs by itself: the gzip of JSON Lines over the files that are named, without anything around it.

use std::io::Read as _;

use flate2::{Compress, Compression, FlushCompress};

fn main() -> std::io::Result<()> {
    // The level and the size of input at a time are those of `encode`.
    for path in std::env::args_os().skip(1).filter(|argument| argument != "--bench") {
        let mut file = std::fs::File::open(path)?;
        let mut compress = Compress::new(Compression::new(6), false);
        let (mut input, mut output) = (vec![0; 256 * 1024], Vec::with_capacity(1 << 20));
        loop {
            let read = file.read(&mut input)?;
            let flush = if read == 0 { FlushCompress::Finish } else { FlushCompress::None };
            let end = compress.total_in() + read as u64;
            loop {
                output.clear();
                let from = read - usize::try_from(end - compress.total_in()).unwrap_or(read);
                compress.compress_vec(&input[from..read], &mut output, flush)?;
                if compress.total_in() == end && output.len() < output.capacity() {
                    break;
                }
            }
            if read == 0 {
                break;
            }
        }
    }
    Ok(())
}
