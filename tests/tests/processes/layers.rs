//! A child that tries to change the layers it was given: it fails, and no byte changes anywhere.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use cowspace::Vmar;
use cowspace_tests::page;
use cowspace_tests::processes::descriptors;
use host_memory::memfd::maps_writable;
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use zygote::Zygote;

use crate::agent::Agents;
use crate::memory::{Mapped, fill, policies, seed, seed_of, store};

/// The page that is in the second layer.
const CHANGED: usize = 50;

pub(crate) fn nobody_can_change_a_layer(zygote: &Zygote) {
    for &(zygotes, childrens) in policies() {
        let agents = Agents::new();
        let mapped = Mapped::new(100, zygotes);
        fill(&mapped.memory, 1);
        let (mut first, mut bystander) = agents.spawn(zygote, &mapped, childrens);
        // A second layer, with holes.
        store(&mapped.memory, 2, CHANGED);
        let (mut second, mut attacker) = agents.spawn(zygote, &mapped, childrens);
        let outcome = attacker.ask("attack");
        assert_eq!(outcome, "2 layers, changed: []");
        let (mut third, mut newcomer) = agents.spawn(zygote, &mapped, childrens);
        // Nobody has touched all of the memory before.
        bystander.assert_state(1);
        for second_generation in [&mut attacker, &mut newcomer] {
            assert_eq!(
                second_generation.ask(format_args!("seed of {CHANGED}")),
                "Some(2)"
            );
            second_generation.ask(format_args!("store 1 {CHANGED} {} 1", CHANGED + 1));
            second_generation.assert_state(1);
        }
        assert_eq!(seed_of(&mapped.memory, CHANGED), Some(2));
        store(&mapped.memory, 1, CHANGED);
        assert_eq!(seed(&mapped.memory), Some(1));
        drop((bystander, attacker, newcomer));
        for child in [&mut first, &mut second, &mut third] {
            assert!(child.wait().expect("its status").success());
        }
    }
}

/// Tries all there is to try on all layers of this process; says how many there are and what has worked.
pub(crate) fn attack() -> String {
    let mut changed = Vec::new();
    let all = descriptors("self");
    let layers: Vec<i32> = all
        .into_iter()
        .filter(|(_, to)| to.starts_with("/memfd:"))
        .map(|(fd, _)| fd)
        .collect();
    for &fd in &layers {
        for (how, file) in ways_in(fd) {
            attack_file(&how, &file, &mut changed);
        }
        let truncate = OpenOptions::new().write(true).truncate(true).open(link(fd));
        note("open with O_TRUNC", truncate, &mut changed);
    }
    attack_mappings(&mut changed);
    format!("{} layers, changed: {changed:?}", layers.len())
}

fn link(fd: i32) -> String {
    format!("/proc/self/fd/{fd}")
}

/// The descriptor itself, and all ways to have the file opened anew.
fn ways_in(fd: i32) -> Vec<(String, File)> {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process is there");
    let mut ways = Vec::new();
    match pidfd_getfd(process, fd, PidfdGetfdFlags::empty()) {
        Ok(itself) => {
            let seals = fcntl_get_seals(&itself).expect("a memory file");
            let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
            assert!(seals.contains(all));
            ways.push(("the descriptor".to_owned(), File::from(itself)));
        }
        // Filters of containers do not let this way in through.
        Err(error) => assert_eq!(error, rustix::io::Errno::PERM, "the descriptor is there"),
    }
    let anew = OpenOptions::new().read(true).write(true).open(link(fd));
    ways.extend(anew.map(|file| ("opened anew".to_owned(), file)));
    // Where it is mapped it can be opened as well; who may not, finds nothing here.
    let inode = fs::metadata(link(fd)).expect("the descriptor is there");
    for entry in fs::read_dir("/proc/self/map_files")
        .into_iter()
        .flatten()
        .flatten()
    {
        let same = fs::metadata(entry.path())
            .is_ok_and(|of| (of.dev(), of.ino()) == (inode.dev(), inode.ino()));
        let anew = OpenOptions::new().read(true).write(true).open(entry.path());
        if same && let Ok(file) = anew {
            ways.push(("opened by its mapping".to_owned(), file));
        }
    }
    ways
}

fn attack_file(how: &str, file: &File, changed: &mut Vec<String>) {
    let (len, page) = (
        file.metadata().expect("the file is there").len(),
        page() as u64,
    );
    let mut attempt = |what: &str, done: io::Result<()>| {
        note(format!("{what}, {how}"), done, changed);
    };
    attempt("pwrite", file.write_all_at(b"!", 0));
    attempt("append", file.write_all_at(b"!", len));
    attempt("shrink", file.set_len(0));
    attempt("grow", file.set_len(len + page));
    let ways = [
        (
            "punch",
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        ),
        ("zero", FallocateFlags::ZERO_RANGE),
        ("collapse", FallocateFlags::COLLAPSE_RANGE),
        ("insert", FallocateFlags::INSERT_RANGE),
    ];
    for (what, flags) in ways {
        attempt(what, fallocate(file, flags, 0, page).map_err(Into::into));
    }
    let allocate = |from, len| fallocate(file, FallocateFlags::empty(), from, len);
    attempt(
        "allocate behind the end",
        allocate(len, page).map_err(Into::into),
    );
    // The kernel allows this: holes become zeros, which they are.
    allocate(0, len).expect("holes can be filled with zeros");
    let seal = fcntl_add_seals(file, SealFlags::FUTURE_WRITE);
    attempt("seal", seal.map_err(Into::into));
    if maps_writable(file.as_fd()) {
        attempt("map", Ok(()));
    }
}

/// Through `/proc/self/mem`, which goes past permissions: in the root VMAR it makes this process's own pages, elsewhere there are the engine's views of layers.
fn attack_mappings(changed: &mut Vec<String>) {
    let root = Vmar::root_self().info().expect("the root VMAR is there");
    let memory = OpenOptions::new()
        .write(true)
        .open("/proc/self/mem")
        .expect("one's own memory");
    for line in fs::read_to_string("/proc/self/maps")
        .expect("one's own mappings")
        .lines()
    {
        let (start, _) = line.split_once('-').expect("an address");
        let start = usize::from_str_radix(start, 16).expect("an address");
        let elsewhere = !(root.base..root.base + root.len).contains(&start);
        if line.contains("/memfd:") && elsewhere {
            note(
                "/proc/self/mem",
                memory.write_all_at(b"!", start as u64),
                changed,
            );
        }
    }
}

fn note<T>(what: impl Into<String>, done: io::Result<T>, changed: &mut Vec<String>) {
    if done.is_ok() {
        changed.push(what.into());
    }
}
