//! The model against logits and greedy continuations of another implementation (PyTorch, f32); `tests/golden/model_*`.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::{Array2, Array3, ArrayD, IxDyn, s};
use safetensors::SafeTensors;
use semisep::Real;
use semisep::mamba2::{Config, Model, Naming, State, Tokens};
use semisep::nn::Weight;

/// A model and what it should yield.
struct Case {
    model: Model<Weight<f32>>,
    prompts: Vec<Vec<u32>>,
    logits: Array3<f32>,
    greedy: Vec<Vec<u32>>,
}

fn case(name: &str, config: &Config) -> Case {
    let folder: PathBuf = Path::new("tests/golden").join(name);
    let bytes = fs::read(folder.join("model.safetensors")).expect("the golden file is there");
    let weights = SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
    let shapes = config.shapes().expect("the configuration is valid");
    let model = shapes.try_map(Naming::HuggingFace, |name, shape| {
        let tensor = weights.tensor(name)?;
        assert_eq!(tensor.shape(), shape, "{name}");
        let array =
            ArrayD::from_shape_vec(IxDyn(shape), floats(tensor.data())).expect("as many as the shape says");
        Ok::<_, safetensors::SafeTensorError>(Weight::from(array))
    });
    let bytes = fs::read(folder.join("expected.safetensors")).expect("the golden file is there");
    let expected = SafeTensors::deserialize(&bytes).expect("it is a safetensors file");
    let logits = expected.tensor("logits").expect("it holds logits");
    let shape = [0, 1, 2].map(|axis| logits.shape()[axis]);
    Case {
        model: model.expect("all weights are there"),
        prompts: ids(&expected, "input_ids"),
        logits: Array3::from_shape_vec(shape, floats(logits.data())).expect("as many as the shape says"),
        greedy: ids(&expected, "greedy_ids"),
    }
}

fn cases() -> [(&'static str, Case); 2] {
    let tiny = Config { state_dim: 16, head_dim: 8, ..Config::new(32, 2, 97) };
    let grouped = Config {
        state_dim: 8,
        head_dim: 12,
        groups: 2,
        proj_bias: true,
        tie_embeddings: false,
        ..Config::new(48, 3, 131)
    };
    [("model_tiny", tiny), ("model_grouped", grouped)].map(|(name, config)| (name, case(name, &config)))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn ids(file: &SafeTensors<'_>, name: &str) -> Vec<Vec<u32>> {
    let tensor = file.tensor(name).expect("it holds tokens");
    let wide = tensor.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("eight bytes")));
    let all: Vec<u32> = wide.map(|id| u32::try_from(id).expect("a token")).collect();
    all.chunks(tensor.shape()[1]).map(<[u32]>::to_vec).collect()
}

/// The largest difference, in f64.
fn worst<A: Real, B: Real>(a: &Array2<A>, b: &Array2<B>) -> f64 {
    assert_eq!(a.dim(), b.dim());
    a.iter().zip(b).fold(0.0, |worst, (a, b)| {
        let difference = a.to_f64().expect("a number") - b.to_f64().expect("a number");
        difference.abs().max(worst)
    })
}

/// The same weights, to compute with in `A`.
fn computing_in<A: Real>(model: &Model<Weight<f32>>) -> Model<Weight<A>> {
    model.map(|w| Weight::new(w.shape(), w.numbers().clone()).expect("as many numbers as the shape says"))
}

fn logits<A: Real>(model: &Model<Weight<A>>, prompts: &[Vec<u32>]) -> Array2<A> {
    let mut state = State::new(model.config(), prompts.len()).expect("the configuration is valid");
    model.forward(&Tokens::packed(prompts), &mut state).expect("tokens are valid")
}

#[test]
fn logits_are_those_of_the_reference() {
    for (name, case) in cases() {
        let (batch, len, vocabulary) = case.logits.dim();
        let expected = case.logits.into_shape_with_order((batch * len, vocabulary)).expect("in order");
        let exact = logits(&computing_in::<f64>(&case.model), &case.prompts);
        let from_exact = worst(&exact, &expected);
        assert!(from_exact < 2e-4, "{name}: {from_exact:e}");
        let from_short = worst(&logits(&case.model, &case.prompts), &expected);
        assert!(from_short < 2e-4, "{name}, in f32: {from_short:e}");
    }
}

#[test]
fn any_split_gives_the_same_bits() {
    for (name, case) in cases() {
        let prompt = &case.prompts[1];
        let expected = logits(&case.model, std::slice::from_ref(prompt));
        for split in [vec![7, 1, 20, prompt.len() - 28], vec![1; prompt.len()], vec![prompt.len() - 1, 1]] {
            let mut state = State::new(case.model.config(), 1).expect("the configuration is valid");
            let mut at = 0;
            for len in split {
                let piece = Tokens::one(&prompt[at..at + len]);
                let found = case.model.forward(&piece, &mut state).expect("tokens are valid");
                assert_eq!(found, expected.slice(s![at..at + len, ..]), "{name}, from {at}");
                at += len;
            }
        }
    }
}

#[test]
fn greedy_continuations_are_those_of_the_reference() {
    for (name, case) in cases() {
        for (prompt, expected) in case.prompts.iter().zip(&case.greedy) {
            let mut state = State::new(case.model.config(), 1).expect("the configuration is valid");
            let (mut all, mut read) = (prompt.clone(), Tokens::one(prompt));
            while all.len() < expected.len() {
                let logits = case.model.advance(&read, &mut state).expect("tokens are valid");
                let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).expect("not empty").0;
                all.push(u32::try_from(best).expect("a token"));
                read = Tokens::one(&all[all.len() - 1..]);
            }
            assert_eq!(&all, expected, "{name}");
        }
    }
}
