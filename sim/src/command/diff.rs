//! `sim diff A.jsonl B.jsonl`: shows where two traces part.

use std::path::{Path, PathBuf};

use clap::Args;
use sim::trace::diff_lines;

use super::{Done, Outcome};

/// Shows the first line in which two traces differ, with the lines before it
#[derive(Args)]
pub(crate) struct Arguments {
    /// A trace
    #[arg(value_name = "A.jsonl")]
    left: PathBuf,
    /// Another one
    #[arg(value_name = "B.jsonl")]
    right: PathBuf,
}

pub(crate) fn execute(arguments: &Arguments) -> Done {
    let left = lines(&arguments.left)?;
    let right = lines(&arguments.right)?;
    let count = left.len();
    match diff_lines(left, right) {
        None => {
            say!("the traces are equal: {count} lines");
            Ok(Outcome::Good)
        }
        Some(difference) => {
            say!("{difference}");
            Ok(Outcome::Bad)
        }
    }
}

fn lines(path: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
