//! The commands: what the arguments say, and what a command leaves as its exit code.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

// A reader that has seen enough, such as `head -1`, is no reason to panic as `println!` does.

/// Prints a line for people, if anybody still reads.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// Prints a line of trouble, if anybody still reads.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// Prints a line that the next one takes the place of, if anybody still reads.
macro_rules! hint {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($text)*);
    }};
}

mod core;
mod diff;
mod explore;
mod replay;
mod seed;
mod shrink;
mod tell;

/// The busline server, unmodified, under virtual time: every run is fixed by its seed.
///
/// `sim --seed 7` runs one seed and judges it. A run that breaks a rule is shrunk to the few
/// actions that matter and saved as a plan, which `sim replay` runs again.
#[derive(Parser)]
#[command(
    name = "sim",
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Exit codes: 0 all is well, 1 a rule was broken or traces differ, 2 trouble."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    seed: seed::Arguments,
    /// Plants a deliberate bug, such as `LeaseKept`, in the product
    #[cfg(feature = "planted")]
    #[arg(long, value_name = "BUG", global = true, value_parser = bug)]
    bug: Option<busline::planted::Bug>,
}

#[cfg(feature = "planted")]
fn bug(name: &str) -> Result<busline::planted::Bug, String> {
    let mut all = busline::planted::Bug::ALL.iter().copied();
    let found = all.find(|bug| format!("{bug:?}") == name);
    found.ok_or_else(|| format!("`{name}` is none of busline::planted::Bug"))
}

#[derive(Subcommand)]
enum Command {
    Core(core::Arguments),
    Diff(diff::Arguments),
    Replay(replay::Arguments),
    Run(explore::Arguments),
    Shrink(shrink::Arguments),
}

/// What a command found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing is wrong.
    Good,
    /// A rule was broken, or traces differ.
    Bad,
}

type Done = Result<Outcome, Box<dyn Error>>;

/// Does what the arguments of the process say.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    #[cfg(feature = "planted")]
    busline::planted::plant(cli.bug);
    let done = match cli.command {
        None => seed::execute(&cli.seed),
        Some(Command::Core(arguments)) => core::execute(&arguments),
        Some(Command::Diff(arguments)) => diff::execute(&arguments),
        Some(Command::Run(arguments)) => explore::execute(&arguments),
        Some(Command::Replay(arguments)) => replay::execute(&arguments),
        Some(Command::Shrink(arguments)) => shrink::execute(&arguments),
    };
    match done {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(1),
        Err(error) => {
            tell!("sim: {error}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_seed_needs_no_command() {
        let parsed = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parsed("sim --seed 7 --trace t --html h --no-shrink"));
        assert!(parsed("sim replay plan.json --html h"));
        assert!(parsed("sim shrink --seed 7 -o out.json"));
        assert!(parsed("sim shrink plan.json -o out.json"));
        assert!(parsed("sim diff a b"));
        assert!(parsed("sim core --seed 7 --trace t"));
        assert!(parsed("sim core --seeds 0..9"));
        assert!(!parsed("sim core"));
        assert!(!parsed("sim shrink plan.json --seed 7 -o out.json"));
        assert!(!parsed("sim shrink -o out.json"));
        assert!(!parsed("sim --trace t"));
        assert!(!parsed("sim --seed x"));
    }
}
