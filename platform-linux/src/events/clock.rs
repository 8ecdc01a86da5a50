//! Times of day as text.

/// Milliseconds since 1970 as in RFC 3339, in UTC: `2026-11-21T19:05:07.042Z`.
#[must_use]
pub fn stamp(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1_000, at_ms % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a number of days since 1970, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from the 1st of March of the year 0, so that a leap day ends its year; eras of 400
    // years all have the same days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_the_calendar_has_them() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(stamp(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(stamp(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(stamp(951_868_800_000), "2000-03-01T00:00:00.000Z");
        assert_eq!(stamp(1_000_000_000_000), "2001-09-09T01:46:40.000Z");
        assert_eq!(stamp(1_735_689_599_000), "2024-12-31T23:59:59.000Z");
        assert_eq!(stamp(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn every_day_of_some_centuries_follows_the_one_before() {
        let mut before = (1969, 12, 31);
        for days in 0..200_000 {
            let now = date(days);
            assert!(now > before && (1..=12).contains(&now.1) && (1..=31).contains(&now.2));
            before = now;
        }
    }
}
