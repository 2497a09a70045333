//! Numbers as people read them: three digits and a unit.

use bytesize::ByteSize;

/// A time in nanoseconds: "850 ns", "12.3 µs".
pub(crate) fn duration(ns: f64) -> String {
    let (unit, name) = match ns.abs() {
        1e9.. => (1e9, "s"),
        999_500.0.. => (1e6, "ms"),
        999.5.. => (1e3, "µs"),
        _ => (1.0, "ns"),
    };
    format!("{} {name}", digits(ns / unit))
}

/// A count, every digit of it: "1,234,567".
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that may be large, in short: "1.23 M".
pub(crate) fn short(number: f64) -> String {
    let (unit, name) = match number.abs() {
        999_500_000.0.. => (1e9, " G"),
        999_500.0.. => (1e6, " M"),
        // A year of our time has four digits, too.
        9_999.5.. => (1e3, " k"),
        _ => (1.0, ""),
    };
    format!("{}{name}", digits(number / unit))
}

/// A length in bytes: "1.5 GiB".
pub(crate) fn bytes(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A share of 1, as percent: "12 %".
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        few if few > 0.0 && few < 0.05 => "<0.1 %".to_owned(),
        few if few < 9.95 && few.fract() != 0.0 => format!("{few:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// A share as the name of its percentile, all its nines: "p99.9".
pub(crate) fn percentile(share: f64) -> String {
    let mut text = format!("{:.7}", share * 100.0);
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    format!("p{text}")
}

/// Three digits, none of which says nothing.
fn digits(number: f64) -> String {
    let places = match number.abs() {
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    let text = format!("{number:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let cases = [
            (0.0, "0 ns"),
            (0.5, "0.5 ns"),
            (850.0, "850 ns"),
            (999.6, "1 µs"),
            (11_240.0, "11.2 µs"),
            (999_960.0, "1 ms"),
            (2_345_678.0, "2.35 ms"),
            (1.5e9, "1.5 s"),
            (7.2e12, "7200 s"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn counts_have_all_digits_in_threes_or_three_and_a_unit() {
        let all = [0, 999, 1_000, 1_234_567, u64::MAX].map(count);
        assert_eq!(
            all,
            [
                "0",
                "999",
                "1,000",
                "1,234,567",
                "18,446,744,073,709,551,615"
            ]
        );
        let few = [0.0, 7.0, 1_500.0, 12_345.0, 999_700.0, 2e9].map(short);
        assert_eq!(few, ["0", "7", "1500", "12.3 k", "1 M", "2 G"]);
    }

    #[test]
    fn shares_are_percents_and_percentiles() {
        assert_eq!(
            [0.0, 0.0001, 0.034, 0.5, 0.996, 1.0].map(percent),
            ["0 %", "<0.1 %", "3.4 %", "50 %", "100 %", "100 %"]
        );
        assert_eq!(
            [0.5, 0.99, 0.999, 0.9999].map(percentile),
            ["p50", "p99", "p99.9", "p99.99"]
        );
    }
}
