//! The dilated scan: log len sparse factors with ever longer reach (Hillis and Steele; paper, appendix B.3.1).

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::{add_scaled, for_each_row, scan_in_place};
use crate::error::Result;
use crate::scalar::Field;

/// The product of the factors with reach 1, 2, 4, ...
///
/// ```math
/// \mathrm{1SS}(a) = \cdots D_4 D_2 D_1, \qquad (D_r)_{ii} = 1, \quad (D_r)_{i,i-r} = a_{i:i-r}
/// ```
///
/// Work O(len log len), depth O(log len) with half the levels of a tree, memory O(len) rows: every level
/// reads the rows of the one before.
///
/// # Shapes
/// `a`: (len); `b`: (len, k); `initial`: (k), zero if absent; result: (len, k).
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) if `b` or `initial` does not fit.
pub fn scan<E: Field>(
    a: ArrayView1<'_, E>,
    b: ArrayView2<'_, E>,
    initial: Option<ArrayView1<'_, E>>,
) -> Result<Array2<E>> {
    scan_in_place(a, b, initial, |a, h, k| {
        let len = a.len();
        let mut products = a; // a_{i:i-reach}
        let (mut old_products, mut old) = (products.clone(), h.to_vec());
        let mut reach = 1;
        while reach < len {
            old.copy_from_slice(h);
            for_each_row(h, k, |i, row| {
                if i >= reach {
                    add_scaled(row, products[i], &old[(i - reach) * k..][..k]);
                }
            });
            old_products.copy_from_slice(&products);
            for_each_row(&mut products, 1, |i, product| {
                if i >= reach {
                    product[0] *= old_products[i - reach];
                }
            });
            reach *= 2;
        }
    })
}
