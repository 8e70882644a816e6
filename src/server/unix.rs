//! The file of a Unix socket: its mode, its group, its removal, and files in its way.

#[cfg(unix)]
pub(super) use self::file::{OwnFile, listen};

#[cfg(unix)]
mod file {
    use std::fs::{File, Metadata, Permissions, TryLockError};
    use std::io;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use nix::unistd::Group;
    use socket2::{Domain, SockAddr, Socket, Type};
    use tokio::net::UnixListener;

    use crate::server::binding::{Address, BindError, BindOptions};
    use crate::server::tcp::BACKLOG;
    use crate::server::unix_owner::UnixGroup;

    /// Listens at a path, and replaces a socket file that a dead server has left there.
    ///
    /// A client can connect only after `listen`, when the file already has its mode and its group.
    pub(in crate::server) async fn listen(
        path: &Path,
        address: &Address,
        options: &BindOptions,
    ) -> Result<(OwnFile, UnixListener), BindError> {
        let failed = |source| BindError::new(address, source);
        let _turn = Turn::take(path).await;
        match Found::at(path) {
            Found::LeftBehind => std::fs::remove_file(path).map_err(failed)?,
            Found::Nothing => {}
            Found::Other(found) => {
                let address = address.to_string();
                return Err(BindError::Occupied { address, found });
            }
            Found::Server => return Err(failed(io::ErrorKind::AddrInUse.into())),
        }
        let socket = stream().map_err(failed)?;
        let bind = || socket.bind(&SockAddr::unix(path)?);
        bind().map_err(failed)?;
        // From here on, dropping `file` removes the file when a step fails.
        let file = OwnFile::at(path).map_err(failed)?;
        if let Some(group) = &options.unix_group {
            give(path, group).map_err(|reason| BindError::Group {
                address: address.to_string(),
                group: group.clone(),
                reason,
            })?;
        }
        let mode = Permissions::from_mode(options.unix_mode.bits());
        std::fs::set_permissions(path, mode).map_err(failed)?;
        let listener = listening(socket).map_err(failed)?;
        Ok((file, listener))
    }

    /// A non-blocking socket.
    fn stream() -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn listening(socket: Socket) -> io::Result<UnixListener> {
        socket.listen(BACKLOG.cast_signed())?;
        UnixListener::from_std(socket.into())
    }

    /// Changes the group of the file at a path.
    fn give(path: &Path, group: &UnixGroup) -> Result<(), String> {
        let number = match group {
            UnixGroup::Number(number) => *number,
            UnixGroup::Name(name) => match Group::from_name(name) {
                Ok(Some(group)) => group.gid.as_raw(),
                Ok(None) => {
                    return Err("this machine has no such group; create it, or name another".into());
                }
                Err(error) => return Err(format!("it cannot be looked up: {error}")),
            },
        };
        lchown(path, None, Some(number)).map_err(|error| {
            if error.kind() == io::ErrorKind::PermissionDenied {
                "not permitted; run the server as a user of that group, or name another".into()
            } else {
                error.to_string()
            }
        })
    }

    /// The kind of file at the path of a future socket.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Found {
        /// A socket on which no program listens any more.
        LeftBehind,
        Nothing,
        /// A file that is not the socket of a server.
        Other(&'static str),
        /// A socket on which a program listens.
        Server,
    }

    impl Found {
        fn at(path: &Path) -> Self {
            let Ok(file) = path.symlink_metadata() else {
                // `bind` reports any other problem of the path.
                return Self::Nothing;
            };
            let kind = file.file_type();
            if kind.is_socket() {
                Self::socket(path)
            } else if kind.is_dir() {
                Self::Other("a directory")
            } else if kind.is_symlink() {
                Self::Other("a symbolic link")
            } else if kind.is_file() {
                Self::Other("a file which is no socket")
            } else {
                Self::Other("a device or a pipe")
            }
        }

        /// Tries to connect to the socket at a path.
        fn socket(path: &Path) -> Self {
            let connected = stream().and_then(|socket| socket.connect(&SockAddr::unix(path)?));
            match connected.map_err(|error| error.kind()) {
                Err(io::ErrorKind::ConnectionRefused) => Self::LeftBehind,
                Err(io::ErrorKind::NotFound) => Self::Nothing,
                Err(io::ErrorKind::PermissionDenied) => Self::Other(
                    "a socket to which this user may not connect, so that it may be in use",
                ),
                // A full queue, or a socket of another type, belongs to a running program.
                Ok(()) | Err(_) => Self::Server,
            }
        }
    }

    /// The file of this server's socket. Dropping the value removes the file, unless another file
    /// has replaced it.
    ///
    /// The value must be dropped before the socket: while the socket is open, no other file gets
    /// the same inode number.
    #[derive(Debug)]
    pub(in crate::server) struct OwnFile {
        path: PathBuf,
        number: Number,
    }

    /// The device and the inode number of a file.
    type Number = (u64, u64);

    fn number(file: &Metadata) -> Number {
        (file.dev(), file.ino())
    }

    impl OwnFile {
        fn at(path: &Path) -> io::Result<Self> {
            Ok(Self {
                path: path.to_owned(),
                number: number(&path.symlink_metadata()?),
            })
        }
    }

    impl Drop for OwnFile {
        fn drop(&mut self) {
            let there = self.path.symlink_metadata();
            if there.is_ok_and(|there| number(&there) == self.number) {
                // A file that is gone already need not be removed.
                drop(std::fs::remove_file(&self.path));
            }
        }
    }

    /// Attempts to take the lock, and the time between them: a second in total.
    const TURN_TRIES: u32 = 50;
    const TURN_PAUSE: Duration = Duration::from_millis(20);

    /// A lock on the directory, held by one server at a time while it replaces a socket file: of
    /// two servers that start at once, the second would remove the socket of the first.
    ///
    /// Any user may lock a directory that it may read, so a server stops waiting after a second and
    /// continues without the lock. On a filesystem without locks it continues at once.
    struct Turn {
        /// Dropping the file unlocks the directory.
        _directory: Option<File>,
    }

    impl Turn {
        async fn take(path: &Path) -> Self {
            let directory = path
                .parent()
                .and_then(|directory| File::open(directory).ok());
            if let Some(directory) = &directory {
                for _ in 0..TURN_TRIES {
                    match directory.try_lock() {
                        Ok(()) | Err(TryLockError::Error(_)) => break,
                        Err(TryLockError::WouldBlock) => tokio::time::sleep(TURN_PAUSE).await,
                    }
                }
            }
            Self {
                _directory: directory,
            }
        }
    }
}

#[cfg(all(test, unix, not(feature = "loom")))]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;
    use crate::rt::{Clock, Tokio};
    use crate::server::binding::{Address, BindError, BindOptions};
    use crate::server::unix_owner::UnixGroup;

    /// A directory for one test, removed when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("busline-{}-unix-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).expect("a test may write there");
            Self(path)
        }

        fn path(&self) -> PathBuf {
            self.0.join("s")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    type Listening = (OwnFile, tokio::net::UnixListener);

    async fn listening(path: &Path, options: &BindOptions) -> Result<Listening, BindError> {
        listen(path, &Address::Unix(path.to_owned()), options).await
    }

    async fn refused(path: &Path) -> String {
        let listening = listening(path, &BindOptions::default()).await;
        listening.expect_err("it is taken").to_string()
    }

    #[tokio::test]
    async fn the_mode_is_what_was_asked_for_whatever_the_umask() {
        let scratch = Scratch::new("mode");
        // No umask turns the default mode, 0777, into one of these modes.
        for text in ["0660", "0600", "0666", "0007"] {
            let options = BindOptions {
                unix_mode: text.parse().expect("a mode"),
                ..BindOptions::default()
            };
            let listening = listening(&scratch.path(), &options).await;
            let file = scratch.path().metadata().expect("it is there");
            assert_eq!(file.mode() & 0o777, options.unix_mode.bits(), "{text}");
            drop(listening);
        }
    }

    #[tokio::test]
    async fn a_group_gets_the_file_or_it_is_said_why_not() {
        let scratch = Scratch::new("group");
        let own = scratch.0.metadata().expect("it is there").gid();
        let with = |group| BindOptions {
            unix_group: Some(group),
            ..BindOptions::default()
        };
        let nobody = with(UnixGroup::Name("no-such-group".to_owned()));
        let error = listening(&scratch.path(), &nobody).await;
        let error = error.expect_err("there is none").to_string();
        assert!(
            error.contains("`no-such-group`: this machine has no such group"),
            "{error}"
        );
        assert!(!scratch.path().exists(), "nothing is left");
        let name = nix::unistd::Group::from_gid(own.into()).expect("it can be looked up");
        let name = name.map(|group| UnixGroup::Name(group.name));
        for group in name.into_iter().chain([UnixGroup::Number(own)]) {
            let listening = listening(&scratch.path(), &with(group)).await;
            assert_eq!(scratch.path().metadata().expect("it is there").gid(), own);
            drop(listening.expect("it is our own"));
        }
        // A foreign group: only root may give the file to it.
        match listening(&scratch.path(), &with(UnixGroup::Number(own + 1))).await {
            Ok(_listening) => {
                let gid = scratch.path().metadata().expect("it is there").gid();
                assert_eq!(gid, own + 1);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.contains("not permitted; run the server as a user of"),
                    "{error}"
                );
                assert!(!scratch.path().exists(), "nothing is left");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_socket_stays_and_is_named() {
        let scratch = Scratch::new("other");
        let path = scratch.path();
        std::fs::write(&path, "precious").expect("a free path");
        let error = refused(&path).await;
        assert!(
            error.contains("there is a file which is no socket"),
            "{error}"
        );
        assert_eq!(
            std::fs::read_to_string(&path).expect("it is there"),
            "precious"
        );
        std::fs::remove_file(&path).expect("it is there");
        std::fs::create_dir(&path).expect("a free path");
        let error = refused(&path).await;
        assert!(error.contains("there is a directory"), "{error}");
        std::fs::remove_dir(&path).expect("it is there");
        // A symbolic link is refused whatever its target, even a socket that was left behind.
        let left = scratch.0.join("left");
        drop(UnixListener::bind(&left).expect("a free path"));
        for target in [&left, &scratch.0.join("nowhere")] {
            symlink(target, &path).expect("a free path");
            let error = refused(&path).await;
            assert!(error.contains("there is a symbolic link"), "{error}");
            assert!(path.is_symlink() && left.exists());
            std::fs::remove_file(&path).expect("it is there");
        }
    }

    #[tokio::test]
    async fn a_socket_of_a_living_program_stays_and_one_of_a_dead_one_is_replaced() {
        let scratch = Scratch::new("left");
        let path = scratch.path();
        let first = UnixListener::bind(&path).expect("a free path");
        let error = refused(&path).await;
        assert!(error.contains("another program listens there"), "{error}");
        assert!(error.contains("choose another path"), "{error}");
        drop(first);
        let (_file, _listener) = listening(&path, &BindOptions::default())
            .await
            .expect("nobody listens there");
        UnixStream::connect(&path).expect("it is ours");
    }

    #[tokio::test]
    async fn only_the_own_file_is_removed() {
        let scratch = Scratch::new("own");
        let path = scratch.path();
        let options = BindOptions::default();
        let first = listening(&path, &options).await.expect("a free path");
        std::fs::remove_file(&path).expect("it is there");
        let second = listening(&path, &options).await.expect("a free path");
        drop(first);
        UnixStream::connect(&path).expect("the file is the successor's");
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_that_cannot_be_is_told_of() {
        let scratch = Scratch::new("nowhere");
        let error = refused(&scratch.0.join("a/s")).await;
        assert!(
            error.contains("there is no such directory; create it"),
            "{error}"
        );
        let long = "s".repeat(200);
        let error = refused(&scratch.0.join(long)).await;
        assert!(!error.contains("another program"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_start_at_once_replace_what_is_left_one_after_the_other() {
        let scratch = Scratch::new("turn");
        let path = scratch.path();
        drop(UnixListener::bind(&path).expect("a free path"));
        let other = File::open(&scratch.0).expect("it is there");
        other.lock().expect("nobody else has it");
        let options = BindOptions::default();
        let mut second = Box::pin(listening(&path, &options));
        assert!(
            second.as_mut().now_or_never().is_none(),
            "it is not its turn"
        );
        // Another server has replaced the file meanwhile.
        std::fs::remove_file(&path).expect("it is there");
        let first = UnixListener::bind(&path).expect("a free path");
        drop(other);
        let error = second.await.expect_err("it is taken").to_string();
        assert!(error.contains("another program listens there"), "{error}");
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_keeps_a_directory_locked_keeps_no_server_from_its_start() {
        let scratch = Scratch::new("locked");
        let other = File::open(&scratch.0).expect("it is there");
        other.lock().expect("nobody else has it");
        let clock = Tokio::current();
        let begin = clock.now();
        let listening = listening(&scratch.path(), &BindOptions::default()).await;
        listening.expect("a free path");
        assert_eq!(clock.now().saturating_since(begin), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_socket_that_may_not_be_tried_is_not_taken_for_one_of_a_program() {
        let scratch = Scratch::new("forbidden");
        let path = scratch.path();
        drop(UnixListener::bind(&path).expect("a free path"));
        std::fs::set_permissions(&path, Permissions::from_mode(0o0)).expect("it is ours");
        // Root may connect, and finds that the socket was left behind.
        match listening(&path, &BindOptions::default()).await {
            Ok(listening) => drop(listening),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.contains("a socket to which this user may not connect"),
                    "{error}"
                );
                assert!(path.exists());
            }
        }
    }
}
