//! Kernels as sources, as machine code and in the cache; nothing here needs a device.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Instant;

use semisep::backend::cuda::{Architecture, Compiler, Device, KernelCache, Origin, Program, kernels};
use semisep::{DeviceError, Error};

/// The compiler, or a word that there is none.
fn compiler() -> Option<&'static Compiler> {
    let found = Compiler::find();
    if let Err(wrong) = &found {
        assert_eq!(*wrong, Error::Device(DeviceError::NoCompiler));
        println!("skipped: no run-time compiler");
    }
    found.ok()
}

fn hopper() -> Architecture {
    "sm_90a".parse().unwrap()
}

fn program() -> Program {
    kernels::programs(kernels::Shape::default()).swap_remove(0)
}

#[test]
fn every_kernel_has_a_row_in_the_readme() {
    let table = fs::read_to_string("cuda/README.md").unwrap();
    let rows: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let mut sources = Vec::new();
    let mut folders = vec![Path::new("cuda").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|e| e.to_str()) {
                None => folders.push(path),
                Some("cu" | "cuh") => sources.push(path),
                Some(_) => {}
            }
        }
    }
    assert!(!sources.is_empty());
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        for declaration in text.split("__global__").skip(1) {
            let head = declaration.split_once('{').unwrap().0;
            let words = head.split_once("void ").unwrap().1;
            let words =
                words.split(|c: char| c.is_whitespace() || "(),".contains(c)).filter(|word| !word.is_empty());
            // `__launch_bounds__(a, b)` may stand before the name: the name is the word that an opening bracket follows.
            let name = words
                .clone()
                .find(|word| !word.starts_with("__launch_bounds__") && head.contains(&format!("{word}(")));
            let name = name.unwrap_or_else(|| panic!("no name in {head:?} of {path:?}"));
            assert!(rows.contains(name), "cuda/README.md has no row for `{name}` of {path:?}");
        }
    }
}

#[test]
fn every_source_is_in_the_table_of_programs() {
    let programs = kernels::programs(kernels::Shape::default());
    for source in semisep::backend::cuda::KERNELS {
        assert!(programs.iter().any(|p| p.source() == source), "{} is compiled by nobody", source.name);
    }
}

#[test]
fn a_kernel_is_compiled_once_and_read_from_disk_afterwards() {
    let Some(_) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::at(folder.path());
    let (first, origin) = cache.image(&program(), hopper()).unwrap();
    assert_eq!(origin, Origin::Compiled);
    let start = Instant::now();
    let (second, origin) = cache.image(&program(), hopper()).unwrap();
    assert_eq!(origin, Origin::Disk);
    assert_eq!(first, second);
    assert!(start.elapsed().as_millis() < 50, "{:?}", start.elapsed());
}

#[test]
fn a_damaged_entry_is_compiled_again() {
    let Some(_) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::at(folder.path());
    let (image, _) = cache.image(&program(), hopper()).unwrap();
    let path = cache.entry(&program(), hopper()).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let damaged = [flipped, whole[..whole.len() / 2].to_vec(), Vec::new(), b"nonsense".to_vec()];
    for bytes in damaged {
        fs::write(&path, bytes).unwrap();
        assert_eq!(cache.image(&program(), hopper()).unwrap(), (image.clone(), Origin::Compiled));
        assert_eq!(cache.image(&program(), hopper()).unwrap(), (image.clone(), Origin::Disk));
    }
}

#[test]
fn an_entry_that_holds_no_object_file_is_compiled_again() {
    let Some(compiler) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::at(folder.path());
    for image in [&b""[..], b"nonsense that is whole"] {
        cache.keep(&program(), hopper(), compiler, image);
        assert_eq!(cache.image(&program(), hopper()).unwrap().1, Origin::Compiled);
        assert_eq!(cache.image(&program(), hopper()).unwrap().1, Origin::Disk);
    }
}

#[test]
fn entries_of_other_programs_and_architectures_are_others() {
    let cache = KernelCache::at("anywhere");
    let all: Vec<_> = (kernels::programs(kernels::Shape::default()).iter())
        .flat_map(|program| {
            ["sm_80", "sm_90a"].map(|target| cache.entry(program, target.parse().unwrap()).unwrap())
        })
        .collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn many_at_once_find_a_whole_entry_or_make_one() {
    let Some(_) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = KernelCache::at(folder.path());
    let (expected, _) = KernelCache::none().image(&program(), hopper()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..3 {
                    assert_eq!(cache.image(&program(), hopper()).unwrap().0, expected);
                }
            });
        }
    });
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "only the entry is left");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_no_error() {
    let Some(_) = compiler() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache = KernelCache::at(file.path().join("below a file"));
    assert_eq!(cache.image(&program(), hopper()).unwrap().1, Origin::Compiled);
}

#[test]
fn an_architecture_that_is_too_old_or_unknown_is_a_typed_error() {
    for text in ["sm_75", "sm_", "90", "sm_90b"] {
        let wrong = text.parse::<Architecture>().unwrap_err();
        assert!(matches!(wrong, Error::Device(DeviceError::Unsupported { .. })), "{text}: {wrong}");
    }
    for (major, minor) in [(7, 5), (0, 0), (8, 10), (u32::MAX, 0), (429_496_729, 9)] {
        let wrong = Architecture::new(major, minor).unwrap_err();
        assert!(matches!(wrong, Error::Device(DeviceError::Unsupported { .. })), "{major}.{minor}: {wrong}");
    }
    let Some(compiler) = compiler() else { return };
    let wrong = compiler.target("sm_990".parse().unwrap()).unwrap_err();
    assert!(matches!(wrong, Error::Device(DeviceError::Unsupported { .. })), "{wrong}");
}

#[test]
fn a_missing_driver_or_device_is_a_typed_error() {
    match Device::new(1 << 20) {
        Err(Error::Device(DeviceError::NoDriver | DeviceError::NoDevice { .. })) => {}
        other => panic!("{other:?}"),
    }
}
