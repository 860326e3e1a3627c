//! Lesson 4: gradients.
//!
//! A vjp takes the inputs of a product and the cotangent of its output, and returns the cotangents of the inputs. They
//! are derived in `docs/gradients.md`.
//!
//! `cargo run --example 04_gradients`

use ndarray::{Array, Array1, Array2, Array3, Array4, Dim, Dimension, array};
use semisep::matrix::{OneSemiseparable, StructuredMatrix};
use semisep::ssd::{Algorithm, Discretization, Grad, Output, Squash, Ssd};

/// All inputs of the operator. Loss: ⟨y, y⟩ / 2 + ⟨final state, 1⟩.
#[derive(Clone)]
struct Inputs {
    log_a: Array3<f64>,
    dt: Array3<f64>,
    b: Array4<f64>,
    c: Array4<f64>,
    x: Array4<f64>,
    state: Array4<f64>,
}

impl Inputs {
    fn matrix(&self) -> semisep::Result<Ssd<'_, f64>> {
        Ssd::new(self.log_a.view(), self.dt.view(), self.b.view(), self.c.view())
    }

    fn loss(&self) -> semisep::Result<f64> {
        let out = self.matrix()?.matmul(self.x.view(), Some(self.state.view()), Algorithm::Recurrent)?;
        Ok(0.5 * out.y.iter().map(|y| y * y).sum::<f64>() + out.state.sum())
    }

    fn grad(&self, how: Algorithm) -> semisep::Result<Grad<f64>> {
        let out = self.matrix()?.matmul(self.x.view(), Some(self.state.view()), how)?;
        let cotangent = Output { state: Array::ones(out.state.raw_dim()), y: out.y };
        self.matrix()?.vjp(self.x.view(), Some(self.state.view()), how, &cotangent)
    }
}

fn wave<D: Dimension>(shape: D, shift: f64) -> Array<f64, D> {
    let mut k = 0.0;
    Array::from_shape_simple_fn(shape, || {
        k += 1.0;
        (1.7 * k + shift).sin()
    })
}

fn main() -> semisep::Result<()> {
    let (len, heads, head_dim, state_dim) = (20, 2, 3, 4);
    let inputs = Inputs {
        log_a: wave(Dim([1, len, heads]), 0.0).mapv(|v| -v * v),
        dt: wave(Dim([1, len, heads]), 1.0).mapv(|v| 0.5 + 0.4 * v),
        b: wave(Dim([1, len, 1, state_dim]), 2.0),
        c: wave(Dim([1, len, 1, state_dim]), 3.0),
        x: wave(Dim([1, len, heads, head_dim]), 4.0),
        state: wave(Dim([1, heads, head_dim, state_dim]), 5.0),
    };
    println!("1. The slope of a loss along one direction of each input: by the vjp, and by a difference.\n");
    println!("{:>8} {:>16} {:>16} {:>16}", "input", "quadratic", "chunked", "difference");
    let quadratic = inputs.grad(Algorithm::Quadratic)?;
    let chunked = inputs.grad(Algorithm::Chunked { chunk: 8 })?;
    macro_rules! check {
        ($field:ident) => {
            let direction = wave(inputs.$field.raw_dim(), 6.0);
            let along = |h: f64| {
                let mut moved = inputs.clone();
                moved.$field.scaled_add(h, &direction);
                moved.loss()
            };
            let slope = (along(1e-5)? - along(-1e-5)?) / 2e-5;
            let (q, c) = ((&quadratic.$field * &direction).sum(), (&chunked.$field * &direction).sum());
            println!("{:>8} {q:>16.9} {c:>16.9} {slope:>16.9}", stringify!($field));
        };
    }
    check!(log_a);
    check!(dt);
    check!(b);
    check!(c);
    check!(x);
    check!(state);

    println!("\n2. Why d log a is a sum of products. Two positions, all inputs one, a decay a = e^-20:");
    println!("   y_1 = a + 1, so d log a = a. The difference <dy_1, y_1> - <dx_1, x_1> loses it.\n");
    let a = (-20f32).exp();
    let l = OneSemiseparable::new(array![1.0, a])?;
    let ones = Array2::<f32>::ones((2, 1));
    let (y, (d_a, dx)) = (l.matmul(ones.view())?, l.vjp(ones.view(), ones.view())?);
    println!("   exact, f64                    {:.6e}", (-20f64).exp());
    println!("   sum of products, f32          {:.6e}", d_a[1] * a);
    println!("   difference, f32               {:.6e}", y[[1, 0]] - dx[[1, 0]]);

    println!("\n3. What gradients are for: the rate A behind an output, found from A = -0.2 by descent.\n");
    let raw = wave(Dim([1, len, heads]), 1.0);
    let target = response(&inputs, &raw, &array![-1.5, -0.7])?.0;
    let mut a = array![-0.2, -0.2];
    for step in 0..=300 {
        let (y, dt, log_a) = response(&inputs, &raw, &a)?;
        let off = &y - &target;
        if step % 50 == 0 {
            let loss = 0.5 * off.iter().map(|v| v * v).sum::<f64>();
            println!("   step {step:>3}: loss {loss:.2e}, A = {a:.4}");
        }
        let m = Ssd::new(log_a.view(), dt.view(), inputs.b.view(), inputs.c.view())?;
        let cotangent = Output { y: off, state: Array4::zeros(inputs.state.raw_dim()) };
        let grad = m.vjp(inputs.x.view(), None, Algorithm::default(), &cotangent)?;
        let rule = Discretization::new(a.view()).squash(Squash::Softplus);
        let d_a = rule.vjp(raw.view(), grad.dt.view(), grad.log_a.view())?.a;
        a = &a * (-0.02 * &a * &d_a).mapv_into(f64::exp); // a step in log(-A)
    }
    Ok(())
}

type Response = (Array4<f64>, Array3<f64>, Array3<f64>); // y, dt, log a

/// What the rates `a` make of the inputs.
fn response(inputs: &Inputs, raw: &Array3<f64>, a: &Array1<f64>) -> semisep::Result<Response> {
    let (dt, log_a) = Discretization::new(a.view()).squash(Squash::Softplus).apply(raw.view())?;
    let m = Ssd::new(log_a.view(), dt.view(), inputs.b.view(), inputs.c.view())?;
    Ok((m.matmul(inputs.x.view(), None, Algorithm::default())?.y, dt, log_a))
}
