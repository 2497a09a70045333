//! What cowspace is compared with. Each is written as well as it can be: it does less than cowspace, and nothing that
//! is not needed.

pub(crate) mod bare;
pub(crate) mod blank;
pub(crate) mod cold;
pub(crate) mod fork;
pub(crate) mod forking;
