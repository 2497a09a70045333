//! A cloned process that does what the test program asks for, over a socket between the two of them: whatever becomes of its zygote, it can be talked to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

use cowspace::Policy;
use cowspace_tests::{memory, page};
use host_memory::access::Volatile;
use zygote::{Child, Context, Spawn, Zygote};

use crate::layers;
use crate::memory::{Mapped, fill, seed, seed_of, store};

/// Where agents of one test call.
pub(crate) struct Agents {
    listener: UnixListener,
    name: String,
    /// Those that have called and were not asked for yet, by label.
    early: RefCell<BTreeMap<u64, Agent>>,
}

/// An agent, as the test program sees it. It ends when this is dropped.
pub(crate) struct Agent {
    pub(crate) pid: u32,
    label: u64,
    socket: BufReader<UnixStream>,
}

impl Agents {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("cowspace-tests-{}-{number}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("nobody else has this name");
        Self {
            listener,
            name,
            early: RefCell::default(),
        }
    }

    /// What the child of this label is to be told at its start.
    pub(crate) fn arguments(&self, memory: &Volatile, label: u64) -> String {
        format!("{} {} {} {label}", self.name, memory.addr(), memory.len())
    }

    /// Spawns an agent with a clone of this memory.
    pub(crate) fn spawn(&self, zygote: &Zygote, mapped: &Mapped, policy: Policy) -> (Child, Agent) {
        static LABEL: AtomicU32 = AtomicU32::new(1_000_000);
        let label = LABEL.fetch_add(1, Ordering::Relaxed).into();
        let spawn = Spawn::new("agent::serve")
            .args(self.arguments(&mapped.memory, label))
            .policy(policy)
            .can_spawn(true);
        let child = zygote.spawn(&spawn).expect("a child");
        (child, self.accept(label))
    }

    /// Waits for the agent of this label. Agents may call in another order than they were spawned in.
    pub(crate) fn accept(&self, label: u64) -> Agent {
        let mut early = self.early.borrow_mut();
        loop {
            if let Some(agent) = early.remove(&label) {
                return agent;
            }
            let (socket, _) = self.listener.accept().expect("a caller");
            let mut socket = BufReader::new(socket);
            let Some(hello) = line(&mut socket) else {
                // It was killed before it could say a word.
                continue;
            };
            let (pid, label) = hello.split_once(' ').expect("two numbers");
            let label = label.parse().expect("a label");
            let agent = Agent {
                pid: pid.parse().expect("a process id"),
                label,
                socket,
            };
            early.insert(label, agent);
        }
    }
}

impl Agent {
    /// Has the agent do something; gives its answer.
    pub(crate) fn ask(&mut self, request: impl Display) -> String {
        writeln!(self.socket.get_mut(), "{request}").expect("the agent is there");
        line(&mut self.socket).expect("the agent answers")
    }

    /// Asserts that all of the agent's memory is in this state.
    pub(crate) fn assert_state(&mut self, seed: u64) {
        assert_eq!(
            self.ask("seed"),
            format!("{:?}", Some(seed)),
            "{}",
            self.label
        );
    }

    /// Has the agent spawn another one, with this label.
    pub(crate) fn spawn(&mut self, agents: &Agents, label: u64) -> Agent {
        assert_eq!(self.ask(format_args!("spawn {label}")), "done");
        agents.accept(label)
    }
}

fn line(from: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    // An agent that is killed may leave a reset connection.
    let read = from.read_line(&mut line).unwrap_or(0);
    (read > 0).then(|| line.trim_end().to_owned())
}

/// The memory, and the rest, that a child's arguments tell of.
pub(crate) fn told(context: &Context) -> (String, Volatile, u64) {
    let text = String::from_utf8(context.args.clone()).expect("text");
    let words: Vec<&str> = text.split(' ').collect();
    let number = |place: usize| -> u64 { words[place].parse().expect("a number") };
    let memory = memory(number(1) as usize, number(2) as usize);
    (words[0].to_owned(), memory, number(3))
}

/// An agent's life: it does as it is told until nobody tells it any more.
pub(crate) fn serve(context: Context) -> i32 {
    let (name, memory, label) = told(&context);
    let zygote = context.launcher.map(Zygote::new);
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let Ok(mut socket) = UnixStream::connect_addr(&address) else {
        // The test is over.
        return 0;
    };
    let _ = writeln!(socket, "{} {label}", std::process::id());
    let mut socket = BufReader::new(socket);
    while let Some(request) = line(&mut socket) {
        let words: Vec<&str> = request.split(' ').collect();
        let number = |place: usize| -> u64 { words[place].parse().expect("a number") };
        let answer = match words[0] {
            "seed" if words.len() > 1 => format!("{:?}", seed_of(&memory, number(2) as usize)),
            "seed" => format!("{:?}", seed(&memory)),
            "fill" => {
                fill(&memory, number(1));
                "done".to_owned()
            }
            "store" => {
                let pages = number(2)..number(3);
                for page in pages.step_by(number(4) as usize) {
                    store(&memory, number(1), page as usize);
                }
                "done".to_owned()
            }
            "read" => {
                for at in (0..memory.len()).step_by(page()) {
                    let _ = memory.load_u8(at);
                }
                "done".to_owned()
            }
            "attack" => layers::attack(),
            "spawn" => {
                let arguments = format!("{name} {} {} {}", memory.addr(), memory.len(), number(1));
                let spawn = Spawn::new("agent::serve")
                    .args(arguments)
                    .policy(cowspace::default_policy())
                    .can_spawn(true);
                let zygote = zygote.as_ref().expect("it may spawn");
                zygote
                    .spawn(&spawn)
                    .map_or_else(|error| error.to_string(), |_child| "done".to_owned())
            }
            other => format!("what is {other:?}?"),
        };
        let _ = writeln!(socket.get_mut(), "{answer}");
    }
    0
}
