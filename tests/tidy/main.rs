//! The tree is as the architecture says: each rule reads the sources and says what to do.

mod circles;
mod layers;
mod lengths;
mod parameters;
mod sentences;
mod sources;
mod words;
