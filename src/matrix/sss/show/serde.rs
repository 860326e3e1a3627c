//! Matrices written down and read back, with the checks of their constructors.

use ndarray::{Array1, Array2};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::matrix::sss::{
    Blocks, FilterForm, HermitianQuasiseparable, Quasiseparable, Sss, Transition, Upper,
};
use crate::scalar::Field;

/// Blocks as sizes, one for all or one for each, and numbers in a row. Empty blocks have a size each, so that what is
/// read back is no longer than what was written.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Blocks")]
struct BlocksData<E> {
    len: usize,
    dims: Vec<(usize, usize)>,
    values: Vec<E>,
}

/// Rows or columns of an empty block that is read, or states that no number of it belongs to: nothing else says that so
/// many states, inputs or outputs are meant.
const LONGEST: usize = 1 << 20;

impl<E: Field + Serialize> Serialize for Blocks<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let dims = match self.uniform() {
            Some(dims) if dims.0 * dims.1 > 0 => vec![dims],
            _ => (0..self.len()).map(|k| self.dims(k)).collect(),
        };
        BlocksData { len: self.len(), dims, values: self.flat().to_vec() }.serialize(serializer)
    }
}

impl<'de, E: Field + Deserialize<'de>> Deserialize<'de> for Blocks<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let BlocksData { len, dims, values } = BlocksData::<E>::deserialize(deserializer)?;
        let uniform = dims.len() == 1 && (len == 1 || !values.is_empty());
        if !uniform && dims.len() != len {
            return Err(D::Error::custom(format!("blocks: {} sizes for {len} matrices", dims.len())));
        }
        if let Some((rows, columns)) = dims.iter().find(|d| d.0.min(d.1) == 0 && d.0.max(d.1) > LONGEST) {
            return Err(D::Error::custom(format!("blocks: an empty one of size {rows} x {columns}")));
        }
        let size = |(rows, columns): (usize, usize)| rows.checked_mul(columns);
        let total = if uniform {
            size(dims[0]).and_then(|size| size.checked_mul(len))
        } else {
            dims.iter().try_fold(0usize, |sum, dims| sum.checked_add(size(*dims)?))
        };
        if total != Some(values.len()) {
            return Err(D::Error::custom(format!("blocks: {} numbers do not fill the sizes", values.len())));
        }
        if uniform {
            return Ok(Self::from_uniform(len, dims[0], values));
        }
        let mut values = values.into_iter();
        Ok(dims
            .into_iter()
            .map(|dims| Array2::from_shape_simple_fn(dims, || values.next().unwrap_or(E::zero())))
            .collect())
    }
}

/// A transition by its kind and numbers.
#[derive(Serialize, Deserialize)]
#[serde(
    rename = "Transition",
    rename_all = "snake_case",
    bound(deserialize = "E: Field + Deserialize<'de>", serialize = "E: Field + Serialize")
)]
enum TransitionData<E> {
    Identity,
    Scalar(Vec<E>),
    Diagonal(Blocks<E>),
    Dense(Blocks<E>),
}

impl<E: Field + Serialize> Serialize for Transition<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.clone() {
            Self::Identity => TransitionData::Identity,
            Self::Scalar(a) => TransitionData::Scalar(a.to_vec()),
            Self::Diagonal(a) => TransitionData::Diagonal(a),
            Self::Dense(a) => TransitionData::Dense(a),
        }
        .serialize(serializer)
    }
}

impl<'de, E: Field + Deserialize<'de>> Deserialize<'de> for Transition<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match TransitionData::<E>::deserialize(deserializer)? {
            TransitionData::Identity => Self::Identity,
            TransitionData::Scalar(a) => Self::Scalar(Array1::from_vec(a)),
            TransitionData::Diagonal(a) => Self::Diagonal(a),
            TransitionData::Dense(a) => Self::Dense(a),
        })
    }
}

/// The generators by their names.
#[derive(Serialize, Deserialize)]
#[serde(
    rename = "Sss",
    bound(deserialize = "E: Field + Deserialize<'de>", serialize = "E: Field + Serialize")
)]
struct SssData<E> {
    a: Transition<E>,
    b: Blocks<E>,
    c: Blocks<E>,
    d: Blocks<E>,
}

impl<E: Field + Serialize> Serialize for Sss<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (a, b, c, d) = self.clone().into_parts();
        SssData { a, b, c, d }.serialize(serializer)
    }
}

impl<'de, E: Field + Deserialize<'de>> Deserialize<'de> for Sss<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let SssData { a, b, c, d } = SssData::<E>::deserialize(deserializer)?;
        Self::new(a, b, c, d).map_err(D::Error::custom)
    }
}

/// The generators of a filter form by their names, and the states before the first step.
#[derive(Serialize, Deserialize)]
#[serde(
    rename = "FilterForm",
    bound(deserialize = "E: Field + Deserialize<'de>", serialize = "E: Field + Serialize")
)]
struct FilterData<E> {
    first: usize,
    a: Transition<E>,
    b: Blocks<E>,
    c: Blocks<E>,
}

impl<E: Field + Serialize> Serialize for FilterForm<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (a, b, c) = (self.transition().clone(), self.b_blocks().clone(), self.c_blocks().clone());
        FilterData { first: self.orders()[0], a, b, c }.serialize(serializer)
    }
}

impl<'de, E: Field + Deserialize<'de>> Deserialize<'de> for FilterForm<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let FilterData { first, a, b, c } = FilterData::<E>::deserialize(deserializer)?;
        if first > LONGEST {
            return Err(D::Error::custom(format!("filter form: {first} states before the first step")));
        }
        Self::new(first, a, b, c).map_err(D::Error::custom)
    }
}

impl<E: Field + Serialize> Serialize for Upper<Sss<E>> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, E: Field + Deserialize<'de>> Deserialize<'de> for Upper<Sss<E>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Sss::deserialize(deserializer).map(Upper)
    }
}

impl<E: Field + Serialize> Serialize for Quasiseparable<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.lower(), self.upper()).serialize(serializer)
    }
}

impl<'de, E: Field + Deserialize<'de>> Deserialize<'de> for Quasiseparable<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (lower, upper) = <(Sss<E>, Sss<E>)>::deserialize(deserializer)?;
        Self::new(lower, upper).map_err(D::Error::custom)
    }
}

impl<E: Field + Serialize> Serialize for HermitianQuasiseparable<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lower().serialize(serializer)
    }
}

impl<'de, E: Field + Deserialize<'de>> Deserialize<'de> for HermitianQuasiseparable<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Sss::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
