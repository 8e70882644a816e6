//! The server's process: all of its tasks, which end together when it is killed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

use crate::shared::Shared;

/// The tasks of one process; clones are the same process.
#[derive(Clone, Default)]
pub struct Process(Shared<Inner>);

#[derive(Default)]
struct Inner {
    state: State,
    tasks: u64,
    bodies: BTreeMap<u64, Body>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Alive,
    Dead,
}

/// What a task does, until it is done or the process is dead.
type Body = Shared<Option<BoxFuture<'static, ()>>>;

/// All that a killed process was doing; dropping it closes its sockets.
#[must_use = "dropping it closes the sockets of the process"]
pub struct Corpse(Vec<BoxFuture<'static, ()>>);

impl Process {
    /// A task of this process: the future, unless the process is dead before it is done.
    pub(crate) fn task(&self, future: BoxFuture<'static, ()>) -> Task {
        let body = Shared::new(Some(future));
        let number = self.0.with(|inner| {
            inner.tasks += 1;
            if inner.state == State::Alive {
                inner.bodies.insert(inner.tasks, body.clone());
            }
            inner.tasks
        });
        let process = self.clone();
        let task = Task {
            process,
            number,
            body,
        };
        if self.0.with(|inner| inner.state) == State::Dead {
            task.end();
        }
        task
    }

    /// Ends all tasks where they are, and every further one before it begins.
    pub(crate) fn kill(&self) -> Corpse {
        let bodies = self.0.with(|inner| {
            inner.state = State::Dead;
            std::mem::take(&mut inner.bodies)
        });
        let bodies = bodies.into_values();
        Corpse(bodies.filter_map(|body| body.with(Option::take)).collect())
    }
}

impl Corpse {
    /// How many tasks had not ended.
    pub fn tasks(&self) -> usize {
        self.0.len()
    }
}

/// A task of a process; one of a dead process never ends.
pub(crate) struct Task {
    process: Process,
    number: u64,
    body: Body,
}

impl Task {
    fn end(&self) {
        // What is dropped may spawn, and must find nothing locked.
        let body = self.body.with(Option::take);
        let entry = self
            .process
            .0
            .with(|inner| inner.bodies.remove(&self.number));
        drop((body, entry));
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.body.with(|body| match body {
            Some(future) => future.as_mut().poll(cx),
            None => Poll::Pending,
        });
        if polled.is_ready() {
            self.end();
        }
        polled
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Notes that it was dropped, and tries to spawn as it is.
    struct Guard(Process, Shared<usize>);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.1.with(|drops| *drops += 1);
            drop(self.0.task(async { unreachable!("it is dead") }.boxed()));
        }
    }

    #[test]
    fn a_killed_process_does_nothing_more() {
        let (process, drops) = (Process::default(), Shared::new(0));
        let guard = Guard(process.clone(), drops.clone());
        let mut task = process.task(
            async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            }
            .boxed(),
        );
        assert!((&mut task).now_or_never().is_none());
        let corpse = process.kill();
        assert_eq!((corpse.tasks(), drops.with(|drops| *drops)), (1, 0));
        drop(corpse);
        assert_eq!(drops.with(|drops| *drops), 1);
        assert!((&mut task).now_or_never().is_none());
    }

    #[test]
    fn a_task_that_ends_or_is_dropped_leaves_nothing() {
        let process = Process::default();
        assert_eq!(process.task(async {}.boxed()).now_or_never(), Some(()));
        drop(process.task(std::future::pending().boxed()));
        assert_eq!(process.kill().tasks(), 0);
    }
}
