//! Names and object info.

use super::*;

#[test]
fn names_belong_to_the_object() {
    let vmo = Vmo::create(0).expect("a VMO can be made");
    let other = with_rights(&vmo, Rights::GET_PROPERTY);
    let name = Name::new_lossy("a name of more than thirty-one bytes");
    vmo.set_name(&name).expect("default rights are enough");
    assert_eq!(other.get_name(), Ok(name));
    assert_eq!(
        name.as_bytes(),
        &b"a name of more than thirty-one bytes"[..31]
    );
    assert_eq!(vmo.info().expect("a VMO has info").name, name);
    assert_eq!(other.set_name(&name), Err(Status::ACCESS_DENIED));
    let blind = with_rights(&vmo, Rights::VMO_DEFAULT - Rights::GET_PROPERTY);
    assert_eq!(blind.get_name(), Err(Status::ACCESS_DENIED));
    assert_eq!(blind.set_name(&Name::default()), Ok(()));
    assert!(other.get_name().expect("the right is there").is_empty());
    let vmar = as_vmo(Vmar::root_self());
    assert_eq!(vmar.get_name(), Err(Status::WRONG_TYPE));
}

#[test]
fn info_counts_mappings() {
    let vmo = numbered(2);
    let region = Region::new(8);
    let count = || {
        let info = vmo.info().expect("a VMO has info");
        assert!(info.share_count <= 1);
        info.num_mappings
    };
    assert_eq!(count(), 0);
    region.map(0, &vmo, 0, 2, RW);
    region.map(4, &vmo, 0, 1, VmarFlags::PERM_READ);
    assert_eq!(count(), 2);
    // Cutting one in two makes two.
    region.map(5, &vmo, 1, 1, VmarFlags::PERM_READ);
    assert_eq!(count(), 2, "one that continues another is none of its own");
    region.unmap(0, 1);
    assert_eq!(count(), 2);
    region.unmap(4, 4);
    region.unmap(0, 4);
    assert_eq!(count(), 0);
}

#[test]
fn what_shares_nothing_is_all_private() {
    for policy in [None, Some(Policy::Traced), Some(Policy::Native)] {
        let vmo = Vmo::create(bytes(6)).expect("a VMO can be made");
        let region = Region::new(6);
        if let Some(policy) = policy {
            region.map_with(0, &vmo, 6, RW, policy);
        }
        let charged = |pages: usize| {
            let info = vmo.info().expect("a VMO has info");
            for field in [
                info.committed_bytes,
                info.populated_bytes,
                info.committed_private_bytes,
                info.populated_private_bytes,
                info.committed_scaled_bytes,
                info.populated_scaled_bytes,
            ] {
                assert_eq!(field, bytes(pages), "{policy:?}");
            }
            assert_eq!(info.committed_fractional_scaled_bytes, 0);
            assert_eq!(info.populated_fractional_scaled_bytes, 0);
        };
        charged(0);
        put(&vmo, 0, 1);
        vmo.op_range(COMMIT, bytes(1), bytes(1)).expect("inside");
        charged(2);
        if policy.is_some() {
            // Writes through a mapping count, looking does not.
            memory(region.at(2), 1).store_u8(0, 1);
            assert_eq!(memory(region.at(3), 1).load_u8(0), 0);
            charged(3);
            region.unmap(0, 6);
        } else {
            put(&vmo, 2, 1);
        }
        charged(3);
        vmo.op_range(DECOMMIT, 0, bytes(1)).expect("inside");
        vmo.op_range(ZERO, bytes(1), bytes(1)).expect("inside");
        charged(1);
    }
}

/// The last handle does not matter to mappings, nor a mapping's end to a handle.
#[test]
fn handles_and_mappings_keep_the_memory() {
    for policy in POLICIES {
        let region = Region::new(4);
        let vmo = numbered(2);
        region.map_with(0, &vmo, 2, RW, policy);
        region.map_with(2, &vmo, 2, RW, policy);
        drop(vmo);
        memory(region.at(0), 1).store_u8(0, 9);
        assert_eq!(memory(region.at(2), 1).load_u8(0), 9);
        assert_eq!(memory(region.at(3), 1).load_u8(0), 2);

        let vmo = numbered(2);
        let region = Region::new(2);
        region.map_with(0, &vmo, 2, RW, policy);
        memory(region.at(1), 1).store_u8(0, 9);
        region.unmap(0, 2);
        assert_eq!(firsts(&vmo, 2), [1, 9]);
    }
}

#[test]
fn a_vmo_is_no_vmar() {
    let vmar = as_vmar(numbered(1));
    assert_eq!(refused(vmar.info()), Status::WRONG_TYPE);
    assert_eq!(refused(vmar.maps()), Status::WRONG_TYPE);
    assert_eq!(refused(vmar.destroy()), Status::WRONG_TYPE);
    let all = VmarFlags::empty();
    assert_eq!(refused(vmar.allocate(0, page(), all)), Status::WRONG_TYPE);
    assert_eq!(refused(vmar.unmap(0, page())), Status::WRONG_TYPE);
    assert_eq!(refused(vmar.protect(0, page(), all)), Status::WRONG_TYPE);
}
