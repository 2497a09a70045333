//! What a child is given to run with.

use cowspace::Vmo;

use crate::launcher::Launcher;
use crate::report::LeftOut;

/// What the zygote gave to this child, apart from the memory: that is mapped at the same addresses as in the zygote.
#[derive(Debug)]
pub struct Context {
    /// The bytes given to [`Spawn::args`](crate::Spawn::args).
    pub args: Vec<u8>,
    /// A handle to the clone of each VMO given to [`Spawn::vmo`](crate::Spawn::vmo), by name, in the order given.
    pub vmos: Vec<(String, Vmo)>,
    /// What of the zygote's address space is not here.
    pub left_out: Vec<LeftOut>,
    /// For a child that may itself be a zygote ([`Spawn::can_spawn`](crate::Spawn::can_spawn)); its entries are the zygote's.
    pub launcher: Option<Launcher>,
}

impl Context {
    /// Takes the handle of this name out of [`vmos`](Self::vmos).
    pub fn take_vmo(&mut self, name: &str) -> Option<Vmo> {
        let place = self.vmos.iter().position(|(of, _)| of == name)?;
        Some(self.vmos.remove(place).1)
    }
}
