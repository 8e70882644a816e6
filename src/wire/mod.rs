//! The server's half of the WebSocket wire format (RFC 6455), without any IO.
//!
//! The bytes of a client go into a [`Decoder`], which yields [`Event`]s or a [`WireError`]. The
//! server sends [`Frames`], data messages that are encoded once for any number of receivers, or a
//! control frame written by [`append_control`] around a [`ControlPayload`].
//!
//! - `control`, `frame` and `frames`: control frames, a data message, and several in one block of
//!   memory; `block` is that memory.
//! - `close` and `error`: the end of a connection, by intent or by a client's mistake.
//! - `decoder`: the input of a client, as a state machine on top of `header`, `mask` and `utf8`.
//! - `extension` and `deflate`: permessage-deflate (RFC 7692), the only extension.

mod control;
mod frame;
mod frame_pool;
mod frames;

mod close;
mod error;

mod decoder;

mod deflate;
mod extension;

mod header;
mod mask;
mod utf8;

pub use self::close::{CLOSE_REASON_BYTES_MAX, CloseCode, CloseFrame};
// The codec itself: for the simulator, the tests and the fuzzers.
#[doc(hidden)]
pub use self::control::{CONTROL_BYTES_MAX, ControlKind, ControlPayload, append_control};
#[doc(hidden)]
pub use self::decoder::{Decoder, EMPTY_FRAGMENTS_MAX, Event, Inflation};
#[doc(hidden)]
pub use self::deflate::Deflater;
pub use self::error::WireError;
#[doc(hidden)]
pub use self::extension::{Deflate, WindowBits};
pub use self::frame::{DataKind, Frame, HEADER_BYTES_MAX, OpCode, Payload};
pub use self::frames::Frames;
pub(crate) use self::frames::{Part, parts};

#[cfg(test)]
mod tests;
