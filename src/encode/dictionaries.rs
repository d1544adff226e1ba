//! Which columns are worth a dictionary.
//!
//! The Parquet library looks every value up in one until that is full, which for a column whose values hardly repeat is
//! work for nothing, and mostly makes it larger. How many values of a sample meet tells how many different ones there
//! are to be expected.

use std::hash::Hasher as _;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_schema::DataType;

use super::as_u64;
use super::plan::KeyHasher;

/// At which size the library gives a dictionary up: its default.
const FULL_BYTES: u64 = 1024 * 1024;
/// Values that are looked at, and how few say nothing.
const SAMPLE: usize = 2048;
const TOO_FEW: usize = 256;

/// Says of each leaf of a column, in Parquet's order, whether it is worth a dictionary.
pub(super) fn judge(column: &dyn Array, leaves: &mut Vec<bool>) {
    match column.data_type() {
        DataType::Struct(_) => column.as_struct().columns().iter().for_each(|member| judge(member, leaves)),
        DataType::List(_) => judge(column.as_list::<i32>().values(), leaves),
        DataType::Binary => {
            let texts = column.as_binary::<i32>();
            leaves.push(repeats(texts.iter().flatten().map(|text| {
                let mut hasher = KeyHasher::default();
                hasher.write(text);
                (hasher.finish(), 4 + as_u64(text.len()))
            })));
        }
        DataType::Int32 => leaves.push(numbers_repeat::<Int32Type>(column, |value| u64::from(value.cast_unsigned()))),
        DataType::Int64 => leaves.push(numbers_repeat::<Int64Type>(column, i64::cast_unsigned)),
        DataType::Float32 => leaves.push(numbers_repeat::<Float32Type>(column, |value| u64::from(value.to_bits()))),
        DataType::Float64 => leaves.push(numbers_repeat::<Float64Type>(column, f64::to_bits)),
        DataType::Decimal128(..) => leaves.push(numbers_repeat::<Decimal128Type>(column, |value| {
            // Those that meet in 64 bits are nearly always the same.
            let [low, high] = [value, value >> 64].map(|half| u64::try_from(half & i128::from(u64::MAX)).unwrap_or(0));
            low ^ high.rotate_left(32)
        })),
        _ => leaves.push(true),
    }
}

fn numbers_repeat<T: ArrowPrimitiveType>(column: &dyn Array, bits: impl Fn(T::Native) -> u64) -> bool {
    repeats(column.as_primitive::<T>().iter().flatten().map(|value| (bits(value), as_u64(size_of::<T::Native>()))))
}

/// Whether all different values there are, of which these hashes and sizes are a sample, are likely to fit a dictionary.
fn repeats(values: impl Iterator<Item = (u64, u64)>) -> bool {
    let (mut hashes, mut bytes) = (Vec::with_capacity(SAMPLE), 0);
    for (hash, size) in values.take(SAMPLE) {
        hashes.push(hash);
        bytes += size;
    }
    let count = hashes.len();
    if count < TOO_FEW {
        return true;
    }
    hashes.sort_unstable();
    hashes.dedup();
    let met = as_u64(count - hashes.len());
    let count = as_u64(count);
    // Of n values drawn from N, about n² / 2N meet an earlier one.
    let different = (count * count).checked_div(2 * met);
    different.is_some_and(|different| different * (bytes / count) <= FULL_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_hardly_repeat_want_no_dictionary() {
        let mut seed = 9_u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 20
        };
        let mut drawn = |different: u64, size: u64| repeats((0..8000).map(|_| (random() % different, size)));
        assert!(drawn(1, 8) && drawn(1000, 8) && drawn(50_000, 8) && drawn(10_000, 40));
        assert!(!drawn(1 << 40, 8) && !drawn(1_000_000, 8) && !drawn(100_000, 40));
        // A few values say nothing.
        assert!(repeats((0..200).map(|value| (value, 8))) && !repeats((0..300).map(|value| (value, 8))));
    }
}
