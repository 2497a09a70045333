//! Handles with fewer rights, and the end of handles.

use cowspace::{HandleBased, Rights, Status};

use super::space::VmarHandle;
use super::world::{World, pick};

/// What is asked for, of a handle that has `rights`.
fn wanted(rights: Rights, without: Rights, with: Rights) -> Rights {
    if with == Rights::SAME_RIGHTS {
        with
    } else {
        (rights - without) | with
    }
}

/// What a handle with these rights is made of one that has `rights`.
fn granted(rights: Rights, wanted: Rights) -> Result<Rights, Status> {
    if wanted == Rights::SAME_RIGHTS {
        Ok(rights)
    } else if rights.contains(wanted) {
        Ok(wanted)
    } else {
        Err(Status::INVALID_ARGS)
    }
}

fn duplicated(rights: Rights, wanted: Rights) -> Result<Rights, Status> {
    if rights.contains(Rights::DUPLICATE) {
        granted(rights, wanted)
    } else {
        Err(Status::ACCESS_DENIED)
    }
}

impl World {
    pub(super) fn duplicate(&mut self, vmo: usize, without: Rights, with: Rights) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let handle = &self.vmos[index];
        let wanted = wanted(handle.rights, without, with);
        let real = handle.vmo.duplicate_handle(wanted);
        let expected = duplicated(handle.rights, wanted);
        let object = handle.object;
        if let Some((vmo, rights)) = self.agree("duplicate", real, expected) {
            self.enter(vmo, object, rights);
        }
    }

    pub(super) fn replace(&mut self, vmo: usize, without: Rights, with: Rights) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        // Closed in any case.
        let handle = self.vmos.swap_remove(index);
        let wanted = wanted(handle.rights, without, with);
        let real = handle.vmo.replace_handle(wanted);
        let expected = granted(handle.rights, wanted);
        if let Some((vmo, rights)) = self.agree("replace", real, expected) {
            self.enter(vmo, handle.object, rights);
        }
    }

    pub(super) fn replace_as_executable(&mut self, vmo: usize) {
        let Some(index) = pick(vmo, self.vmos.len()) else {
            return;
        };
        let handle = self.vmos.swap_remove(index);
        let real = handle.vmo.replace_as_executable();
        let expected = Ok(handle.rights | Rights::EXECUTE);
        if let Some((vmo, rights)) = self.agree("replace_as_executable", real, expected) {
            self.enter(vmo, handle.object, rights);
        }
    }

    pub(super) fn close(&mut self, vmo: usize) {
        if let Some(index) = pick(vmo, self.vmos.len()) {
            self.vmos.swap_remove(index);
        }
    }

    pub(super) fn duplicate_vmar(&mut self, vmar: usize, without: Rights, with: Rights) {
        let handle = &self.vmars[self.vmar(vmar)];
        let wanted = wanted(handle.rights, without, with);
        let real = handle.vmar.duplicate_handle(wanted);
        let expected = duplicated(handle.rights, wanted);
        let region = handle.region;
        if let Some((vmar, rights)) = self.agree("duplicate", real, expected) {
            self.enter_vmar(vmar, region, rights);
        }
    }

    pub(super) fn enter_vmar(&mut self, vmar: cowspace::Vmar, region: usize, rights: Rights) {
        let info = vmar.basic_info().expect("the handle is valid");
        assert_eq!(info.rights, rights, "{}: rights of a VMAR", self.now());
        self.vmars.push(VmarHandle {
            vmar,
            region,
            rights,
        });
    }

    pub(super) fn close_vmar(&mut self, vmar: usize) {
        if let Some(index) = pick(vmar, self.vmars.len() - 1) {
            self.vmars.swap_remove(index + 1);
        }
    }
}
