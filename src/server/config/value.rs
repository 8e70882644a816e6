//! The types of keys: the allowed values, and the parsing of their text.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The TOML type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An array of strings; outside the file a comma-separated list.
    List,
    /// A number with or without a fraction.
    Real,
    /// `true` or `false`.
    Switch,
    /// An inline table; outside the file `key = value` with commas between.
    Table,
    /// A string.
    Text,
    /// A whole number.
    Whole,
}

/// The type of a key.
pub(super) trait Value: Sized {
    /// The TOML type of the value.
    const KIND: Kind;

    /// The placeholder in the help.
    const PLACEHOLDER: &'static str;

    /// The allowed values, as the end of a sentence.
    fn allowed() -> String;

    /// Parses a value.
    ///
    /// # Errors
    ///
    /// When the text is not [`allowed`](Self::allowed); the error has details, or is empty.
    fn read(text: &str) -> Result<Self, String>;
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    /// The number as `usize`, saturating.
    pub(crate) fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// The number, at least 1.
    pub(crate) fn nonzero(self) -> NonZeroUsize {
        NonZeroUsize::new(self.size()).unwrap_or(NonZeroUsize::MIN)
    }

    /// The number, at least 1, saturating.
    pub(crate) fn nonzero_u32(self) -> NonZeroU32 {
        let number = u32::try_from(self.0).unwrap_or(u32::MAX);
        NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
    }
}

impl<const MIN: u64, const MAX: u64> Value for Whole<MIN, MAX> {
    const KIND: Kind = Kind::Whole;
    const PLACEHOLDER: &'static str = "N";

    fn allowed() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn read(text: &str) -> Result<Self, String> {
        let number: u64 = text.parse().map_err(|_| String::new())?;
        let inside = (MIN..=MAX).contains(&number);
        inside.then_some(Self(number)).ok_or_else(String::new)
    }
}

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio(f64);

impl Ratio {
    pub(crate) fn get(self) -> f64 {
        self.0
    }
}

impl Value for Ratio {
    const KIND: Kind = Kind::Real;
    const PLACEHOLDER: &'static str = "SHARE";

    fn allowed() -> String {
        "a number from 0 to 1, such as 0.1".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        let number: f64 = text.parse().map_err(|_| String::new())?;
        let inside = (0.0..=1.0).contains(&number);
        inside.then_some(Self(number)).ok_or_else(String::new)
    }
}

/// A time from `MIN` to `MAX` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time<const MIN: u64, const MAX: u64>(Duration);

impl<const MIN: u64, const MAX: u64> Time<MIN, MAX> {
    pub(crate) fn get(self) -> Duration {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> Value for Time<MIN, MAX> {
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "TIME";

    fn allowed() -> String {
        let [min, max] = [MIN, MAX].map(|ms| humantime::format_duration(Duration::from_millis(ms)));
        format!("a time with its unit, such as 500ms, 5s or 1m 30s, from {min} to {max}")
    }

    fn read(text: &str) -> Result<Self, String> {
        let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
        let inside = (Duration::from_millis(MIN)..=Duration::from_millis(MAX)).contains(&time);
        inside.then_some(Self(time)).ok_or_else(String::new)
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Switch;
    const PLACEHOLDER: &'static str = "true|false";

    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| String::new())
    }
}

impl Value for PathBuf {
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "FILE";

    fn allowed() -> String {
        "the path of a file".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        let given = !text.is_empty();
        given.then(|| text.into()).ok_or_else(String::new)
    }
}

impl Value for String {
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = "TEXT";

    fn allowed() -> String {
        "a text".to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// A value parsed by the `FromStr` of another module's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed<T>(pub(crate) T);

/// The description of a [`Parsed`] type, for messages.
pub(crate) trait Described: FromStr<Err: std::fmt::Display> {
    /// The placeholder in the help.
    const PLACEHOLDER: &'static str;

    /// The allowed values, as the end of a sentence.
    const ALLOWED: &'static str;
}

impl<T: Described> Value for Parsed<T> {
    const KIND: Kind = Kind::Text;
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;

    fn allowed() -> String {
        T::ALLOWED.to_owned()
    }

    fn read(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| error.to_string())
    }
}

/// An optional value; the empty text means `None`.
impl<T: Value> Value for Option<T> {
    const KIND: Kind = T::KIND;
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;

    fn allowed() -> String {
        T::allowed()
    }

    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::read(text).map(Some)
    }
}

impl<T: Value> Value for Vec<T> {
    const KIND: Kind = Kind::List;
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;

    fn allowed() -> String {
        format!("a list, each of it {}", T::allowed())
    }

    fn read(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim);
        let items = items.filter(|item| !item.is_empty());
        items
            .map(|item| T::read(item).map_err(|error| join(&format!("`{item}`"), &error)))
            .collect()
    }
}

/// A list that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OneOrMore<T>(pub(crate) Vec<T>);

impl<T: Value> Value for OneOrMore<T> {
    const KIND: Kind = Kind::List;
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;

    fn allowed() -> String {
        format!("a list of one or more, each of it {}", T::allowed())
    }

    fn read(text: &str) -> Result<Self, String> {
        let list = Vec::read(text)?;
        let some = !list.is_empty();
        some.then_some(Self(list)).ok_or_else(String::new)
    }
}

/// Joins two parts of a sentence, of which the second may be empty.
fn join(first: &str, second: &str) -> String {
    if second.is_empty() {
        first.to_owned()
    } else {
        format!("{first}: {second}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_at_the_edges_of_its_range_and_not_beyond() {
        type Small = Whole<1, 300>;
        for (text, number) in [("1", Some(1)), ("300", Some(300)), ("42", Some(42))] {
            assert_eq!(
                Small::read(text).ok().map(|small| small.0),
                number,
                "{text}"
            );
        }
        for text in [
            "0",
            "301",
            "-1",
            "1.5",
            "",
            " 1",
            "x",
            "18446744073709551616",
        ] {
            assert!(Small::read(text).is_err(), "{text}");
        }
        assert_eq!(Small::allowed(), "a whole number from 1 to 300");
    }

    #[test]
    fn a_ratio_is_read_at_the_edges_of_its_range_and_not_beyond() {
        for (text, number) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25), ("1e-3", 0.001)] {
            assert_eq!(Ratio::read(text), Ok(Ratio(number)), "{text}");
        }
        for text in ["1.001", "-0.1", "", "x", "nan", "inf"] {
            assert!(Ratio::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_read_at_the_edges_of_its_range_and_not_beyond() {
        type Short = Time<100, 60_000>;
        for text in ["100ms", "1m", "60s", "1s 500ms"] {
            assert!(Short::read(text).is_ok(), "{text}");
        }
        for text in ["99ms", "61s", "5", "", "soon", "1m 1ms", "-1s"] {
            assert!(Short::read(text).is_err(), "{text}");
        }
        assert!(Short::allowed().ends_with("from 100ms to 1m"));
    }

    #[test]
    fn a_list_names_the_item_that_is_wrong() {
        type Numbers = Vec<Whole<1, 9>>;
        let read =
            |text| Numbers::read(text).map(|list| list.into_iter().map(|whole| whole.0).collect());
        assert_eq!(read("1, 2,9"), Ok(vec![1, 2, 9]));
        assert_eq!(read(""), Ok(Vec::new()));
        assert_eq!(read("1,10"), Err("`10`".to_owned()));
    }
}
