//! Keys, signals and answers, one after the other.
//!
//! Each comes from a thread of its own that waits for nothing else, so a process that does not answer holds up no key. All of them end with the program.

use std::io::{self, Write, stdout};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use ratatui::crossterm::event::{self, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::screen::Screen;
use super::source::{Answer, Source};
use super::state::State;
use super::view;

/// What happens.
enum Event {
    Key(KeyEvent),
    /// The window has another size.
    Resized,
    Answer(Answer),
    /// Why there is no answer.
    NoAnswer(String),
    /// The process has ended.
    Ended,
    /// A signal asks for the end, or the terminal is gone.
    Stop,
}

/// How the process is asked.
#[derive(Clone, Copy, PartialEq)]
struct Pace {
    interval: Duration,
    paused: bool,
    with_mappings: bool,
}

/// Shows the process until told to quit, or until it ends.
pub(crate) fn show(source: Source, interval: Duration) -> anyhow::Result<()> {
    let (events, happens) = unbounded();
    // Before the screen is taken: whatever comes from then on is met by it.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot wait for signals")?;
    let process = source.process().context("cannot wait for the process")?;
    let pid = source.target().pid;
    let mut state = State::new(source.target().clone(), interval);

    let mut screen = Screen::take().context("cannot use the terminal")?;
    let (asks, paces) = unbounded();
    start("signals", &events, |events| pass_signals(signals, events))?;
    start("process", &events, move |events| {
        wait_for_end(&process, events)
    })?;
    start("keys", &events, pass_keys)?;
    start("answers", &events, move |events| {
        ask(source, &paces, events)
    })?;
    let shown = respond(&mut screen, &mut state, &happens, &asks);
    drop(screen);
    let end = match shown {
        // Of a terminal that is gone the view may come to know before it is told.
        Err(_) if is_gone(&stdout()) => End::Told,
        shown => shown?,
    };
    if end == End::Process {
        // A terminal that is gone need not be told.
        let _ = writeln!(stdout(), "process {pid} has ended");
    }
    Ok(())
}

/// Why the view ends.
#[derive(PartialEq)]
enum End {
    /// The process has ended.
    Process,
    /// Somebody wants it to.
    Told,
}

fn respond(
    screen: &mut Screen,
    state: &mut State,
    happens: &Receiver<Event>,
    asks: &Sender<Pace>,
) -> anyhow::Result<End> {
    let mut pace = None;
    loop {
        let mut with_mappings = false;
        let drawn = screen.terminal().draw(|frame| {
            with_mappings = view::has_room_for_mappings(frame.area());
            view::draw(frame, state);
        });
        drawn.context("cannot draw")?;
        let wanted = Pace {
            interval: state.interval,
            paused: state.paused,
            with_mappings,
        };
        if pace.replace(wanted) != Some(wanted) {
            // Only a panic ends who receives it, and that ends all.
            let _ = asks.send(wanted);
        }
        match happens.recv().context("nobody is left to wait for")? {
            Event::Key(key) => match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(End::Told),
                KeyCode::Char(letter) if key.modifiers.contains(KeyModifiers::CONTROL) => {
                    match letter {
                        'c' => return Ok(End::Told),
                        'l' => screen.terminal().clear().context("cannot draw")?,
                        _ => {}
                    }
                }
                KeyCode::Char('p') => state.paused = !state.paused,
                KeyCode::Char('+' | '=') => state.change_interval(true),
                KeyCode::Char('-' | '_') => state.change_interval(false),
                _ => {}
            },
            Event::Resized => {}
            Event::Answer(Answer::Sample(sample)) => state.answer(*sample),
            Event::Answer(Answer::Anew(target)) => state.began_anew(target),
            Event::NoAnswer(why) => state.no_answer(why),
            Event::Ended => return Ok(End::Process),
            Event::Stop => return Ok(End::Told),
        }
    }
}

fn start(
    name: &str,
    events: &Sender<Event>,
    run: impl FnOnce(&Sender<Event>) + Send + 'static,
) -> anyhow::Result<()> {
    let events = events.clone();
    thread::Builder::new()
        .name(name.into())
        .spawn(move || run(&events))
        .context("cannot start a thread")?;
    Ok(())
}

fn pass_signals(mut signals: Signals, events: &Sender<Event>) {
    for _ in signals.forever() {
        if events.send(Event::Stop).is_err() {
            return;
        }
    }
}

/// Whether nobody is on a terminal's other side any more. Using it gives all kinds of errors then.
fn is_gone(terminal: &impl AsFd) -> bool {
    let now = Timespec::default();
    let mut fds = [PollFd::new(terminal, PollFlags::empty())];
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Waits for the end of the process, and for that of the terminal: whoever reads keys does not notice it.
fn wait_for_end(process: &OwnedFd, events: &Sender<Event>) {
    let terminal = stdout();
    loop {
        let mut fds = [
            PollFd::new(process, PollFlags::IN),
            PollFd::new(&terminal, PollFlags::empty()),
        ];
        let event = match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            Ok(_) if !fds[0].revents().is_empty() => Event::Ended,
            _ => Event::Stop,
        };
        let _ = events.send(event);
        return;
    }
}

fn pass_keys(events: &Sender<Event>) {
    loop {
        let event = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
            Ok(event::Event::Resize(..)) => Event::Resized,
            Ok(_) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // No key could end the view any more.
            Err(_) => Event::Stop,
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

fn ask(mut source: Source, paces: &Receiver<Pace>, events: &Sender<Event>) {
    let Ok(mut pace) = paces.recv() else { return };
    let mut next = Instant::now();
    loop {
        let changed = if pace.paused {
            paces.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            paces.recv_deadline(next)
        };
        match changed {
            Ok(changed) => {
                // A shorter interval, or the end of a pause, is not to wait for what was to come before.
                next = next.min(Instant::now() + changed.interval);
                pace = changed;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let event = match source.ask(pace.with_mappings) {
                    Ok(answer @ Answer::Anew(_)) => {
                        if events.send(Event::Answer(answer)).is_err() {
                            return;
                        }
                        continue;
                    }
                    Ok(answer) => Event::Answer(answer),
                    Err(error) => Event::NoAnswer(error.to_string()),
                };
                if events.send(event).is_err() {
                    return;
                }
                next = (next + pace.interval).max(Instant::now());
            }
        }
    }
}
