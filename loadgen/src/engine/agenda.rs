//! What happens when: alarms of connections, and who begins what is due.
//!
//! Guarantees: an operation that is due begins in the turn in which it is seen to be, if a
//! connection is free; a turn ends, whatever dialogues do.
//! Does not know: sockets, completions.

use std::io;
use std::time::Instant;

use ringpost::ring::raw::entry;

use super::slot::{Alarm, Phase};
use super::{CONNECT, CONNECTING_MAX, Engine};
use crate::dialogue::{Dialogue, End, Work as _};
use crate::recorder::{Fault, Verb};

impl<D: Dialogue> Engine<'_, D> {
    pub(super) fn alarm(&mut self, index: u32, alarm: Alarm) {
        self.slots[index as usize].alarm = alarm;
        if let Some(at) = alarm.at() {
            self.timers.set(index, at);
        }
    }

    /// Does what it is time for.
    pub(super) fn ring_alarms(&mut self, now: Instant) {
        while let Some(index) = self.timers.pop(now) {
            let slot = &mut self.slots[index as usize];
            match slot.alarm {
                Alarm::None => {}
                // It was put off since.
                alarm if alarm.at().is_some_and(|at| at > now) => self.alarm(index, alarm),
                Alarm::Open(_) => {
                    slot.alarm = Alarm::None;
                    slot.free_since = now;
                    self.closed.push_back(index);
                }
                Alarm::Silence(_) => {
                    let text = format!("nothing for {:?}", self.options.timeout);
                    self.end(index, End::Fault(Fault::Timeout, &text), now);
                }
                Alarm::Wake(_) => self.speak(index, now, |dialogue, work, out| {
                    dialogue.woken(work, now, out)
                }),
            }
        }
    }

    /// Gives what is due to connections that are free, and opens others where there are none.
    pub(super) fn dispatch(&mut self, now: Instant) {
        self.due = None;
        for _ in 0..self.idle.len() + self.closed.len() {
            let due = self.work.next_due(now);
            if due.is_some_and(|due| due > now) {
                self.due = due;
                if !self.options.open_all {
                    return;
                }
            } else if let Some(index) = self.idle.pop_front() {
                self.wake_idle(index, due, now);
                continue;
            }
            if self.connecting >= CONNECTING_MAX {
                return;
            }
            let Some(index) = self.closed.pop_front() else {
                return;
            };
            let free_since = self.slots[index as usize].free_since;
            if self.open(index, now) {
                self.note_lateness(due, free_since.max(self.no_room), now);
                continue;
            }
            self.due = self.work.next_due(now);
            if self.due.is_some() {
                self.closed.push_front(index);
                return;
            }
            self.slots[index as usize].phase = Phase::Finished;
            self.finished += 1;
        }
    }

    fn wake_idle(&mut self, index: u32, due: Option<Instant>, now: Instant) {
        let slot = &mut self.slots[index as usize];
        slot.listed = false;
        if std::mem::take(&mut slot.idle) {
            let free_since = slot.free_since;
            self.speak(index, now, |dialogue, work, out| {
                dialogue.woken(work, now, out)
            });
            self.note_lateness(due, free_since, now);
        }
    }

    /// An operation that was due and could have begun at `able_since` begins now.
    fn note_lateness(&mut self, due: Option<Instant>, able_since: Instant, now: Instant) {
        if let Some(due) = due.filter(|due| *due < now) {
            let from = due.max(able_since).min(now);
            self.work.recorder().time(Verb::Lateness, from, now);
        }
    }

    /// Opens a connection; `false`: there is nothing to do for it.
    fn open(&mut self, index: u32, now: Instant) -> bool {
        let Some(dialogue) = D::open(self.work, now) else {
            return false;
        };
        self.alarm(index, Alarm::Silence(now + self.options.timeout));
        let slot = &mut self.slots[index as usize];
        slot.began = now;
        slot.dialogue = Some(dialogue);
        slot.arriving = true;
        self.connecting += 1;
        self.connect(index, now);
        true
    }

    /// On its way, from the source address whose turn it is.
    pub(super) fn connect(&mut self, index: u32, now: Instant) {
        let number = self.options.first_connection + index;
        loop {
            self.slots[index as usize].source = self.source;
            match self.options.target.socket(number, self.source) {
                Ok(socket) => {
                    let slot = &mut self.slots[index as usize];
                    let fd = slot.socket(socket);
                    slot.phase = Phase::Connecting;
                    let (pointer, bytes) = (self.address.as_ptr(), self.address.addr_len());
                    let operation = entry::connect(fd, pointer.cast(), bytes);
                    return self.push(index, CONNECT, operation);
                }
                Err(e) if self.next_source(index, &e) => {}
                Err(e) => {
                    self.slots[index as usize].phase = Phase::Up;
                    let fault = End::Fault(Fault::Unreachable, &e.to_string());
                    return self.end(index, fault, now);
                }
            }
        }
    }

    /// Whether there is another source address to try, after one that has no free port any more.
    pub(super) fn next_source(&mut self, index: u32, e: &io::Error) -> bool {
        let kinds = [io::ErrorKind::AddrInUse, io::ErrorKind::AddrNotAvailable];
        if !kinds.contains(&e.kind()) || !self.options.target.has_source(self.source + 1) {
            return false;
        }
        // Other connections may have found out at the same time.
        if self.slots[index as usize].source == self.source {
            self.source += 1;
        }
        true
    }
}
