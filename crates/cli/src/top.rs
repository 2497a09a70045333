//! `cowspace top`: what a running process's faults and memory look like now, refreshed in place.

mod sample;
mod state;
mod view;
#[cfg(test)]
mod view_tests;
mod words;
