//! A snapshot under running writers is a consistent cut: of each thread it holds a prefix of its writes, and no write without those that its
//! writer had seen.

#![forbid(unsafe_code)]

use cowspace::Policy;
use cowspace_tests::consistent_cut::{
    Shape, first_snapshots_are_consistent_cuts, snapshots_are_consistent_cuts,
    snapshots_are_consistent_cuts_beside, step,
};
use proptest::prelude::*;
use proptest::sample::select;
use test_share::share;

macro_rules! cuts {
    ($($name:ident: $shape:ident, $policy:ident;)*) => {
        $(#[test]
        fn $name() {
            snapshots_are_consistent_cuts(Shape::$shape, Policy::$policy, share(150));
        })*
    };
}

cuts! {
    traced_one_mapping: One, Traced;
    traced_two_mappings: Two, Traced;
    traced_resizable: Resizable, Traced;
    traced_pieces: Pieces, Traced;
    native_one_mapping: One, Native;
    native_two_mappings: Two, Native;
    native_resizable: Resizable, Native;
    native_pieces: Pieces, Native;
}

macro_rules! first_cuts {
    ($($name:ident: $shape:ident, $policy:ident;)*) => {
        $(#[test]
        fn $name() {
            first_snapshots_are_consistent_cuts(Shape::$shape, Policy::$policy, share(30));
        })*
    };
}

first_cuts! {
    first_traced_one_mapping: One, Traced;
    first_traced_two_mappings: Two, Traced;
    first_traced_pieces: Pieces, Traced;
    first_native_one_mapping: One, Native;
    first_native_pieces: Pieces, Native;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: share(12), failure_persistence: None, ..ProptestConfig::default() })]

    /// Writes, transfers, other permissions and mappings beside the writers' pages do not disturb them, nor they those.
    #[test]
    fn beside_a_random_program(
        shape in select(vec![Shape::One, Shape::Two, Shape::Resizable, Shape::Pieces]),
        policy in select(vec![Policy::Traced, Policy::Native]),
        program in prop::collection::vec(step(), 1..40),
    ) {
        snapshots_are_consistent_cuts_beside(shape, policy, &program);
    }
}
