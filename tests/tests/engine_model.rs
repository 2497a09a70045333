//! Random programs on the real engine, on real memory, against a model that copies bytes.

#![forbid(unsafe_code)]

use cowspace::Policy;
use cowspace_tests::model::{World, programs};
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
}
