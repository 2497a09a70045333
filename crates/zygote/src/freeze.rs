//! Freezing: what a spawn would find to do, done before the first one.

use cowspace::{Frozen, Status, Vmar, process_layout};

use crate::capture::engine;
use crate::error::Error;
use crate::pieces::{Piece, pieces};
use crate::spawn::Zygote;

impl Zygote {
    /// Makes ready what is mapped now, for children to be spawned quickly and to read it quickly: see [`Vmar::freeze`], which does it for each mapping. To be called when the
    /// zygote is warm; it takes up to some seconds for each GiB. Threads may go on meanwhile, and children be spawned.
    ///
    /// Mappings that no child can have are left out, and those that change meanwhile. Gives how much was frozen, in all.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] and [`Error::Capture`], as a spawn that clones these mappings. What was frozen before stays so.
    pub fn freeze(&self) -> Result<Frozen, Error> {
        let root = Vmar::try_root_self().map_err(engine("start"))?;
        let layout = process_layout().map_err(engine("list the mappings"))?;
        let mut all = Frozen::default();
        for piece in pieces(&layout) {
            freeze_piece(&root, &piece, &mut all)?;
        }
        tracing::debug!(?all, "frozen");
        Ok(all)
    }
}

fn freeze_piece(root: &Vmar, piece: &Piece, all: &mut Frozen) -> Result<(), Error> {
    match root.freeze(piece.base, piece.size) {
        Ok(frozen) => {
            all.bytes += frozen.bytes;
            all.huge_bytes += frozen.huge_bytes;
            Ok(())
        }
        Err(Status::INVALID_ARGS) if piece.records.len() > 1 => piece
            .split()
            .iter()
            .try_for_each(|part| freeze_piece(root, part, all)),
        Err(Status::ACCESS_DENIED | Status::INVALID_ARGS) => Ok(()),
        Err(status) => Err(Error::Capture {
            what: piece.to_string(),
            status,
        }),
    }
}
