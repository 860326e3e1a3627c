"""Numbers of celerite2 and tinygp, and pivots by 60-digit arithmetic, for tests/matrix/accuracy.rs.

Run: pip install celerite2==0.3.3 tinygp==0.3.1 mpmath safetensors, then python tests/golden/factor.py
"""
import pathlib

import celerite2
import jax
import mpmath as mp
import numpy as np
import tinygp
from celerite2 import driver
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent
jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(7)

# Sums of exponentials at irregular times, as celerite2 holds them:
# M_ij = sum_n U_in V_jn exp(-c_n (t_i - t_j)) for i > j, a on the diagonal.
out = {}
for order in (1, 3, 8, 12):
    n = 40
    t = np.cumsum(rng.uniform(0.05, 1.0, n))
    c = rng.uniform(0.1, 2.0, order)
    w = rng.uniform(0.5, 1.5, order)
    U, V = np.ones((n, order)) * w, np.ones((n, order))
    a = np.full(n, 0.3 + w.sum())
    y = rng.standard_normal((n, 1))
    d, W = driver.factor(t, c, a, U, V, np.empty(n), np.empty((n, order)))
    z = driver.solve_lower(t, c, U, W, y, np.empty_like(y)) / d[:, None]
    x = driver.solve_upper(t, c, U, W, z, np.empty_like(y))
    for name, value in dict(t=t, c=c, a=a, u=U, v=V, y=y, pivots=d, x=x, logdet=np.log(d).sum()).items():
        out[f"celerite2_{order}.{name}"] = np.ascontiguousarray(np.atleast_1d(value))

# A Matern-5/2 process, whose transitions are dense, as tinygp holds it.
n = 40
t = np.cumsum(rng.uniform(0.05, 1.0, n))
kernel = 1.7**2 * tinygp.kernels.quasisep.Matern52(scale=1.3)
noise = 0.2
y = rng.standard_normal(n)
M = kernel.to_symm_qsm(t) + tinygp.solvers.quasisep.core.DiagQSM(d=np.full(n, noise))
L = M.cholesky()
x = L.transpose().solve(L.solve(y))
gp = tinygp.GaussianProcess(kernel, t, diag=noise)
values = dict(
    t=t, y=y, noise=np.array([noise]), dense=np.asarray(M.to_dense()), x=np.asarray(x), a=np.asarray(M.lower.a),
    p=np.asarray(M.lower.p), q=np.asarray(M.lower.q), diagonal=np.asarray(M.diag.d),
    pivots=np.asarray(L.diag.d) ** 2, log_likelihood=np.array([float(gp.log_probability(y))]),
)
out.update({f"tinygp.{k}": np.ascontiguousarray(v, dtype=np.float64) for k, v in values.items()})

# Pivots of Matern-3/2 covariances with little noise, by Gaussian elimination in 60 digits.
mp.mp.dps = 60
n = 60
for index, (h, sigma) in enumerate([("0.1", "1e-2"), ("1e-2", "1e-6"), ("1e-3", "1e-8"), ("1e-3", "0")]):
    # The binary numbers that the test computes with.
    h, sigma = mp.mpf(float(h)), mp.mpf(float(sigma))
    lam = mp.sqrt(3)
    k = lambda r: (1 + lam * r) * mp.exp(-lam * r)
    A = mp.matrix(n, n)
    for i in range(n):
        for j in range(n):
            A[i, j] = k(abs(i - j) * h) + (sigma if i == j else 0)
    pivots = []
    for s in range(n):
        pivots.append(A[s, s])
        for i in range(s + 1, n):
            f = A[i, s] / A[s, s]
            for j in range(s + 1, n):
                A[i, j] -= f * A[s, j]
    out[f"matern.{index}"] = np.array([float(p) for p in pivots])

save_file(out, str(here / "factor.safetensors"))
