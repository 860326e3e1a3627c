//! Matrices written down and read back: the same matrix, or an error, never an invalid one.

use crate::support::ragged::{Draw, Sizes, sizes};
use ndarray::Array2;
use num_complex::Complex;
use proptest::prelude::*;
use semisep::matrix::sss::{FilterForm, HermitianQuasiseparable, Quasiseparable, Sss, Upper};
use serde::{Serialize, de::DeserializeOwned};

fn check<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(m: &M) {
    let value = serde_json::to_value(m).unwrap(); // as text, the last digit of a number is up to the reader
    assert_eq!(&serde_json::from_value::<M>(value).unwrap(), m);
}

fn check_all<E: Draw + Serialize + DeserializeOwned>(sizes: &Sizes) {
    let lower: Sss<E> = sizes.lower();
    check(&lower);
    let (a, b, c, d) = lower.clone().into_parts();
    let c = (0..c.len()).map(|k| Array2::from_elem((d.dims(k).0, lower.order_at(k + 1)), E::one())).collect();
    check(&FilterForm::new(lower.order_at(0), a, b, c).unwrap());
    check(&Upper(lower));
    let both: Quasiseparable<E> = sizes.two_sided();
    check(&both);
    let hermitian: HermitianQuasiseparable<E> = sizes.hermitian();
    check(&hermitian);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_written_is_read_back(sizes in sizes(5)) {
        check_all::<f64>(&sizes);
        check_all::<Complex<f64>>(&sizes);
    }
}

#[test]
fn what_is_no_matrix_is_refused() {
    let blocks = |dims: &str, values: &str| format!(r#"{{"len":2,"dims":{dims},"values":{values}}}"#);
    let sss = |a: &str, b: &str, c: &str, d: &str| format!(r#"{{"a":{a},"b":{b},"c":{c},"d":{d}}}"#);
    let good = blocks("[[1,1]]", "[1.0,2.0]");
    let read = |text: &str| serde_json::from_str::<Sss<f64>>(text).map_err(|e| e.to_string());
    read(&sss(r#""identity""#, &good, &good, &good)).unwrap();
    let filter = |first: u64| format!(r#"{{"first":{first},"a":"identity","b":{good},"c":{good}}}"#);
    let read_filter = |text: &str| serde_json::from_str::<FilterForm<f64>>(text).map_err(|e| e.to_string());
    read_filter(&filter(1)).unwrap();
    assert!(read_filter(&filter(1 << 60)).unwrap_err().contains("states"));
    for (what, text, says) in [
        (
            "sizes that numbers do not fill",
            sss(r#""identity""#, &good, &good, &blocks("[[1,2]]", "[1.0]")),
            "numbers",
        ),
        (
            "sizes that overflow",
            sss(r#""identity""#, &good, &good, &blocks("[[4294967296,4294967296]]", "[1.0]")),
            "numbers",
        ),
        (
            "too few sizes",
            sss(r#""identity""#, &good, &good, &blocks("[[1,1],[1,1],[1,1]]", "[1.0,2.0,3.0]")),
            "sizes",
        ),
        (
            "orders that disagree",
            sss(r#""identity""#, &blocks("[[2,1]]", "[1.0,2.0,3.0,4.0]"), &good, &good),
            "`c`",
        ),
        (
            "a length that nothing was written for",
            sss(
                r#""identity""#,
                r#"{"len":4611686018427387904,"dims":[[0,0]],"values":[]}"#,
                r#"{"len":4611686018427387904,"dims":[[0,0]],"values":[]}"#,
                r#"{"len":4611686018427387904,"dims":[[0,0]],"values":[]}"#,
            ),
            "sizes",
        ),
        (
            "an empty block of any size",
            sss(
                r#""identity""#,
                &blocks("[[18446744073709551615,0],[1,1]]", "[1.0]"),
                &blocks("[[0,0],[1,1]]", "[1.0]"),
                &good,
            ),
            "empty",
        ),
        ("a transition of another length", sss(r#"{"scalar":[1.0]}"#, &good, &good, &good), "`a`"),
    ] {
        let error = read(&text).expect_err(what);
        assert!(error.contains(says), "{what}: {error}");
    }
    let lopsided = sss(
        r#""identity""#,
        &blocks("[[1,2]]", "[1,2,3,4]"),
        &blocks("[[2,1]]", "[1,2,3,4]"),
        &blocks("[[2,2]]", "[1,2,3,4,5,6,7,8]"),
    );
    assert!(serde_json::from_str::<HermitianQuasiseparable<f64>>(&lopsided).is_err());
}
