//! Every order of starts, ends and losses of power, on a disk that loses whatever it may.
//!
//! The search goes over states of the disk until it finds no new one, so it holds for any number of
//! servers one after the other. In each state a server starts; at each of its steps the step fails,
//! or this and all later steps fail, or the server is killed, or power is lost. After a loss of
//! power each file has any content that it had since its last sync, or a part of it, and each name
//! has any file that it had since the last sync of the directory, whatever the other names have.
//! Also, at each step of a server's end someone removes its lock file, and a second server starts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;

use super::super::damage::Damage;
use super::super::disk::{Disk, Name};
use super::super::steps::{Started, end, start};

/// A file. Equal files are one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    /// Whether the server that wrote it is the last that has served.
    is_present: bool,
    /// The bytes: a complete file has two.
    bytes: u8,
    /// The bytes that survive a loss of power.
    synced: u8,
}

/// The files that a name may have after a loss of power; the last is the one that it has now.
type Names = BTreeMap<Name, Vec<Option<Content>>>;

/// The state of the disk while no owner of the lock lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    names: Names,
    is_marked: bool,
    /// Whether a mark that is not there comes back with a loss of power.
    mark_returns: bool,
    /// Whether a server lives that has no lock.
    has_guest: bool,
}

impl State {
    fn files_mut(&mut self) -> impl Iterator<Item = &mut Content> {
        self.names.values_mut().flatten().flatten()
    }

    /// A server serves: every file that there is becomes one of the past.
    fn serve(&mut self) {
        self.files_mut().for_each(|file| file.is_present = false);
    }

    /// The states after a loss of power.
    fn survivors(&self) -> Vec<Self> {
        let mut all = vec![Self {
            names: Names::new(),
            has_guest: false,
            mark_returns: false,
            ..self.clone()
        }];
        for (name, files) in &self.names {
            let choices: BTreeSet<_> = files.iter().flat_map(|file| remains(*file)).collect();
            let with = |state: &Self, file: Option<Content>| {
                let mut state = state.clone();
                state.names.insert(*name, vec![file]);
                state
            };
            let with = |state: &Self| choices.iter().map(|file| with(state, *file)).collect();
            all = all
                .iter()
                .flat_map(|state| -> Vec<_> { with(state) })
                .collect();
        }
        if self.mark_returns {
            let marked = all.iter().map(|state| Self {
                is_marked: true,
                ..state.clone()
            });
            all = marked.collect::<Vec<_>>().into_iter().chain(all).collect();
        }
        all
    }
}

/// The files that may be left of one.
fn remains(file: Option<Content>) -> Vec<Option<Content>> {
    let Some(file) = file else {
        return vec![None];
    };
    let parts = file.synced..=file.bytes;
    let part = |bytes| {
        let synced = bytes;
        Some(Content {
            bytes,
            synced,
            ..file
        })
    };
    parts.map(part).collect()
}

/// The trouble of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// This step fails, and has done nothing.
    Fails(usize),
    /// This step and all later ones fail.
    FailFrom(usize),
    /// The server is killed before this step.
    Killed(usize),
    /// Power is lost before this step.
    PowerLost(usize),
}

/// The disk as one server sees it.
struct Simulated {
    state: State,
    trouble: Trouble,
    steps: usize,
    is_locked_by_another: bool,
    is_lock_lost: bool,
    /// The second server that starts then, if one is to come.
    second: Option<Second>,
    /// Whether that one has accepted a file of the past.
    accepted_past: bool,
}

/// A server that starts beside the owner of the lock, after someone has removed the lock file.
#[derive(Clone, Copy, Debug)]
struct Second {
    /// The steps of the owner's end that come before.
    after: usize,
    /// Whether it ends before the owner does.
    ends: bool,
}

#[derive(Clone)]
struct Server(Rc<RefCell<Simulated>>);

/// A file that is being written.
struct Output(Server);

impl Server {
    fn new(state: &State, trouble: Trouble) -> Self {
        Self(Rc::new(RefCell::new(Simulated {
            state: state.clone(),
            trouble,
            steps: 0,
            is_locked_by_another: false,
            is_lock_lost: false,
            second: None,
            accepted_past: false,
        })))
    }

    /// Lets the second server come, if this is the step.
    fn meet_second(&self) {
        let mut disk = self.0.borrow_mut();
        let Some(come) = &mut disk.second else {
            return;
        };
        if come.after > 0 {
            come.after -= 1;
            return;
        }
        let ends = come.ends;
        disk.second = None;
        let mut second = Self::new(&disk.state, Trouble::None);
        disk.accepted_past = matches!(start(&mut second, decode), Ok(Started::Taken(0)));
        second.change(State::serve);
        if ends {
            drop(end(&mut second, write));
        }
        disk.state = second.0.borrow().state.clone();
        disk.is_lock_lost = true;
    }

    /// Takes a step, or fails.
    fn step<T>(&self, run: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        self.meet_second();
        let mut disk = self.0.borrow_mut();
        let step = disk.steps;
        disk.steps += 1;
        let fails = match disk.trouble {
            Trouble::None => false,
            Trouble::Fails(at) => step == at,
            Trouble::FailFrom(at) | Trouble::Killed(at) | Trouble::PowerLost(at) => step >= at,
        };
        if fails {
            return Err(io::Error::other("it fails"));
        }
        Ok(run(&mut disk.state))
    }

    fn is_dead(&self) -> bool {
        let disk = self.0.borrow();
        match disk.trouble {
            Trouble::Killed(at) | Trouble::PowerLost(at) => disk.steps > at,
            Trouble::None | Trouble::Fails(_) | Trouble::FailFrom(_) => false,
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.borrow_mut().state);
    }

    /// The states in which a later server may start.
    fn left(&self) -> Vec<State> {
        let disk = self.0.borrow();
        let lost_power = matches!(disk.trouble, Trouble::PowerLost(_)) && self.is_dead();
        let mut states = Vec::new();
        if !lost_power {
            states.push(disk.state.clone());
        }
        // Power may also be lost before the next server starts.
        states.extend(disk.state.survivors());
        states
    }
}

fn now(names: &Names, name: Name) -> Option<Content> {
    names.get(&name).and_then(|files| *files.last()?)
}

fn put(names: &mut Names, name: Name, file: Option<Content>) {
    let files = names.entry(name).or_insert_with(|| vec![None]);
    if files.last() != Some(&file) {
        files.retain(|other| *other != file);
        files.push(file);
    }
}

impl Disk for Server {
    type Output = Output;

    fn try_lock(&mut self) -> io::Result<bool> {
        let is_taken = self.0.borrow().is_locked_by_another;
        self.step(|_| !is_taken)
    }

    fn has_lock(&mut self) -> io::Result<bool> {
        self.step(|_| ())?;
        Ok(!self.0.borrow().is_lock_lost)
    }

    fn leave_mark(&mut self) -> io::Result<()> {
        // The name may survive before all is synced; a server that fails here does not serve.
        self.step(|state| state.mark_returns = true)?;
        self.step(|state| state.is_marked = true)
    }

    fn is_marked(&mut self) -> io::Result<bool> {
        self.step(|state| state.is_marked)
    }

    fn clear_mark(&mut self) -> io::Result<()> {
        self.step(|state| {
            if !state.has_guest {
                (state.is_marked, state.mark_returns) = (false, true);
            }
        })?;
        self.step(|state| state.mark_returns = state.is_marked)
    }

    fn read(&mut self, name: Name) -> io::Result<Option<Vec<u8>>> {
        self.step(|state| {
            let file = now(&state.names, name)?;
            let bytes = [file.is_present.into(), b'!'];
            Some(bytes[..usize::from(file.bytes)].to_vec())
        })
    }

    fn write_new(&mut self, name: Name) -> io::Result<Output> {
        self.remove(name)?;
        self.step(|state| {
            let file = Content {
                is_present: true,
                bytes: 0,
                synced: 0,
            };
            put(&mut state.names, name, Some(file));
        })?;
        if self.0.borrow().is_lock_lost {
            // What is written was there before the second server has served.
            self.change(|state| change_new(state, |file| file.is_present = false));
        }
        Ok(Output(self.clone()))
    }

    fn sync(&mut self, output: &mut Output) -> io::Result<()> {
        let server = output.0.clone();
        server.step(|state| change_new(state, |file| file.synced = file.bytes))
    }

    fn rename(&mut self, from: Name, to: Name) -> io::Result<()> {
        let renamed = self.step(|state| {
            let file = now(&state.names, from);
            if file.is_some() {
                put(&mut state.names, to, file);
                put(&mut state.names, from, None);
            }
            file
        });
        let found = renamed?;
        found
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove(&mut self, name: Name) -> io::Result<()> {
        self.step(|state| put(&mut state.names, name, None))
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.step(|state| {
            for files in state.names.values_mut() {
                files.drain(..files.len() - 1);
            }
        })
    }
}

/// Changes the file that is being written.
fn change_new(state: &mut State, change: impl FnOnce(&mut Content)) {
    if let Some(file) = state.names.get_mut(&Name::New)
        && let Some(Some(file)) = file.last_mut()
    {
        change(file);
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self
            .0
            .step(|state| change_new(state, |file| file.bytes += 1));
        written.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Result<u8, Damage> {
    match bytes {
        [content, b'!'] => Ok(*content),
        _ => Err(Damage::Cut),
    }
}

fn write(output: &mut Output) -> io::Result<()> {
    io::Write::write_all(output, b"1")?;
    io::Write::write_all(output, b"!")
}

/// The events of the life of a server that are not its trouble.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// A server without the lock starts meanwhile.
    guest_comes: bool,
    /// The server without the lock ends meanwhile.
    guest_goes: bool,
    trouble: Trouble,
}

/// A wrong step of a server, and the numbers of accepted files and of steps.
#[derive(Debug, Default)]
struct Seen {
    accepted_twice: bool,
    accepted: usize,
    steps: usize,
}

/// Lets a server live in a state, and returns the states after it.
fn live(state: &State, life: Life, seen: &mut Seen) -> Vec<State> {
    let mut server = Server::new(state, life.trouble);
    let started = start(&mut server, decode);
    if server.is_dead() || started.is_err() {
        return server.left();
    }
    if let Ok(Started::Taken(content)) = &started {
        seen.accepted += 1;
        seen.accepted_twice |= *content == 0;
    }
    server.change(State::serve);
    if matches!(started, Ok(Started::Guest(_))) {
        // The lock cannot be asked for: the server lives and ends as a guest.
        return server.left();
    }
    if life.guest_comes {
        let guest = Server::new(&server.0.borrow().state, Trouble::None);
        guest.0.borrow_mut().is_locked_by_another = true;
        let started = start(&mut guest.clone(), decode);
        assert!(matches!(started, Ok(Started::Guest(None))), "{started:?}");
        guest.change(|state| state.has_guest = true);
        server.change(|state| *state = guest.0.borrow().state.clone());
    }
    if life.guest_goes {
        server.change(|state| state.has_guest = false);
    }
    let _written = end(&mut server, write);
    seen.steps = seen.steps.max(server.0.borrow().steps);
    if server.0.borrow().state.has_guest || life.guest_comes {
        // The guest has served after the owner had exported its histories, or does so now.
        server.change(State::serve);
    }
    server.left()
}

/// Lets a server lose its lock to a second one, and returns the states after both.
fn lose_lock(state: &State, second: Second, seen: &mut Seen) -> Vec<State> {
    let mut server = Server::new(state, Trouble::None);
    let started = start(&mut server, decode);
    assert!(!matches!(started, Ok(Started::Guest(_))), "{started:?}");
    server.change(State::serve);
    server.0.borrow_mut().second = Some(second);
    if second.after == 0 {
        server.meet_second();
        // The first one goes on to serve, also after the end of the second.
        server.change(State::serve);
    }
    drop(end(&mut server, write));
    seen.accepted_twice |= server.0.borrow().accepted_past;
    let mut states = server.left();
    if server.0.borrow().is_lock_lost && !second.ends {
        let mut later = Server::new(&server.0.borrow().state, Trouble::None);
        drop(end(&mut later, write));
        states.extend(later.left());
    }
    states
}

/// All second servers at most so many steps after the owner begins to end.
fn seconds(steps: usize) -> impl Iterator<Item = Second> {
    (0..=steps).flat_map(|after| [false, true].map(|ends| Second { after, ends }))
}

/// All lives of a server with at most so many steps.
fn lives(steps: usize) -> impl Iterator<Item = Life> {
    let troubles = (0..=steps).flat_map(|at| {
        let all = [
            Trouble::Fails(at),
            Trouble::FailFrom(at),
            Trouble::Killed(at),
            Trouble::PowerLost(at),
        ];
        all.into_iter()
    });
    let troubles = troubles.chain([Trouble::None]);
    troubles.flat_map(|trouble| {
        let guests = [(false, false), (false, true), (true, false), (true, true)];
        guests
            .into_iter()
            .map(move |(guest_comes, guest_goes)| Life {
                guest_comes,
                guest_goes,
                trouble,
            })
    })
}

/// Follows every life in every state, until there is no new state, or a wrong step was seen.
fn search() -> (Seen, usize) {
    let mut seen = Seen::default();
    let mut known = BTreeSet::from([State::default()]);
    let mut open = VecDeque::from([State::default()]);
    while let Some(state) = open.pop_front()
        && !seen.accepted_twice
    {
        // More than there are: the last ones are lives without trouble.
        let mut after: Vec<_> = lives(24)
            .flat_map(|life| live(&state, life, &mut seen))
            .collect();
        if !state.has_guest {
            after.extend(seconds(12).flat_map(|second| lose_lock(&state, second, &mut seen)));
        }
        for next in after {
            if known.insert(next.clone()) {
                open.push_back(next);
            }
        }
    }
    (seen, known.len())
}

#[test]
fn a_file_is_accepted_by_the_next_server_that_serves_or_by_none() {
    let (seen, states) = search();
    assert!(
        !seen.accepted_twice,
        "a server has accepted a file of the past"
    );
    assert!(seen.accepted > 1_000, "{seen:?}");
    assert!((10..24).contains(&seen.steps), "{seen:?}");
    assert!(states > 100, "{states} states");
}

#[test]
fn without_trouble_each_server_accepts_what_the_one_before_has_left() {
    let mut state = State::default();
    let life = Life {
        guest_comes: false,
        guest_goes: false,
        trouble: Trouble::None,
    };
    for before in 0..3 {
        let mut seen = Seen::default();
        state = live(&state, life, &mut seen).swap_remove(0);
        assert_eq!(seen.accepted, before.min(1), "server {before}");
        assert!(!seen.accepted_twice);
    }
    let crash = Trouble::Killed(seen_steps(&state) - 1);
    let crashed = Life {
        trouble: crash,
        ..life
    };
    let state = live(&state, crashed, &mut Seen::default()).swap_remove(0);
    let mut seen = Seen::default();
    drop(live(&state, life, &mut seen));
    assert_eq!(seen.accepted, 0, "after a crash");
}

/// The steps of a server in a state, up to the renaming of its file.
fn seen_steps(state: &State) -> usize {
    let mut server = Server::new(state, Trouble::None);
    drop(start(&mut server, decode));
    drop(end(&mut server, |_| Ok(())));
    server.0.borrow().steps - 1
}

#[cfg(feature = "planted")]
#[test]
fn a_file_that_is_read_twice_is_noticed() {
    use crate::planted::{Bug, plant};
    plant(Some(Bug::HistoryFileReadTwice));
    let (seen, _states) = search();
    plant(None);
    assert!(seen.accepted_twice);
}
