#![no_main]

#[path = "../src/imap_session.rs"]
mod imap_session;
#[path = "../src/imap_world.rs"]
mod imap_world;
#[path = "../src/shard.rs"]
mod shard;

libfuzzer_sys::fuzz_target!(|data: &[u8]| imap_session::imap_session(data));
