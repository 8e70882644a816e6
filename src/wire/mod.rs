//! The server's half of the WebSocket wire format (RFC 6455), without any IO.
//!
//! The bytes of a client go into a [`Decoder`], which yields [`Event`]s or a [`WireError`]. The
//! server sends [`Frames`], data messages that are encoded once for any number of receivers, or a
//! control frame written by [`append_control`] around a [`ControlPayload`].
//!
//! - `opcode`: the kind and the length of a frame.
//! - `control`, `frame` and `frames`: control frames, a data message, and several in one block of
//!   memory; `block` is that memory.
//! - `encodings`: messages with more than their payloads, made once for all readers of a batch.
//! - `close`, `close_code` and `error`: the end of a connection, by intent or by a client's
//!   mistake.
//! - `decoder`: the input of a client, as a state machine on top of `header`, `mask` and `utf8`.
//! - `extension` and `deflate`: permessage-deflate (RFC 7692), the only extension.

mod control;
mod encodings;
mod frame;
mod frame_pool;
mod frames;
mod opcode;

mod close;
mod close_code;
mod error;

mod decoder;

mod deflate;
mod extension;

mod header;
mod mask;
mod utf8;

pub use self::close::{CLOSE_REASON_BYTES_MAX, CloseFrame};
pub use self::close_code::CloseCode;
// The codec itself: for the simulator, the tests and the fuzzers.
#[doc(hidden)]
pub use self::control::{CONTROL_BYTES_MAX, ControlPayload, append_control};
#[doc(hidden)]
pub use self::decoder::{Decoder, Event, Inflation};
#[doc(hidden)]
pub use self::deflate::Deflater;
pub(crate) use self::encodings::{Encodings, Form};
#[doc(hidden)]
pub use self::error::EMPTY_FRAGMENTS_MAX;
pub use self::error::WireError;
#[doc(hidden)]
pub use self::extension::{Deflate, WindowBits};
pub use self::frame::{Frame, Payload};
pub use self::frames::Frames;
pub(crate) use self::frames::{Part, parts};
#[doc(hidden)]
pub use self::opcode::ControlKind;
pub use self::opcode::{DataKind, HEADER_BYTES_MAX, OpCode};

#[cfg(test)]
mod tests;
