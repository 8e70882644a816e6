//! What a thread is done with and will need again, by its size.

/// Memory of some sizes, at most so many bytes of all.
pub(super) struct Spare<T, const CLASSES: usize> {
    bytes: usize,
    bytes_max: usize,
    kept: [Vec<T>; CLASSES],
}

impl<T, const CLASSES: usize> Spare<T, CLASSES> {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            bytes: 0,
            bytes_max,
            kept: [const { Vec::new() }; CLASSES],
        }
    }

    /// Takes one of this class, which is of so many bytes, if there is one.
    pub(super) fn take(&mut self, class: usize, bytes: usize) -> Option<T> {
        let room = self.kept[class].pop()?;
        self.bytes -= bytes;
        Some(room)
    }

    /// Keeps one of this class, which is of so many bytes, unless that would be too much.
    pub(super) fn put(&mut self, class: usize, bytes: usize, room: T) {
        let bytes = self.bytes + bytes;
        if bytes <= self.bytes_max {
            self.bytes = bytes;
            self.kept[class].push(room);
        }
    }

    /// The bytes of all that is kept.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
