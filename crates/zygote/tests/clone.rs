//! Children as clones: they have the zygote's memory, at its addresses, and each its own.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cowspace::{MapsDetails, Policy, Status, Vmar, VmarFlags, Vmo, VmoOptions, process_layout};
use cowspace_tests::processes::descriptors;
use cowspace_tests::{entries, runner, tests};
use host_memory::access::Volatile;
use host_memory::page::page_size;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use test_share::{give_way, share};
use zygote::{Child, Context, Entry, Error, Launcher, LeftOut, Missing, Spawn, Stdio, Zygote};

fn main() -> ExitCode {
    if std::env::var_os(FEW_DESCRIPTORS).is_some() {
        return few_descriptors();
    }
    runner::main(
        ENTRIES,
        tests![
            each_process_has_its_own_state,
            permissions_are_those_of_each_page,
            mappings_in_child_vmars_are_cloned,
            what_must_not_be_cloned_is_left_out_and_told,
            a_handle_and_its_mappings_show_one_vmo,
            code_is_cloned_as_code,
            a_clone_can_be_a_zygote,
            a_clone_survives_its_zygote,
            more_layers_than_one_packet_holds,
            too_many_layers_are_refused_with_a_reason,
            a_running_engine_forbids_a_launcher,
            two_handles_need_two_names,
            writers_may_run_meanwhile,
            mappings_may_come_and_go_meanwhile,
            children_and_their_end_leave_nothing,
        ],
    )
}

const ENTRIES: &[Entry] = entries![
    change,
    layout,
    layout_and_left_out,
    by_handle,
    code,
    descend,
    linger,
    sum,
    check_cut,
    touch
];

const READ: VmarFlags = VmarFlags::PERM_READ;
const READ_WRITE: VmarFlags = VmarFlags::PERM_READ.union(VmarFlags::PERM_WRITE);

/// Memory of some pages, mapped anywhere, with no handle to it; unmapped when it goes.
struct Mapped {
    memory: Volatile,
}

impl Mapped {
    fn new(pages: usize) -> Self {
        let size = pages * page_size();
        let vmo = Vmo::create(size as u64).unwrap();
        let address = Vmar::root_self().map(0, &vmo, 0, size, READ_WRITE).unwrap();
        Self {
            memory: Volatile::new(address, size).unwrap(),
        }
    }

    /// As arguments for a child.
    fn place(&self) -> String {
        format!("{} {}", self.memory.addr(), self.memory.len())
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        Vmar::root_self()
            .unmap(self.memory.addr(), self.memory.len())
            .unwrap();
    }
}

/// The memory that a child was told of.
fn told(context: &Context) -> Volatile {
    let text = String::from_utf8(context.args.clone()).unwrap();
    let mut numbers = text.split(' ').map(|number| number.parse().unwrap());
    Volatile::new(numbers.next().unwrap(), numbers.next().unwrap())
        .expect("it lies in the engine's range here, too")
}

/// Writes something of its own into each page.
fn fill(memory: &Volatile, seed: u64) {
    for page in (0..memory.len()).step_by(page_size()) {
        memory.store_u64(page, seed * 1_000_000 + page as u64);
    }
}

/// Whether each page is as `fill` with this seed has left it.
fn is_filled(memory: &Volatile, seed: u64) -> bool {
    let mut pages = (0..memory.len()).step_by(page_size());
    pages.all(|page| memory.load_u64(page) == seed * 1_000_000 + page as u64)
}

fn read_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Spawns a child whose input and output are pipes, and gives its output.
fn piped(zygote: &Zygote, spawn: Spawn<'_>) -> (Child, impl BufRead + use<>) {
    let mut child = zygote
        .spawn(&spawn.stdin(Stdio::Piped).stdout(Stdio::Piped))
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

fn output(zygote: &Zygote, spawn: Spawn<'_>) -> String {
    let child = zygote.spawn(&spawn.stdout(Stdio::Piped)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

// Contents

/// Changes its memory, waits, and looks whether it is still as it was left.
fn change(context: Context) -> i32 {
    let memory = told(&context);
    let seed = memory.load_u64(0) / 1_000_000;
    assert!(is_filled(&memory, seed), "all of it is of one instant");
    fill(&memory, seed + 10);
    println!("{seed}");
    io::stdin().read_line(&mut String::new()).unwrap();
    i32::from(!is_filled(&memory, seed + 10))
}

fn each_process_has_its_own_state(zygote: &Zygote) {
    for policy in [Policy::Native, Policy::Traced] {
        let mapped = Mapped::new(40);
        let spawn = || Spawn::new("change").args(mapped.place()).policy(policy);
        let mut children = Vec::new();
        for generation in 1..=2 {
            fill(&mapped.memory, generation);
            for _ in 0..2 {
                let (child, mut lines) = piped(zygote, spawn());
                assert_eq!(read_line(&mut lines), generation.to_string());
                assert!(
                    is_filled(&mapped.memory, generation),
                    "what a child writes is its own"
                );
                children.push((child, lines));
            }
        }
        fill(&mapped.memory, 3);
        for (mut child, _lines) in children {
            assert!(
                child.wait().unwrap().success(),
                "what the zygote and others write is their own"
            );
        }
        assert!(is_filled(&mapped.memory, 3));
    }
}

// Layout

fn mappings() -> String {
    let layout = process_layout().unwrap();
    let line = |info: &cowspace::MapsInfo| match info.details {
        MapsDetails::Mapping(mapping) => Some(format!(
            "{:x} {:x} {:?} {}\n",
            info.base, info.size, mapping.mmu_flags, info.name
        )),
        _ => None,
    };
    layout.iter().filter_map(line).collect()
}

fn layout(_: Context) -> i32 {
    print!("{}", mappings());
    0
}

fn permissions_are_those_of_each_page(zygote: &Zygote) {
    let mapped = Mapped::new(7);
    let (address, page) = (mapped.memory.addr(), page_size());
    let root = Vmar::root_self();
    root.protect(address + page, page, READ).unwrap();
    root.protect(address + 3 * page, 2 * page, VmarFlags::empty())
        .unwrap();
    assert_eq!(mappings().lines().count(), 5);
    assert_eq!(output(zygote, Spawn::new("layout")), mappings());
    // As it is the whole mapping that was cloned, a page without access still has its bytes.
    root.protect(address, 7 * page, READ_WRITE).unwrap();
}

fn mappings_in_child_vmars_are_cloned(zygote: &Zygote) {
    let page = page_size();
    let flags = VmarFlags::CAN_MAP_READ | VmarFlags::CAN_MAP_WRITE | VmarFlags::CAN_MAP_SPECIFIC;
    let (outer, _) = Vmar::root_self().allocate(0, 16 * page, flags).unwrap();
    let (inner, base) = outer.allocate(0, 8 * page, flags).unwrap();
    let vmo = Vmo::create(4 * page as u64).unwrap();
    vmo.set_name(&cowspace::Name::new("nested").unwrap())
        .unwrap();
    vmo.write(b"deep", page as u64).unwrap();
    inner
        .map(
            2 * page,
            &vmo,
            page as u64,
            2 * page,
            READ | VmarFlags::SPECIFIC,
        )
        .unwrap();
    assert_eq!(mappings().lines().count(), 1);
    assert_eq!(output(zygote, Spawn::new("layout")), mappings());
    let expected = format!("{}\n", u64::from(u32::from_ne_bytes(*b"deep")));
    assert_eq!(
        output(
            zygote,
            Spawn::new("sum").args(format!("{} {}", base + 2 * page, 2 * page))
        ),
        expected
    );
    outer.destroy().unwrap();
}

/// The sum of the first four bytes of each page.
fn sum(context: Context) -> i32 {
    let memory = told(&context);
    let first = |page| {
        let mut bytes = [0; 4];
        memory.read(page, &mut bytes);
        u64::from(u32::from_ne_bytes(bytes))
    };
    println!(
        "{}",
        (0..memory.len())
            .step_by(page_size())
            .map(first)
            .sum::<u64>()
    );
    0
}

fn layout_and_left_out(context: Context) -> i32 {
    print!("{}", mappings());
    println!("{:?}", context.left_out);
    0
}

fn what_must_not_be_cloned_is_left_out_and_told(zygote: &Zygote) {
    let (root, page) = (Vmar::root_self(), page_size());
    let vmo = Vmo::create(6 * page as u64).unwrap();
    vmo.set_name(&cowspace::Name::new("secret").unwrap())
        .unwrap();
    // The first four pages continue each other, the second two of them must not be cloned.
    let (vmar, base) = root
        .allocate(
            0,
            8 * page,
            VmarFlags::CAN_MAP_SPECIFIC | VmarFlags::CAN_MAP_READ | VmarFlags::CAN_MAP_WRITE,
        )
        .unwrap();
    vmar.map(0, &vmo, 0, 2 * page, READ | VmarFlags::SPECIFIC)
        .unwrap();
    let cloned = mappings();
    let cannot = VmarFlags::CANNOT_CREATE_VMO_CHILD | VmarFlags::SPECIFIC;
    vmar.map(2 * page, &vmo, 2 * page as u64, 2 * page, READ | cannot)
        .unwrap();
    let (dark, _) = vmar
        .allocate(6 * page, 2 * page, cannot | VmarFlags::CAN_MAP_READ)
        .unwrap();
    let in_dark = dark.map(0, &vmo, 4 * page as u64, page, READ).unwrap();
    let left_out = |base| LeftOut {
        name: "secret".to_owned(),
        base,
        size: page,
        what: Missing::Mapping,
    };
    let expected = [
        LeftOut {
            size: 2 * page,
            ..left_out(base + 2 * page)
        },
        left_out(in_dark),
    ];
    for handle_too in [false, true] {
        let mut spawn = Spawn::new("layout_and_left_out").stdout(Stdio::Piped);
        if handle_too {
            // That a handle may be cloned does not let a mapping be.
            spawn = spawn.vmo("secret", &vmo);
        }
        let child = zygote.spawn(&spawn).unwrap();
        assert_eq!(child.left_out(), expected);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{cloned}{expected:?}\n")
        );
    }
    vmar.destroy().unwrap();
}

// Handles

/// Has a VMO "state" of two pages, mapped twice, a second handle "again" to it, a VMO "log" whose original is resizable, and one that is "empty".
fn by_handle(mut context: Context) -> i32 {
    let page = page_size();
    let [state, log, again] = ["state", "log", "again"].map(|name| context.take_vmo(name).unwrap());
    let empty = context.take_vmo("empty").unwrap();
    assert_eq!(empty.get_size(), Ok(0));
    assert!(context.vmos.is_empty());
    let first = told(&context);
    let second = Volatile::new(first.addr() + first.len(), first.len()).unwrap();
    let mut bytes = [0; 6];
    state.read(&mut bytes, page as u64).unwrap();
    assert_eq!(&bytes, b"zygote");
    state.write(b"child1", page as u64).unwrap();
    second.write(page + 3, b"!");
    first.read(page, &mut bytes);
    assert_eq!(&bytes, b"chi!d1");
    again.read(&mut bytes, page as u64).unwrap();
    assert_eq!(&bytes, b"chi!d1");
    assert_eq!(log.get_size(), Ok(3 * page as u64));
    assert!(log.set_size(0).is_err(), "a clone is not resizable");
    assert_eq!(state.get_name().unwrap().to_string(), "state");
    0
}

fn a_handle_and_its_mappings_show_one_vmo(zygote: &Zygote) {
    let (root, page) = (Vmar::root_self(), page_size());
    let vmo = Vmo::create(2 * page as u64).unwrap();
    vmo.set_name(&cowspace::Name::new("state").unwrap())
        .unwrap();
    vmo.write(b"zygote", page as u64).unwrap();
    let log = Vmo::create_with_opts(VmoOptions::RESIZABLE, 3 * page as u64).unwrap();
    let (vmar, base) = root
        .allocate(
            0,
            4 * page,
            VmarFlags::CAN_MAP_SPECIFIC | VmarFlags::CAN_MAP_READ | VmarFlags::CAN_MAP_WRITE,
        )
        .unwrap();
    for place in [0, 2 * page] {
        vmar.map(place, &vmo, 0, 2 * page, READ_WRITE | VmarFlags::SPECIFIC)
            .unwrap();
    }
    let spawn = Spawn::new("by_handle").args(format!("{base} {}", 2 * page));
    let empty = Vmo::create(0).unwrap();
    let spawn = spawn
        .vmo("state", &vmo)
        .vmo("log", &log)
        .vmo("again", &vmo)
        .vmo("empty", &empty);
    for policy in [Policy::Native, Policy::Traced] {
        let mut child = zygote.spawn(&spawn.clone().policy(policy)).unwrap();
        assert!(child.wait().unwrap().success());
        let mut bytes = [0; 6];
        vmo.read(&mut bytes, page as u64).unwrap();
        assert_eq!(&bytes, b"zygote");
    }
    vmar.destroy().unwrap();
}

fn two_handles_need_two_names(zygote: &Zygote) {
    let vmo = Vmo::create(0).unwrap();
    let error = zygote
        .spawn(&Spawn::new("layout").vmo("a", &vmo).vmo("a", &vmo))
        .unwrap_err();
    assert!(
        matches!(&error, Error::DuplicateName(name) if name == "a"),
        "{error}"
    );
}

/// Its memory is code: readable, executable, never writable.
fn code(context: Context) -> i32 {
    let memory = told(&context);
    let mut bytes = [0; 4];
    memory.read(0, &mut bytes);
    assert_eq!(&bytes, b"code");
    let more = Vmar::root_self().protect(memory.addr(), memory.len(), READ_WRITE);
    assert_eq!(more, Err(Status::ACCESS_DENIED));
    print!("{}", mappings());
    0
}

fn code_is_cloned_as_code(zygote: &Zygote) {
    let (root, page) = (Vmar::root_self(), page_size());
    let vmo = Vmo::create(page as u64).unwrap();
    vmo.write(b"code", 0).unwrap();
    let vmo = vmo.replace_as_executable().unwrap();
    for writable in [false, true] {
        let access = READ | VmarFlags::PERM_EXECUTE;
        let in_zygote = if writable {
            access | VmarFlags::PERM_WRITE
        } else {
            access
        };
        let address = root.map(0, &vmo, 0, page, in_zygote).unwrap();
        let spawn = Spawn::new("code")
            .args(format!("{address} {page}"))
            .stdout(Stdio::Piped);
        let child = zygote.spawn(&spawn).unwrap();
        let missing: Vec<Missing> = child
            .left_out()
            .iter()
            .map(|left_out| left_out.what)
            .collect();
        assert_eq!(
            missing,
            if writable {
                vec![Missing::WritePermission]
            } else {
                vec![]
            }
        );
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{address:x} {page:x} {access:?} \n")
        );
        root.unmap(address, page).unwrap();
    }
}

// Zygotes of zygotes

/// Goes one generation deeper as long as the seed is below 4; each sees what the one before has left.
fn descend(context: Context) -> i32 {
    let memory = told(&context);
    let seed = memory.load_u64(0) / 1_000_000;
    assert!(is_filled(&memory, seed));
    fill(&memory, seed + 1);
    if seed < 4 {
        let zygote = Zygote::new(context.launcher.unwrap());
        let mut child = zygote
            .spawn(&Spawn::new("descend").args(context.args).can_spawn(true))
            .unwrap();
        assert!(child.wait().unwrap().success());
    }
    i32::from(!is_filled(&memory, seed + 1))
}

fn a_clone_can_be_a_zygote(zygote: &Zygote) {
    let mapped = Mapped::new(10);
    fill(&mapped.memory, 1);
    let spawn = Spawn::new("descend").args(mapped.place()).can_spawn(true);
    for policy in [Policy::Native, Policy::Traced] {
        let mut child = zygote.spawn(&spawn.clone().policy(policy)).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(is_filled(&mapped.memory, 1));
    }
}

/// The first of its kind spawns the second and lingers; the second serves its input: it says whether its memory is right.
fn linger(mut context: Context) -> i32 {
    let memory = told(&context);
    if let Some(launcher) = context.launcher.take() {
        fill(&memory, 7);
        let _child = Zygote::new(launcher)
            .spawn(&Spawn::new("linger").args(context.args))
            .unwrap();
        loop {
            thread::park();
        }
    }
    println!("ready");
    for _ in io::stdin().lines() {
        // No page was touched before.
        println!("{}", is_filled(&memory, 7));
        fill(&memory, 7);
    }
    0
}

fn a_clone_survives_its_zygote(zygote: &Zygote) {
    let mapped = Mapped::new(30);
    fill(&mapped.memory, 1);
    let (mut middle, mut lines) = piped(
        zygote,
        Spawn::new("linger").args(mapped.place()).can_spawn(true),
    );
    let mut input = middle.stdin.take().unwrap();
    assert_eq!(read_line(&mut lines), "ready");
    middle.kill().unwrap();
    middle.wait().unwrap();
    for _ in 0..2 {
        writeln!(input, "well?").unwrap();
        assert_eq!(read_line(&mut lines), "true");
    }
    drop(input);
    assert_eq!(read_line(&mut lines), "", "and it ends with its input");
}

// Limits

fn more_layers_than_one_packet_holds(zygote: &Zygote) {
    let count = 600;
    if getrlimit(Resource::Nofile)
        .current
        .is_some_and(|limit| limit < 2 * count)
    {
        println!(
            "SKIP more_layers_than_one_packet_holds: a limit of {} descriptors",
            2 * count
        );
        return;
    }
    let (root, page) = (Vmar::root_self(), page_size());
    let size = count as usize * page;
    let flags = VmarFlags::CAN_MAP_SPECIFIC | VmarFlags::CAN_MAP_READ | VmarFlags::CAN_MAP_WRITE;
    let (vmar, base) = root.allocate(0, size, flags).unwrap();
    for number in 0..count {
        let vmo = Vmo::create(page as u64).unwrap();
        vmo.write(&(number as u32).to_ne_bytes(), 0).unwrap();
        vmar.map(
            number as usize * page,
            &vmo,
            0,
            page,
            READ_WRITE | VmarFlags::SPECIFIC,
        )
        .unwrap();
    }
    let expected = format!("{}\n", count * (count - 1) / 2);
    assert_eq!(
        output(zygote, Spawn::new("sum").args(format!("{base} {size}"))),
        expected
    );
    vmar.destroy().unwrap();
}

/// With this variable set, this program is what the next test runs.
const FEW_DESCRIPTORS: &str = "ZYGOTE_TEST_FEW_DESCRIPTORS";

/// Its children may have fewer descriptors than it has layers.
fn few_descriptors() -> ExitCode {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(60),
            ..limit
        },
    )
    .unwrap();
    let zygote = Zygote::new(Launcher::start(ENTRIES).unwrap());
    setrlimit(Resource::Nofile, limit).unwrap();
    let mapped: Vec<Mapped> = (0..100).map(|_| Mapped::new(1)).collect();
    mapped.iter().for_each(|mapped| fill(&mapped.memory, 1));
    let error = zygote.spawn(&Spawn::new("layout")).unwrap_err();
    println!("{error}");
    drop(mapped);
    assert!(
        zygote
            .spawn(&Spawn::new("layout"))
            .unwrap()
            .wait()
            .unwrap()
            .success()
    );
    ExitCode::SUCCESS
}

fn too_many_layers_are_refused_with_a_reason(_: &Zygote) {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.env(FEW_DESCRIPTORS, "1").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("ulimit -n"), "{said}");
    assert_eq!(said.lines().count(), 1);
}

fn a_running_engine_forbids_a_launcher(zygote: &Zygote) {
    // Even where the program has one thread.
    assert_eq!(output(zygote, Spawn::new("touch")), "EngineRuns\n");
}

/// Starts a launcher where it is too late for that.
fn touch(_: Context) -> i32 {
    match Launcher::start(ENTRIES) {
        Err(Error::EngineRuns) => println!("EngineRuns"),
        other => println!("{other:?}"),
    }
    0
}

// While other threads run

/// A writer's two counters, in two pages: it counts the first up and then the second.
fn check_cut(context: Context) -> i32 {
    let memory = told(&context);
    let (first, second) = (
        memory.load_u64(0),
        memory.load_u64(memory.len() - page_size()),
    );
    println!("{first} {second}");
    i32::from(!(first == second || first == second + 1))
}

fn writers_may_run_meanwhile(zygote: &Zygote) {
    let mapped = Mapped::new(20);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                mapped.memory.store_u64(0, count);
                mapped
                    .memory
                    .store_u64(mapped.memory.len() - page_size(), count);
                give_way();
            }
        });
        let mut before = 0;
        for _ in 0..20 {
            let said = output(zygote, Spawn::new("check_cut").args(mapped.place()));
            let count: u64 = said.split(' ').next().unwrap().parse().unwrap();
            assert!(count >= before, "the writer does not go back");
            before = count;
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn mappings_may_come_and_go_meanwhile(zygote: &Zygote) {
    let mapped = Mapped::new(3);
    fill(&mapped.memory, 5);
    let expected = output(zygote, Spawn::new("sum").args(mapped.place()));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fill(&Mapped::new(2).memory, 1);
            }
        });
        for _ in 0..20 {
            match zygote.spawn(&Spawn::new("sum").args(mapped.place()).stdout(Stdio::Piped)) {
                Ok(child) => {
                    let output = child.wait_with_output().unwrap();
                    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
                }
                Err(Error::MapsChange) => {}
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn children_and_their_end_leave_nothing(zygote: &Zygote) {
    let mapped = Mapped::new(50);
    let kept = Mapped::new(5);
    fill(&kept.memory, 9);
    let mut random = 1_u32;
    let mut round = |generation: u64| {
        fill(&mapped.memory, generation);
        let (mut child, mut lines) = piped(zygote, Spawn::new("change").args(mapped.place()));
        assert_eq!(read_line(&mut lines), generation.to_string());
        // xorshift32
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        if random.is_multiple_of(2) {
            child.kill().unwrap();
        }
        child.wait().unwrap();
    };
    let maps = || {
        fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count()
    };
    (1..10).for_each(&mut round);
    let before = (
        descriptors("self").len(),
        maps(),
        fs::read_dir("/proc/self/task").unwrap().count(),
    );
    let last = 10 + u64::from(share(200));
    (10..=last).for_each(&mut round);
    let after = (
        descriptors("self").len(),
        maps(),
        fs::read_dir("/proc/self/task").unwrap().count(),
    );
    assert_eq!(after, before, "descriptors, mappings, threads");
    assert!(is_filled(&mapped.memory, last) && is_filled(&kept.memory, 9));
}
