//! The real disk: files, locks and marks in a directory of the test.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::damage::Damage;
use super::super::disk::Name;
use super::super::fault::Fault;
use super::super::folder::Folder;
use super::super::steps::{Rejected, Started, end, start};

/// A directory of one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let unique = format!("busline-{}-history-{name}", std::process::id());
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).expect("a test may write there");
        Self(path)
    }

    fn folder(&self) -> Folder {
        Folder::new(&self.file(), 100)
    }

    fn file(&self) -> PathBuf {
        self.0.join("histories")
    }

    /// The names of all files.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("it is there");
        let names = entries.map(|entry| entry.expect("it is readable").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn decode(bytes: &[u8]) -> Result<String, Damage> {
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    text.strip_suffix('!').map(str::to_owned).ok_or(Damage::Cut)
}

fn write(folder: &mut Folder, text: &str) {
    let written = end(folder, |output| {
        std::io::Write::write_all(output, text.as_bytes())
    });
    written.expect("there is room");
}

#[test]
fn a_file_is_left_to_the_next_server_alone() {
    let directory = Directory::new("next");
    let mut first = directory.folder();
    assert!(matches!(start(&mut first, decode), Ok(Started::Fresh)));
    write(&mut first, "first!");
    assert_eq!(directory.names(), ["histories", "histories.lock"]);
    drop(first);
    let mut second = directory.folder();
    match start(&mut second, decode) {
        Ok(Started::Taken(content)) => assert_eq!(content, "first"),
        started => panic!("{started:?}"),
    }
    assert_eq!(directory.names(), ["histories.lock"]);
    drop(second);
    let mut third = directory.folder();
    assert!(matches!(start(&mut third, decode), Ok(Started::Fresh)));
}

#[test]
fn a_damaged_file_is_put_aside_in_the_place_of_an_older_one() {
    let directory = Directory::new("bad");
    fs::write(directory.0.join("histories.bad"), "older").expect("it can be written");
    fs::write(directory.file(), "damaged").expect("it can be written");
    let mut server = directory.folder();
    let started = start(&mut server, decode);
    assert!(
        matches!(started, Ok(Started::Rejected(Rejected::Damaged(_)))),
        "{started:?}"
    );
    assert_eq!(directory.names(), ["histories.bad", "histories.lock"]);
    let bad = fs::read_to_string(directory.0.join("histories.bad"));
    assert_eq!(bad.expect("it is there"), "damaged");
}

#[test]
fn a_server_without_the_lock_keeps_the_next_one_from_the_file_of_the_owner() {
    let directory = Directory::new("guest");
    let (mut owner, mut guest) = (directory.folder(), directory.folder());
    assert!(matches!(start(&mut owner, decode), Ok(Started::Fresh)));
    assert!(matches!(
        start(&mut guest, decode),
        Ok(Started::Guest(None))
    ));
    write(&mut owner, "owner!");
    drop(owner);
    let mut next = directory.folder();
    let started = start(&mut next, decode);
    assert!(
        matches!(started, Ok(Started::Rejected(Rejected::Marked))),
        "{started:?}"
    );
    // The guest lives on, and serves after the next owner as well.
    write(&mut next, "next!");
    drop((next, guest));
    let mut later = directory.folder();
    let started = start(&mut later, decode);
    assert!(
        matches!(started, Ok(Started::Rejected(Rejected::Marked))),
        "{started:?}"
    );
    write(&mut later, "later!");
    drop(later);
    let mut last = directory.folder();
    let started = start(&mut last, decode);
    assert!(matches!(started, Ok(Started::Taken(_))), "{started:?}");
}

#[test]
fn a_directory_that_is_not_there_lets_no_server_start() {
    let directory = Directory::new("none");
    let mut folder = Folder::new(&directory.0.join("none/histories"), 100);
    assert!(start(&mut folder, decode).is_err());
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let directory = Directory::new("full");
    let mut server = directory.folder();
    assert!(matches!(start(&mut server, decode), Ok(Started::Fresh)));
    let full = end(&mut server, |output| -> std::io::Result<()> {
        std::io::Write::write_all(output, b"half")?;
        Err(std::io::ErrorKind::StorageFull.into())
    });
    assert!(full.is_err());
    assert_eq!(directory.names(), ["histories.lock"]);
}

#[test]
fn no_more_of_a_file_is_read_than_one_byte_too_many() {
    let directory = Directory::new("large");
    fs::write(directory.file(), vec![b'x'; 500]).expect("it can be written");
    let mut folder = directory.folder();
    let read = super::super::disk::Disk::read(&mut folder, Name::File);
    assert_eq!(
        read.expect("it is there").map(|bytes| bytes.len()),
        Some(101)
    );
}

#[cfg(unix)]
#[test]
fn the_messages_are_for_the_user_of_the_server_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new("mode");
    let mut server = directory.folder();
    drop(start(&mut server, decode));
    write(&mut server, "a secret!");
    let found = fs::metadata(directory.file()).expect("it is there");
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
}

#[cfg(unix)]
#[test]
fn a_server_whose_lock_file_was_removed_writes_nothing_and_leaves_a_mark() {
    let directory = Directory::new("unlocked");
    let (mut first, mut second) = (directory.folder(), directory.folder());
    assert!(matches!(start(&mut first, decode), Ok(Started::Fresh)));
    fs::remove_file(directory.0.join("histories.lock")).expect("it is there");
    assert!(matches!(start(&mut second, decode), Ok(Started::Fresh)));
    write(&mut second, "second!");
    // The first one goes on to serve, and ends later.
    let ended = end(&mut first, |_| -> std::io::Result<()> {
        panic!("it writes");
    });
    let error = ended.expect_err("the lock is lost").to_string();
    assert!(error.contains("lock file was removed"), "{error}");
    let left = fs::read_to_string(directory.file());
    assert_eq!(left.expect("it is there"), "second!");
    drop((first, second));
    let started = start(&mut directory.folder(), decode);
    assert!(
        matches!(started, Ok(Started::Rejected(Rejected::Marked))),
        "{started:?}"
    );
}

#[cfg(unix)]
#[test]
fn a_server_whose_lock_file_is_removed_while_it_writes_leaves_no_file() {
    let directory = Directory::new("unlocked-late");
    let mut server = directory.folder();
    assert!(matches!(start(&mut server, decode), Ok(Started::Fresh)));
    let lock = directory.0.join("histories.lock");
    let ended = end(&mut server, |_| fs::remove_file(&lock));
    let error = ended.expect_err("the lock is lost").to_string();
    assert!(error.contains("lock file was removed"), "{error}");
    assert_eq!(directory.names(), ["histories.mark"]);
}

/// The text of the fault of a path, empty where there is none.
fn fault(path: &Path) -> String {
    let fault = Fault::of(path).map(|fault| fault.to_string());
    fault.unwrap_or_default()
}

#[test]
fn a_path_that_is_free_or_that_of_a_regular_file_has_no_fault() {
    let directory = Directory::new("regular");
    assert_eq!(fault(&directory.file()), "");
    fs::write(directory.file(), "histories").expect("it can be written");
    assert_eq!(fault(&directory.file()), "");
    assert_eq!(
        fault(&directory.0.join("none/histories")),
        "",
        "found later"
    );
}

#[test]
fn a_path_of_a_directory_is_told() {
    let directory = Directory::new("directory");
    assert!(fault(&directory.0).starts_with("it is a directory."));
    for (name, expected) in [
        ("", "it is a directory."),
        (".", "it is a directory."),
        ("none/", "it is the path of a directory."),
        ("none/..", "it is the path of a directory."),
    ] {
        let told = fault(&directory.0.join(name));
        assert!(told.starts_with(expected), "{name}: {told}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_and_each_special_file_are_told() {
    let directory = Directory::new("special");
    let path = |name: &str| directory.0.join(name);
    fs::write(path("file"), "").expect("it can be written");
    std::os::unix::fs::symlink("file", path("link")).expect("it can be made");
    std::os::unix::fs::symlink("none", path("dangling")).expect("it can be made");
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("it can be made");
    let mut mkfifo = std::process::Command::new("mkfifo");
    let made = mkfifo.arg(path("pipe")).status();
    assert!(made.expect("it can be run").success());
    for (path, expected) in [
        (path("link"), "it is a symbolic link."),
        (path("dangling"), "it is a symbolic link."),
        (path("socket"), "it is a socket."),
        (path("pipe"), "it is a pipe."),
        ("/dev/null".into(), "it is a device."),
    ] {
        let told = fault(&path);
        assert!(told.starts_with(expected), "{}: {told}", path.display());
    }
}
