//! Random programs on the real engine, on real memory, against a model that copies bytes.

#![forbid(unsafe_code)]

use cowspace::{Policy, VmarFlags, VmoChildOptions};
use cowspace_tests::model::{Looks, Move, Op, Part, Place, Program, World, programs};
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

/// Two clones share a page, and one of them gives it to the other: that shows the same bytes as before, and may go on sharing them.
#[test]
fn a_page_is_moved_to_where_it_is_already() {
    let flags = VmarFlags::CAN_MAP_SPECIFIC | VmarFlags::CAN_MAP_READ | VmarFlags::CAN_MAP_WRITE;
    let clone = |first, pages| Op::CloneMapping {
        part: Part {
            mapping: 0,
            via: 0,
            first,
            pages,
            beyond: false,
        },
        options: VmoChildOptions::SNAPSHOT,
    };
    let program = Program(vec![
        Op::Create {
            pages: 8,
            resizable: false,
            discardable: false,
        },
        Op::MapAll {
            vmar: 0,
            vmo: 0,
            native: false,
        },
        Op::Allocate {
            vmar: 0,
            place: Place::Anywhere,
            pages: 1,
            flags,
        },
        Op::Store {
            mapping: 0,
            at: 2 * page() + 972,
            len: 3 * page() - 967,
        },
        Op::Close { vmo: 0 },
        clone(11, 5),
        clone(12, 2),
        Op::MapAll {
            vmar: 20,
            vmo: 6,
            native: false,
        },
        Op::Transfer(Move {
            to: 0,
            at: 7,
            from: 7,
            from_at: 13,
            pages: 1,
            odd: 0,
        }),
    ]);
    World::new(Some(Policy::Traced), Looks::Always).run(&program);
}
