//! Threads as objects.

use std::sync::mpsc::channel;
use std::thread::{spawn, yield_now};

use super::*;

fn thread() -> Thread {
    Thread::self_handle().expect("the engine runs")
}

/// Handles of every type but a thread's.
fn others() -> [Handle; 3] {
    [
        Vmo::create(0).expect("a VMO can be made").into_handle(),
        Vmar::root_self().into_handle(),
        Process::self_handle()
            .expect("the engine runs")
            .into_handle(),
    ]
}

fn as_thread(handle: &Unowned<Handle>) -> Unowned<Thread> {
    Unowned::from_raw_handle(handle.raw_handle())
}

/// A thread that has ended.
fn ended() -> Thread {
    let name = Name::new_lossy("a thread that ends");
    let ended = spawn(move || {
        let thread = thread();
        thread.set_name(&name).expect("SET_PROPERTY is there");
        thread
    });
    let ended = ended.join().expect("no panic");
    // The kernel tells whoever joins a moment before the thread is gone.
    while ended.stats().is_ok() {
        yield_now();
    }
    ended
}

#[test]
fn each_thread_has_one_object() {
    let (a, b) = (thread(), thread());
    assert_ne!(a.raw_handle(), b.raw_handle());
    assert_eq!(koid_of(&a), koid_of(&b));
    // So many that those of the ended ones are thrown out on the way.
    let koids: HashSet<Koid> = (0..200)
        .map(|_| {
            spawn(|| {
                let koid = koid_of(&thread());
                assert_eq!(koid_of(&thread()), koid);
                koid
            })
        })
        .map(|thread| thread.join().expect("no panic"))
        .collect();
    assert_eq!(koids.len(), 200);
    assert!(!koids.contains(&koid_of(&a)));
    assert_eq!(koid_of(&thread()), koid_of(&a));
    // Without a handle it lasts as long as its thread.
    let koid = koid_of(&a);
    a.signal(Signals::NONE, Signals::USER_5)
        .expect("SIGNAL is there");
    drop((a, b));
    assert_eq!(koid_of(&thread()), koid);
    assert_eq!(signals_of(&thread()), Signals::USER_5);
    assert_eq!(thread().signal(Signals::USER_5, Signals::NONE), Ok(()));
}

#[test]
fn what_the_calls_need() {
    let stats: Call = |handle| as_thread(handle).stats().map(drop);
    check_order(stats, &thread(), Rights::INSPECT, &others());
    check_order(stats, &ended(), Rights::INSPECT, &others());
    let get: Call = |handle| as_thread(handle).get_name().map(drop);
    check_order(get, &thread(), Rights::GET_PROPERTY, &others());
    let set: Call = |handle| as_thread(handle).set_name(&Name::new_lossy("thread"));
    check_order(set, &thread(), Rights::SET_PROPERTY, &others());
}

#[test]
fn run_time_grows_with_work_alone() {
    let (tell, told) = channel();
    let (end, ends) = channel::<()>();
    let idle = spawn(move || {
        tell.send(thread()).expect("the test runs");
        let _ = ends.recv();
    });
    let idle_thread = told.recv().expect("the thread begins");
    let stats = |thread: &Thread| thread.stats().expect("the thread runs");

    let own = thread();
    let (start, idle_start) = (stats(&own), stats(&idle_thread));
    let worked = Duration::from_millis(20);
    while stats(&own).total_runtime < start.total_runtime + worked {}
    // The other one has slept; it may have had to lie down first.
    let idle_end = stats(&idle_thread);
    assert!(idle_end.total_runtime >= idle_start.total_runtime);
    assert!(idle_end.total_runtime - idle_start.total_runtime < worked);
    assert!((stats(&own).last_scheduled_cpu as usize) < cpus());
    assert!((idle_end.last_scheduled_cpu as usize) < cpus());

    // Asked from another thread, the answer is the same clock's.
    let before = stats(&own).total_runtime;
    let other = with_rights(&own, Rights::INSPECT);
    let asked = spawn(move || stats(&other).total_runtime);
    let asked = asked.join().expect("no panic");
    assert!(before <= asked && asked <= stats(&own).total_runtime);
    drop(end);
    idle.join().expect("no panic");
}

/// The number of the last CPU that the machine can have, plus one.
fn cpus() -> usize {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible");
    let last = |text: &String| text.trim().rsplit(['-', ',']).next()?.parse::<usize>().ok();
    possible
        .ok()
        .as_ref()
        .and_then(last)
        .map_or(usize::MAX, |last| last + 1)
}

#[test]
fn an_ended_thread_has_a_name_and_no_stats() {
    let ended = ended();
    assert_eq!(refused(ended.stats()), Status::BAD_STATE);
    let name = Name::new_lossy("a thread that ends");
    assert_eq!(ended.get_name(), Ok(name));
    let name = Name::new_lossy("a thread that has ended");
    ended.set_name(&name).expect("it can still be named");
    assert_eq!(ended.get_name(), Ok(name));
}

#[test]
fn names_reach_the_kernel_and_come_from_it() {
    spawn(|| {
        let thread = thread();
        let comm = "/proc/thread-self/comm";
        for name in ["short", "a name of more than fifteen bytes", ""] {
            let name = Name::new_lossy(name);
            thread.set_name(&name).expect("SET_PROPERTY is there");
            assert_eq!(thread.get_name(), Ok(name));
            let shown = &name.as_bytes()[..name.as_bytes().len().min(15)];
            let comm = std::fs::read(comm).expect("/proc tells the name");
            assert_eq!(comm, [shown, b"\n"].concat());
        }
        std::fs::write(comm, "from outside").expect("/proc takes a name");
        assert_eq!(thread.get_name(), Ok(Name::new_lossy("from outside")));
        // Another thread can name it as well.
        let other = with_rights(&thread, Rights::SET_PROPERTY);
        let name = Name::new_lossy("from another thread");
        let other = spawn(move || other.set_name(&name));
        assert_eq!(other.join().expect("no panic"), Ok(()));
        assert_eq!(thread.get_name(), Ok(name));
    })
    .join()
    .expect("no panic");
}
