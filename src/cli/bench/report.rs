//! A measurement as a table and as JSON.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::ceilings::Ceilings;
use super::{Measured, Row, Unit};
use crate::cli::table::Table;

/// Limits, rows, and what was left out.
pub(super) fn text(ceilings: &Ceilings, measured: &Measured) -> String {
    let mut limits = Table::new(&["limit", "threads", "rate"], 1);
    let all = [
        ("matrix product f32", &ceilings.gemm_f32, Unit::Operations),
        ("matrix product f64", &ceilings.gemm_f64, Unit::Operations),
        ("copy", &ceilings.copy, Unit::Bytes),
    ];
    for (name, by_threads, unit) in all {
        for (threads, &value) in by_threads {
            limits.push(vec![name.into(), threads.to_string(), rate(value, unit)]);
        }
    }
    let header = [
        "work", "type", "threads", "length", "time", "a token", "growth", "rate", "limit", "ratio", "memory",
    ];
    let mut table = Table::new(&header, 2);
    for row in &measured.rows {
        table.push(vec![
            row.name.clone(),
            row.dtype.into(),
            row.threads.to_string(),
            row.len.to_string(),
            duration(row.seconds),
            duration(row.seconds / row.len as f64),
            row.growth.map_or("-".into(), |g| format!("{g:.2}")),
            rate(row.rate, row.unit),
            rate(row.ceiling, row.unit),
            format!("{:.2}", row.ratio()),
            row.extra.map_or("n/a".into(), |bytes| format!("{:.1} MiB", bytes as f64 / 1048576.0)),
        ]);
    }
    let mut text = format!("{}\n\n{}\n{}", machine(), limits.render(), table.render());
    text.push_str("\ngrowth: time grows like this power of the length, from the length before to this one\n");
    text.push_str("limit: the matrix product, or the copy, timed in turn with the row\n");
    text.push_str("ratio: above 1 for bytes where caches hold them\n");
    text.push_str("memory: highest, beyond inputs and outputs\n");
    for skipped in &measured.skipped {
        text.push_str(&format!("skipped {skipped}\n"));
    }
    text
}

/// `ceilings`, `rows`, and where and when; rates in 10⁹ a second.
pub(super) fn json(ceilings: &Ceilings, measured: &Measured) -> String {
    let copy = ceilings.copy.values().copied().fold(0.0, f64::max);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "unix_time": time,
        "machine": {
            "cpu": cpu(),
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "threads": crate::parallel::threads(),
        },
        "ceilings": {
            "gemm_f32": by_threads(&ceilings.gemm_f32),
            "gemm_f64": by_threads(&ceilings.gemm_f64),
            "copy": copy / 1e9,
            "copy_by_threads": by_threads(&ceilings.copy),
        },
        "rows": measured.rows.iter().map(row).collect::<Vec<_>>(),
        "skipped": measured.skipped,
    });
    format!("{value:#}\n")
}

fn row(row: &Row) -> Value {
    json!({
        "name": row.name,
        "dtype": row.dtype,
        "threads": row.threads,
        "len": row.len,
        "seconds": row.seconds,
        "ratio": row.ratio(),
        "rate": row.rate / 1e9,
        "ceiling": row.ceiling / 1e9,
        "unit": match row.unit {
            Unit::Operations => "GFLOP/s",
            Unit::Bytes => "GB/s",
        },
        "seconds_per_token": row.seconds / row.len as f64,
        "growth": row.growth,
        "extra_bytes": row.extra,
    })
}

fn by_threads(rates: &BTreeMap<usize, f64>) -> Value {
    Value::Object(
        rates.iter().map(|(threads, &r)| (threads.to_string(), json!(r / 1e9))).collect::<Map<_, _>>(),
    )
}

fn rate(rate: f64, unit: Unit) -> String {
    match unit {
        Unit::Operations => format!("{:.1} GFLOP/s", rate / 1e9),
        Unit::Bytes => format!("{:.1} GB/s", rate / 1e9),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s if s >= 1e-6 => format!("{:.2} µs", s * 1e6),
        s => format!("{:.2} ns", s * 1e9),
    }
}

fn machine() -> String {
    let cpu = cpu().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let problem = "batch 1, 24 heads, head_dim 64, state_dim 128, 1 group";
    format!("{cpu}, {} threads; {problem}", crate::parallel::threads())
}

/// The name of the processor, where the system tells.
fn cpu() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split(':').nth(1).map(|name| name.trim().to_owned())
}
