//! Any answer that refuses; the first byte chooses its status.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| klaviyod_fuzz::error_document(bytes));
