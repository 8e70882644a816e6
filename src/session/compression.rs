//! How messages are encoded for one client.

use std::num::NonZeroUsize;

use crate::sync::{Arc, Mutex};
use crate::wire::{Deflate, Deflater, Frames, WindowBits};

/// The encoding of messages for one client; each message is encoded once for all its receivers.
#[derive(Clone, Debug)]
pub(super) enum Compression {
    /// Longer messages are compressed (RFC 7692); boxed, to keep the size of the other variant
    /// small.
    Deflated(Box<DeflateParams>),
    /// Messages are sent as they are.
    Plain,
}

/// The parameters for compressing longer messages.
#[derive(Clone, Debug)]
pub(super) struct DeflateParams {
    window: WindowBits,
    bytes_min: NonZeroUsize,
    deflater: Arc<Mutex<Deflater>>,
}

impl Compression {
    /// The encoding for a client with this agreement on compression.
    pub(super) fn new(
        deflate: Deflate,
        bytes_min: NonZeroUsize,
        deflater: &Arc<Mutex<Deflater>>,
    ) -> Self {
        Self::Deflated(Box::new(DeflateParams {
            window: deflate.window(),
            bytes_min,
            deflater: Arc::clone(deflater),
        }))
    }

    /// Encodes messages for this client.
    #[inline]
    pub(super) fn compress(&self, frames: Frames) -> Frames {
        match self {
            Self::Deflated(params) => params.compress(frames),
            Self::Plain => frames,
        }
    }
}

impl DeflateParams {
    fn compress(&self, frames: Frames) -> Frames {
        let deflate = |all: &Frames| {
            let mut deflater = self.deflater.lock();
            deflater.frames(all, self.window, self.bytes_min)
        };
        frames.deflated(self.window, deflate).unwrap_or(frames)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::wire::Frame;

    #[test]
    fn what_is_long_enough_is_compressed_where_that_is_agreed_on() {
        const COMPRESSED: u8 = 0x40;
        let deflate = Deflate::negotiate(["permessage-deflate"]).expect("it is spoken");
        let deflater = Arc::new(Mutex::new(Deflater::default()));
        let bytes_min = NonZeroUsize::new(100).expect("not zero");
        let agreed = Compression::new(deflate, bytes_min, &deflater);
        for (bytes, is_compressed) in [(99, false), (100, true)] {
            let frames = Frames::from(Frame::text("x".repeat(bytes)));
            let plain = Compression::Plain.compress(frames.clone());
            assert_eq!(plain, frames);
            let sent = agreed.compress(frames.clone());
            let is_marked = sent.as_bytes()[0] & COMPRESSED != 0;
            assert_eq!(is_marked, is_compressed, "{bytes} bytes");
            assert_eq!(
                sent.as_bytes().len() < plain.as_bytes().len(),
                is_compressed
            );
            let others = Compression::new(deflate, bytes_min, &deflater);
            let again = others.compress(frames);
            let at = |frames: &Frames| frames.as_bytes().as_ptr();
            assert_eq!(at(&again), at(&sent), "once for all clients");
        }
    }
}
