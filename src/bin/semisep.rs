//! The command-line tool; see `semisep --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    semisep::cli::main()
}
