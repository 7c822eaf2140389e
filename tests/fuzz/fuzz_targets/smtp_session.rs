#![no_main]

#[path = "../src/smtp_session.rs"]
mod smtp_session;
#[path = "../src/shard.rs"]
mod shard;

libfuzzer_sys::fuzz_target!(|data: &[u8]| smtp_session::smtp_session(data));
