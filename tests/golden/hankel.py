"""Hankel singular values and distances in 60 digits, for tests/matrix/numbers.rs.

python tests/golden/hankel.py > tests/golden/hankel.json   (mpmath 1.3)
"""

import json
import random

import mpmath as mp

mp.mp.dps = 60
LEN = 60


def values(poles, b, c, k):
    """Singular values of block k of the system with these poles, from Gramians whose lost digits 60 can spare."""
    order = len(poles)

    def gramian(g, steps):
        entry = lambda i, j: mp.mpf(g[i]) * g[j] * series(mp.mpf(poles[i]) * poles[j], steps)
        return mp.matrix([[entry(i, j) for j in range(order)] for i in range(order)])

    root = mp.cholesky(gramian(b, k))
    squares = mp.eigsy(root.T * gramian(c, LEN - k) * root, eigvals_only=True)
    return [float(mp.sqrt(v)) for v in sorted(squares, reverse=True)]


def series(x, steps):
    return (1 - x**steps) / (1 - x)


def distance(s, t):
    """Frobenius distance of two matrices with entries sum_n c_in a_n^(i-j-1) b_jn, from all entries."""
    total = mp.mpf(0)
    for i in range(LEN):
        for j in range(i):
            power = lambda m, n: mp.mpf(m["a"][n]) ** (i - j - 1)
            entry = lambda m: sum(m["c"][i][n] * power(m, n) * m["b"][j][n] for n in range(3))
            total += (entry(s) - entry(t)) ** 2
    return float(mp.sqrt(total))


def main():
    systems = [
        ([0.9, 0.7, 0.5, 0.3, 0.1, -0.2], [1.0, 0.5, 0.2, 0.1, 0.05, 0.01]),
        ([0.95, 0.8, 0.6, 0.4, 0.2, -0.3], [1.0] * 6),
        ([0.9, 0.6, 0.3, 0.1, -0.2, -0.5], [1.0, 0.1, 0.01, 0.01, 0.001, 0.001]),
    ]
    blocks = lambda p, w: [{"k": k, "values": values(p, w, w, k)} for k in (10, 30, 50)]
    hankel = [{"poles": p, "weights": w, "blocks": blocks(p, w)} for p, w in systems]
    random.seed(1)
    rows = lambda: [[random.uniform(-1, 1) for _ in range(3)] for _ in range(LEN)]
    s = {"a": [0.9, 0.7, -0.5], "b": rows(), "c": rows()}
    near = []
    for eps in (1e-4, 1e-8, 1e-12):
        shift = lambda m: [[v * (1 + eps * random.uniform(-1, 1)) for v in row] for row in m]
        t = {"a": shift([s["a"]])[0], "b": shift(s["b"]), "c": shift(s["c"])}
        near.append({"eps": eps, "matrix": t, "distance": distance(s, t)})
    print(json.dumps({"len": LEN, "hankel": hankel, "matrix": s, "near": near}))


main()
