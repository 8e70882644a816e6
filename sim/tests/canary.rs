//! The platform lets runs be repeated, and no dependency goes around that.

#[test]
fn runs_can_be_repeated_on_this_platform() {
    if let Err(error) = sim::entropy::canary() {
        panic!("{error}");
    }
}

/// getrandom 0.2 makes the system call itself, where nothing can take its place.
#[test]
fn no_dependency_draws_entropy_past_libc() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock = std::fs::read_to_string(path).expect("a workspace has a lock file");
    let mut versions = lock
        .lines()
        .zip(lock.lines().skip(1))
        .filter(|(name, _)| *name == "name = \"getrandom\"")
        .map(|(_, version)| version);
    assert!(
        versions.all(|version| !version.contains("\"0.1.") && !version.contains("\"0.2.")),
        "find out with `cargo tree -i getrandom@0.2` who brings it, and avoid it"
    );
}
