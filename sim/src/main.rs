//! The simulator's command line.

use std::process::ExitCode;

mod command;

fn main() -> ExitCode {
    command::main()
}
