//! The process as an object.

use super::*;

fn process() -> Process {
    Process::self_handle().expect("the engine runs")
}

/// Handles of every type but a process's.
fn others() -> [Handle; 3] {
    [
        Vmo::create(0).expect("a VMO can be made").into_handle(),
        Vmar::root_self().into_handle(),
        Thread::self_handle()
            .expect("the engine runs")
            .into_handle(),
    ]
}

fn as_process(handle: &Unowned<Handle>) -> Unowned<Process> {
    Unowned::from_raw_handle(handle.raw_handle())
}

#[test]
fn there_is_one_process() {
    let (a, b) = (process(), process());
    assert_ne!(a.raw_handle(), b.raw_handle());
    assert_eq!(koid_of(&a), koid_of(&b));
    let elsewhere = std::thread::spawn(|| koid_of(&process()));
    assert_eq!(elsewhere.join().expect("no panic"), koid_of(&a));
    assert!(koid_of(&a).raw_koid() >= 1024);
}

#[test]
fn what_the_calls_need() {
    let info: [Call; 2] = [
        |handle| as_process(handle).maps().map(drop),
        |handle| as_process(handle).vmos().map(drop),
    ];
    for call in info {
        check_order(call, &process(), Rights::INSPECT, &others());
    }
    let get: Call = |handle| as_process(handle).get_name().map(drop);
    check_order(get, &process(), Rights::GET_PROPERTY, &others());
    let set: Call = |handle| {
        let process = as_process(handle);
        process.set_name(&Process::self_handle()?.get_name()?)
    };
    check_order(set, &process(), Rights::SET_PROPERTY, &others());
}

#[test]
fn maps_are_those_of_the_process() {
    let region = Region::new(2);
    let addr = region.map(1, &numbered(1), 0, 1, RW);
    let maps = process().maps().expect("INSPECT is there");
    assert_eq!((maps[0].depth, maps[0].details), (0, MapsDetails::Aspace));
    assert_eq!((maps[1].depth, maps[1].details), (1, MapsDetails::Vmar));
    let mapped = maps.iter().find(|record| record.base == addr);
    let mapped = mapped.expect("the mapping is in the maps");
    let MapsDetails::Mapping(details) = mapped.details else {
        panic!("{mapped:?}");
    };
    assert_eq!(details.populated_bytes, bytes(1) as usize);
}

#[test]
fn vmos_are_listed_by_handle_and_by_mapping() {
    let region = Region::new(4);
    let held = numbered(2);
    held.set_name(&Name::new_lossy("held")).expect("a name");
    let less = with_rights(&held, Rights::READ);
    // Two pieces that continue each other are one mapping.
    region.map(0, &held, 0, 1, RW);
    region.map(1, &held, 1, 1, RW);
    region.map(3, &held, 0, 1, RW);
    let mapped = numbered(1);
    let mapped_koid = koid_of(&mapped);
    region.map(2, &mapped, 0, 1, RW);
    drop(mapped);
    let gone = koid_of(&numbered(1));

    let records = process().vmos().expect("INSPECT is there");
    let of = |koid: Koid| records.iter().filter(move |record| record.koid == koid);
    let rights = |koid: Koid, via: VmoInfoFlags| {
        let ways = VmoInfoFlags::VIA_HANDLE | VmoInfoFlags::VIA_MAPPING;
        let records = of(koid).filter(move |record| record.flags & ways == via);
        let mut rights: Vec<_> = records.map(|record| record.handle_rights.bits()).collect();
        rights.sort();
        rights
    };
    let koid = koid_of(&held);
    assert_eq!(
        rights(koid, VmoInfoFlags::VIA_HANDLE),
        [Rights::READ.bits(), Rights::VMO_DEFAULT.bits()]
    );
    assert_eq!(rights(koid, VmoInfoFlags::VIA_MAPPING), [0, 0]);
    assert_eq!(of(koid).count(), 4);
    let expected = held.info().expect("a VMO has info");
    for record in of(koid) {
        let mut record = *record;
        record.flags = expected.flags;
        record.handle_rights = expected.handle_rights;
        assert_eq!(record, expected);
    }
    assert_eq!(expected.num_mappings, 2);
    assert_eq!(rights(mapped_koid, VmoInfoFlags::VIA_MAPPING), [0]);
    assert_eq!(of(mapped_koid).count(), 1);
    assert_eq!(of(gone).count(), 0);
    drop(less);
}

#[test]
fn writes_through_mappings_are_counted_in_each_family() {
    let region = Region::new(4);
    let vmos = [numbered(2), numbered(2)];
    let clones = vmos.each_ref().map(|vmo| {
        vmo.create_child(VmoChildOptions::SNAPSHOT, 0, bytes(2))
            .expect("a VMO can be cloned")
    });
    for (i, clone) in clones.iter().enumerate() {
        let addr = region.map(2 * i, clone, 0, 2, RW);
        cowspace_tests::memory(addr, 1).write(0, &[9]);
    }
    let records = process().vmos().expect("INSPECT is there");
    for clone in &clones {
        let koid = koid_of(clone);
        let private = records
            .iter()
            .filter(|record| record.koid == koid)
            .map(|record| record.populated_private_bytes);
        assert_eq!(private.collect::<Vec<_>>(), [bytes(1); 2]);
    }
}

#[test]
fn the_name_is_the_main_threads() {
    let process = process();
    let before = process.get_name().expect("a name");
    let comm = || std::fs::read("/proc/self/comm").expect("/proc tells the name");
    assert_eq!(before.as_bytes(), comm().trim_ascii_end());
    for name in ["cowspace", "a name of more than fifteen bytes", ""] {
        let name = Name::new_lossy(name);
        process.set_name(&name).expect("SET_PROPERTY is there");
        assert_eq!(process.get_name(), Ok(name));
        assert_eq!(Handle::get_name(process.as_ref()), Ok(name));
        let shown = &name.as_bytes()[..name.as_bytes().len().min(15)];
        assert_eq!(comm(), [shown, b"\n"].concat());
    }
    process.set_name(&before).expect("SET_PROPERTY is there");
}
