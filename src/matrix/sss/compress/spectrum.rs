//! Hankel singular values, and how many of them count.

/// Below which singular values of Hankel blocks count as zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// Values up to this one.
    Absolute(f64),
    /// Values up to this multiple of the largest Hankel singular value.
    Relative(f64),
    /// As many of the smallest as leave out at most this multiple of the Frobenius norm of the whole matrix, each Hankel
    /// block having the same share of the square.
    Frobenius(f64),
}

/// The singular values of every Hankel block `M[k.., ..k]` of block rows and columns, k = 1 .. len - 1.
#[derive(Debug, Clone, PartialEq)]
pub struct HankelSpectrum {
    values: Vec<Vec<f64>>,
    frobenius: f64,
}

impl HankelSpectrum {
    /// The spectrum with these values, largest first, of a matrix with this Frobenius norm.
    pub(crate) fn new(values: Vec<Vec<f64>>, frobenius: f64) -> Self {
        Self { values, frobenius }
    }

    /// Frobenius norm of the matrix.
    pub fn frobenius(&self) -> f64 {
        self.frobenius
    }

    /// Number of Hankel blocks: that of block rows less one.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no Hankel blocks.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Singular values of Hankel block k, largest first; k = 1 .. len.
    ///
    /// # Panics
    /// As an index of a slice, if there is no such block.
    pub fn values(&self, k: usize) -> &[f64] {
        &self.values[k - 1]
    }

    /// The Hankel norm: the largest of all values.
    pub fn norm(&self) -> f64 {
        self.values.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// How many values of each block exceed the tolerance.
    pub fn ranks(&self, tolerance: Tolerance) -> Vec<usize> {
        let above =
            |limit: f64| self.values.iter().map(|v| v.iter().filter(|v| **v > limit).count()).collect();
        match tolerance {
            Tolerance::Absolute(limit) => above(limit),
            Tolerance::Relative(share) => above(share * self.norm()),
            Tolerance::Frobenius(share) => {
                let budget = share * self.frobenius / (self.len().max(1) as f64).sqrt();
                self.values.iter().map(|v| kept(v, budget)).collect()
            }
        }
    }
}

/// How many leading values remain when the others have a square sum of at most `budget`².
fn kept(values: &[f64], budget: f64) -> usize {
    let mut tail = 0.0;
    let cut = values.iter().rev().take_while(|v| {
        tail = f64::hypot(tail, **v);
        tail <= budget
    });
    values.len() - cut.count()
}
