//! Cloned processes, as a person would try them: what they share, what they keep to themselves, and what is left when they or their zygote die.
//!
//! Each test runs for every pair of policies (zygote's, children's); [`settings`] runs all of them again on a machine that has no userfaultfd for them.

#![forbid(unsafe_code)]

mod agent;
mod endings;
mod frozen;
mod generations;
mod killed_children;
mod killed_zygote;
mod layers;
mod memory;
mod programs;
mod rounds;
mod settings;
mod shared_pages;

use std::process::ExitCode;

use cowspace_tests::{entries, runner, tests};

fn main() -> ExitCode {
    if let Some(code) = programs::list_descriptors_if_asked() {
        return code;
    }
    if let Err(code) = settings::enter() {
        return code;
    }
    runner::main(
        entries![
            agent::serve,
            endings::end,
            killed_children::store_for_ever,
            killed_zygote::keep_spawning,
            rounds::check,
        ],
        tests![
            shared_pages::reading_costs_nothing_and_writing_a_page,
            shared_pages::a_second_generation_costs_what_was_written,
            frozen::children_see_the_same,
            frozen::children_map_huge_pages,
            killed_zygote::children_outlive_their_zygote,
            killed_children::leave_nothing_in_the_zygote,
            layers::nobody_can_change_a_layer,
            generations::each_sees_its_own_state,
            generations::later_ones_outlive_the_first,
            rounds::leave_nothing_behind,
            programs::a_program_that_is_executed_gets_no_descriptor,
            programs::children_and_programs_run_side_by_side,
            endings::are_told_with_memory_in_use,
            settings::userfaultfd_is_disabled,
            settings::write_protection_is_disabled,
            settings::minor_faults_are_disabled,
            settings::pagemap_scan_is_disabled,
            settings::a_filter_forbids_userfaultfd,
            settings::a_filter_hides_userfaultfd,
            settings::an_ordinary_user_has_no_userfaultfd,
        ],
    )
}
