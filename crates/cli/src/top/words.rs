//! Numbers as a person reads them, in few columns.

use std::time::Duration;

/// A count: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many a second, in five columns: `0.3`, `9,999`, `12.3k`, `4.5M`.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        none if none <= 0.0 => "0".into(),
        rare if rare < 0.05 => "<0.1".into(),
        few if few < 9.95 => format!("{few:.1}"),
        some if some < 9_999.5 => count(some.round() as u64),
        many if many < 99_950.0 => format!("{:.1}k", many / 1e3),
        many if many < 999_500.0 => format!("{:.0}k", many / 1e3),
        many if many < 99.95e6 => format!("{:.1}M", many / 1e6),
        many => format!("{:.0}M", many / 1e6),
    }
}

/// A time in nanoseconds, in seven columns: `850 ns`, `3.1 µs`, `142 µs`, `1.2 ms`, `60.0 s`.
pub(crate) fn nanos(ns: u64) -> String {
    let scaled = |unit: f64, name: &str| {
        let value = ns as f64 / unit;
        if value < 99.95 {
            format!("{value:.1} {name}")
        } else {
            format!("{value:.0} {name}")
        }
    };
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..999_500 => scaled(1e3, "µs"),
        999_500..999_500_000 => scaled(1e6, "ms"),
        _ => scaled(1e9, "s"),
    }
}

/// Bytes: `120.0 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// How long something has been running: `0:01:23`, `3d 4:05:06`.
pub(crate) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let clock = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => clock,
        _ => format!("{days}d {clock}"),
    }
}

/// A span of time, roughly: `0.5 s`, `12 s`, `3 min`, `2 h`.
pub(crate) fn span(time: Duration) -> String {
    match time.as_secs_f64() {
        short if short < 9.95 && (short - short.round()).abs() > 0.04 => format!("{short:.1} s"),
        short if short < 119.5 => format!("{short:.0} s"),
        long if long < 7_170.0 => format!("{:.0} min", long / 60.0),
        long => format!("{:.0} h", long / 3_600.0),
    }
}

/// Text of another process, without what a terminal would obey.
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { '·' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_their_columns() {
        for power in 0..15 {
            for number in
                [1, 5, 9, 9_4, 9_5, 9_9, 9_99, 9_995, 9_999].map(|n| n * 10u64.pow(power) / 1_000)
            {
                let text = nanos(number.min(60_000_000_000));
                assert!(text.chars().count() <= 7, "{number}: {text}");
                let text = rate(number.min(900_000_000) as f64);
                assert!(text.len() <= 5, "{number}: {text}");
                let text = rate(number.min(900_000_000) as f64 / 100.0);
                assert!(text.len() <= 5, "{number}: {text}");
            }
        }
    }

    #[test]
    fn numbers_are_rounded_to_what_they_say() {
        let rates = [0.0, 0.01, 0.34, 9.96, 9_999.4, 9_999.6, 99_999.0, 1e6].map(rate);
        assert_eq!(
            rates,
            ["0", "<0.1", "0.3", "10", "9,999", "10.0k", "100k", "1.0M"]
        );
        let times = [0, 999, 1_000, 99_960, 999_499, 999_500, 60_000_000_000].map(nanos);
        assert_eq!(
            times,
            [
                "0 ns", "999 ns", "1.0 µs", "100 µs", "999 µs", "1.0 ms", "60.0 s"
            ]
        );
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(bytes(3 << 29), "1.5 GiB");
    }

    #[test]
    fn times_are_told_as_a_clock_or_a_span() {
        let clocks = [5, 3_723, 90_061].map(|seconds| clock(Duration::from_secs(seconds)));
        assert_eq!(clocks, ["0:00:05", "1:02:03", "1d 1:01:01"]);
        let spans = [100, 500, 1_001, 30_000, 119_000, 120_000, 7_200_000]
            .map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(
            spans,
            ["0.1 s", "0.5 s", "1 s", "30 s", "119 s", "2 min", "2 h"]
        );
    }

    #[test]
    fn a_command_line_gives_the_terminal_no_orders() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{9b}c\n"), "a·[2Jb·c·");
    }
}
