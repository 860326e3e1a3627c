//! A row of matrices of any sizes in one allocation.

use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut2};

use super::transition::into_flat;
use crate::scalar::Field;

/// A row of matrices of any sizes, one after another in one allocation, each row-major.
///
/// Any of them may be empty. Where all have one size, no table of sizes is kept ([`uniform`](Self::uniform)). A clone
/// shares the numbers until one of the two changes them.
///
/// # Example
/// ```
/// use ndarray::array;
/// use semisep::matrix::sss::Blocks;
///
/// let blocks = Blocks::from_arrays([array![[1.0, 2.0]], array![[3.0], [4.0]]]);
/// assert_eq!((blocks.len(), blocks.dims(1)), (2, (2, 1)));
/// assert_eq!(blocks.flat(), [1.0, 2.0, 3.0, 4.0]);
/// let mut other = blocks.clone();
/// other.flat_mut()[0] = 5.0;
/// assert_eq!(blocks.flat()[0], 1.0);
/// ```
#[derive(Debug, Clone)]
pub struct Blocks<E> {
    layout: Layout,
    data: Arc<Vec<E>>,
}

impl<E: PartialEq> PartialEq for Blocks<E> {
    /// Compares many numbers before it decides, so that it goes as fast as they can be read.
    fn eq(&self, other: &Self) -> bool {
        let all = |a: &[E], b: &[E]| a.iter().zip(b).fold(true, |all, (a, b)| all & (a == b));
        self.layout == other.layout
            && self.data.len() == other.data.len()
            && self.data.chunks(256).zip(other.data.chunks(256)).all(|(a, b)| all(a, b))
    }
}

/// Where the matrices stand. A layout is `Uniform` whenever it can be, with size (0, 0) when there are none, so that
/// equal rows of matrices have equal layouts.
#[derive(Debug, Clone, PartialEq)]
enum Layout {
    Uniform {
        len: usize,
        dims: (usize, usize),
    },
    /// Sizes, and where each matrix starts.
    Ragged {
        dims: Vec<(usize, usize)>,
        starts: Vec<usize>,
    },
}

impl Layout {
    fn new(dims: Vec<(usize, usize)>) -> Self {
        let first = dims.first().copied().unwrap_or((0, 0));
        if dims.iter().all(|d| *d == first) {
            return Self::Uniform { len: dims.len(), dims: first };
        }
        let starts = dims
            .iter()
            .scan(0, |start, (rows, columns)| Some(std::mem::replace(start, *start + rows * columns)))
            .collect();
        Self::Ragged { dims, starts }
    }

    fn uniform(len: usize, dims: (usize, usize)) -> Self {
        Self::Uniform { len, dims: if len == 0 { (0, 0) } else { dims } }
    }

    #[inline(always)]
    fn dims(&self, k: usize) -> (usize, usize) {
        match self {
            Self::Uniform { len, dims } => {
                assert!(k < *len, "matrix {k} of {len}");
                *dims
            }
            Self::Ragged { dims, .. } => dims[k],
        }
    }

    /// Where the numbers of matrix k begin, and how many they are.
    #[inline(always)]
    fn place(&self, k: usize) -> (usize, usize) {
        let (rows, columns) = self.dims(k);
        let start = match self {
            Self::Uniform { .. } => k * rows * columns,
            Self::Ragged { starts, .. } => starts[k],
        };
        (start, rows * columns)
    }
}

/// Matrices to be changed one after another: that nobody else sees their numbers was settled once for all.
#[derive(Debug)]
pub(crate) struct BlocksMut<'a, E> {
    layout: &'a Layout,
    data: &'a mut [E],
}

impl<E> BlocksMut<'_, E> {
    /// The numbers of matrix k, row after row.
    #[inline(always)]
    pub(crate) fn values(&mut self, k: usize) -> &mut [E] {
        let (start, size) = self.layout.place(k);
        &mut self.data[start..start + size]
    }
}

impl<E: Field> Blocks<E> {
    /// Matrices of these sizes, (rows, columns), that hold zeros.
    ///
    /// # Panics
    /// As a `Vec` of them, if there are more numbers than there is memory for.
    pub fn zeros(dims: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let dims: Vec<_> = dims.into_iter().collect();
        let size = dims
            .iter()
            .fold(0usize, |sum, (rows, columns)| sum.saturating_add(rows.saturating_mul(*columns)));
        let data = Arc::new(vec![E::zero(); size]);
        Self { layout: Layout::new(dims), data }
    }

    /// `len` matrices of one size, from their numbers in a row; the caller knows that there are as many.
    pub(crate) fn from_uniform(len: usize, dims: (usize, usize), data: Vec<E>) -> Self {
        debug_assert_eq!(data.len(), len * dims.0 * dims.1);
        Self { layout: Layout::uniform(len, dims), data: Arc::new(data) }
    }

    /// These matrices.
    pub fn from_arrays(arrays: impl IntoIterator<Item = Array2<E>>) -> Self {
        let (mut dims, mut data) = (Vec::new(), Vec::new());
        for array in arrays {
            dims.push(array.dim());
            match array.as_slice() {
                Some(values) => data.extend_from_slice(values),
                None => data.extend(array.iter().copied()),
            }
        }
        Self { layout: Layout::new(dims), data: Arc::new(data) }
    }

    /// `f` of every number.
    pub fn map(&self, f: impl Fn(E) -> E) -> Self {
        Self { layout: self.layout.clone(), data: Arc::new(self.data.iter().map(|v| f(*v)).collect()) }
    }

    /// The transposed matrices.
    pub fn transposed(&self) -> Self {
        if let Some((rows, columns)) = self.uniform()
            && (rows == 1 || columns == 1)
        {
            let layout = Layout::uniform(self.len(), (columns, rows));
            return Self { layout, data: self.data.clone() };
        }
        Self::from_arrays(self.iter().map(|m| m.reversed_axes().to_owned()))
    }

    /// How many matrices there are.
    pub fn len(&self) -> usize {
        match &self.layout {
            Layout::Uniform { len, .. } => *len,
            Layout::Ragged { dims, .. } => dims.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of matrix k, (rows, columns).
    ///
    /// # Panics
    /// If `k` is not below the number of matrices, as an index of a slice would.
    #[inline(always)]
    pub fn dims(&self, k: usize) -> (usize, usize) {
        self.layout.dims(k)
    }

    /// The one size of all matrices, or `None` if sizes differ or there are no matrices.
    pub fn uniform(&self) -> Option<(usize, usize)> {
        match &self.layout {
            Layout::Uniform { len: 1.., dims } => Some(*dims),
            _ => None,
        }
    }

    /// Whether as many matrices of the same sizes stand in `other`.
    pub(crate) fn same_sizes(&self, other: &Self) -> bool {
        self.layout == other.layout
    }

    /// Matrix k.
    ///
    /// # Panics
    /// As [`dims`](Self::dims).
    pub fn block(&self, k: usize) -> ArrayView2<'_, E> {
        ArrayView2::from_shape(self.dims(k), self.values(k)).expect("a block has rows * columns numbers")
    }

    /// Matrix k, to be changed.
    ///
    /// # Panics
    /// As [`dims`](Self::dims).
    pub fn block_mut(&mut self, k: usize) -> ArrayViewMut2<'_, E> {
        let (dims, (start, size)) = (self.dims(k), self.layout.place(k));
        ArrayViewMut2::from_shape(dims, &mut self.flat_mut()[start..start + size])
            .expect("a block has rows * columns numbers")
    }

    /// The matrices in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = ArrayView2<'_, E>> + ExactSizeIterator {
        (0..self.len()).map(|k| self.block(k))
    }

    /// If these are the same numbers: at once where they are shared, whatever they are, NaN too.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.data, &other.data) && self.layout == other.layout) || self == other
    }

    /// All numbers in a row.
    pub fn flat(&self) -> &[E] {
        &self.data
    }

    /// All numbers in a row, to be changed.
    pub fn flat_mut(&mut self) -> &mut [E] {
        Arc::make_mut(&mut self.data).as_mut_slice()
    }

    /// The numbers of matrix k, row after row.
    #[inline(always)]
    pub(crate) fn values(&self, k: usize) -> &[E] {
        let (start, size) = self.layout.place(k);
        &self.data[start..start + size]
    }

    /// The matrices, to be changed.
    pub(crate) fn unshared(&mut self) -> BlocksMut<'_, E> {
        BlocksMut { layout: &self.layout, data: Arc::make_mut(&mut self.data).as_mut_slice() }
    }

    /// Rows of the matrices before each, and of all: len + 1 numbers.
    pub fn row_offsets(&self) -> Vec<usize> {
        offsets((0..self.len()).map(|k| self.dims(k).0))
    }

    /// Columns of the matrices before each, and of all: len + 1 numbers.
    pub fn column_offsets(&self) -> Vec<usize> {
        offsets((0..self.len()).map(|k| self.dims(k).1))
    }
}

/// Sums of the sizes before each, and of all.
pub(crate) fn offsets(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut sum = 0;
    std::iter::once(0)
        .chain(sizes.map(|size| {
            sum += size;
            sum
        }))
        .collect()
}

/// The matrices along the first axis, (len, rows, columns).
impl<E: Field> From<Array3<E>> for Blocks<E> {
    fn from(array: Array3<E>) -> Self {
        let (len, rows, columns) = array.dim();
        Self::from_uniform(len, (rows, columns), into_flat(array))
    }
}

impl<E: Field> FromIterator<Array2<E>> for Blocks<E> {
    fn from_iter<I: IntoIterator<Item = Array2<E>>>(arrays: I) -> Self {
        Self::from_arrays(arrays)
    }
}
