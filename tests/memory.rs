//! No operation that is linear in the length forms a matrix: memory is counted.
#![allow(unsafe_code)]

#[path = "matrix/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ndarray::{Array1, Array2};
use semisep::matrix::sss::{
    Canonical, Exponential, StateSpace, StateSpaceRoots, Tolerance, norm_one_exact, norm_two_estimate,
};
use semisep::matrix::{
    Blocks, FilterForm, HermitianQuasiseparable, Multiply, Partition, Quasiseparable, Sss, StructuredMatrix,
    Transition, Upper,
};
use support::ragged::{Growth, Kind, Sizes};

/// Counts bytes that are held, and the most that were.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator with the same arguments; counting touches no memory of theirs.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(HELD.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the pointer came from `alloc` above with this layout, hence from the system.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that `f` holds at once beyond what was held before.
fn peak<R>(f: impl FnOnce() -> R) -> usize {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    drop(black_box(f()));
    MOST.load(Relaxed) - before
}

/// Everything that the operations take, for one length.
struct Case {
    lower: Sss<f64>,
    fast: Sss<f64>,
    two_sided: Quasiseparable<f64>,
    hermitian: HermitianQuasiseparable<f64>,
    filter: FilterForm<f64>,
    model: StateSpace<f64>,
    x: Array2<f64>,
    wide: Array2<f64>,
}

impl Case {
    fn new(len: usize) -> Self {
        let sizes = |kind: Kind| Sizes {
            inputs: vec![1; len],
            outputs: vec![1; len],
            orders: vec![3; len + 1],
            kind,
            growth: Growth::Plain,
            seed: 5,
        };
        let lower = sizes(Kind::Dense).lower();
        let fast = sizes(Kind::Diagonal).lower();
        let (transition, b, c, _) = lower.clone().into_parts();
        let c = c.map(|c| 0.5 * c);
        let square = |n: usize| (0..len).map(|_| Array2::eye(n)).collect::<Blocks<f64>>();
        let model = StateSpace {
            transition: transition.clone(),
            noise: square(3),
            output: c.clone(),
            output_noise: square(1),
            initial: Array2::eye(3),
        };
        Self {
            two_sided: sizes(Kind::Dense).two_sided(),
            hermitian: sizes(Kind::Diagonal).hermitian(),
            filter: FilterForm::new(3, transition, b, c).unwrap(),
            model,
            x: Array2::ones((len, 1)),
            wide: Array2::ones((len, 8)),
            lower,
            fast,
        }
    }

    /// The most bytes that each operation holds.
    fn peaks(&self) -> Vec<(&'static str, usize)> {
        let (x, wide, len) = (self.x.view(), self.wide.view(), self.x.nrows());
        let (s, f, q, h) = (&self.lower, &self.fast, &self.two_sided, &self.hermitian);
        let upper = Upper(s.clone());
        let blocks = Multiply::Blocks(Partition::Equal(8));
        let mut y = Array2::zeros((len, 1));
        let bands = Array2::<f64>::ones((len, 3));
        let times: Vec<f64> = (0..len).map(|k| k as f64).collect();
        let terms = [Exponential { weight: 1.0, rate: 0.5 }];
        vec![
            ("product", peak(|| s.matmul(x).unwrap())),
            ("product, many columns", peak(|| s.matmul(wide).unwrap())),
            ("product, diagonal", peak(|| f.matmul(x).unwrap())),
            ("product, diagonal, many columns", peak(|| f.matmul(wide).unwrap())),
            ("product into memory", peak(|| f.matmul_into(x, y.view_mut()).unwrap())),
            ("product by blocks", peak(|| s.multiply(x, &blocks).unwrap())),
            ("product in two passes", peak(|| s.multiply(x, &Multiply::TwoPass { pieces: 4 }).unwrap())),
            ("product from the left", peak(|| s.left_matmul(x.t()).unwrap())),
            ("transposed product", peak(|| s.transpose_matmul(x).unwrap())),
            ("adjoint product", peak(|| f.adjoint_matmul(x).unwrap())),
            ("two-sided product", peak(|| q.matmul(x).unwrap())),
            ("two-sided adjoint product", peak(|| q.adjoint_matmul(x).unwrap())),
            ("Hermitian product", peak(|| h.matmul(x).unwrap())),
            ("vjp", peak(|| s.vjp(x, x).unwrap())),
            ("two-sided vjp", peak(|| q.vjp(x, x).unwrap())),
            ("Hermitian vjp", peak(|| h.vjp(x, x).unwrap())),
            ("entry", peak(|| s.entry(len - 1, 0).unwrap())),
            ("diagonal and trace", peak(|| (s.diagonal(), q.trace().unwrap(), h.trace()))),
            ("block below the diagonal", peak(|| s.sub_block(len / 2..len, 0..len / 2).unwrap())),
            ("block on the diagonal", peak(|| s.sub_block(2..len, 1..len).unwrap())),
            ("regroup", peak(|| s.regroup(&Partition::Equal(8)).unwrap())),
            ("two-sided regroup", peak(|| q.regroup(&Partition::Equal(8)).unwrap())),
            ("sum", peak(|| (s + s).unwrap())),
            ("difference", peak(|| (q - &(q * 2.0)).unwrap())),
            ("multiple", peak(|| q * 2.0)),
            ("entrywise product", peak(|| f.hadamard(f).unwrap())),
            ("lower times lower", peak(|| (s * s).unwrap())),
            ("lower times upper", peak(|| (s * &upper).unwrap())),
            ("upper times lower", peak(|| (&upper * s).unwrap())),
            ("two-sided times two-sided", peak(|| (q * q).unwrap())),
            ("Gram matrix", peak(|| HermitianQuasiseparable::gram(s))),
            ("Kronecker product", peak(|| s.kronecker(Array2::ones((2, 2)).view()))),
            ("inverse", peak(|| s.inverse().unwrap())),
            ("transpose", peak(|| (s.transpose(), q.transpose(), h.transpose()))),
            ("predictor form", peak(|| self.filter.predictor())),
            ("filter form", peak(|| FilterForm::from_predictor(&self.filter.predictor(), 1e-9))),
            ("covariance", peak(|| self.model.covariance().unwrap())),
            ("banded", peak(|| Sss::from_banded(bands.view()).unwrap())),
            ("exponentials", peak(|| Sss::from_exponentials(&times, &terms).unwrap())),
            ("low rank", peak(|| Quasiseparable::from_low_rank(bands.view(), bands.view()).unwrap())),
            ("uniform", peak(|| uniform(len))),
        ]
    }
}

/// The most bytes that factorisations, what they yield, compression and numbers hold.
fn factor_peaks(len: usize) -> Vec<(&'static str, usize)> {
    let case = Case::new(len);
    let (x, s, q) = (case.x.view(), &case.lower, &case.two_sided);
    let times: Vec<f64> = (0..len).map(|k| k as f64).collect();
    let terms = [Exponential { weight: 1.0, rate: 0.5 }, Exponential { weight: 0.5, rate: 0.1 }];
    let h = HermitianQuasiseparable::from_exponentials(&times, &terms).unwrap();
    let h = &h.with_added_diagonal(&vec![0.5; len]).unwrap();
    let (cholesky, ldl) = (h.cholesky().unwrap(), h.ldl().unwrap());
    let dominant = &h.to_quasiseparable();
    let StateSpace { transition, noise, output, output_noise, initial } = case.model.clone();
    let roots = StateSpaceRoots { transition, noise, output, output_noise, initial };
    let response = Array1::from_shape_fn(len, |t| 0.9f64.powi(t as i32));
    let column = response.view();
    let round = Tolerance::Frobenius(1e-3);
    vec![
        ("substitution", peak(|| (s.solve(x).unwrap(), s.solve_adjoint(x).unwrap()))),
        ("Cholesky", peak(|| h.cholesky().unwrap().lower())),
        ("Cholesky by roots", peak(|| roots.cholesky().unwrap())),
        ("LDL, blocks", peak(|| HermitianQuasiseparable::gram(s).ldl().map(|ldl| ldl.growth()))),
        ("solution", peak(|| (cholesky.solve(x).unwrap(), ldl.solve(x).unwrap()))),
        ("inverse of a factor", peak(|| cholesky.inverse().unwrap())),
        ("diagonal of the inverse", peak(|| ldl.inverse_diagonal().unwrap())),
        ("inertia and determinant", peak(|| (ldl.inertia().unwrap(), ldl.log_determinant().unwrap()))),
        ("LU", peak(|| dominant.lu().unwrap().solve(x).unwrap())),
        ("inverse of LU", peak(|| dominant.lu().unwrap().inverse().unwrap())),
        ("inverse by orthogonal factors", peak(|| dominant.inverse().unwrap())),
        ("two-sided QR", peak(|| dominant.qr().unwrap().solve(x).unwrap())),
        ("lower QR", peak(|| s.qr().unwrap().least_squares(x).unwrap())),
        ("vjp of a solution", peak(|| h.solve_vjp(&ldl, x, x).unwrap())),
        ("vjp of a determinant", peak(|| dominant.log_determinant_vjp(1.0).unwrap())),
        ("vjp of a likelihood", peak(|| h.log_likelihood_vjp(x).unwrap())),
        ("rounding", peak(|| (s.rounded(round).unwrap(), q.rounded(round).unwrap()))),
        ("canonical form", peak(|| s.canonical(Canonical::Balanced).unwrap())),
        ("Toeplitz", peak(|| Sss::from_toeplitz(response.view(), Tolerance::Relative(1e-9)).unwrap())),
        (
            "two-sided Toeplitz",
            peak(|| Quasiseparable::from_toeplitz(column, column, Tolerance::Relative(1e-9)).unwrap()),
        ),
        ("norms", peak(|| (s.norm_frobenius().unwrap(), s.norm_one().unwrap(), norm_one_exact(s).unwrap()))),
        ("distance", peak(|| s.distance(&case.fast).unwrap())),
        ("2-norm", peak(|| norm_two_estimate(s).unwrap())),
        ("condition number", peak(|| dominant.condition_one_estimate().unwrap())),
        ("eigenvalues", peak(|| h.eigenvalues(0..1, 1e-3).unwrap())),
        ("corner", peak(|| format!("{s:#}"))),
    ]
}

fn uniform(len: usize) -> Sss<f64> {
    let ones = Array2::ones((len, 2));
    Sss::uniform(Transition::Identity, ones.clone(), ones, Array1::ones(len)).unwrap()
}

#[test]
fn linear_operations_hold_linear_memory() {
    let (short, long) = (400, 3200);
    let peaks = |len: usize| [Case::new(len).peaks(), factor_peaks(len)].concat();
    let (first, second) = (peaks(short), peaks(long));
    // A dense form of the long matrix would be 64 times one of the short one; a linear operation takes 8 times as much.
    for ((name, first), (_, second)) in first.into_iter().zip(second) {
        let limit = 9 * first + 65536;
        assert!(second <= limit, "{name}: {first} bytes at {short}, {second} at {long}");
        assert!(second < long * long * size_of::<f64>() / 8, "{name}: {second} bytes at {long}");
    }
}
