//! The command in a pipe, and its exit codes.

use std::process::{Command, Stdio};

/// The exit code and the trouble of a command whose reader has gone.
fn unread(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    let command = command.args(arguments).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    let trouble = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), trouble)
}

#[test]
fn a_reader_that_has_gone_is_no_trouble() {
    for arguments in [
        ["run", "--seeds", "0..3"].as_slice(),
        &["run", "--seeds", "0..1", "--crowd", "20"],
        &["--seed", "3"],
    ] {
        let (code, trouble) = unread(arguments);
        assert_eq!(code, Some(0), "{trouble}");
        assert!(!trouble.contains("panicked"), "{trouble}");
    }
}

#[test]
fn progress_is_told_in_seeds_hours_and_marks() {
    let (_, told) = unread(&["run", "--seeds", "0..3"]);
    let last = told.trim().rsplit('\r').next().unwrap_or_default();
    for part in ["3 seeds, ", " a second, ", " virtual hours, ", " marks"] {
        assert!(last.contains(part), "{told}");
    }
}

#[test]
fn the_exit_code_tells_what_came_of_it() {
    assert_eq!(unread(&["run", "--seeds", "0..1"]).0, Some(0));
    let broken = ["--seed", "3", "--no-shrink", "--forbid", "text"];
    assert_eq!(unread(&broken).0, Some(1));
    assert_eq!(unread(&["replay", "/nowhere"]).0, Some(2));
}
