//! Masks: the matrices L of structured masked attention $`Y = (L \circ Q K^T) V`$ (paper, section 4.3).
//!
//! | mask | entries | shape | product with one column |
//! |---|---|---|---|
//! | [`AllOnes`] | 1 | any | O(rows + columns), a sum |
//! | [`Causal`] | 1 for i ≥ j | square | O(len), a cumulative sum |
//! | [`Decay`] | $`\gamma^{i-j}`$ for i ≥ j | square | O(len), a recurrence |
//! | [`OneSemiseparable`](super::OneSemiseparable) | $`a_i \cdots a_{j+1}`$ for i ≥ j | square | O(len), a scan |
//! | [`Toeplitz`] | $`\alpha_{i-j}`$ | any | O(n log n), by FFT |
//! | [`Fourier`] | $`e^{\mp 2 \pi \mathrm{i} jk / n}`$ | square | O(n log n), by FFT |
//! | [`Banded`] | 1 for j - upper ≤ i ≤ j + lower | any | O(rows + columns), sums over windows |
//! | [`Dense`] | any | any | O(rows columns) |

mod all_ones;
mod banded;
mod causal;
mod decay;
mod dense;
mod fourier;
mod spectrum;
mod toeplitz;

pub use crate::linalg::Sign;
pub use all_ones::AllOnes;
pub use banded::Banded;
pub use causal::Causal;
pub use decay::Decay;
pub use dense::Dense;
pub use fourier::{Fourier, Normalization};
pub use spectrum::Spectral;
pub use toeplitz::Toeplitz;
pub(crate) use toeplitz::check_corner;
