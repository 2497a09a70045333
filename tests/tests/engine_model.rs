//! Random programs on the real engine, on real memory, against a model that copies bytes.

#![forbid(unsafe_code)]

use cowspace::Policy;
use cowspace_tests::model::{World, programs};
use cowspace_tests::page;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn traced_mappings_show_what_the_model_shows(program in programs(60)) {
        World::new(Some(Policy::Traced)).run(&program);
    }

    #[test]
    fn native_mappings_show_what_the_model_shows(program in programs(60)) {
        World::new(Some(Policy::Native)).run(&program);
    }

    #[test]
    fn mixed_mappings_show_what_the_model_shows(program in programs(60)) {
        World::new(None).run(&program);
    }

    /// A file ends at a multiple of 2^62 bytes: here everything happens on both sides of such an end.
    #[test]
    fn offsets_of_many_exbibytes_are_like_others(
        program in programs(60), end in 1..4u64, native in any::<Option<bool>>(),
    ) {
        let policy = native.map(|native| if native { Policy::Native } else { Policy::Traced });
        World::new_at(policy, (end << 62) - 6 * page() as u64).run(&program);
    }
}
