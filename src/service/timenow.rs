//! The service `timenow`: the time in UTC, every two seconds.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Context, Next};

const PERIOD: Duration = Duration::from_secs(2);

/// Publishes the RFC 3339 UTC time every 2 s to all clients, the first time as soon as it runs.
///
/// The first client is subscribed before the service runs, so it receives the time at once; a later
/// client waits for the next tick. The ticks stay at multiples of 2 s after the first tick; ticks
/// that fall into a pause of the whole machine are left out.
pub async fn timenow(mut ctx: Context) {
    let mut due = ctx.now();
    loop {
        match ctx.next_until(due).await {
            // Messages are read and ignored: a full inbox would stop the reads of the clients'
            // sockets.
            Next::Message(_) => {}
            Next::Elapsed => {
                ctx.publish(rfc3339(ctx.wall()));
                let late = ctx.now().saturating_since(due).as_nanos() / PERIOD.as_nanos();
                let missed = u32::try_from(late).unwrap_or(u32::MAX);
                due = due + PERIOD.saturating_mul(missed.saturating_add(1));
            }
            Next::Stopped => return,
        }
    }
}

/// Formats a time as `2025-12-22T10:30:00Z`, rounded down to a second. RFC 3339 cannot write a time
/// outside of the years 0 to 9999, which becomes the nearest time inside.
fn rfc3339(time: SystemTime) -> String {
    let second = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let whole = before.as_secs() + u64::from(before.subsec_nanos() > 0);
            i64::try_from(whole).map_or(i64::MIN, |whole| -whole)
        }
    };
    OffsetDateTime::from_unix_timestamp(second.clamp(YEAR_0, YEAR_9999_END))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .expect("the years 0 to 9999 can be written")
}

/// 0000-01-01T00:00:00Z.
const YEAR_0: i64 = -62_167_219_200;

/// 9999-12-31T23:59:59Z.
const YEAR_9999_END: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64, nanos: u32) -> String {
        let far = Duration::from_secs(second.unsigned_abs());
        let base = match second {
            0.. => SystemTime::UNIX_EPOCH.checked_add(far),
            _ => SystemTime::UNIX_EPOCH.checked_sub(far),
        };
        rfc3339(base.expect("in range") + Duration::from_nanos(u64::from(nanos)))
    }

    #[test]
    fn writes_whole_seconds_of_utc() {
        assert_eq!(at(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(at(1_766_399_400, 999_999_999), "2025-12-22T10:30:00Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00Z", "a leap day");
        assert_eq!(at(4_107_542_400, 0), "2100-03-01T00:00:00Z", "no leap day");
        assert_eq!(at(253_402_300_799, 0), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn writes_times_before_1970() {
        assert_eq!(at(-1, 0), "1969-12-31T23:59:59Z");
        assert_eq!(
            at(-1, 1),
            "1969-12-31T23:59:59Z",
            "the second that has begun"
        );
        assert_eq!(at(-2_203_977_600, 0), "1900-02-28T00:00:00Z");
    }

    #[test]
    fn a_time_that_rfc_3339_cannot_write_is_the_nearest_it_can() {
        assert_eq!(at(YEAR_9999_END + 1, 0), "9999-12-31T23:59:59Z");
        assert_eq!(at(YEAR_0, 0), "0000-01-01T00:00:00Z");
        assert_eq!(at(YEAR_0 - 1, 0), "0000-01-01T00:00:00Z");
    }

    /// The date of a day, counted by years and months: slow, and unlike the tested code.
    fn date(mut days: i64) -> (i64, i64, i64) {
        let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let mut year = 1970;
        while days < 0 {
            year -= 1;
            days += 365 + i64::from(leap(year));
        }
        while days >= 365 + i64::from(leap(year)) {
            days -= 365 + i64::from(leap(year));
            year += 1;
        }
        let february = 28 + i64::from(leap(year));
        let mut month = 1;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        (year, month, days + 1)
    }

    proptest::proptest! {
        #[test]
        fn every_second_of_ten_thousand_years_is_written_as_the_calendar_counts_it(
            second in YEAR_0..=YEAR_9999_END,
            nanos in 0..1_000_000_000_u32,
        ) {
            let (year, month, day) = date(second.div_euclid(86_400));
            let of_day = second.rem_euclid(86_400);
            let (hour, minute) = (of_day / 3600, of_day / 60 % 60);
            let expected =
                format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", of_day % 60);
            proptest::prop_assert_eq!(at(second, nanos), expected);
        }
    }
}
