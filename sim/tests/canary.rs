//! The platform lets runs be repeated, and no dependency goes around that.

#[test]
fn runs_can_be_repeated_on_this_platform() {
    if let Err(error) = sim::entropy::canary() {
        panic!("{error}");
    }
}

/// getrandom 0.2 makes the system call itself, where nothing can take its place.
///
/// Those who may use it make keys with it, which nothing here does: the product only verifies
/// signatures, and TLS is not simulated.
#[test]
fn no_dependency_draws_entropy_past_libc() {
    const MAKE_KEYS: [&str; 3] = ["jsonwebtoken", "rand_core", "ring"];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
    let lock = std::fs::read_to_string(path).expect("a workspace has a lock file");
    let draws = |package: &&str| {
        let mut lines = package.lines();
        lines.any(|line| line.contains("\"getrandom 0.1") || line.contains("\"getrandom 0.2"))
    };
    let name = |package: &str| {
        let line = package
            .lines()
            .find_map(|line| line.strip_prefix("name = "));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    let packages = lock.split("[[package]]").filter(draws).map(name);
    let others: Vec<_> = packages
        .filter(|name| !MAKE_KEYS.contains(&name.as_str()))
        .collect();
    assert!(
        others.is_empty(),
        "find out with `cargo tree -i getrandom@0.2` what {others:?} draw, and avoid it"
    );
}
