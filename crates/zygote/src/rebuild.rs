//! The address-space clone of RFC-0013, child's side: from a checked blueprint and its layers to VMOs, mappings and handles.

use std::os::fd::OwnedFd;

use cowspace::image::Image;
use cowspace::{HandleBased, Rights, Vmar, VmarFlags, Vmo, set_default_policy};

use crate::capture::engine;
use crate::error::Error;
use crate::protocol::{Access, Blueprint, Mapping, Policy};
use crate::report::LeftOut;

/// What is left of a blueprint once the memory is in place.
pub(crate) struct Rebuilt {
    pub(crate) arguments: Vec<u8>,
    pub(crate) vmos: Vec<(String, Vmo)>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// Builds the address space. The blueprint has been checked; the engine checks the layers.
pub(crate) fn rebuild(blueprint: Blueprint, layers: Vec<OwnedFd>) -> Result<Rebuilt, Error> {
    set_default_policy(blueprint.policy.into());
    let vmos =
        Image::build(blueprint.vmos, layers).map_err(engine("build the VMOs of the image"))?;
    let root = Vmar::try_root_self().map_err(engine("start"))?;
    for mapping in &blueprint.mappings {
        map(&root, mapping, &vmos)?;
    }
    let mut handles = Vec::with_capacity(blueprint.handles.len());
    for (name, vmo) in blueprint.handles {
        let handle = vmos[vmo as usize]
            .duplicate_handle(Rights::SAME_RIGHTS)
            .map_err(engine("duplicate a handle"))?;
        handles.push((name, handle));
    }
    Ok(Rebuilt {
        arguments: blueprint.arguments,
        vmos: handles,
        left_out: blueprint.left_out,
    })
}

/// Maps a clone where its original was, with all permissions that any of its pages has, and then takes away what a run of pages has not.
fn map(root: &Vmar, mapping: &Mapping, vmos: &[Vmo]) -> Result<(), Error> {
    let of_all = mapping
        .runs
        .iter()
        .fold(VmarFlags::empty(), |all, run| all | run.access.into());
    let base = root
        .info()
        .map_err(engine("say where its address space begins"))?
        .base;
    let len = mapping.len().unwrap_or(0) as usize;
    let mut address = mapping.address as usize;
    root.map(
        // Below the base it wraps around and so lies behind the end, which the engine refuses.
        address.wrapping_sub(base),
        &vmos[mapping.vmo as usize],
        mapping.vmo_offset,
        len,
        VmarFlags::SPECIFIC | of_all,
    )
    .map_err(engine("map a clone where its original was"))?;
    for run in &mapping.runs {
        let access = VmarFlags::from(run.access);
        if access != of_all {
            root.protect(address, run.len as usize, access)
                .map_err(engine("protect a mapping as its original was"))?;
        }
        address += run.len as usize;
    }
    Ok(())
}

impl From<Access> for VmarFlags {
    fn from(access: Access) -> Self {
        match access {
            Access::None => Self::empty(),
            Access::Read => Self::PERM_READ,
            Access::ReadWrite => Self::PERM_READ | Self::PERM_WRITE,
            Access::ReadExecute => Self::PERM_READ | Self::PERM_EXECUTE,
        }
    }
}

impl From<Policy> for cowspace::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Traced => Self::Traced,
            Policy::Native => Self::Native,
        }
    }
}

impl From<cowspace::Policy> for Policy {
    fn from(policy: cowspace::Policy) -> Self {
        match policy {
            cowspace::Policy::Traced => Self::Traced,
            cowspace::Policy::Native => Self::Native,
        }
    }
}
