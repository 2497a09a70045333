//! A zygote that freezes its memory: before and after, its children see what they would have seen, and each keeps to itself what it writes.

use cowspace::{Vmar, VmarFlags, Vmo};
use cowspace_tests::{page, unmap};
use host_memory::huge::{huge_page_size, try_collapse};
use zygote::Zygote;

use crate::agent::Agents;
use crate::memory::{Mapped, fill, policies, seed, seed_of, store};

/// Bytes.
const HEAP: usize = 8 << 20;

/// How much of a process's memory at `addr` is mapped by huge entries of its page table, in bytes.
fn mapped_huge(pid: u32, addr: usize) -> usize {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps");
    let mut inside = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-') {
            let parse = |text| usize::from_str_radix(text, 16).expect("an address");
            inside = (parse(start)..parse(end)).contains(&addr);
        } else if inside && first == "ShmemPmdMapped:" {
            let kib: usize = words.next().and_then(|word| word.parse().ok()).expect("kB");
            return kib << 10;
        }
    }
    0
}

pub(crate) fn children_see_the_same(zygote: &Zygote) {
    // A mapping that no child can have is no obstacle.
    let secret = Vmo::create(page() as u64).expect("a VMO");
    let flags = VmarFlags::PERM_READ | VmarFlags::CANNOT_CREATE_VMO_CHILD;
    let hidden = Vmar::root_self()
        .map(0, &secret, 0, page(), flags)
        .expect("a mapping");
    for &(ours, theirs) in policies() {
        let agents = Agents::new();
        let mapped = Mapped::new(HEAP / page(), ours);
        fill(&mapped.memory, 1);
        let (early, mut early_agent) = agents.spawn(zygote, &mapped, theirs);
        store(&mapped.memory, 2, 5);

        let frozen = zygote.freeze().expect("frozen");
        assert_eq!(frozen.bytes, HEAP as u64);
        let huge = huge_page_size().unwrap_or(HEAP);
        let made = try_collapse().is_yes() && HEAP >= 2 * huge;
        assert_eq!(frozen.huge_bytes > 0, made, "{frozen:?}");
        assert_eq!(seed_of(&mapped.memory, 5), Some(2));
        assert_eq!(seed_of(&mapped.memory, 6), Some(1));
        fill(&mapped.memory, 3);
        zygote.freeze().expect("frozen again");

        let (late, mut late_agent) = agents.spawn(zygote, &mapped, theirs);
        early_agent.assert_state(1);
        late_agent.assert_state(3);
        assert_eq!(late_agent.ask("fill 4"), "done");
        late_agent.assert_state(4);
        assert_eq!(seed(&mapped.memory), Some(3));
        early_agent.assert_state(1);
        drop((early_agent, late_agent));
        for mut child in [early, late] {
            assert!(child.wait().expect("its status").success());
        }
    }
    unmap(hidden, page());
}

/// A child of a zygote that was warmed and frozen, as they should be, maps whole huge pages.
pub(crate) fn children_map_huge_pages(zygote: &Zygote) {
    let huge = huge_page_size().unwrap_or(HEAP);
    if !try_collapse().is_yes() || HEAP < 2 * huge {
        println!("SKIP: no huge pages here");
        return;
    }
    for &(ours, theirs) in policies() {
        let agents = Agents::new();
        let mapped = Mapped::new(HEAP / page(), ours);
        fill(&mapped.memory, 1);
        assert_eq!(zygote.freeze().expect("frozen").huge_bytes, HEAP as u64);
        let (mut child, mut agent) = agents.spawn(zygote, &mapped, theirs);
        agent.assert_state(1);
        let expected = match theirs {
            cowspace::Policy::Native => HEAP,
            // Each fault is seen: the handler maps some pages at a time.
            cowspace::Policy::Traced => 0,
        };
        assert_eq!(mapped_huge(agent.pid, mapped.memory.addr()), expected);
        agent.assert_state(1);
        drop(agent);
        assert!(child.wait().expect("its status").success());
    }
}
