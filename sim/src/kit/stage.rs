//! One run of a user's application: a plan of faults, the server, and the user's clients.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::sleep;

use super::client::Client;
use super::rules;
use super::{Play, Sim};
use crate::net::{Net, Simnet};
use crate::report::Report;
use crate::rng::Rng;
use crate::rt::panic_text;
use crate::run::{RunError, isolated, perform};
use crate::trace::{Event, Finish, Recorder};

/// Zones of clients, each with a link of its own.
pub(super) const ZONES: u8 = 3;

/// Most virtual milliseconds before a client begins.
const BEGINS_WITHIN_MS: u64 = 2_000;

/// Numbers of the connections of one client are this far apart.
pub(super) const STRIDE: u32 = 1_000_000;

impl Sim {
    /// Runs and judges one seed.
    pub(super) fn judge(&self, seed: u64) -> Result<Report, RunError> {
        let failed = |text| RunError { seed, text };
        crate::entropy::canary().map_err(|error| failed(error.to_string()))?;
        let (plan, tcp) = self.faults.plan(seed, self.within);
        let cast = self.cast(seed);
        let count = cast.len();
        let (build, staged) = (self.build.clone(), plan.clone());
        let ran = isolated(seed, move || {
            let net = Simnet::new(seed, &staged.network, &tcp);
            let server = |server: crate::host::Server| server.building(build);
            perform(net, &staged, server, |net, recorder| {
                enter(net, seed, cast, recorder);
            })
        });
        let trace = ran.and_then(|result| result).map_err(failed)?;
        let mut checkers = rules::of(count, self.may_crash);
        for own in &self.checkers {
            checkers.push(Box::new(Rc::clone(own)));
        }
        Ok(Report::judged_by(&checkers, plan, trace))
    }

    /// The clients of a seed, in the order of their numbers, which begin at 1.
    fn cast(&self, seed: u64) -> Vec<Play> {
        let mut rng = Rng::keyed(seed, "cast", 0);
        let mut cast = Vec::new();
        for troupe in &self.troupes {
            let (least, most) = troupe.count.clone().into_inner();
            let count = rng.within(u64::from(least)..=u64::from(most.max(least)));
            cast.extend((0..count).map(|_| troupe.play.clone()));
        }
        cast
    }
}

/// Puts the clients into their zones.
fn enter(net: &mut Simnet, seed: u64, cast: Vec<Play>, recorder: &Recorder) {
    let mut zones: Vec<Vec<(u32, Play)>> = (0..ZONES).map(|_| Vec::new()).collect();
    for (client, play) in (1..STRIDE).zip(cast) {
        let zone = Rng::keyed(seed, "zone", u64::from(client)).within(0..=u64::from(ZONES) - 1);
        zones[zone as usize].push((client, play));
    }
    for (zone, troupe) in (0..).zip(zones) {
        let recorder = recorder.clone();
        net.zone(zone, move |dial| async move {
            let lives = troupe.into_iter().map(|(number, play)| {
                let client = Client::new(seed, (number, zone), dial.clone(), recorder.clone());
                live(client, play)
            });
            lives.collect::<FuturesUnordered<_>>().collect::<()>().await;
        });
    }
}

/// One client, from its beginning to its end.
async fn live(client: Client, play: Play) {
    let begins = client.random(0..=BEGINS_WITHIN_MS);
    sleep(Duration::from_millis(begins)).await;
    let (number, recorder) = (client.number(), client.recorder().clone());
    let playing = async move { play(client).await };
    let finish = match AssertUnwindSafe(playing).catch_unwind().await {
        Ok(Ok(())) => Finish::Done,
        Ok(Err(gone)) => Finish::Gone(gone.to_string()),
        Err(panic) => Finish::Panicked(panic_text(panic.as_ref())),
    };
    recorder.record(Event::Finished {
        client: number,
        finish,
    });
}
