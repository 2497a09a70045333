//! Names from a recording: whatever they hold, they are shown as one short line.

use crate::profile::{Process, Profile, Region, Thread};

/// Characters of a name that are shown.
pub(crate) const LONGEST: usize = 80;

/// A name as it is shown: control characters, and those that turn the direction of what follows, are made visible; a long name is cut.
///
/// This is for people's eyes. What HTML takes for markup is escaped where the name is written.
pub(crate) fn shown(name: &str) -> String {
    cut(name, LONGEST)
}

/// The same, of at most so many characters.
pub(crate) fn cut(name: &str, longest: usize) -> String {
    let mut text = String::new();
    for (place, character) in name.chars().enumerate() {
        if place + 1 >= longest && name.chars().nth(longest).is_some() {
            text.push('…');
            break;
        }
        text.push(match character {
            odd if odd.is_control() || turns(odd) => char::REPLACEMENT_CHARACTER,
            plain => plain,
        });
    }
    text
}

/// Whether a character is not seen but changes how others are shown.
fn turns(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// The program, or how many there were.
pub(crate) fn command(profile: &Profile) -> String {
    match profile.processes.as_slice() {
        [] => "nothing".to_owned(),
        [one] => command_of(one),
        [first, others @ ..] => {
            let more = crate::words::counted(others.len() as u64, "more process");
            format!("{} and {more}", command_of(first))
        }
    }
}

/// The file name of a process's program and its arguments.
pub(crate) fn command_of(process: &Process) -> String {
    let mut words = process.command.iter().map(String::as_str);
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    if program.is_empty() {
        return format!("process {}", process.pid);
    }
    // Not the whole of a long line: only its beginning is shown.
    let words = [program].into_iter().chain(words.take(LONGEST));
    shown(&words.collect::<Vec<_>>().join(" "))
}

/// A region's name, and whose it is where there are several processes: of so many characters at most.
pub(crate) fn region(profile: &Profile, region: &Region, longest: usize) -> String {
    let whose = whose(profile, region.process);
    cut(
        &region_name(region),
        longest.saturating_sub(whose.len()).max(4),
    ) + &whose
}

/// A region's name.
pub(crate) fn region_name(region: &Region) -> String {
    match (region.koid, region.name.as_str()) {
        (None, _) => "not mapped any more".to_owned(),
        (Some(koid), "") => format!("VMO {koid}"),
        (Some(_), name) => shown(name),
    }
}

/// A thread's name and number, and whose it is where there are several processes.
pub(crate) fn thread(profile: &Profile, thread: &Thread) -> String {
    let name = match (thread.tid, thread.name.as_str()) {
        (None, _) => "not said by the kernel".to_owned(),
        (Some(tid), "") => format!("thread {tid}"),
        (Some(tid), name) => format!("{} {tid}", shown(name)),
    };
    name + &whose(profile, thread.process)
}

/// The process, where there are several: " (4711)".
pub(crate) fn whose(profile: &Profile, process: usize) -> String {
    match profile.processes.get(process) {
        Some(process) if profile.processes.len() > 1 => format!(" ({})", process.pid),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_short_visible_line() {
        assert_eq!(shown("heap: words"), "heap: words");
        assert_eq!(
            shown("a\0b\nc\u{1b}[31m\u{202e}d"),
            "a\u{fffd}b\u{fffd}c\u{fffd}[31m\u{fffd}d"
        );
        assert_eq!(shown("<b>"), "<b>");
        assert_eq!(shown(&"é".repeat(80)), "é".repeat(80));
        let long = shown(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), 80);
        assert!(long.ends_with("é…"));
    }
}
