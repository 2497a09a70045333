//! A snapshot under running writers is a consistent cut: of each thread it holds a prefix of its writes, and no write without those that its
//! writer had seen.

#![forbid(unsafe_code)]

use cowspace::Policy;
use cowspace_tests::consistent_cut::{Shape, snapshots_are_consistent_cuts};

macro_rules! cuts {
    ($($name:ident: $shape:ident, $policy:ident;)*) => {
        $(#[test]
        fn $name() {
            snapshots_are_consistent_cuts(Shape::$shape, Policy::$policy, 150);
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
