//! The chunkwise scan: chunks on their own, then one state passed from chunk to chunk (paper, appendix B.3.2).

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::{add_scaled, advance, running_products, scan_in_place};
use crate::error::{Error, Result};
use crate::parallel;
use crate::scalar::Field;

/// Chunks of `chunk` rows, the last one shorter.
///
/// With $`k`$ the first row of a chunk, $`\hat h`$ the scan of the chunk from zero, and $`h_{k-1}`$ the state
/// that enters it:
///
/// ```math
/// h_t = \hat h_t + (a_t \cdots a_k)\, h_{k-1}
/// ```
///
/// The paper adds $`a_k h_{k-1}`$ to $`b_k`$ before it scans the chunk, which makes the chunks wait for one
/// another; by linearity it may be added behind. So all chunks are scanned side by side, their states are
/// passed in sequence, and the share of the entering state is added side by side.
///
/// Work O(len), depth O(chunk + len / chunk), memory O(len) scalars and O(len / chunk) rows. The chunk
/// changes the answer by rounding only.
///
/// # Shapes
/// `a`: (len); `b`: (len, k); `initial`: (k), zero if absent; result: (len, k).
///
/// # Errors
/// [`Error::Shape`] if `b` or `initial` does not fit; [`Error::Config`] if `chunk` is zero.
pub fn scan<E: Field>(
    a: ArrayView1<'_, E>,
    b: ArrayView2<'_, E>,
    initial: Option<ArrayView1<'_, E>>,
    chunk: usize,
) -> Result<Array2<E>> {
    if chunk == 0 {
        return Err(Error::Config { field: "chunk", reason: "a chunk has at least one row".into() });
    }
    scan_in_place(a, b, initial, |a, h, k| {
        let chunk = chunk.min(a.len());
        let mut products = a;

        let chunks = products.chunks_mut(chunk).zip(h.chunks_mut(chunk * k)).collect();
        parallel::for_each(chunks, |(products, h): (&mut [E], &mut [E])| {
            let (first, rest) = h.split_at_mut(k);
            advance(&products[1..], first, rest);
            running_products(products);
        });

        let mut states: Vec<E> = Vec::with_capacity(products.len().div_ceil(chunk) * k); // leaving each chunk
        for (products, h) in products.chunks(chunk).zip(h.chunks(chunk * k)) {
            let entering = states.len().saturating_sub(k);
            states.extend_from_slice(&h[h.len() - k..]);
            if states.len() > k {
                let (before, leaving) = states.split_at_mut(entering + k);
                add_scaled(leaving, products[products.len() - 1], &before[entering..]);
            }
        }

        let later = products.chunks(chunk).zip(h.chunks_mut(chunk * k)).skip(1);
        let later = later.zip(states.chunks(k)).collect();
        parallel::for_each(later, |((products, h), entering)| {
            for (&product, row) in products.iter().zip(h.chunks_exact_mut(k)) {
                add_scaled(row, product, entering);
            }
        });
    })
}
