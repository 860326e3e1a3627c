//! What a pickle of tensors says, found without executing anything.
//!
//! A pickle is a program for a stack machine that may call any function of Python. The program of a file of weights
//! needs few instructions and three functions: the ordered dictionary, a tensor from its storage, a parameter from its
//! tensor. This machine knows these by name and builds plain records; whatever else a file asks for is an error.
//! It takes memory in proportion to the pickle, whatever lengths stand in it.

use std::collections::HashMap;

use crate::nn::Storage as Stored;

/// A tensor as the pickle describes it: a part of a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor<'a> {
    /// Name of the record that holds the storage.
    pub key: &'a str,
    /// Type of the numbers, or the name of one that weights are not made of.
    pub dtype: Result<Stored, String>,
    /// Numbers in the whole storage.
    pub storage_len: usize,
    /// First number of the tensor in its storage.
    pub offset: usize,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Steps of the axes in the storage, in numbers.
    pub strides: Vec<usize>,
}

/// The tensors of a pickled dictionary, in its order.
///
/// # Errors
/// A sentence that says at which byte the program asks for something that tensors do not need, or ends too soon.
pub(super) fn tensors(program: &[u8]) -> Result<Vec<(&str, Tensor<'_>)>, String> {
    let mut machine = Machine { program, ..Machine::default() };
    let result = machine.run().map_err(|wrong| format!("pickle, byte {}: {wrong}", machine.at))?;
    let Value::Dict(dict) = result else {
        return Err("pickle: expected a dictionary of tensors".into());
    };
    let mut tensors = Vec::new();
    for &(key, value) in &machine.dicts[dict] {
        match (key, value) {
            (Value::Text(name), Value::Tensor(tensor)) => {
                tensors.push((name, machine.tensors[tensor].clone()));
            }
            (Value::Text(name), _) => {
                return Err(format!("pickle: expected a tensor under `{name}`, found something else"));
            }
            _ => return Err("pickle: expected names as the keys of the dictionary".into()),
        }
    }
    Ok(tensors)
}

/// A value on the stack; what can be long lives in the tables of the machine, so that a value is a few bytes.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    /// Something tensors have no use for: nothing, a truth value, a real number, bytes.
    Opaque,
    Int(i64),
    Text(&'a str),
    /// A function or class of Python, by module and name.
    Global(&'a str, &'a str),
    Tuple(usize),
    List,
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

#[derive(Debug)]
struct Storage<'a> {
    key: &'a str,
    dtype: Result<Stored, String>,
    len: usize,
}

#[derive(Debug, Default)]
struct Machine<'a> {
    program: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>, // heights of the stack
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<Tensor<'a>>,
}

impl<'a> Machine<'a> {
    /// Steps to the end of the program; the value that it leaves.
    fn run(&mut self) -> Result<Value<'a>, String> {
        loop {
            let [instruction] = self.word()?;
            match instruction {
                b'.' => return self.pop(),
                0x80 => drop(self.word::<1>()?), // version of the protocol
                0x95 => drop(self.word::<8>()?), // length of a frame
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => self.stack.push(self.top()?),
                b'N' | 0x88 | 0x89 => self.stack.push(Value::Opaque),
                b'J' => self.push_int(|w: [u8; 4]| i32::from_le_bytes(w).into())?,
                b'K' => self.push_int(|[b]: [u8; 1]| b.into())?,
                b'M' => self.push_int(|w: [u8; 2]| u16::from_le_bytes(w).into())?,
                0x8a => self.long()?,
                b'G' => {
                    self.word::<8>()?;
                    self.stack.push(Value::Opaque);
                }
                b'X' => self.push_text(|w: [u8; 4]| u32::from_le_bytes(w).into())?,
                0x8c => self.push_text(|[b]: [u8; 1]| b.into())?,
                0x8d => self.push_text(u64::from_le_bytes)?,
                b'q' => self.remember(|[b]: [u8; 1]| b.into())?,
                b'r' => self.remember(u32::from_le_bytes)?,
                0x94 => {
                    let key = u32::try_from(self.memo.len()).map_err(|_| "too many values")?;
                    self.memo.insert(key, self.top()?);
                }
                b'h' => self.recall(|[b]: [u8; 1]| b.into())?,
                b'j' => self.recall(u32::from_le_bytes)?,
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(Value::Global(module, name));
                }
                0x93 => {
                    let (Value::Text(name), Value::Text(module)) = (self.pop()?, self.pop()?) else {
                        return Err("expected two names".into());
                    };
                    self.stack.push(Value::Global(module, name));
                }
                b')' => self.push_tuple(Vec::new()),
                0x85..=0x87 => {
                    let items = self.pop_many(usize::from(instruction - 0x84))?;
                    self.push_tuple(items);
                }
                b't' => {
                    let items = self.pop_mark()?;
                    self.push_tuple(items);
                }
                b']' => self.stack.push(Value::List),
                b'a' => drop(self.pop()?),
                b'e' => drop(self.pop_mark()?),
                b'}' => self.push_dict(),
                b's' => {
                    let items = self.pop_many(2)?;
                    self.set(&items)?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.set(&items)?;
                }
                b'Q' => self.storage()?,
                b'R' => self.call()?,
                b'b' => {
                    // Attributes of a dictionary say nothing about its tensors.
                    self.pop()?;
                    if !matches!(self.top()?, Value::Dict(_)) {
                        return Err("sets attributes of something other than a dictionary".into());
                    }
                }
                other => return Err(format!("instruction {other:#04x} has no place in a file of tensors")),
            }
        }
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(len).filter(|&end| end <= self.program.len());
        let end = end.ok_or("the program ends in the middle of an instruction")?;
        let bytes = &self.program[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut word = [0; N];
        word.copy_from_slice(self.bytes(N)?);
        Ok(word)
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.program[self.at..];
        let len = rest.iter().position(|&b| b == b'\n').ok_or("a name does not end")?;
        let line = self.bytes(len + 1)?;
        std::str::from_utf8(&line[..len]).map_err(|_| "a name is not text".into())
    }

    fn top(&self) -> Result<Value<'a>, String> {
        self.stack.last().copied().ok_or_else(|| "the stack is empty".into())
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, String> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    /// What lies above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn push_int<const N: usize>(&mut self, read: impl Fn([u8; N]) -> i64) -> Result<(), String> {
        let word = self.word()?;
        self.stack.push(Value::Int(read(word)));
        Ok(())
    }

    /// An integer of any length, of which 64 bits are enough here.
    fn long(&mut self) -> Result<(), String> {
        let [len] = self.word()?;
        let bytes = self.bytes(len.into())?;
        if bytes.len() > 8 {
            return Err("an integer of more than 64 bits".into());
        }
        let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut word = [sign; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(word)));
        Ok(())
    }

    fn push_text<const N: usize>(&mut self, read: impl Fn([u8; N]) -> u64) -> Result<(), String> {
        let len = usize::try_from(read(self.word()?)).map_err(|_| "a text longer than memory")?;
        let text = std::str::from_utf8(self.bytes(len)?).map_err(|_| "a text is not UTF-8")?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn remember<const N: usize>(&mut self, read: impl Fn([u8; N]) -> u32) -> Result<(), String> {
        let key = read(self.word()?);
        self.memo.insert(key, self.top()?);
        Ok(())
    }

    fn recall<const N: usize>(&mut self, read: impl Fn([u8; N]) -> u32) -> Result<(), String> {
        let key = read(self.word()?);
        let value = self.memo.get(&key).copied().ok_or("asks for a value that was never kept")?;
        self.stack.push(value);
        Ok(())
    }

    fn push_tuple(&mut self, items: Vec<Value<'a>>) {
        self.stack.push(Value::Tuple(self.tuples.len()));
        self.tuples.push(items);
    }

    fn push_dict(&mut self) {
        self.stack.push(Value::Dict(self.dicts.len()));
        self.dicts.push(Vec::new());
    }

    /// Puts keys and values in turn into the dictionary on top of the stack.
    fn set(&mut self, items: &[Value<'a>]) -> Result<(), String> {
        let Value::Dict(dict) = self.top()? else { return Err("expected a dictionary".into()) };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key without a value".into());
        }
        self.dicts[dict].extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    /// `("storage", type, key, device, numbers)` stands for a storage outside of the pickle.
    fn storage(&mut self) -> Result<(), String> {
        let items = match self.pop()? {
            Value::Tuple(tuple) => &self.tuples[tuple][..],
            _ => &[],
        };
        let [Value::Text("storage"), Value::Global(_, class), Value::Text(key), _, Value::Int(len)] = *items
        else {
            return Err("names something outside of the pickle that is not a storage".into());
        };
        let len = usize::try_from(len).map_err(|_| "a storage of negative length")?;
        self.stack.push(Value::Storage(self.storages.len()));
        self.storages.push(Storage { key, dtype: storage_type(class), len });
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (Value::Tuple(arguments), Value::Global(module, name)) = (self.pop()?, self.pop()?) else {
            return Err("calls something that is not a function".into());
        };
        let arguments = &self.tuples[arguments][..];
        match (module, name, arguments) {
            ("collections", "OrderedDict", []) => self.push_dict(),
            ("torch._utils", "_rebuild_parameter", &[Value::Tensor(tensor), ..]) => {
                self.stack.push(Value::Tensor(tensor));
            }
            (
                "torch._utils",
                "_rebuild_tensor_v2",
                &[
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    ..,
                ],
            ) => {
                let Storage { key, dtype, len } = &self.storages[storage];
                let tensor = Tensor {
                    key,
                    dtype: dtype.clone(),
                    storage_len: *len,
                    offset: usize::try_from(offset).map_err(|_| "a negative offset")?,
                    shape: lengths(&self.tuples[shape])?,
                    strides: lengths(&self.tuples[strides])?,
                };
                self.stack.push(Value::Tensor(self.tensors.len()));
                self.tensors.push(tensor);
            }
            _ => return Err(format!("calls `{module}.{name}`, which was not done")),
        }
        Ok(())
    }
}

/// The type that a storage class stands for.
fn storage_type(class: &str) -> Result<Stored, String> {
    match class {
        "DoubleStorage" => Ok(Stored::F64),
        "FloatStorage" => Ok(Stored::F32),
        "BFloat16Storage" => Ok(Stored::Bf16),
        "HalfStorage" => Ok(Stored::F16),
        other => Err(other.chars().take(40).collect()),
    }
}

/// Lengths of the axes of a tensor; few, so that a file cannot ask for one long list again and again.
fn lengths(items: &[Value<'_>]) -> Result<Vec<usize>, String> {
    if items.len() > 8 {
        return Err(format!("a tensor of {} axes", items.len()));
    }
    let length = |item: &Value<'_>| match item {
        Value::Int(n) => usize::try_from(*n).map_err(|_| "a negative length".to_owned()),
        _ => Err("expected a length".to_owned()),
    };
    items.iter().map(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"w": tensor}` with the pieces that vary.
    fn program(class: &str, function: &str) -> Vec<u8> {
        let mut p = b"\x80\x02}q\x00X\x01\x00\x00\x00wq\x01".to_vec();
        p.extend(format!("c{function}\n(").bytes());
        p.extend(format!("(X\x07\0\0\0storagectorch\n{class}\nX\x01\0\0\x007X\x03\0\0\0cpuK\x0ctQ").bytes());
        p.extend(b"K\x02K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.");
        p
    }

    #[test]
    fn a_tensor_is_read_with_its_storage_offset_shape_and_strides() {
        let program = program("HalfStorage", "torch._utils\n_rebuild_tensor_v2");
        let read = tensors(&program).unwrap();
        let expected = Tensor {
            key: "7",
            dtype: Ok(Stored::F16),
            storage_len: 12,
            offset: 2,
            shape: vec![2, 3],
            strides: vec![3, 1],
        };
        assert_eq!(read, [("w", expected)]);
    }

    #[test]
    fn a_call_of_anything_else_is_refused_by_name() {
        let wrong = tensors(&program("FloatStorage", "os\nsystem")).unwrap_err();
        assert!(wrong.contains("`os.system`"), "{wrong}");
    }

    #[test]
    fn every_shortened_program_is_an_error() {
        let whole = program("FloatStorage", "torch._utils\n_rebuild_tensor_v2");
        for len in 0..whole.len() {
            assert!(tensors(&whole[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn attributes_of_the_dictionary_are_passed_over() {
        let mut program = b"\x80\x02ccollections\nOrderedDict\n)Rq\x00}q\x01X\x09\0\0\0_metadata".to_vec();
        program.extend(b"ccollections\nOrderedDict\n)Rsb.");
        assert_eq!(tensors(&program), Ok(vec![]));
    }

    #[test]
    fn memory_does_not_follow_the_lengths_in_the_program() {
        for program in [&b"X\xff\xff\xff\x7fa."[..], b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.", b"\x8a\xffa."]
        {
            assert!(tensors(program).is_err());
        }
        let mut deep = vec![b')'];
        deep.extend(std::iter::repeat_n(0x85, 1 << 20)); // a tuple in a tuple, a million times
        deep.push(b'.');
        assert!(tensors(&deep).is_err());
    }
}
