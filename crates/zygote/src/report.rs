//! What a clone does not have that its zygote had.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Something of the zygote's address space that its clone does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The name of the VMO that is mapped there.
    pub name: String,
    /// Address in bytes, in the zygote; a multiple of the page size.
    pub base: usize,
    /// Length in bytes, a multiple of the page size.
    pub size: usize,
    /// What is missing.
    pub what: Missing,
}

/// What of a mapping a clone does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Missing {
    /// All of it: the mapping, or a VMAR around it, was made with `CANNOT_CREATE_VMO_CHILD`.
    Mapping,
    /// The permission to write: the mapping is writable and executable, and a clone is only ever one of both (RFC-0013).
    WritePermission,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            base,
            size,
            what,
        } = self;
        let what = match what {
            Missing::Mapping => "must not be cloned",
            Missing::WritePermission => "is executable, so its clone is not writable",
        };
        write!(
            f,
            "{base:#x}..{:#x} ({name}) {what}",
            base.wrapping_add(*size)
        )
    }
}
