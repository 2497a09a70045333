//! Random programs on the real engine, on real memory, against a model that copies bytes.

#![forbid(unsafe_code)]

use cowspace::Policy;
use cowspace_tests::model::{Looks, World, programs};
use cowspace_tests::page;
use proptest::prelude::*;
use test_share::share;

proptest! {
    #![proptest_config(ProptestConfig { cases: share(800), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn traced_mappings_show_what_the_model_shows(program in programs(80)) {
        World::new(Some(Policy::Traced), Looks::WhenAsked).run(&program);
    }

    #[test]
    fn native_mappings_show_what_the_model_shows(program in programs(80)) {
        World::new(Some(Policy::Native), Looks::WhenAsked).run(&program);
    }

    #[test]
    fn mixed_mappings_show_what_the_model_shows(program in programs(80)) {
        World::new(None, Looks::WhenAsked).run(&program);
    }

    /// A file ends at a multiple of 2^62 bytes: here everything happens on both sides of such an end.
    #[test]
    fn offsets_of_many_exbibytes_are_like_others(
        program in programs(60), end in 1..4u64, native in any::<Option<bool>>(),
    ) {
        let policy = native.map(|native| if native { Policy::Native } else { Policy::Traced });
        let origin = (end << 62) - 6 * page() as u64;
        World::new(policy, Looks::WhenAsked).with_origin(origin).run(&program);
    }

    #[test]
    fn all_that_can_be_asked_is_the_models_after_each_step_if_traced(program in programs(60)) {
        World::new(Some(Policy::Traced), Looks::Always).run(&program);
    }

    #[test]
    fn all_that_can_be_asked_is_the_models_after_each_step_if_native(program in programs(60)) {
        World::new(Some(Policy::Native), Looks::Always).run(&program);
    }

    #[test]
    fn all_that_can_be_asked_is_the_models_after_each_step_if_mixed(program in programs(60)) {
        World::new(None, Looks::Always).run(&program);
    }
}
