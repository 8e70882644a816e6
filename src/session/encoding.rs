//! How messages are encoded for one client.

use std::num::NonZeroUsize;

use bytes::Bytes;

use crate::sync::{Arc, Mutex};
use crate::wire::{Deflate, Deflater, Encoded, WindowBits};

/// How messages are encoded for one client; whatever it is, each message is encoded once for all.
#[derive(Clone, Debug)]
pub(super) enum Encoding {
    /// The longer ones are compressed (RFC 7692).
    Deflated {
        window: WindowBits,
        bytes_min: NonZeroUsize,
        deflater: Arc<Mutex<Deflater>>,
    },
    /// As they are.
    Plain,
}

impl Encoding {
    /// The encoding for a client with which this was agreed on.
    pub(super) fn new(
        deflate: Deflate,
        bytes_min: NonZeroUsize,
        deflater: &Arc<Mutex<Deflater>>,
    ) -> Self {
        Self::Deflated {
            window: deflate.window(),
            bytes_min,
            deflater: Arc::clone(deflater),
        }
    }

    /// The frame as this client receives it.
    pub(super) fn encode<'a>(&self, encoded: &'a Encoded) -> &'a Bytes {
        let plain = encoded.frame();
        match self {
            Self::Deflated {
                window,
                bytes_min,
                deflater,
            } if plain.len() >= bytes_min.get() => encoded
                .deflated(*window, |frame| deflater.lock().frame(frame, *window))
                .unwrap_or_else(|| plain.as_bytes()),
            Self::Deflated { .. } | Self::Plain => plain.as_bytes(),
        }
    }
}
