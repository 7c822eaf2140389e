#![no_main]

#[path = "../src/mime.rs"]
mod mime;

libfuzzer_sys::fuzz_target!(|data: &[u8]| mime::mime(data));
