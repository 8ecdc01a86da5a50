#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fusion_mpt_fuzz::vfio_user_messages::run(data));
