//! Any job, as an application in any language may write it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| klaviyod_fuzz::envelope(bytes));
