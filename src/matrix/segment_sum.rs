//! Segment sums: the logarithm of the 1-semiseparable matrix, without ever dividing products.

use ndarray::{Array1, Array2, ArrayView1, Axis};

use crate::error::{Error, Result};
use crate::scalar::Real;

/// Segment sums by addition alone, the stable form.
///
/// ```math
/// S_{ij} = \sum_{k=j+1}^{i} u_k \quad (i \ge j), \qquad S_{ij} = -\infty \quad (i < j)
/// ```
///
/// so that $`\exp S = \mathrm{1SS}(\exp u)`$ (paper, section 1.3 and listing 1). Each column is summed on its
/// own. Where the $`u_k`$ have one sign the relative error of $`S_{ij}`$ is at most $`(i-j-1)\varepsilon`$: it
/// grows with the distance, never with the position. A $`u_k = -\infty`$ makes every sum over it -inf.
/// Work and memory O(len²).
///
/// # Shapes
/// `u`: (len); result: (len, len). `u[0]` is in no sum.
///
/// # Errors
/// [`Error::Value`] if `u` holds NaN or +inf.
pub fn segment_sums<R: Real>(u: ArrayView1<'_, R>) -> Result<Array2<R>> {
    check_log(u)?;
    let len = u.len();
    let mut sums = Array2::from_elem((len, len), R::neg_infinity());
    for i in 0..len {
        let (above, mut row) = sums.view_mut().split_at(Axis(0), i);
        row[[0, i]] = R::zero();
        for j in 0..i {
            row[[0, j]] = if u[i] == R::neg_infinity() { u[i] } else { above[[i - 1, j]] + u[i] };
        }
    }
    Ok(sums)
}

/// Segment sums as differences of one cumulative sum, the quick form for the inside of a chunk.
///
/// ```math
/// s_i = \sum_{k \le i} u_k, \qquad S_{ij} = \min(s_i - s_j,\ 0) \quad (i \ge j), \qquad S_{ij} = -\infty \quad (i < j)
/// ```
///
/// for $`u \le 0`$. The absolute error of $`S_{ij}`$ is at most $`\varepsilon\,((i+1)|s_i| + (j+1)|s_j|)`$: it
/// grows with the position, so this form is for short stretches (paper, section 6; the clamp at 0 takes away
/// a difference that rounding made positive). A step with $`\exp u_k = 0`$ in this precision cuts the matrix:
/// every sum over it is -inf, and it does not enter s, where it would swallow its neighbours.
///
/// # Shapes
/// `u`: (len); result: (len, len). `u[0]` is in no sum.
///
/// # Errors
/// [`Error::Value`] if `u` holds NaN or a positive number.
pub fn segment_sums_by_difference<R: Real>(u: ArrayView1<'_, R>) -> Result<Array2<R>> {
    if let Some(i) = u.iter().position(|v| v.is_nan() || *v > R::zero()) {
        return Err(log_error("numbers at most 0", u, i));
    }
    let len = u.len();
    let mut cumulative = Array1::<R>::zeros(len);
    let mut last_cut = vec![0; len]; // the last step up to i that cuts
    for i in 1..len {
        let cut = num_traits::Float::exp(u[i]).is_zero();
        last_cut[i] = if cut { i } else { last_cut[i - 1] };
        cumulative[i] = cumulative[i - 1] + if cut { R::zero() } else { u[i] };
    }
    Ok(Array2::from_shape_fn((len, len), |(i, j)| {
        if i < j || last_cut[i] > j {
            R::neg_infinity()
        } else {
            num_traits::Float::min(cumulative[i] - cumulative[j], R::zero())
        }
    }))
}

/// No NaN and no +inf.
pub(crate) fn check_log<R: Real>(u: ArrayView1<'_, R>) -> Result<()> {
    match u.iter().position(|v| v.is_nan() || *v == R::infinity()) {
        None => Ok(()),
        Some(i) => Err(log_error("finite numbers or -inf", u, i)),
    }
}

fn log_error<R: Real>(expected: &'static str, u: ArrayView1<'_, R>, i: usize) -> Error {
    Error::Value { tensor: "log_a", expected, found: format!("{} at {i}", u[i]) }
}
