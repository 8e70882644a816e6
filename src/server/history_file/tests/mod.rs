//! Tests of the history file.

mod codec;
mod folder;
mod power;
