//! The tree is as the architecture says: each rule reads the sources and says what to do.

mod layers;
mod lengths;
mod sentences;
mod sources;
mod words;
