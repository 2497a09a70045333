//! The zygote's own program executes other programs, as any may, while children run.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use cowspace_tests::processes::{own_descriptors, was_inherited};
use zygote::Zygote;

use crate::agent::Agents;
use crate::memory::{Mapped, fill, policies, seed, store};

/// With this variable set, this program prints its descriptors and ends.
const LIST: &str = "COWSPACE_TEST_LIST_DESCRIPTORS";

/// What this program does when it is executed by the tests below.
pub(crate) fn list_descriptors_if_asked() -> Option<ExitCode> {
    std::env::var_os(LIST)?;
    for (fd, to) in cowspace_tests::processes::descriptors("self") {
        println!("{fd} {to}");
    }
    Some(ExitCode::SUCCESS)
}

/// The descriptors that an executed program has, and that this one opened.
fn passed_on(command: &mut Command) -> Vec<String> {
    let output = command.env(LIST, "1").output().expect("to execute");
    assert!(output.status.success());
    let ours = own_descriptors("self");
    let text = String::from_utf8(output.stdout).expect("text");
    let is_ours = |line: &&str| {
        let (fd, to) = line
            .split_once(' ')
            .expect("a descriptor and what it is of");
        let fd: i32 = fd.parse().expect("a number");
        // Number and file are ours, or it is none that anybody but the engine would open.
        ours.get(&fd).is_some_and(|of| of == to)
            || (to.contains("memfd") || to.contains("anon_inode")) && !was_inherited(fd, to)
    };
    text.lines().filter(is_ours).map(str::to_owned).collect()
}

fn myself() -> Command {
    Command::new("/proc/self/exe")
}

/// As `posix_spawn` does it, and as `fork` and `exec`, which run our handlers.
fn both_ways() -> [Command; 2] {
    let mut by_fork = myself();
    by_fork.uid(rustix::process::getuid().as_raw());
    [myself(), by_fork]
}

pub(crate) fn a_program_that_is_executed_gets_no_descriptor(zygote: &Zygote) {
    for &(zygotes, childrens) in policies() {
        let agents = Agents::new();
        let mapped = Mapped::new(50, zygotes);
        fill(&mapped.memory, 1);
        let (mut child, agent) = agents.spawn(zygote, &mapped, childrens);
        // Now there are a layer, a launcher's socket, a child's pidfd, and with the agents' sockets those of the program itself.
        assert!(own_descriptors("self").len() > 5);
        for mut command in both_ways() {
            assert_eq!(passed_on(&mut command), [""; 0]);
        }
        drop(agent);
        assert!(child.wait().expect("its status").success());
    }
}

pub(crate) fn children_and_programs_run_side_by_side(zygote: &Zygote) {
    for &(zygotes, childrens) in policies() {
        let agents = Agents::new();
        let mapped = Mapped::new(50, zygotes);
        fill(&mapped.memory, 0);
        let mut children = Vec::new();
        for round in 1..=5 {
            store(&mapped.memory, 0, 7 * round);
            children.push(agents.spawn(zygote, &mapped, childrens));
            for mut command in both_ways() {
                assert!(
                    command
                        .env(LIST, "1")
                        .output()
                        .expect("to execute")
                        .status
                        .success()
                );
                for (_, agent) in &mut children {
                    agent.assert_state(0);
                }
                assert_eq!(seed(&mapped.memory), Some(0));
            }
        }
        for (mut child, agent) in children {
            drop(agent);
            assert!(child.wait().expect("its status").success());
        }
    }
}
