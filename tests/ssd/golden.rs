//! The library against reference results that an implementation elsewhere has computed in f64.

use std::path::PathBuf;

use ndarray::{Array, ArrayD, ArrayView, Dimension, Ix1, Ix2, Ix3, Ix4, IxDyn};
use safetensors::SafeTensors;
use semisep::Real;
use semisep::ssd::{Algorithm, Discretization, Output, Sequences, Squash, Ssd};

const CASES: [&str; 12] = [
    "plain",
    "ragged_length",
    "groups",
    "one_step",
    "skip_gate",
    "skip_per_channel",
    "softplus_bias",
    "everything",
    "initial_state",
    "packed_sequences",
    "strong_decay",
    "no_decay",
];

const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::Automatic,
    Algorithm::Quadratic,
    Algorithm::Recurrent,
    Algorithm::Chunked { chunk: 1 },
    Algorithm::Chunked { chunk: 5 },
    Algorithm::Chunked { chunk: 16 },
    Algorithm::Chunked { chunk: 64 },
    Algorithm::Chunked { chunk: 1000 },
];

/// The tensors of one file.
struct Golden {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Golden {
    fn open(name: &'static str) -> Self {
        let file = format!("tests/golden/ssd_{name}.safetensors");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
        Self { name, bytes: std::fs::read(path).expect("the file is part of the repository") }
    }

    fn get(&self, tensor: &str) -> Option<ArrayD<f64>> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a whole file");
        let view = file.tensor(tensor).ok()?;
        let numbers = view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes")));
        Some(ArrayD::from_shape_vec(IxDyn(view.shape()), numbers.collect()).expect("shape and data agree"))
    }

    fn real<A: Real, D: Dimension>(&self, tensor: &str) -> Array<A, D> {
        self.optional(tensor).unwrap_or_else(|| panic!("{}: no {tensor}", self.name))
    }

    fn optional<A: Real, D: Dimension>(&self, tensor: &str) -> Option<Array<A, D>> {
        let convert = |v| A::from_f64(v).expect("a real number");
        Some(self.get(tensor)?.mapv(convert).into_dimensionality().expect("the rank of the format"))
    }

    fn sequences(&self, batch: usize, len: usize) -> Sequences {
        let file = SafeTensors::deserialize(&self.bytes).expect("a whole file");
        let Ok(view) = file.tensor("seq_idx") else { return Sequences::whole(batch, len) };
        let ids = view.data().chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("4 bytes")));
        let ids = Array::from_shape_vec((batch, len), ids.collect()).expect("shape and data agree");
        Sequences::from_ids(ids.view()).expect("ids never decrease")
    }

    fn option(&self, key: &str) -> String {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).expect("a whole file");
        header.metadata().as_ref().expect("metadata")[key].clone()
    }

    /// One number a head as a column, one a channel as it is.
    fn skip<A: Real>(&self) -> Option<Array<A, Ix2>> {
        let d: Array<A, IxDyn> = self.optional("D")?;
        let (heads, columns) = (d.shape()[0], d.len() / d.shape()[0]);
        Some(d.into_shape_with_order((heads, columns)).expect("as many numbers"))
    }

    /// The relative error of one result in the Frobenius norm, absolute where the reference is zero.
    fn check<A: Real, D: Dimension>(
        &self,
        tensor: &str,
        found: ArrayView<'_, A, D>,
        how: Algorithm,
        limit: f64,
    ) {
        let expected = self.get(tensor).unwrap_or_else(|| panic!("{}: no {tensor}", self.name));
        assert_eq!(found.len(), expected.len(), "{}: {tensor}", self.name);
        let (mut wrong, mut size) = (0.0, 0.0);
        for (found, expected) in found.iter().zip(&expected) {
            wrong += (found.to_f64().expect("a real number") - expected).powi(2);
            size += expected.powi(2);
        }
        let error = (wrong / if size > 0.0 { size } else { 1.0 }).sqrt();
        assert!(error <= limit, "{} {tensor}, {how:?}: error {error:e} exceeds {limit:e}", self.name);
    }
}

fn sigmoid<A: Real>(z: A) -> A {
    A::one() / (A::one() + (-z).exp())
}

/// Forward and gradient of one case in one precision by every algorithm.
fn check_case<A: Real>(golden: &Golden, limit: f64) {
    let x: Array<A, Ix4> = golden.real("x");
    let raw: Array<A, Ix3> = golden.real("dt");
    let a: Array<A, Ix1> = golden.real("A");
    let (b, c): (Array<A, Ix4>, Array<A, Ix4>) = (golden.real("B"), golden.real("C"));
    let z: Option<Array<A, Ix4>> = golden.optional("z");
    let bias: Option<Array<A, Ix1>> = golden.optional("dt_bias");
    let initial: Option<Array<A, Ix4>> = golden.optional("init");
    let skip = golden.skip::<A>();
    let cotangent = Output { y: golden.real::<A, Ix4>("dy"), state: golden.real("dfinal_state") };

    let limits = ["dt_min", "dt_max"]
        .map(|key| A::from_f64(golden.option(key).parse().expect("a number")).expect("a real number"));
    let squash = if golden.option("softplus") == "true" { Squash::Softplus } else { Squash::Identity };
    let rule =
        Discretization::new(a.view()).squash(squash).limits(limits[0], limits[1]).expect("limits in order");
    let rule = match &bias {
        Some(bias) => rule.bias(bias.view()).expect("one bias a head"),
        None => rule,
    };
    let (dt, log_a) = rule.apply(raw.view()).expect("finite steps");
    let m = Ssd::new(log_a.view(), dt.view(), b.view(), c.view()).expect("shapes agree");
    let m = m.with_sequences(golden.sequences(x.dim().0, x.dim().1)).expect("shapes agree");
    let m = match &skip {
        Some(d) => m.with_skip(d.view()).expect("shapes agree"),
        None => m,
    };
    let initial = initial.as_ref().map(|h| h.view());
    let gate = z.as_ref().map(|z| z.mapv(|z| z * sigmoid(z)));

    for how in ALGORITHMS {
        let output = m.matmul(x.view(), initial, how).expect("a product");
        let y = gate.as_ref().map_or(output.y.clone(), |gate| &output.y * gate);
        golden.check("y", y.view(), how, limit);
        golden.check("final_state", output.state.view(), how, limit);

        let mut inner = cotangent.clone();
        if let (Some(gate), Some(z)) = (&gate, &z) {
            let slope = z.mapv(|z| sigmoid(z) * (A::one() + z * sigmoid(-z)));
            golden.check("grad_z", (&inner.y * &output.y * slope).view(), how, limit);
            inner.y = &inner.y * gate;
        }
        let grad = m.vjp(x.view(), initial, how, &inner).expect("a gradient");
        let steps = rule.vjp(raw.view(), grad.dt.view(), grad.log_a.view()).expect("a gradient");
        golden.check("grad_x", grad.x.view(), how, limit);
        golden.check("grad_B", grad.b.view(), how, limit);
        golden.check("grad_C", grad.c.view(), how, limit);
        golden.check("grad_dt", steps.raw.view(), how, limit);
        golden.check("grad_A", steps.a.view(), how, limit);
        if bias.is_some() {
            golden.check("grad_dt_bias", steps.bias.view(), how, limit);
        }
        assert_eq!(grad.d.is_some(), skip.is_some());
        if let Some(d) = &grad.d {
            golden.check("grad_D", d.view(), how, limit);
        }
        if initial.is_some() {
            golden.check("grad_init", grad.state.view(), how, limit);
        }
    }
}

#[test]
fn every_algorithm_agrees_with_the_reference_in_f64() {
    CASES.iter().for_each(|name| check_case::<f64>(&Golden::open(name), 1e-10));
}

#[test]
fn every_algorithm_agrees_with_the_reference_in_f32() {
    CASES.iter().for_each(|name| check_case::<f32>(&Golden::open(name), 1e-4));
}
