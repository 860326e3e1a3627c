//! Memory of this process, where the system tells.

use std::fs;

/// `f`, and by how much the memory in use rose above what it was before, at its highest.
pub(super) fn peak_during<R>(f: impl FnOnce() -> R) -> (R, Option<u64>) {
    let reset = fs::write("/proc/self/clear_refs", "5").is_ok(); // the peak starts from here
    let before = status("VmRSS:");
    let result = f();
    let peak = if reset { status("VmHWM:") } else { None };
    (result, peak.zip(before).map(|(peak, before)| peak.saturating_sub(before)))
}

/// Memory that can be taken without pushing anything out.
pub(super) fn available() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

fn status(name: &str) -> Option<u64> {
    field("/proc/self/status", name)
}

/// A number of kilobytes in a file of `name value kB` lines, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = value.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
