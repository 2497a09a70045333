//! Profiles of page faults: what a recording says, shown.

#![forbid(unsafe_code)]

mod svg;
