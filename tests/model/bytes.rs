//! Reads choices from a fuzzer's bytes.

/// A source of choices that ends with its bytes.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    /// The next byte, or `None` at the end.
    pub(crate) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u8) -> Option<u8> {
        self.next().map(|byte| byte % bound)
    }
}
