#![no_main]

#[path = "../src/http_session.rs"]
mod http_session;
#[path = "../src/shard.rs"]
mod shard;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http_session::http_session(data));
