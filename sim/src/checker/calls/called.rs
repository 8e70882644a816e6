//! Called: each call of a backend has one answer, which is true, or its connection ends.

use std::collections::BTreeMap;

use serde_json::Value;

use super::answers::{Answers, Waiting};
use super::ledger::Try;
use super::{Outcome, Told};
use crate::calls::{Call, told};
use crate::checker::rooms::{Chronicles, Kept, chronicles};
use crate::checker::{Breach, Checker, History};
use crate::journal::JOURNAL;
use crate::rooms::{RELAY, is_of, name};
use crate::wild::Wild;

/// More than a call and its answer have, beside histories.
const BYTES: u64 = 2_000;

/// Each call on a connection that lives has one answer, in the order of the calls. A text that was
/// published stands in the history of its room at the place that its caller was told, once though
/// the call came again with its key; what was refused stands nowhere, and no client gets it. A
/// history that is read is that of the room. A request to a service has the answer of the service,
/// or an error with a true code. Only a server that drains sends callers away.
pub struct Called;

impl Checker for Called {
    fn name(&self) -> &'static str {
        "called"
    }

    fn check(&self, history: &History<'_>) -> Result<(), Breach> {
        let Some(wild) = history.wild.as_ref().filter(|wild| wild.calls.is_some()) else {
            return Ok(());
        };
        let ledger = history.ledger();
        if let Some((t, body)) = ledger.strays.first() {
            return Err(Breach::new(*t, format!("an answer to no call: {body}")));
        }
        heard(history)?;
        let mut judge = Judge {
            history,
            wild,
            answers: Answers::of(history)?,
            chronicles: chronicles(history)?,
            done: BTreeMap::new(),
        };
        let mut before: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for one in &ledger.tries {
            let last = before.entry((one.client, one.link)).or_default();
            let found = judge.judge(one, *last);
            found.map_err(|text| {
                let (client, number) = (one.client, one.number);
                Breach::new(one.t, format!("call {number} of backend {client}: {text}"))
            })?;
            if let Outcome::Answered { t, .. } = one.outcome {
                *last = t;
            }
        }
        Ok(())
    }
}

/// No client has a text that was refused; the rules of its room say so, too, where there are some.
fn heard(history: &History<'_>) -> Result<(), Breach> {
    for text in history.ledger().refused() {
        for (client, life) in &history.clients {
            if let Some(said) = life.received.iter().find(|said| said.text == text) {
                let text = format!("client {client} has {text}, which was refused");
                return Err(Breach::new(said.t, text));
            }
        }
    }
    Ok(())
}

/// What a service has answered, out of the result of its call.
fn answer(told_of: &Told) -> Told {
    match told_of {
        Told::Done(done) => Told::Done(done.get("data").cloned().unwrap_or_default()),
        Told::Fault(_) | Told::Nothing => told_of.clone(),
    }
}

struct Judge<'h, 'a> {
    history: &'h History<'a>,
    wild: &'h Wild,
    answers: Answers<'h, 'a>,
    chronicles: Chronicles,
    /// The places of texts with a key, by server, room and key.
    done: BTreeMap<(usize, String, String), Value>,
}

impl<'a> Judge<'_, 'a> {
    fn judge(&mut self, one: &Try<'a>, before: u64) -> Result<(), String> {
        let told_of = one.told()?;
        let t = match one.outcome {
            Outcome::Answered { t, .. } => t,
            Outcome::Lost => return Ok(()),
            Outcome::Waiting => return self.waits(one),
        };
        for (call, told_of) in one.call.each().iter().zip(&told_of) {
            self.command(one, call, (told_of, t))?;
        }
        self.in_time(one, before.max(one.t), t)
    }

    fn command(
        &mut self,
        one: &Try<'a>,
        call: &'a Call,
        (told_of, t): (&Told, u64),
    ) -> Result<(), String> {
        // A batch is cut short by the end of its server.
        let is_cut = *told_of == Told::Fault(100) && matches!(one.call, Call::Batch { .. });
        if *told_of == Told::Fault(503) || (is_cut && self.is_draining(t)) {
            return self
                .is_draining(t)
                .then_some(())
                .ok_or_else(|| "was sent away by a server that stays".to_owned());
        }
        match (call, told_of) {
            (Call::Rpc { room, tag, .. }, told_of) => {
                let told_of = &answer(told_of);
                let room = name(room).unwrap_or_default();
                // A call waits for those before it.
                let waiting = Waiting {
                    tag,
                    room: &room,
                    server: one.server,
                    since: one.t,
                };
                self.answers.judge(&waiting, told_of, t)
            }
            (Call::Publish { .. }, Told::Done(done)) => self.published(one, call, (done, t)),
            (Call::History { room }, Told::Done(done)) => self.read(one, room, (done, t)),
            (Call::History { room }, Told::Fault(108)) if !is_of(JOURNAL, room) => Ok(()),
            (Call::Disconnect { .. }, Told::Done(_)) => Ok(()),
            (call, told_of) => Err(format!("{call:?} was answered {told_of:?}")),
        }
    }

    fn is_draining(&self, t: u64) -> bool {
        let history = self.history;
        history.has_restarted(t) || history.drained.is_some_and(|drained| drained <= t)
    }

    /// A text is where its caller was told that it is.
    fn published(
        &mut self,
        one: &Try<'a>,
        call: &Call,
        (done, t): (&Value, u64),
    ) -> Result<(), String> {
        let Call::Publish {
            room,
            text,
            once,
            live,
        } = call
        else {
            return Ok(());
        };
        let room = name(room).unwrap_or_default();
        if !once.is_empty() {
            let key = (one.server, room.clone(), once.clone());
            let first = self.done.entry(key).or_insert_with(|| done.clone());
            if first != done {
                return Err(format!("`{once}` was answered {first} and {done}"));
            }
        }
        if !is_of(JOURNAL, &room) || *live {
            let is_none = done.as_object().is_some_and(serde_json::Map::is_empty);
            return is_none
                .then_some(())
                .ok_or_else(|| format!("was told the place {done}"));
        }
        let place = done.get("epoch").and_then(Value::as_str);
        let place = place.zip(done.get("offset").and_then(Value::as_u64));
        let (epoch, offset) = place.ok_or("was told no place")?;
        let grace = self.history.grace;
        let line = self.history.line(one.server);
        let Some(chronicle) = self.chronicles.get_mut(&(line, room)) else {
            return Ok(());
        };
        let top = chronicle.top_by(t + grace);
        if chronicle.epoch != epoch || offset > top {
            return Err(format!(
                "was told {done}, and {} is at {top}",
                chronicle.epoch
            ));
        }
        chronicle.place(offset, &told(text))
    }

    /// What was read is what is there.
    fn read(&mut self, one: &Try<'a>, room: &str, (done, t): (&Value, u64)) -> Result<(), String> {
        let key = (
            self.history.line(one.server),
            name(room).unwrap_or_default(),
        );
        let ledger = self.history.ledger();
        let (Some(journal), Some(chronicle)) = (self.wild.journal, self.chronicles.get_mut(&key))
        else {
            return Ok(());
        };
        let top = done
            .get("offset")
            .and_then(Value::as_u64)
            .unwrap_or(u64::MAX);
        let grace = self.history.grace;
        let (low, high) = (chronicle.top_before(one.t), chronicle.top_by(t + grace));
        let is_its = done.get("epoch").and_then(Value::as_str) == Some(&chronicle.epoch);
        // A history that nobody has used is none, and has no epoch of its own.
        let is_its = is_its || top == 0;
        if !is_its || !(low..=high).contains(&top) {
            return Err(format!("was told {top}, and not {low} to {high}"));
        }
        let publications = done.get("publications").and_then(Value::as_array);
        let mut first = None;
        let mut last = None;
        for publication in publications.into_iter().flatten() {
            let offset = publication.get("offset").and_then(Value::as_u64);
            let offset = offset.ok_or("a publication without a place")?;
            if last.is_some_and(|last| offset != last + 1) {
                return Err(format!("{offset} follows {last:?}"));
            }
            let data = publication.get("data").and_then(Value::as_str);
            let data = data.ok_or_else(|| format!("{publication} is no text of a plan"))?;
            let of_backend = told(data);
            let text = match ledger.word(&of_backend) {
                Some(_) => &of_backend,
                None => data,
            };
            chronicle.place(offset, text)?;
            first = first.or(Some(offset));
            last = Some(offset);
        }
        let kept = Kept {
            chronicle,
            journal,
            grace,
        };
        let (first, sure) = (first.unwrap_or(top + 1), kept.sure(top, t));
        if first > sure || last.is_some_and(|last| last != top) {
            return Err(format!(
                "was told {first} to {last:?}, and {sure} to {top} are there"
            ));
        }
        if first <= top && kept.is_gone(first, top, one.t) {
            return Err(format!("was told {first}, which is gone at {top}"));
        }
        Ok(())
    }

    /// The answer comes in time where nothing is in its way, after the one before.
    fn in_time(&self, one: &Try<'a>, from: u64, t: u64) -> Result<(), String> {
        let by = self.due(one, from);
        let is_late = t > by && self.is_free(one, t);
        if is_late {
            return Err(format!("was answered at {t} us, not by {by} us"));
        }
        Ok(())
    }

    /// A call that waits at the end has no answer because of the network, or waits for a service.
    fn waits(&self, one: &Try<'a>) -> Result<(), String> {
        let end = self.history.entries.last().map_or(0, |entry| entry.t);
        let of_link = self.history.ledger().tries.iter();
        let of_link = of_link.filter(|it| (it.client, it.link) == (one.client, one.link));
        let by = of_link.map(|it| self.due(it, it.t) - it.t).sum::<u64>() + one.t;
        let waits = by < end && self.is_free(one, end);
        if waits {
            return Err("has no answer".to_owned());
        }
        Ok(())
    }

    /// By when a call that is alone since then is answered.
    fn due(&self, one: &Try<'a>, from: u64) -> u64 {
        let waits = one.call.each().iter().map(|call| match call {
            Call::Rpc { room, .. } if is_of(RELAY, room) => 0,
            Call::Rpc { tag, .. } => self.answers.due(tag, from).saturating_sub(from),
            Call::Batch { .. }
            | Call::Disconnect { .. }
            | Call::HangUp
            | Call::History { .. }
            | Call::Publish { .. } => 0,
        });
        // There and back, and again for a connection.
        let of_link = |it: &&Try<'_>| (it.client, it.link) == (one.client, one.link);
        let calls = self.history.ledger().tries.iter().filter(of_link).count() as u64;
        let crossing = self.history.crossing(BYTES * (calls + 2));
        let round = 4 * self.history.one_way() + self.history.grace + crossing;
        from + waits.sum::<u64>() + round
    }

    /// Whether nothing was in the way of a call up to this time.
    fn is_free(&self, one: &Try<'a>, t: u64) -> bool {
        let zone = self.history.zone_of(one.client);
        let history = self.history;
        let from = one.t.saturating_sub(2 * history.one_way());
        history.held_until(zone, from, t).is_none()
            && !history.is_severed(zone, 0, t)
            && !history.is_exhausted(from, t)
    }
}
