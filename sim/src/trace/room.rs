//! What an instance of a room saw and did.

use serde::Serialize;

/// One thing that an instance of a room saw, or that it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Seen {
    /// It was put a request.
    Asked {
        /// The client that asks; `None` for a backend.
        who: Option<u32>,
        /// Which way it is to answer.
        method: String,
        /// What tells the request from all others.
        tag: String,
        /// How many clients the product says are there.
        there: usize,
    },
    /// It began, with these clients there.
    Began {
        /// Their numbers.
        there: Vec<u32>,
    },
    /// It does something else than to wait for events, from now on.
    Dozes,
    /// It is gone, in whichever way.
    Ended,
    /// It is about to give a request its answer, or to let it go.
    Gave {
        /// What tells the request from all others.
        tag: String,
        /// What.
        answer: Reply,
    },
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

/// The end of a request, as an instance makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The tag of the request, and the generation of the instance.
    Answer,
    /// Nothing: the responder is dropped.
    Nothing,
    /// A refusal with the code of halls.
    Refusal,
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
