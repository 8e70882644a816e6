//! How messages are encoded for one client.

use std::num::NonZeroUsize;

use crate::sync::{Arc, Mutex};
use crate::wire::{Deflate, Deflater, Frame, WindowBits};

/// How messages are encoded for one client; whatever it is, each message is encoded once for all.
#[derive(Clone, Debug)]
pub(super) enum Encoding {
    /// The longer ones are compressed (RFC 7692); boxed, so that others need not hold it.
    Deflated(Box<Compression>),
    /// As they are.
    Plain,
}

/// How the longer messages are compressed.
#[derive(Clone, Debug)]
pub(super) struct Compression {
    window: WindowBits,
    bytes_min: NonZeroUsize,
    deflater: Arc<Mutex<Deflater>>,
}

impl Encoding {
    /// The encoding for a client with which this was agreed on.
    pub(super) fn new(
        deflate: Deflate,
        bytes_min: NonZeroUsize,
        deflater: &Arc<Mutex<Deflater>>,
    ) -> Self {
        Self::Deflated(Box::new(Compression {
            window: deflate.window(),
            bytes_min,
            deflater: Arc::clone(deflater),
        }))
    }

    /// The frame as this client receives it.
    #[inline]
    pub(super) fn encode<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        match self {
            Self::Deflated(compression) if frame.len() >= compression.bytes_min.get() => {
                compression.encode(frame)
            }
            Self::Deflated(_) | Self::Plain => frame.as_bytes(),
        }
    }
}

impl Compression {
    fn encode<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        let deflate = |frame: &Frame| self.deflater.lock().frame(frame, self.window);
        let deflated = frame.deflated(self.window, deflate);
        deflated.unwrap_or_else(|| frame.as_bytes())
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_enough_is_compressed_where_that_is_agreed_on() {
        const COMPRESSED: u8 = 0x40;
        let deflate = Deflate::negotiate(["permessage-deflate"]).expect("it is spoken");
        let deflater = Arc::new(Mutex::new(Deflater::default()));
        let bytes_min = NonZeroUsize::new(100).expect("not zero");
        let agreed = Encoding::new(deflate, bytes_min, &deflater);
        for (bytes, is_compressed) in [(99, false), (100, true)] {
            let frame = Frame::text("x".repeat(bytes));
            let plain = Encoding::Plain.encode(&frame);
            assert_eq!(plain, frame.as_bytes());
            let sent = agreed.encode(&frame);
            assert_eq!(sent[0] & COMPRESSED != 0, is_compressed, "{bytes} bytes");
            assert_eq!(sent.len() < plain.len(), is_compressed);
            let others = Encoding::new(deflate, bytes_min, &deflater);
            assert!(
                std::ptr::eq(others.encode(&frame), sent),
                "once for all clients"
            );
        }
    }
}
