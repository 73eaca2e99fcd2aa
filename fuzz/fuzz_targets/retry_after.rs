//! Any headers that ask for a wait, one to a line.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| klaviyod_fuzz::retry_after(bytes));
