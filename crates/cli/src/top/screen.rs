//! The terminal: taken, and given back as it was on every way out.

use std::io::{self, Stdout, stdout};
use std::mem::ManuallyDrop;
use std::panic;
use std::process::exit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A screen of its own in the terminal, until it is dropped.
pub(crate) struct Screen(
    // Dropped it would show the cursor, which `give_back` does, and panic where the terminal is gone and it cannot say so.
    ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
);

impl Screen {
    /// Takes the terminal. There is one screen at a time.
    pub(crate) fn take() -> io::Result<Screen> {
        give_back_at_panic();
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        // Before the first change, so that whatever follows is undone.
        TAKEN.store(true, Ordering::SeqCst);
        let screen = Screen(ManuallyDrop::new(terminal));
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// To be drawn on.
    pub(crate) fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.0
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whatever fails, the rest is done: the terminal may be gone.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

/// A panic of any thread is told where it can be read, on the terminal as it was, and ends the program: what is left of it could only draw over that.
fn give_back_at_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let taken = TAKEN.load(Ordering::SeqCst);
            give_back();
            tell(info);
            if taken {
                exit(101);
            }
        }));
    });
}

#[cfg(test)]
#[expect(dead_code, reason = "the tests of the command use the rest")]
#[path = "../../tests/terminal/mod.rs"]
mod terminal;

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    /// Run by the next test, in a terminal of its own.
    #[test]
    #[ignore = "takes the terminal, and panics"]
    fn panics_on_the_screen() {
        let mut screen = Screen::take().expect("a terminal");
        let drawn = screen.terminal().draw(|frame| {
            frame.render_widget("about to panic", frame.area());
        });
        drawn.expect("drawn");
        // Of another thread: whoever draws goes on meanwhile.
        let _ = std::thread::spawn(|| panic!("as the test wants")).join();
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_is_told_there() {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "top::screen::tests::panics_on_the_screen"]);
        command.args(["--ignored", "--nocapture"]);
        command.env("RUST_BACKTRACE", "0");
        let left = terminal::Terminal::start(&command, 100, 24).left();
        left.is_tidy(101);
        assert!(left.screen.contains("as the test wants"), "{}", left.screen);
        assert!(!left.screen.contains("about to panic"), "{}", left.screen);
    }
}
