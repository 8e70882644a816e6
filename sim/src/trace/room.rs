//! What an instance of a room saw and did.

use serde::Serialize;

/// One thing that an instance of a room saw, or that it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Seen {
    /// It began, with these clients there.
    Began {
        /// Their numbers.
        there: Vec<u32>,
    },
    /// It does something else than to wait for events, from now on.
    Dozes,
    /// It is gone, in whichever way.
    Ended,
    /// A client sent a message.
    Heard {
        /// Which client.
        who: u32,
        /// What.
        text: String,
        /// How many clients the product says are there.
        there: usize,
    },
    /// A client has come.
    Joined {
        /// Which client.
        who: u32,
        /// How many clients the product says are there.
        there: usize,
    },
    /// A client has left.
    Left {
        /// Which client.
        who: u32,
        /// How many clients the product says are there.
        there: usize,
    },
    /// It said something.
    Said {
        /// The number of what it said, from 1.
        number: u64,
        /// To which clients.
        to: To,
    },
    /// The last client has left, as it was told.
    Stopped,
    /// It waits for events again.
    Wakes,
}

/// The clients to which a room says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// All.
    All,
    /// All but this one.
    But(u32),
    /// This one.
    Only(u32),
}

impl To {
    /// Whether it is for this client.
    pub fn is_for(self, client: u32) -> bool {
        match self {
            Self::All => true,
            Self::But(other) => other != client,
            Self::Only(one) => one == client,
        }
    }
}
