//! Names from a recording: whatever they hold, they are shown as one short line.

/// Characters of a name that are shown.
const LONGEST: usize = 80;

/// A name as it is shown: control characters, and those that turn the direction of what follows, are made visible; a long name is cut.
///
/// This is for people's eyes. What HTML takes for markup is escaped where the name is written.
pub(super) fn shown(name: &str) -> String {
    cut(name, LONGEST)
}

/// The same, of at most so many characters.
pub(super) fn cut(name: &str, longest: usize) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_short_visible_line() {
        assert_eq!(shown("heap: words"), "heap: words");
        assert_eq!(shown("a\0b\nc\u{1b}[31m\u{202e}d"), "a\u{fffd}b\u{fffd}c\u{fffd}[31m\u{fffd}d");
        assert_eq!(shown("<b>"), "<b>");
        assert_eq!(shown(&"é".repeat(80)), "é".repeat(80));
        let long = shown(&"é".repeat(10_000));
        assert_eq!(long.chars().count(), 80);
        assert!(long.ends_with("é…"));
    }
}
