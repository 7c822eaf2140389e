#![no_main]

#[path = "../src/pop3_session.rs"]
mod pop3_session;
#[path = "../src/shard.rs"]
mod shard;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pop3_session::pop3_session(data));
