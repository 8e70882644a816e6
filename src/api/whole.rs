//! The whole numbers of callers, which may be written as `1`, `1.0` or `1e0`.
//!
//! JSON Schema tells these not apart, and some languages have floating numbers alone.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// Reads a whole number that fits.
pub(super) fn whole<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i128>,
{
    let number = Number::deserialize(deserializer)?;
    let exact = number.as_i128();
    // serde_json makes a floating number of a whole one below the least of 64 bits: that fits not.
    // A number that is beyond 128 bits is cut to the largest, which does not fit either.
    let floating = number.as_f64().filter(|number| number.fract() == 0.0);
    let floating = floating.filter(|number| *number > i64::MIN as f64);
    let whole = exact.or_else(|| floating.map(|number| number as i128));
    let whole = whole.and_then(|whole| T::try_from(whole).ok());
    whole.ok_or_else(|| D::Error::custom(format!("{number} is no whole number in its range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: TryFrom<i128>>(json: &str) -> Option<T> {
        whole(&mut serde_json::Deserializer::from_str(json)).ok()
    }

    #[test]
    fn a_whole_number_is_read_however_it_is_written() {
        for (json, signed, unsigned) in [
            ("0", Some(0), Some(0)),
            ("-0.0", Some(0), Some(0)),
            ("7.0", Some(7), Some(7)),
            ("7e2", Some(700), Some(700)),
            ("-1", Some(-1), None),
            ("-2.0", Some(-2), None),
            ("-9223372036854775808", Some(i64::MIN), None),
            ("-9223372036854775809", None, None),
            ("9007199254740993", Some((1 << 53) + 1), Some((1 << 53) + 1)),
            ("9223372036854775807", Some(i64::MAX), Some(i64::MAX as u64)),
            ("18446744073709551615", None, Some(u64::MAX)),
            ("18446744073709551616", None, None),
            ("1.8446744073709552e19", None, None),
            ("1e300", None, None),
            ("-1e300", None, None),
            ("1e400", None, None),
            ("0.5", None, None),
            ("\"1\"", None, None),
            ("true", None, None),
            ("null", None, None),
        ] {
            assert_eq!(read::<i64>(json), signed, "{json}");
            assert_eq!(read::<u64>(json), unsigned, "{json}");
        }
    }
}
