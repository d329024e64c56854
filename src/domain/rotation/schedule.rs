//! When a secret is due: a period, kept within a maintenance window.

use jiff::{
    SignedDuration, Span, Timestamp,
    civil::{Time, Weekday},
    tz::TimeZone,
};

/// The days that are looked through for the next opening of a window.
const HORIZON_DAYS: i64 = 15;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// This many months of the calendar.
    Months(i8),
    /// This many days.
    Days(u16),
    /// Only when somebody asks for it.
    Never,
}

/// When a secret is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How often.
    pub every: Every,
    /// When it may be rotated; at any time when absent.
    pub window: Option<Window>,
    /// The time zone of months, days and the window.
    pub zone: TimeZone,
    /// Secrets that are due at once are spread over this time.
    pub spread: SignedDuration,
}

/// A maintenance window. One whose end is not after its beginning goes on over midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it opens; every day when empty.
    pub days: Vec<Weekday>,
    /// When it opens.
    pub from: Time,
    /// When it closes.
    pub to: Time,
}

impl Schedule {
    /// When a secret is due that was rotated at `last`; `draw` in 0..1 spreads it. `None` for one
    /// that is never due by itself.
    pub fn next(&self, last: Timestamp, draw: f64) -> Option<Timestamp> {
        let period = match self.every {
            Every::Months(months) => Span::new().months(months),
            Every::Days(days) => Span::new().days(days),
            Every::Never => return None,
        };
        let due = last.to_zoned(self.zone.clone()).checked_add(period).ok()?.timestamp();
        let due = due.checked_add(self.spread.mul_f64(draw)).ok()?;
        Some(self.opens(due))
    }

    /// The moment halfway through the period after `at`, for the other one of a pair.
    pub fn halfway(&self, at: Timestamp) -> Option<Timestamp> {
        let next = self.next(at, 0.0)?;
        let half = next.duration_since(at).checked_div(2)?;
        Some(self.opens(at.checked_add(half).ok()?))
    }

    /// The first moment from `at` on that lies in the window.
    pub fn opens(&self, at: Timestamp) -> Timestamp {
        let Some(window) = &self.window else { return at };
        let start = at.to_zoned(self.zone.clone());
        (-1..HORIZON_DAYS)
            .find_map(|day| {
                let date = start.date().checked_add(Span::new().days(day)).ok()?;
                let opens = (window.days.is_empty() || window.days.contains(&date.weekday()))
                    .then(|| date.to_datetime(window.from).to_zoned(self.zone.clone()).ok())??;
                let over_midnight = i64::from(window.to <= window.from);
                let last = date.checked_add(Span::new().days(over_midnight)).ok()?;
                let closes = last.to_datetime(window.to).to_zoned(self.zone.clone()).ok()?;
                (closes.timestamp() > at).then(|| opens.timestamp().max(at))
            })
            .unwrap_or(at)
    }

    /// Whether a moment lies in the window.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.opens(at) == at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule(every: Every, window: Option<Window>) -> Schedule {
        let zone = TimeZone::UTC;
        Schedule { every, window, zone, spread: SignedDuration::ZERO }
    }

    fn nights() -> Window {
        let days = vec![Weekday::Tuesday, Weekday::Wednesday];
        Window { days, from: Time::constant(22, 0, 0, 0), to: Time::constant(4, 0, 0, 0) }
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let monthly = schedule(Every::Months(1), None);
        assert_eq!(monthly.next(at("2026-01-31T10:00:00Z"), 0.0), Some(at("2026-02-28T10:00:00Z")));
        assert_eq!(schedule(Every::Never, None).next(at("2026-01-31T10:00:00Z"), 0.0), None);
    }

    #[test]
    fn the_next_run_is_moved_into_the_window_also_over_midnight() {
        let schedule = schedule(Every::Days(1), Some(nights()));
        // 2026-11-24 is a Tuesday.
        for (from, opens) in [
            ("2026-11-24T12:00:00Z", "2026-11-24T22:00:00Z"),
            ("2026-11-24T23:00:00Z", "2026-11-24T23:00:00Z"),
            ("2026-11-26T03:59:00Z", "2026-11-26T03:59:00Z"),
            ("2026-11-26T04:00:00Z", "2026-12-01T22:00:00Z"),
            ("2026-11-24T01:00:00Z", "2026-11-24T22:00:00Z"),
        ] {
            assert_eq!(schedule.opens(at(from)), at(opens), "{from}");
        }
    }

    #[test]
    fn runs_that_are_due_at_once_are_spread() {
        let mut schedule = schedule(Every::Days(30), None);
        schedule.spread = SignedDuration::from_hours(6);
        let due = schedule.next(at("2026-11-01T00:00:00Z"), 0.5);
        assert_eq!(due, Some(at("2026-12-01T03:00:00Z")));
        let half = schedule.halfway(at("2026-11-01T00:00:00Z"));
        assert_eq!(half, Some(at("2026-11-16T00:00:00Z")));
    }
}
