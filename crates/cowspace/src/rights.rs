use bitflags::bitflags;

bitflags! {
    /// What a handle allows, as `zx_rights_t`. The bits are those of Zircon's `rights.h`.
    ///
    /// A bit without a name can be represented, so that calls can refuse it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Rights: u32 {
        /// Duplicate the handle; make a child of the VMO.
        const DUPLICATE = 1 << 0;
        /// Send the handle to another process.
        const TRANSFER = 1 << 1;
        /// Read, or map for reading.
        const READ = 1 << 2;
        /// Write, or map for writing.
        const WRITE = 1 << 3;
        /// Map for execution.
        const EXECUTE = 1 << 4;
        /// Map the VMO.
        const MAP = 1 << 5;
        /// Read properties, such as the name.
        const GET_PROPERTY = 1 << 6;
        /// Set properties, such as the name.
        const SET_PROPERTY = 1 << 7;
        /// List the object's children.
        const ENUMERATE = 1 << 8;
        /// End the object.
        const DESTROY = 1 << 9;
        /// Set policies of the object.
        const SET_POLICY = 1 << 10;
        /// Read policies of the object.
        const GET_POLICY = 1 << 11;
        /// Change the object's user signals.
        const SIGNAL = 1 << 12;
        /// Change the user signals of the other end.
        const SIGNAL_PEER = 1 << 13;
        /// Wait for signals.
        const WAIT = 1 << 14;
        /// Ask for object info; clone what a VMAR maps.
        const INSPECT = 1 << 15;
        /// Make processes in the job.
        const MANAGE_JOB = 1 << 16;
        /// Make threads in the process.
        const MANAGE_PROCESS = 1 << 17;
        /// Control the thread.
        const MANAGE_THREAD = 1 << 18;
        /// Apply a scheduling profile.
        const APPLY_PROFILE = 1 << 19;
        /// Control the socket.
        const MANAGE_SOCKET = 1 << 20;
        /// Act through a VMAR on its child VMARs; destroy it.
        const OP_CHILDREN = 1 << 21;
        /// Resize the VMO, if it is resizable.
        const RESIZE = 1 << 22;
        /// Attach a VMO to a pager.
        const ATTACH_VMO = 1 << 23;
        /// Manage a pager's VMO.
        const MANAGE_VMO = 1 << 24;
        /// Not a right: asks `duplicate` and `replace` for the rights that the handle has.
        const SAME_RIGHTS = 1 << 31;

        const _ = !0;
    }
}

impl Rights {
    /// No right at all.
    pub const NONE: Rights = Rights::empty();

    /// `ZX_RIGHTS_BASIC`: what nearly every handle has.
    pub const BASIC: Rights = Rights::TRANSFER
        .union(Rights::DUPLICATE)
        .union(Rights::WAIT)
        .union(Rights::INSPECT);

    /// `ZX_DEFAULT_VMO_RIGHTS`: a new VMO's handle, and a clone made by `create_vmo_child`.
    pub const VMO_DEFAULT: Rights = Rights::BASIC
        .union(Rights::READ)
        .union(Rights::WRITE)
        .union(Rights::GET_PROPERTY)
        .union(Rights::SET_PROPERTY)
        .union(Rights::MAP)
        .union(Rights::SIGNAL);

    /// `ZX_DEFAULT_VMAR_RIGHTS`: a new VMAR's handle has these, and `READ`, `WRITE`, `EXECUTE` as the
    /// VMAR can map.
    pub const VMAR_DEFAULT: Rights = Rights::TRANSFER
        .union(Rights::DUPLICATE)
        .union(Rights::INSPECT)
        .union(Rights::OP_CHILDREN);

    /// `ZX_DEFAULT_PROCESS_RIGHTS`: the handle of the calling process.
    pub const PROCESS_DEFAULT: Rights = Rights::BASIC
        .union(Rights::READ)
        .union(Rights::WRITE)
        .union(Rights::GET_PROPERTY)
        .union(Rights::SET_PROPERTY)
        .union(Rights::ENUMERATE)
        .union(Rights::DESTROY)
        .union(Rights::SIGNAL)
        .union(Rights::MANAGE_PROCESS)
        .union(Rights::MANAGE_THREAD);

    /// `ZX_DEFAULT_THREAD_RIGHTS`: the handle of a thread.
    pub const THREAD_DEFAULT: Rights = Rights::BASIC
        .union(Rights::READ)
        .union(Rights::WRITE)
        .union(Rights::GET_PROPERTY)
        .union(Rights::SET_PROPERTY)
        .union(Rights::DESTROY)
        .union(Rights::SIGNAL)
        .union(Rights::MANAGE_THREAD);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zircons() {
        assert_eq!(Rights::VMO_DEFAULT.bits(), 0xd0ef);
        assert_eq!(Rights::VMAR_DEFAULT.bits(), 0x20_8003);
        assert_eq!(Rights::PROCESS_DEFAULT.bits(), 0x6_d3cf);
        assert_eq!(Rights::THREAD_DEFAULT.bits(), 0x4_d2cf);
        assert_eq!(Rights::SAME_RIGHTS.bits(), 0x8000_0000);
        assert_eq!(Rights::RESIZE.bits(), 1 << 22);
    }

    #[test]
    fn bits_without_a_name_are_kept() {
        let rights = Rights::READ | Rights::from_bits_retain(1 << 30);
        assert_eq!(rights.bits(), 1 << 30 | 4);
        assert!(!Rights::VMO_DEFAULT.contains(rights));
    }
}
