//! Any file, with secrets planted beside it.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| klaviyod_fuzz::configuration(text));
