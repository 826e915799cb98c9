#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| unfazed_fuzz::targets::slot_map(bytes));
