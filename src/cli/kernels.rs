//! `semisep kernels`: machine code for GPUs, ahead of time.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::progress::bar;
use super::table::Table;
use super::{in_file, put};
use crate::backend::cuda::kernels::{Shape, programs};
use crate::backend::cuda::{Architecture, Compiler, KernelCache, Program};
use crate::error::{DeviceError, Error, Result};
use crate::parallel;

/// Command line of `semisep kernels`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Architectures to compile for, e.g. sm_80,sm_90a
    #[arg(long, value_name = "SM,...", value_delimiter = ',', required = true)]
    pub arch: Vec<Architecture>,
    /// head_dim,state_dim to compile for; once for each shape [default: 64,128]
    #[arg(long, value_name = "P,N", value_parser = shape)]
    pub shape: Vec<Shape>,
    /// Folder to fill; by default the one that programs look into
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Only programs whose file's name holds this, e.g. sm90
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub only: String,
    /// Print registers and spills of every kernel, and fail if one of the Hopper tier spills
    #[arg(long)]
    pub resources: bool,
}

fn shape(text: &str) -> std::result::Result<Shape, String> {
    let number = |n: &str| n.trim().parse::<usize>().ok().filter(|n| (1..=256).contains(n));
    match text.split_once(',').map(|(p, n)| (number(p), number(n))) {
        Some((Some(head_dim), Some(state_dim))) => Ok(Shape { head_dim, state_dim }),
        _ => Err("expected head_dim,state_dim, both from 1 to 256".into()),
    }
}

/// Compiles what the cache lacks, and prints what was done.
///
/// # Errors
/// [`Error::Config`] if there is no cache folder, [`Error::File`] if it cannot be written to, [`DeviceError::NoCompiler`], and
/// [`DeviceError::Compile`], also if a kernel of the Hopper tier spills.
pub fn kernels(options: &Options) -> Result<()> {
    let cache = options.out.as_ref().map_or_else(KernelCache::default, KernelCache::at);
    let folder = cache.folder().ok_or_else(|| Error::Config {
        field: "--out",
        reason: "expected a folder, since this user has no cache folder".into(),
    })?;
    // Programs go without a folder that cannot be written to; here it is what is asked for.
    let room = fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    room.map_err(|e| in_file(folder, e))?;
    let compiler = Compiler::find()?;
    let shapes = if options.shape.is_empty() { vec![Shape::default()] } else { options.shape.clone() };
    let mut all: Vec<(Architecture, Program)> = Vec::new();
    for &arch in &options.arch {
        let target = compiler.target(arch)?;
        for program in shapes.iter().flat_map(|&shape| programs(shape)) {
            let wanted = program.source().name.contains(&options.only) && program.runs_on(target);
            if wanted && !all.contains(&(target, program.clone())) {
                all.push((target, program));
            }
        }
    }
    let bar = bar(all.len());
    let mut table = Table::new(&["kernel", "architecture", "registers", "spilled"], 2);
    let mut spilled = Vec::new();
    let compiled = parallel::map(all.iter().collect(), |(target, program)| {
        bar.set_message(format!("{program}, {target}"));
        let resources = if options.resources {
            let compiled = compiler.compile(program, *target)?;
            cache.keep(program, *target, compiler, &compiled.image);
            compiled.resources()
        } else {
            cache.image(program, *target)?;
            Vec::new()
        };
        bar.inc(1);
        Ok::<_, Error>(resources)
    });
    for ((target, program), resources) in all.iter().zip(compiled) {
        for kernel in resources? {
            if kernel.spilled > 0 && program.is_hopper() {
                spilled.push(format!("{} of {program}", kernel.name));
            }
            table.push(vec![
                kernel.name,
                target.to_string(),
                kernel.registers.to_string(),
                format!("{} bytes", kernel.spilled),
            ]);
        }
    }
    bar.finish_and_clear();
    if options.resources {
        put(&table.render())?;
    }
    if let Some(first) = spilled.first() {
        let log = format!("{} kernels of the Hopper tier spill registers, the first {first}", spilled.len());
        return Err(DeviceError::Compile { kernel: first.clone(), log }.into());
    }
    put(&format!("{} programs in {} (nvrtc {})\n", all.len(), folder.display(), compiler.version()))
}
