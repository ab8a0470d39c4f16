//! The wait that an HTTP answer asks for.

use core::time::Duration;

const DAY_SECONDS: i64 = 86_400;

/// Reads a `Retry-After` header (RFC 9110, section 10.2.3): a count of seconds, or a date.
///
/// This layer reads no clock: a date is told against `date`, the `Date` header of the same answer, which is what the peer
/// took for now. A count too large to hold becomes the longest wait there is, which the deadline of an export cuts.
///
/// `None` for a date in the past, a date without a readable `Date` beside it, a negative count and garbage: then the
/// backoff decides (OTLP specification, "OTLP/HTTP Throttling").
///
/// ```
/// use core::time::Duration;
/// use otlp_embed::policy::retry_after;
///
/// assert_eq!(retry_after(b"120", None), Some(Duration::from_secs(120)));
/// let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
/// assert_eq!(retry_after(b"Sun, 06 Nov 1994 08:50:37 GMT", Some(date)), Some(Duration::from_secs(60)));
/// ```
pub fn retry_after(value: &[u8], date: Option<&[u8]>) -> Option<Duration> {
    let value = value.trim_ascii();
    if let Some(seconds) = count(value) {
        return Some(Duration::from_secs(seconds));
    }
    let now = Date::parse(date?.trim_ascii())?;
    // The year of now tells which century a date of two digits means; its own is of this one.
    let now_seconds = now.seconds(2_000)?;
    let then = Date::parse(value)?.seconds(now.full_year(2_000))?;
    let wait = u64::try_from(then.checked_sub(now_seconds)?).ok()?;
    Some(Duration::from_secs(wait))
}

/// A count of seconds, at most what fits.
fn count(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(value.iter().fold(0, add))
}

/// A point in time as a peer writes it, in GMT.
#[derive(Clone, Copy)]
struct Date {
    year: i64,
    /// Whether the year came with two digits alone.
    is_short: bool,
    /// From 0.
    month: usize,
    day: i64,
    second_of_day: i64,
}

impl Date {
    /// Reads the three forms of RFC 9110, section 5.6.7. What day of the week it is said to be does not matter.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        match text.split_once(", ") {
            // Sunday, 06-Nov-94 08:49:37 GMT
            Some((weekday, rest)) if rest.as_bytes().get(2) == Some(&b'-') => {
                is_weekday(weekday).then_some(())?;
                let (date, time) = rest.strip_suffix(" GMT")?.split_once(' ')?;
                let mut parts = date.split('-');
                let date = Self::new(parts.next()?, parts.next()?, parts.next()?, 2, time)?;
                parts.next().is_none().then_some(date)
            }
            // Sun, 06 Nov 1994 08:49:37 GMT
            Some((weekday, rest)) => {
                is_weekday(weekday).then_some(())?;
                let mut parts = rest.strip_suffix(" GMT")?.split(' ');
                let date = Self::new(parts.next()?, parts.next()?, parts.next()?, 4, parts.next()?)?;
                parts.next().is_none().then_some(date)
            }
            // Sun Nov  6 08:49:37 1994
            None => {
                let (weekday, rest) = text.split_once(' ')?;
                is_weekday(weekday).then_some(())?;
                let (month, rest) = rest.split_at_checked(3)?;
                let (day, rest) = rest.strip_prefix(' ')?.split_at_checked(2)?;
                let (time, year) = rest.strip_prefix(' ')?.split_once(' ')?;
                Self::new(day.trim_start_matches(' '), month, year, 4, time)
            }
        }
    }

    fn new(day: &str, month: &str, year: &str, year_digits: usize, time: &str) -> Option<Self> {
        const MONTHS: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let month = MONTHS.iter().position(|known| *known == month)?;
        (year.len() == year_digits && day.len() <= 2).then_some(())?;
        let mut parts = time.split(':');
        let mut part = |max: i64| {
            let part = parts.next().filter(|part| part.len() == 2)?;
            number(part).filter(|number| *number <= max)
        };
        // 60 is a leap second.
        let second_of_day = part(23)? * 3_600 + part(59)? * 60 + part(60)?;
        if parts.next().is_some() {
            return None;
        }
        let date = Self {
            year: number(year)?,
            is_short: year_digits == 2,
            month,
            day: number(day)?,
            second_of_day,
        };
        (1..=31).contains(&date.day).then_some(date)
    }

    /// The year, where one of two digits is the nearest to `near` and at most fifty years after it.
    fn full_year(&self, near: i64) -> i64 {
        if !self.is_short {
            return self.year;
        }
        let year = near - near % 100 + self.year;
        match year - near {
            51.. => year - 100,
            ..-49 => year + 100,
            _ => year,
        }
    }

    /// Seconds since the first of January 1970; `None` for a day that its month does not have.
    fn seconds(&self, near: i64) -> Option<i64> {
        /// Days of a common year before each month.
        const BEFORE: [i64; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
        let year = self.full_year(near);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let leap_day = i64::from(is_leap && self.month == 1);
        if self.day > BEFORE[self.month + 1] - BEFORE[self.month] + leap_day {
            return None;
        }
        let past = year - 1;
        let leap_days = past / 4 - past / 100 + past / 400 - 477 + i64::from(is_leap && self.month > 1);
        let days = (year - 1_970) * 365 + leap_days + BEFORE[self.month] + self.day - 1;
        Some(days * DAY_SECONDS + self.second_of_day)
    }
}

fn number(digits: &str) -> Option<i64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

fn is_weekday(text: &str) -> bool {
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
        .iter()
        .any(|day| text.starts_with(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn against_now(value: &str) -> Option<u64> {
        retry_after(value.as_bytes(), Some(NOW)).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_taken_as_they_are() {
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("007", Some(7)),
            ("99999999999999999999999999", Some(u64::MAX)),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1s", None),
            ("", None),
            ("soon", None),
            ("\u{661}", None),
        ] {
            assert_eq!(against_now(value), expected, "spec 21: {value:?}");
            let without_date = retry_after(value.as_bytes(), None);
            assert_eq!(
                without_date.map(|wait| wait.as_secs()),
                expected,
                "spec 21: {value:?}"
            );
        }
    }

    #[test]
    fn every_form_of_a_date_is_read() {
        for value in [
            "Sun, 06 Nov 1994 08:50:37 GMT",
            "Sunday, 06-Nov-94 08:50:37 GMT",
            "Sun Nov  6 08:50:37 1994",
        ] {
            assert_eq!(against_now(value), Some(60), "spec 21: {value}");
            for now in [
                "Sun, 06 Nov 1994 08:50:30 GMT",
                "Sunday, 06-Nov-94 08:50:30 GMT",
                "Sun Nov  6 08:50:30 1994",
            ] {
                let wait = retry_after(value.as_bytes(), Some(now.as_bytes()));
                assert_eq!(
                    wait,
                    Some(Duration::from_secs(7)),
                    "spec 21: {value} against {now}"
                );
            }
        }
        assert_eq!(against_now("Wed Nov 16 08:49:37 1994"), Some(10 * 86_400));
    }

    #[test]
    fn the_past_and_garbage_leave_it_to_the_backoff() {
        for value in [
            "Sun, 06 Nov 1994 08:49:36 GMT",
            "Thu, 01 Jan 1970 00:00:00 GMT",
            "Sunday, 06-Nov-94 08:49:36 GMT",
            "Sun, 31 Feb 1995 08:49:37 GMT",
            "Sun, 00 Nov 1995 08:49:37 GMT",
            "Sun, 06 Nov 1995 24:00:00 GMT",
            "Sun, 06 Nov 1995 08:60:00 GMT",
            "Sun, 06 Nov 1995 8:49:37 GMT",
            "Sun, 06 Nov 1995 08:49:37 CET",
            "Sun, 06 Nov 1995 08:49:37",
            "Sun, 06 Nov 1995 08:49:37 GMT GMT",
            "Sun, 06 nov 1995 08:49:37 GMT",
            "Sun, 06 Nov 95 08:49:37 GMT",
            "Sunday, 06-Nov-1995 08:49:37 GMT",
            "Xxx, 06 Nov 1995 08:49:37 GMT",
            "Sun Nov 06:08:49:37 1995",
            "Sun, \u{e9}\u{e9} Nov 1995 08:49:37 GMT",
            "Sun \u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(against_now(value), None, "spec 21: {value}");
        }
        let future = b"Mon, 06 Nov 1995 08:49:37 GMT";
        assert_eq!(retry_after(future, None), None, "spec 21: no clock to tell it by");
        assert_eq!(retry_after(future, Some(b"noon")), None, "spec 21");
    }

    #[test]
    fn days_are_counted_as_the_calendar_has_them() {
        let seconds = |text: &str| Date::parse(text.as_bytes()).and_then(|date| date.seconds(2_000));
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Tue, 19 Jan 2038 03:14:08 GMT", 2_147_483_648),
            ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        assert_eq!(seconds("Mon, 29 Feb 2100 00:00:00 GMT"), None);
        assert!(seconds("Sat, 01 Jan 0000 00:00:00 GMT").is_some());
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_ahead() {
        let year = |digits: i64, near| {
            let date = Date {
                year: digits,
                is_short: true,
                month: 0,
                day: 1,
                second_of_day: 0,
            };
            date.full_year(near)
        };
        assert_eq!((year(94, 1_994), year(94, 2_024)), (1_994, 1_994));
        assert_eq!((year(74, 2_024), year(75, 2_024)), (2_074, 1_975));
        assert_eq!((year(0, 2_099), year(99, 2_100)), (2_100, 2_099));
    }
}
