//! Scales: where on a chart a value is, and which values are worth a tick.

/// How values spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spread {
    Linear,
    /// Each decade has the same length.
    Log,
    /// Values are shares below 1; each further nine (0.9, 0.99, 0.999) has the same length.
    Nines,
}

/// Values from `from` to `to`, which lie on a chart from `start` to `end`.
///
/// Whatever it is given, it answers with finite numbers: a value outside lies at the nearer end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    spread: Spread,
    /// In the values' order; different; above 0 where the scale is logarithmic.
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

/// Shares with a place of their own on a scale of nines.
const NINES: [f64; 8] = [
    0.5,
    0.9,
    0.99,
    0.999,
    0.9999,
    0.99999,
    0.999_999,
    0.999_999_9,
];

/// Nobody reads more decades than that from a chart, and no clock has them.
const MOST_DECADES: i32 = 24;

impl Scale {
    /// From 0 to a number above 0 (what is less is taken for 1), each unit of the same length.
    pub(crate) fn linear(to: f64, on: (f64, f64)) -> Scale {
        Scale::of(Spread::Linear, 0.0, positive(to), on)
    }

    /// From a number above 0 (what is less is taken for 1) to another, whole steps of 1, 2, 5, 10 around them.
    pub(crate) fn log(from: f64, to: f64, on: (f64, f64)) -> Scale {
        let from = floor_step(positive(from));
        let to = ceil_step(positive(to).min(from * 10f64.powi(MOST_DECADES)));
        let to = if to > from { to } else { ceil_step(from * 1.5) };
        Scale::of(Spread::Log, from, to, on)
    }

    /// Shares of `count` things, from none to all but the last.
    pub(crate) fn nines(count: u64, on: (f64, f64)) -> Scale {
        let last = 1.0 - 1.0 / (count.max(10) as f64);
        Scale::of(Spread::Nines, 0.0, last.min(NINES[NINES.len() - 1]), on)
    }

    fn of(spread: Spread, from: f64, to: f64, (start, end): (f64, f64)) -> Scale {
        Scale {
            spread,
            from,
            to,
            start,
            end,
        }
    }

    /// The largest.
    pub(crate) fn to(&self) -> f64 {
        self.to
    }

    /// Where a value lies.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = if value.is_nan() { self.from } else { value };
        let value = value.clamp(self.from, self.to);
        let share = match self.spread {
            Spread::Linear => (value - self.from) / (self.to - self.from),
            Spread::Log => (value / self.from).ln() / (self.to / self.from).ln(),
            Spread::Nines => (1.0 - value).ln() / (1.0 - self.to).ln(),
        };
        self.start + share * (self.end - self.start)
    }

    /// Values for about `wanted` ticks, never more than twice as many, in ascending order.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<f64> {
        let wanted = wanted.max(2);
        match self.spread {
            Spread::Linear => self.linear_ticks(wanted),
            Spread::Log => self.log_ticks(wanted),
            Spread::Nines => NINES
                .into_iter()
                .take_while(|share| *share <= self.to + 1e-12)
                .collect(),
        }
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<f64> {
        let step = ceil_step(self.to / (1.5 * wanted as f64));
        // What the division loses must not cost the last tick.
        let last = (self.to / step + 1e-6).floor() as usize;
        (0..=last).map(|n| n as f64 * step).collect()
    }

    /// Powers of ten, thinned where they are too many, and what divides them where they are few.
    fn log_ticks(&self, wanted: usize) -> Vec<f64> {
        let (least, most) = (self.from.log10().floor(), self.to.log10().ceil());
        let decades = (most - least).max(1.0);
        let room = wanted as f64 / (self.to / self.from).log10();
        let steps: &[f64] = match room {
            3.0.. => &[1.0, 2.0, 5.0],
            2.0.. => &[1.0, 3.0],
            _ => &[1.0],
        };
        let every = (decades / wanted as f64).ceil().max(1.0) as usize;
        let powers = (least as i32..=most as i32).step_by(every);
        let ticks = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        let inside = self.from * (1.0 - 1e-9)..=self.to * (1.0 + 1e-9);
        let ticks: Vec<f64> = ticks.filter(|tick| inside.contains(tick)).collect();
        match ticks.len() {
            // Within one decade: then the ends say where that is.
            0 | 1 => vec![self.from, self.to],
            _ => ticks,
        }
    }
}

/// A number above 0 with which one can reckon.
fn positive(value: f64) -> f64 {
    match value > 0.0 {
        true => value.clamp(1e-100, 1e100),
        false => 1.0,
    }
}

/// The largest of 1, 2 and 5 times a power of ten that is not above a value above 0.
fn floor_step(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    // Logarithms of powers of ten are not exact.
    let over = value / power * (1.0 + 1e-9);
    let step = [10.0, 5.0, 2.0, 1.0].into_iter().find(|step| *step <= over);
    power * step.unwrap_or(1.0)
}

/// The smallest of 1, 2 and 5 times a power of ten that is not below a value above 0.
fn ceil_step(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let over = value / power * (1.0 - 1e-9);
    let step = [1.0, 2.0, 5.0].into_iter().find(|step| *step >= over);
    power * step.unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: (f64, f64) = (0.0, 100.0);

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-9 * right.abs().max(1.0)
    }

    #[test]
    fn linear_values_lie_in_proportion_and_axes_may_point_up() {
        let scale = Scale::linear(50.0, ON);
        assert_eq!(
            [0.0, 25.0, 50.0].map(|value| scale.at(value)),
            [0.0, 50.0, 100.0]
        );
        let up = Scale::linear(50.0, (100.0, 0.0));
        assert_eq!(
            [0.0, 25.0, 50.0].map(|value| up.at(value)),
            [100.0, 50.0, 0.0]
        );
    }

    #[test]
    fn linear_ticks_are_round() {
        assert_eq!(
            Scale::linear(97.0, ON).ticks(5),
            [0.0, 20.0, 40.0, 60.0, 80.0]
        );
        assert_eq!(
            Scale::linear(100.0, ON).ticks(5),
            [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
        );
        assert_eq!(Scale::linear(1.0, ON).ticks(2), [0.0, 0.5, 1.0]);
        let fine = Scale::linear(0.3, ON).ticks(3);
        assert_eq!(fine.len(), 4, "{fine:?}");
    }

    #[test]
    fn decades_have_one_length() {
        let scale = Scale::log(100.0, 100_000.0, ON);
        assert_eq!((scale.from, scale.to), (100.0, 100_000.0));
        for (value, at) in [(100.0, 0.0), (1_000.0, 100.0 / 3.0), (100_000.0, 100.0)] {
            assert!(close(scale.at(value), at), "{value}");
        }
        assert_eq!(scale.ticks(5), [100.0, 1_000.0, 10_000.0, 100_000.0]);
    }

    #[test]
    fn log_scales_end_at_steps_and_tick_inside_of_a_decade() {
        let scale = Scale::log(1_300.0, 43_000.0, ON);
        assert!(
            close(scale.from, 1_000.0) && close(scale.to, 50_000.0),
            "{scale:?}"
        );
        let ticks = scale.ticks(6);
        assert_eq!(ticks, [1e3, 2e3, 5e3, 1e4, 2e4, 5e4]);
        assert_eq!(scale.ticks(4), [1e3, 3e3, 1e4, 3e4]);
        let narrow = Scale::log(2_100.0, 2_200.0, ON);
        assert_eq!(narrow.ticks(2), [narrow.from, narrow.to]);
    }

    #[test]
    fn each_nine_has_one_length_and_the_axis_ends_at_the_last_of_all() {
        let scale = Scale::nines(100_000, ON);
        for (share, at) in [
            (0.0, 0.0),
            (0.9, 20.0),
            (0.99, 40.0),
            (0.9999, 80.0),
            (1.0, 100.0),
        ] {
            assert!(close(scale.at(share), at), "{share}");
        }
        assert_eq!(scale.ticks(9), [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]);
        assert_eq!(Scale::nines(0, ON).ticks(9), [0.5, 0.9]);
    }

    #[test]
    fn whatever_comes_all_is_finite_and_on_the_axis() {
        let odd = [
            f64::NAN,
            f64::NEG_INFINITY,
            f64::INFINITY,
            f64::MAX,
            f64::MIN,
            5e-324,
            -1.0,
            0.0,
            1.0,
            2.5,
            1e18,
        ];
        for from in odd {
            for to in odd {
                let scales = [Scale::linear(to, ON), Scale::log(from, to, ON)];
                for scale in scales.into_iter().chain([Scale::nines(to as u64, ON)]) {
                    for value in odd {
                        let at = scale.at(value);
                        assert!(
                            (-1e-6..=100.000_001).contains(&at),
                            "{scale:?}: {value} at {at}"
                        );
                    }
                    let ticks = scale.ticks(5);
                    assert!((1..=10).contains(&ticks.len()), "{scale:?}: {ticks:?}");
                    assert!(
                        ticks.is_sorted() && ticks.iter().all(|tick| tick.is_finite()),
                        "{scale:?}: {ticks:?}"
                    );
                }
            }
        }
    }
}
