//! What `--help` teaches about models.

/// `semisep generate --help`
pub const GENERATE: &str = "\
Continue a text, or a sequence of tokens.

MODEL is a folder with config.json and weights: model.safetensors (one file, or several with an index) or the authors'
pytorch_model.bin. Text needs a tokenizer.json, in the folder or by --tokenizer. Without --greedy tokens are drawn by
chance; the same seed draws the same tokens. Text ends at --max-new tokens, at a --stop text (which is not printed), or at
the model's own sign for the end; token ids end at --max-new alone.

Several prompts, whatever their lengths, are continued side by side; what continues each is one line, in the order of the
prompts, in which line breaks are written \\n and backslashes \\\\.

Examples:
  semisep generate mamba2-130m --prompt 'The state of' --temperature 0.8 --top-p 0.95 --seed 1
  semisep generate mamba2-130m --tokens 510,1375,273 --max-new 16 --greedy
  semisep generate mamba2-130m --prompt 'The state of' --prompt 'Once' --max-new 16";

/// `semisep logits --help`
pub const LOGITS: &str = "\
Compute the logits of a model at every position.

Reads `input_ids` (batch, len), I64, from a safetensors file and writes `logits` (batch, len, vocabulary), F32. With --split
the sequences are run in pieces, the state going on from one to the next. All computing is in f64, from weights of any type
(--dtype holds matrices in that type), so that the logits are those of the numbers in the files whatever the split.

Examples:
  semisep logits mamba2-130m --tokens-file in.safetensors -o out.safetensors
  semisep logits mamba2-130m --tokens-file in.safetensors -o out.safetensors --split 7,1,20 --dtype bf16";

/// `semisep inspect --help`
pub const INSPECT: &str = "\
Show what a checkpoint holds: sizes, parameters, layers, types, and which tensors are missing, too many or misshapen.

Looks at names and shapes, not at numbers. The exit status is 2 if the checkpoint is not whole.

Example:
  semisep inspect mamba2-130m";

/// `semisep perplexity --help`
pub const PERPLEXITY: &str = "\
Measure how well a model foresees a text: exp of the mean of -log p of every token but the first, each given all before it.

Example:
  semisep perplexity mamba2-130m book.txt";

/// `semisep convert --help`
pub const CONVERT: &str = "\
Write a checkpoint in another layout or type.

  --layout hf         config.json with hidden_size, ...   model.safetensors
  --layout original   config.json with d_model, ...       pytorch_model.bin
With --shard-size there are several such files, model-00001-of-00003.safetensors and so on, and an index that says which
tensor is where; a tensor is never cut. The names of the files of weights are printed.
Without --dtype no number changes. A_log, dt_bias and D are never made narrower: errors in them add up over a sequence.
OUT appears whole or not at all. Attention and MLP blocks exist in the original layout only.

Examples:
  semisep convert mamba2-130m mamba2-130m-hf --layout hf
  semisep convert mamba2-2.7b mamba2-2.7b-bf16 --layout original --dtype bf16
  semisep convert mamba2-2.7b mamba2-2.7b-hf --layout hf --shard-size 2GB";
