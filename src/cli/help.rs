//! What `--help` teaches.

/// One line.
pub const ABOUT: &str = "Structured state space duality: one matrix, three algorithms, every gradient";

/// The operator and its file format.
pub const LONG: &str = "\
Structured state space duality (arXiv 2405.21060): one matrix, three algorithms, every gradient.

THE OPERATOR
  For every head, from an input x_t, with steps dt_t and a decay A:
    dt_t = clamp(softplus(dt_t + dt_bias), dt_min, dt_max)        (bias, softplus and limits if given)
    h_t  = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T                   (the state, cleared where a sequence begins)
    y_t  = C_t^T h_t + D x_t,   then   y_t * silu(z_t)            (skip and gate if given)
  which is y = M x with M_{ts} = exp(A (dt_t + ... + dt_{s+1})) (C_t . B_s) dt_s below the diagonal.
    quadratic   forms M, as attention does: O(len^2)
    recurrent   steps through h, as a recurrent network does: O(len)
    chunked     quadratic inside blocks, recurrent between them, all in matrix products: O(len)
  The answer never depends on the algorithm beyond rounding.

AN OPERATOR FILE (safetensors; numbers as F64, F32, F16 or BF16)
  x             (batch, len, heads, head_dim)
  dt            (batch, len, heads)
  A             (heads)                                at most 0 in a model
  B, C          (batch, len, groups, state_dim)        head i uses group i / (heads / groups)
  and if wanted
  D             (heads) or (heads, head_dim)
  z             (batch, len, heads, head_dim)
  dt_bias       (heads)
  init          (batch, heads, head_dim, state_dim)    enters the first sequence of a row
  seq_idx       (batch, len), I32, never decreasing    a new sequence begins where it changes
  dy            (batch, len, heads, head_dim)          cotangent of y, for gradients
  dfinal_state  (batch, heads, head_dim, state_dim)    cotangent of the final state, for gradients
  metadata (strings): softplus = true or false (false if absent), dt_min (0), dt_max (inf)
  Tensors and metadata of other names are not looked at, nor whether x, B, C and z are finite.
  Reference results, which `verify` compares with: y, final_state, and grad_NAME of
  <y, dy> + <final_state, dfinal_state> for every input NAME, shaped like that input.

EXIT STATUS
  0 all is well; 1 a verification failed; 2 bad input or usage, told in one line on standard error.";

/// One example for each command.
pub const EXAMPLES: &str = "\
Examples:
  semisep verify                                     the cases that come with the tool
  semisep verify --all my_case.safetensors           your own reference results, every gradient in a column
  semisep ssd in.safetensors -o out.safetensors      y and final_state
  semisep ssd in.safetensors -o out.safetensors --algorithm chunked --chunk 128 --dtype bf16 --grad
  semisep bench --json bench.json                    about two minutes
  semisep draw ssd -o ssd.svg                        `semisep draw --list` names the pictures
  semisep draw bench --from bench.json -o bench.svg  the curves of a measurement
  semisep generate mamba2-130m --prompt 'The state'  a model continues a text
  semisep logits mamba2-130m --tokens-file in.safetensors -o out.safetensors
  semisep inspect mamba2-130m                        what a checkpoint holds, and what it lacks
  semisep perplexity mamba2-130m book.txt            how well a model foresees a text
  semisep convert mamba2-130m out --layout hf        the same model in another layout";

/// `semisep verify --help`
pub const VERIFY: &str = "\
Compare every algorithm, forward and gradient, with reference results.

Every case is computed by the quadratic, the recurrent and the chunked algorithm (chunks of 1, 7, 16, 64 and more than
the whole length) and by the automatic choice, in f64 and f32. The error is relative, in the Frobenius norm; absolute
where the reference is zero. Each of y, final_state and every gradient must stay within 1e-10 (f64) and 1e-4 (f32), else
the exit status is 1. A case must hold dy, dfinal_state and all reference results; see `semisep --help` for the format.

Example:
  semisep verify tests/golden/*.safetensors";

/// `semisep ssd --help`
pub const SSD: &str = "\
Compute the operator on the tensors of a file; see `semisep --help` for the operator and the format.

Writes y and final_state; with --grad, which needs dy and dfinal_state in the input, also grad_NAME for every input
present, shaped like the input. All computing is done in the type of --dtype (bf16 and f16: stored so, computed in f32).
y, grad_x, grad_B, grad_C and grad_z are written in that type; final_state and the other gradients in the type that
computes, f64 for f64 and f32 for the others. The output appears whole or not at all.

Examples:
  semisep ssd in.safetensors -o out.safetensors
  semisep ssd in.safetensors -o out.safetensors --algorithm recurrent --dtype f32 --grad";

/// `semisep bench --help`
pub const BENCH: &str = "\
Measure every algorithm against the limits of this machine, in one run.

Limits: the rate of matrix products (2048 x 2048 x 2048) and the bandwidth of copying memory. Problem: batch 1, 24 heads,
head_dim 64, state_dim 128, one group. The rate of a row counts the operations that the state needs, whatever the
algorithm really spends: 4 len heads state_dim head_dim forward, three times as many forward and backward. Its ratio is
to a matrix product timed in turn with it. Steps and scans are compared with copying, by the bytes that must at least be
read and written.

With --device cuda: the operator forward and backward, decoding steps and selective scans on shapes of published models,
as ms, GB/s, TFLOP/s and the ratio to the roof, which is the larger of the time of the least traffic at the rate of a copy
and that of the products at the rate of matrix products.

JSON (--json): `ceilings` holds gemm_f32 and gemm_f64 in GFLOP/s by thread count, copy in GB/s; `rows` holds name, dtype,
threads, len, seconds, ratio and more; null where a number cannot be had.

Example:
  semisep bench --json bench.json && semisep draw bench --from bench.json -o bench.svg
  semisep bench --suite mamba2                       prefill and decoding of a random 130M model
  semisep bench --suite matrix                       semiseparable matrices, one thread";

/// `semisep kernels --help`
#[cfg(feature = "cuda")]
pub const KERNELS: &str = "\
Compile the GPU kernels ahead of time, for machines that lack the run-time compiler or shall not wait for it.

Fills a folder with machine code for every architecture and shape (head_dim,state_dim); needs the run-time compiler's
library (nvrtc), but no GPU and no driver. The folder is the one that programs look into by default (semisep/kernels in
the user's cache folder) or one that is handed to KernelCache::at. With --resources, registers and spills of every
kernel are printed, and the exit status is 2 if a kernel of the Hopper tier spills registers.

Examples:
  semisep kernels --arch sm_90a
  semisep kernels --arch sm_80,sm_90a --shape 64,128 --shape 64,64 --out kernels";

/// `semisep draw --help`
pub const DRAW: &str = "\
Draw a mask, an SSD matrix, its ranks, or a benchmark, as SVG.

`semisep draw --list` names the pictures. `bench` reads the file that `semisep bench --json` wrote.

Examples:
  semisep draw one-semiseparable -o mask.svg
  semisep draw bench --from bench.json -o bench.svg";
