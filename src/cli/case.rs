//! An operator file as a typed case: inputs, options, and what the results should be.

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array3, Array4, ArrayD, Ix2};

use super::in_file;
use super::tensor_file::TensorFile;
use crate::error::Result;
use crate::ssd::{Output, Sequences, Squash};

/// States larger than this many numbers are refused: a file of a few bytes can claim any size, since an empty axis
/// needs no data for the others.
const LARGEST_STATE: usize = 1 << 30;

/// The inputs of the tool's operator; see `semisep --help` for their meaning.
#[derive(Debug, Clone)]
pub struct Case {
    /// Where it was read from, for messages.
    pub path: PathBuf,
    /// (batch, len, heads, head_dim)
    pub x: Array4<f64>,
    /// (batch, len, heads)
    pub dt: Array3<f64>,
    /// (heads)
    pub a: Array1<f64>,
    /// (batch, len, groups, state_dim)
    pub b: Array4<f64>,
    /// (batch, len, groups, state_dim)
    pub c: Array4<f64>,
    /// (heads) or (heads, head_dim)
    pub d: Option<ArrayD<f64>>,
    /// (batch, len, heads, head_dim)
    pub z: Option<Array4<f64>>,
    /// (heads)
    pub dt_bias: Option<Array1<f64>>,
    /// (batch, heads, head_dim, state_dim)
    pub init: Option<Array4<f64>>,
    /// Where sequences begin.
    pub sequences: Sequences,
    /// How steps become positive.
    pub squash: Squash,
    /// Least and largest step.
    pub limits: (f64, f64),
    /// Cotangents of y and of the final state, if the file holds them.
    pub cotangent: Option<Output<f64>>,
}

/// A result that an implementation elsewhere has computed.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Name of the tensor.
    pub name: &'static str,
    /// What it should be.
    pub values: ArrayD<f64>,
}

/// The names of the inputs that have gradients, and of these gradients, in the order of all tables.
pub const GRADIENTS: [(&str, &str); 9] = [
    ("x", "grad_x"),
    ("dt", "grad_dt"),
    ("A", "grad_A"),
    ("B", "grad_B"),
    ("C", "grad_C"),
    ("D", "grad_D"),
    ("z", "grad_z"),
    ("dt_bias", "grad_dt_bias"),
    ("init", "grad_init"),
];

/// Reads a file whole.
///
/// # Errors
/// [`crate::Error::File`] if it cannot be read.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| in_file(path, e))
}

impl Case {
    /// The inputs in a file, checked against each other.
    ///
    /// # Errors
    /// [`crate::Error::File`] if a tensor is missing or has a wrong type, rank, length or value.
    pub fn new(file: &TensorFile<'_>) -> Result<Self> {
        let r = Reader { file };
        let x: Array4<f64> =
            file.ranked("x", "(batch, len, heads, head_dim)", r.required("x", "an operator")?)?;
        let (batch, len, heads, head_dim) = x.dim();
        if heads == 0 || head_dim == 0 {
            let expected = "expected at least one head and one channel (batch, len, heads, head_dim)";
            return Err(file.wrong("x", format!("{expected}, found {:?}", x.shape())));
        }
        let dt = r.required("dt", "an operator")?;
        let dt = r.fitted("dt", "(batch, len, heads)", &[batch, len, heads], dt)?;
        let a = r.required("A", "an operator")?;
        let a = r.fitted("A", "(heads)", &[heads], a)?;
        let generator_axes = "(batch, len, groups, state_dim)";
        let b: Array4<f64> = file.ranked("B", generator_axes, r.required("B", "an operator")?)?;
        let (_, _, groups, state_dim) = b.dim();
        if b.shape()[..2] != [batch, len] || groups == 0 || state_dim == 0 || heads % groups != 0 {
            let expected = format!(
                "expected {generator_axes} = [{batch}, {len}, a divisor of heads = {heads}, at least 1]"
            );
            return Err(file.wrong("B", format!("{expected}, found {:?}", b.shape())));
        }
        let c = r.required("C", "an operator")?;
        let c = r.fitted("C", generator_axes, b.shape(), c)?;
        let state = [batch, heads, head_dim, state_dim];
        let numbers = state.iter().try_fold(1, |n: usize, &axis| n.checked_mul(axis.max(1)));
        if numbers.is_none_or(|n| n > LARGEST_STATE) {
            let expected = format!("expected a state of at most {LARGEST_STATE} numbers");
            let found = format!("(batch, heads, head_dim, state_dim) = {state:?}");
            return Err(file.wrong("B", format!("{expected}, found {found}")));
        }
        let sequences = match file.integers("seq_idx")? {
            None => Sequences::whole(batch, len),
            Some(ids) => {
                let ids = r.fitted::<_, Ix2>("seq_idx", "(batch, len)", &[batch, len], ids)?;
                Sequences::from_ids(ids.view()).map_err(|e| in_file(file.path(), e))?
            }
        };
        let skip = match file.numbers("D")? {
            Some(d) if d.shape() != [heads] && d.shape() != [heads, head_dim] => {
                let expected =
                    format!("expected (heads) = [{heads}] or (heads, head_dim) = [{heads}, {head_dim}]");
                return Err(file.wrong("D", format!("{expected}, found {:?}", d.shape())));
            }
            d => d,
        };
        let dy = r.optional("dy", "like x", x.shape())?;
        let dfinal_state = r.optional("dfinal_state", STATE_AXES, &state)?;
        Ok(Self {
            path: file.path().to_owned(),
            z: r.optional("z", "like x", x.shape())?,
            dt_bias: r.optional("dt_bias", "(heads)", &[heads])?,
            init: r.optional("init", STATE_AXES, &state)?,
            squash: r.squash()?,
            limits: r.limits()?,
            cotangent: dy.zip(dfinal_state).map(|(y, state)| Output { y, state }),
            d: skip,
            sequences,
            x,
            dt,
            a,
            b,
            c,
        })
    }

    /// The length of the rows.
    pub fn len(&self) -> usize {
        self.x.dim().1
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.x.is_empty()
    }

    /// Shape of the state, (batch, heads, head_dim, state_dim).
    pub fn state_shape(&self) -> [usize; 4] {
        let (batch, _, heads, head_dim) = self.x.dim();
        [batch, heads, head_dim, self.b.dim().3]
    }

    /// The cotangents, which gradients need.
    ///
    /// # Errors
    /// [`crate::Error::File`] if the file does not hold both.
    pub fn cotangent(&self, file: &TensorFile<'_>) -> Result<&Output<f64>> {
        self.cotangent.as_ref().ok_or_else(|| {
            let missing = if file.has("dy") { "dfinal_state" } else { "dy" };
            file.wrong(missing, "missing; gradients need it")
        })
    }

    /// The reference results of the file: `y`, `final_state`, then a gradient for every input present.
    ///
    /// # Errors
    /// [`crate::Error::File`] if one is missing or has a wrong type or shape.
    pub fn references(&self, file: &TensorFile<'_>) -> Result<Vec<Reference>> {
        let r = Reader { file };
        let (x, state) = (self.x.shape(), &self.state_shape());
        let mut references = Vec::new();
        let mut expect = |name, shape: &[usize]| -> Result<()> {
            let values = r.required(name, "a verification")?;
            let values = r.fitted::<_, ndarray::IxDyn>(name, "the shape", shape, values)?;
            references.push(Reference { name, values });
            Ok(())
        };
        expect("y", x)?;
        expect("final_state", state)?;
        for (input, gradient) in GRADIENTS {
            let shape = match input {
                "x" => Some(x),
                "dt" => Some(self.dt.shape()),
                "A" => Some(self.a.shape()),
                "B" | "C" => Some(self.b.shape()),
                "D" => self.d.as_ref().map(|d| d.shape()),
                "z" => self.z.as_ref().map(|z| z.shape()),
                "dt_bias" => self.dt_bias.as_ref().map(|b| b.shape()),
                _ => self.init.as_ref().map(|_| &state[..]),
            };
            if let Some(shape) = shape {
                expect(gradient, shape)?;
            }
        }
        Ok(references)
    }
}

const STATE_AXES: &str = "(batch, heads, head_dim, state_dim)";

/// Reads tensors that must have one given shape.
struct Reader<'f, 'a> {
    file: &'f TensorFile<'a>,
}

impl Reader<'_, '_> {
    fn required(&self, name: &str, by: &str) -> Result<ArrayD<f64>> {
        self.file.numbers(name)?.ok_or_else(|| self.file.wrong(name, format!("missing; {by} needs it")))
    }

    fn optional<D: ndarray::Dimension>(
        &self,
        name: &str,
        axes: &str,
        shape: &[usize],
    ) -> Result<Option<ndarray::Array<f64, D>>> {
        self.file.numbers(name)?.map(|values| self.fitted(name, axes, shape, values)).transpose()
    }

    fn fitted<A, D: ndarray::Dimension>(
        &self,
        name: &str,
        axes: &str,
        shape: &[usize],
        values: ArrayD<A>,
    ) -> Result<ndarray::Array<A, D>> {
        let axes = format!("{axes} = {shape:?}");
        if values.shape() != shape {
            return Err(self.file.wrong(name, format!("expected {axes}, found {:?}", values.shape())));
        }
        self.file.ranked(name, &axes, values)
    }

    fn squash(&self) -> Result<Squash> {
        match self.file.metadata("softplus").map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(Squash::Identity),
            Some("true") => Ok(Squash::Softplus),
            Some(other) => Err(self.option("softplus", "true or false", other)),
        }
    }

    fn limits(&self) -> Result<(f64, f64)> {
        let limit = |key: &str, otherwise: f64| match self.file.metadata(key) {
            None => Ok(otherwise),
            Some(text) => match text.trim().parse::<f64>() {
                Ok(v) if !v.is_nan() => Ok(v),
                _ => Err(self.option(key, "a number", text)),
            },
        };
        let (lower, upper) = (limit("dt_min", 0.0)?, limit("dt_max", f64::INFINITY)?);
        if lower <= upper {
            return Ok((lower, upper));
        }
        Err(self.option("dt_max", &format!("at least dt_min = {lower}"), &upper.to_string()))
    }

    fn option(&self, key: &str, expected: &str, found: &str) -> crate::Error {
        in_file(self.file.path(), format!("metadata `{key}`: expected {expected}, found {found:?}"))
    }
}
