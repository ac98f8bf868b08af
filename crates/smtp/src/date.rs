//! Dates as messages write them.

use std::fmt;

use base::Timestamp;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECONDS_A_DAY: i64 = 86_400;

/// Shows a moment as a date of RFC 5322, section 3.3, in UTC: `Wed, 18 Nov 2026 11:06:40 +0000`.
#[derive(Clone, Copy, Debug)]
pub struct Rfc5322(pub Timestamp);

impl fmt::Display for Rfc5322 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.micros().div_euclid(1_000_000);
        let (days, time) = (seconds.div_euclid(SECONDS_A_DAY), seconds.rem_euclid(SECONDS_A_DAY));
        let (year, month, day) = civil(days);
        let weekday = pick(&DAYS, days.rem_euclid(7));
        let month = pick(&MONTHS, month);
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        write!(f, "{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
    }
}

fn pick(names: &[&'static str], at: i64) -> &'static str {
    names[usize::try_from(at).expect("a remainder is not negative")]
}

/// Year, month from 0 and day from 1 of a day counted from 1970-01-01.
///
/// Years are taken to begin in March, so that the leap day is the last day of its year; 400 years
/// of 146,097 days repeat.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_march_of_year_0 = days + 719_468;
    let (cycle, day) = (since_march_of_year_0.div_euclid(146_097), since_march_of_year_0.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    (400 * cycle + year + i64::from(month < 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_also_around_leap_days() {
        for (seconds, text) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (951_868_800, "Wed, 1 Mar 2000 00:00:00 +0000"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 +0000"),
            (1_795_000_000, "Wed, 18 Nov 2026 11:06:40 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
        ] {
            assert_eq!(Rfc5322(Timestamp::from_millis(seconds * 1000)).to_string(), text);
        }
    }
}
