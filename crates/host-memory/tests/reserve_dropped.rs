//! What is left of a reservation that was dropped. One test: other threads of the process would be given its addresses.

mod util;

use host_memory::access::Volatile;
use host_memory::page::{Prot, page_size};
use host_memory::reserve::Source;
use util::{layer, maps_have, maps_id, maps_line, pages, reserve, volatile};

#[test]
fn the_memory_goes_at_once_and_the_addresses_with_the_last_access() {
    let room = reserve(2);
    let layer = layer(2);
    let range = room.range();
    room.map(range, Source::Private(&layer, 0), Prot::READ)
        .unwrap();
    let memory = volatile(pages(&room, 1, 1));
    assert_eq!(memory.load_u8(0), 2);
    assert!(
        Volatile::new(range.start(), 2 * page_size() + 1).is_none(),
        "over the end"
    );
    assert!(Volatile::new(range.start() - 1, 1).is_none() && Volatile::new(0, 1).is_none());

    drop(room);
    assert!(Volatile::new(range.start(), 1).is_none(), "no new access");
    assert!(!maps_have(&maps_id(&layer)));
    let line = maps_line(memory.addr()).unwrap();
    assert!(line.contains(" ---p "), "still reserved: {line}");
    drop(memory);
    assert_eq!(maps_line(range.start()), None);
    assert_eq!(maps_line(range.end() - 1), None);
}
