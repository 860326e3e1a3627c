"""Writes model_odd and model_odd_hybrid: random models of odd sizes, and the logits and greedy tokens that they yield.

Token by token and head by head from the formulas, in float64, with numpy alone. It shares nothing with the crate, agrees with the other
models of this folder, and with Hugging Face's transformers 5.24 where that can run such a model.

    python3 tests/golden/models.py
"""
import json
import math
import pathlib
import struct

import numpy as np

HERE = pathlib.Path(__file__).parent


def silu(x):
    return x / (1 + np.exp(-x))


def rms(x, w, eps):
    return x / np.sqrt(np.mean(x * x) + eps) * w


class Model:
    """One sequence; `of` has the sizes by one name, whatever the layout."""

    def __init__(self, of, weights):
        self.of = of
        self.w = {name: values.astype(np.float64) for name, values in weights.items()}
        self.windows, self.states, self.past, self.position = {}, {}, {}, 0

    def linear(self, name, x):
        return self.w[name + ".weight"] @ x + self.w.get(name + ".bias", 0.0)

    def convolved(self, name, x):
        kernel = self.w[name + ".weight"][:, 0, :]  # (channels, width), the present behind the past
        window = self.windows.get(name, np.zeros_like(kernel))
        self.windows[name] = window = np.column_stack([window[:, 1:], x])
        return np.sum(kernel * window, axis=1) + self.w.get(name + ".bias", 0.0)

    def mamba2(self, name, u):
        of, groups, n, p = self.of, self.of["groups"], self.of["state"], self.of["head_dim"]
        inner, d_ssm, heads = of["inner"], of["d_ssm"], of["d_ssm"] // p
        beside, shared = inner - d_ssm, groups * n
        parts = np.cumsum([beside, beside, d_ssm, d_ssm + 2 * shared])
        z0, x0, z, xbc, dt = np.split(self.linear(name + "in_proj", u), parts)
        x, b, c = np.split(silu(self.convolved(name + "conv1d", xbc)), [d_ssm, d_ssm + shared])
        dt = np.clip(np.log1p(np.exp(dt + self.w[name + "dt_bias"])), *of["limits"])
        a = np.exp(-np.exp(self.w[name + "A_log"]) * dt)
        d = np.repeat(self.w[name + "D"], d_ssm // self.w[name + "D"].size)
        y = d * x
        state = self.states.setdefault(name, np.zeros((heads, p, n)))
        for h in range(heads):
            of_head, of_group = slice(h * p, h * p + p), h * groups // heads * n + np.arange(n)
            state[h] = a[h] * state[h] + dt[h] * np.outer(x[of_head], b[of_group])
            y[of_head] += state[h] @ c[of_group]
        if not of["norm_first"]:
            y = y * silu(z)
        norms = np.split(self.w[name + "norm.weight"], groups)
        y = np.concatenate([rms(y, w, of["eps"]) for y, w in zip(np.split(y, groups), norms)])
        if of["norm_first"]:
            y = y * silu(z)
        return self.linear(name + "out_proj", np.concatenate([silu(z0) * x0, y]))

    def attention(self, name, u):
        of = self.of["attention"]
        queries, keys, width, turned = of["num_heads"], of["num_heads_kv"], of["head_dim"], of["rotary_emb_dim"]
        qkv = self.convolved(name + "conv1d", self.linear(name + "in_proj", u)).reshape(-1, width)
        angles = self.position * of["rotary_emb_base"] ** (-np.arange(0, turned, 2) / turned)
        for head in qkv[: queries + keys]:
            first, second = head[: turned // 2].copy(), head[turned // 2 : turned].copy()
            head[: turned // 2] = first * np.cos(angles) - second * np.sin(angles)
            head[turned // 2 : turned] = second * np.cos(angles) + first * np.sin(angles)
        past = self.past.setdefault(name, [])
        past.append((qkv[queries : queries + keys], qkv[queries + keys :]))
        out = []
        for h in range(queries):
            shared = h * keys // queries
            scores = np.array([k[shared] @ qkv[h] for k, _ in past]) / math.sqrt(width)
            shares = np.exp(scores - scores.max())
            out.append(sum(s * v[shared] for s, (_, v) in zip(shares / shares.sum(), past)))
        return self.linear(name + "out_proj", np.concatenate(out))

    def logits(self, token):
        embedding, eps = self.w[self.of["embedding"]], self.of["eps"]
        r = embedding[token]
        for k in range(self.of["layers"]):
            name = f"backbone.layers.{k}."
            mixer = self.attention if k in self.of["attention_layers"] else self.mamba2
            r = r + mixer(name + "mixer.", rms(r, self.w[name + "norm.weight"], eps))
        self.position += 1
        return self.w.get("lm_head.weight", embedding) @ rms(r, self.w["backbone.norm_f.weight"], eps)


def random_weights(of, dtype):
    random = np.random.default_rng(7)
    heads, conv = of["d_ssm"] // of["head_dim"], of["d_ssm"] + 2 * of["groups"] * of["state"]
    shapes = {of["embedding"]: (of["rows"], of["width"])}
    for k in range(of["layers"]):
        name = f"backbone.layers.{k}."
        shapes[name + "norm.weight"] = (of["width"],)
        if k in of["attention_layers"]:
            a = of["attention"]
            qkv, out = (a["num_heads"] + 2 * a["num_heads_kv"]) * a["head_dim"], a["num_heads"] * a["head_dim"]
            shapes[name + "mixer.conv1d.weight"] = (qkv, 1, a["d_conv"])
            shapes[name + "mixer.conv1d.bias"] = (qkv,)
            bias = True
        else:
            qkv, out, bias = 2 * (of["inner"] - of["d_ssm"]) + of["d_ssm"] + conv + heads, of["inner"], of["bias"]
            shapes |= {name + "mixer.dt_bias": (heads,), name + "mixer.A_log": (heads,)}
            shapes[name + "mixer.D"] = (of["d_ssm"] if of["skip_per_channel"] else heads,)
            shapes[name + "mixer.conv1d.weight"] = (conv, 1, of["conv_width"])
            shapes[name + "mixer.norm.weight"] = (of["d_ssm"],)
        shapes[name + "mixer.in_proj.weight"], shapes[name + "mixer.out_proj.weight"] = (qkv, of["width"]), (of["width"], out)
        if bias:
            shapes[name + "mixer.in_proj.bias"], shapes[name + "mixer.out_proj.bias"] = (qkv,), (of["width"],)
    shapes["backbone.norm_f.weight"] = (of["width"],)
    if of["own_head"]:
        shapes["lm_head.weight"] = (of["rows"], of["width"])
    weights = {}
    for name, shape in shapes.items():
        values = random.standard_normal(shape) * (1.5 / math.sqrt(shape[1]) if len(shape) == 2 else 0.4)
        values += 1.0 if "norm" in name or name.endswith(".D") else -1.0 if name.endswith("dt_bias") else 0.0
        sensitive = name.endswith((".D", "dt_bias", "A_log"))
        weights[name] = values.astype(np.float32 if sensitive else dtype)
    return weights


def write(path, tensors):
    names = {"<f2": "F16", "<f4": "F32", "<i8": "I64"}
    header, end = {}, 0
    for name, values in tensors.items():
        start, end = end, end + values.nbytes
        header[name] = {"dtype": names[values.dtype.str], "shape": values.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values()))


def expect(of, weights):
    ids = np.random.default_rng(8).integers(0, of["rows"], (2, 25))
    logits, continued = [], []
    for row in ids:
        model, all_ids = Model(of, weights), list(row)
        logits.append([model.logits(token) for token in row])
        last, gap = logits[-1][-1], math.inf
        for _ in range(16):
            best, gap = int(np.argmax(last)), min(gap, np.diff(np.sort(last)[-2:])[0])
            all_ids.append(best)
            last = model.logits(best)
        assert gap > 1e-2, f"greedy tokens are decided by {gap}"
        continued.append(all_ids)
    logits = np.array(logits, dtype=np.float32)
    return {"input_ids": ids, "logits": logits, "greedy_ids": np.array(continued)}


def main():
    hybrid = dict(width=12, layers=3, rows=24, inner=36, d_ssm=18, head_dim=3, groups=3, state=5, conv_width=3, eps=1e-5)
    hybrid |= dict(limits=(0.05, 0.4), norm_first=True, skip_per_channel=True, bias=True, own_head=True)
    hybrid |= dict(attention_layers=[1], embedding="backbone.embedding.weight")
    hybrid["attention"] = dict(
        causal=True, num_heads=4, num_heads_kv=2, head_dim=6, rotary_emb_dim=4, rotary_emb_base=100.0, d_conv=2
    )
    ssm = dict(layer="Mamba2", d_state=5, headdim=3, ngroups=3, expand=3, d_ssm=18, d_conv=3, conv_bias=False, bias=True)
    ssm |= dict(D_has_hdim=True, norm_before_gate=True, dt_limit=[0.05, 0.4], chunk_size=7)
    config = dict(d_model=12, n_layer=3, vocab_size=23, ssm_cfg=ssm, attn_layer_idx=[1], attn_cfg=hybrid["attention"])
    config |= dict(tie_embeddings=False)  # and the vocabulary padded to a multiple of 8, as it is by default
    weights = random_weights(hybrid, np.float32)
    folder = HERE / "model_odd_hybrid"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    write(folder / "model.safetensors", weights)
    write(folder / "expected.safetensors", expect(hybrid, weights))

    odd = dict(width=20, layers=2, rows=29, inner=40, d_ssm=40, head_dim=5, groups=4, state=7, conv_width=2, eps=1e-5)
    odd |= dict(limits=(0.0, 0.1), norm_first=False, skip_per_channel=False, bias=False, own_head=False)
    odd |= dict(attention_layers=[], embedding="backbone.embeddings.weight")
    config = dict(model_type="mamba2", hidden_size=20, num_hidden_layers=2, vocab_size=29, state_size=7, num_heads=8)
    config |= dict(head_dim=5, n_groups=4, conv_kernel=2, use_conv_bias=False)
    config |= dict(time_step_limit=[0.0, 0.1], tie_word_embeddings=True)
    weights = random_weights(odd, np.float16)
    folder = HERE / "model_odd"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    files = {}
    for k, name in enumerate(weights):
        files[name] = f"model-0000{k % 2 + 1}-of-00002.safetensors"
    for file in set(files.values()):
        write(folder / file, {name: weights[name] for name in weights if files[name] == file})
    index = json.dumps({"metadata": {"total_size": sum(v.nbytes for v in weights.values())}, "weight_map": files}, indent=1)
    (folder / "model.safetensors.index.json").write_text(index + "\n")
    write(folder / "expected.safetensors", expect(odd, weights))


main()
