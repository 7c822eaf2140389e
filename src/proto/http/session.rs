//! The conversation.

use std::time::Instant;

use super::{Answer, Ask};
use crate::proto::{Event, Step};

/// One HTTP connection.
pub struct Session {}

impl Session {
    /// A session that has not greeted yet.
    pub fn new() -> Session {
        Session {}
    }
}

impl crate::proto::Session for Session {
    type Ask = Ask;
    type Answer = Answer;
    fn greet(&mut self, _now: Instant, _out: &mut Vec<u8>) -> Step<Ask> {
        todo!()
    }
    fn feed(&mut self, _input: &[u8], _now: Instant, _out: &mut Vec<u8>) -> (usize, Step<Ask>) {
        todo!()
    }
    fn answer(&mut self, _answer: Answer, _now: Instant, _out: &mut Vec<u8>) -> Step<Ask> {
        todo!()
    }
    fn notify(&mut self, _event: Event, _now: Instant, _out: &mut Vec<u8>) -> Step<Ask> {
        todo!()
    }
    fn deadline(&self) -> Option<Instant> {
        todo!()
    }
}
