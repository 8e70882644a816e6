//! Instructions a message, by valgrind: this program runs itself under it for each number.

use std::env;
use std::process::Command;

use crate::crowd::Place;
use crate::sections::{SECTIONS, Section};
use crate::{Cost, Run, warm_up};

/// Deliveries that are counted, at least: instructions do not vary, and valgrind is slow.
const DELIVERIES: usize = 10_000;

/// Delivers under valgrind, and tells how many messages that were.
pub(crate) fn run(section: &str, row: &str, size: &str) {
    let mut sections = SECTIONS.iter();
    let section = sections.find(|known| known.name == section);
    let section = section.expect("a section's name");
    let row = section.rows.iter().position(|known| *known == row);
    let size = size.parse().expect("a number");
    let mut runs = (section.build)(&Place::new(), size);
    let run = &mut runs[row.expect("one of its rows")];
    warm_up(size, run);
    println!("{}", counted(run));
}

/// What is in here is counted, and nothing else.
#[inline(never)]
fn counted(run: &mut Run) -> usize {
    run(DELIVERIES)
}

/// The instructions of a message in each row, at each size.
pub(crate) fn count(section: &Section) -> Vec<Cost> {
    let mut costs = Vec::new();
    for &row in section.rows {
        for &size in section.sizes {
            let each = instructions(section.name, row, size);
            costs.push(Cost { row, size, each });
        }
    }
    costs
}

fn instructions(section: &str, row: &str, size: usize) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args([
            "--collect-atstart=no",
            "--toggle-collect=*counting::counted*",
        ])
        .arg(env::current_exe().expect("this program has a path"))
        .args(["--counted", section, row, &size.to_string()])
        .output()
        .expect("valgrind can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    let number = |text: &str| text.trim().parse::<f64>().expect("a number");
    let deliveries = String::from_utf8_lossy(&output.stdout);
    number(collected.expect("valgrind tells what it has counted")) / number(&deliveries)
}
