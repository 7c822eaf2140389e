//! The sealed index file (being written).

use super::bodies::Body;
use super::layer::{Fields, KeyEntry, Message, Profile};
use crate::mail::Address;
use crate::store::{Sequence, Uid};

pub(super) enum Sealed {}

impl Sealed {
    pub(super) fn covers(&self) -> Sequence {
        match *self {}
    }
    pub(super) fn account(&self, _address: &str) -> Option<(usize, Fields)> {
        match *self {}
    }
    pub(super) fn profile(&self, _account: usize) -> Profile {
        match *self {}
    }
    pub(super) fn for_each_address(&self, _visit: &mut dyn FnMut(&Address)) {
        match *self {}
    }
    pub(super) fn message(&self, _account: usize, _uid: Uid) -> Option<Message> {
        match *self {}
    }
    pub(super) fn messages(&self, _account: usize) -> Vec<Message> {
        match *self {}
    }
    pub(super) fn body(&self, _seq: Sequence) -> Option<Body> {
        match *self {}
    }
    pub(super) fn chunks(&self, _seq: Sequence) -> Option<Vec<Sequence>> {
        match *self {}
    }
    pub(super) fn key(&self, _key: &[u8]) -> Option<KeyEntry> {
        match *self {}
    }
    pub(super) fn keys_from(&self, _first: &[u8]) -> std::iter::Empty<(&[u8], Option<&[u8]>)> {
        match *self {}
    }
    pub(super) fn len(&self) -> usize {
        match *self {}
    }
}
