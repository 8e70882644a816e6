//! JSON for services: messages as values of the service's own types.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Context;
use crate::bus::{Client, Message};

/// A message of a client that is not the JSON that its service reads.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BadJson {
    /// The client that sent the message.
    pub client: Client,
    /// The message as it came.
    pub message: Message,
    /// The fault, with its line and column.
    pub error: serde_json::Error,
}

impl Message {
    /// Reads the payload, text or binary, as JSON.
    ///
    /// # Errors
    ///
    /// When the payload is not JSON, or no value of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.as_bytes())
    }
}

impl Context {
    /// Waits for the next message of a client and reads it as JSON. Returns `None` when
    /// [`recv`](Self::recv) does.
    ///
    /// A service decides what a message is worth that is not the JSON it reads;
    /// [`refuse_json`](Self::refuse_json) tells the client.
    ///
    /// ```
    /// # use busline::Context;
    /// #[derive(serde::Deserialize, serde::Serialize)]
    /// struct Move {
    ///     x: i32,
    ///     y: i32,
    /// }
    ///
    /// async fn moves(mut ctx: Context) -> Result<(), serde_json::Error> {
    ///     while let Some(received) = ctx.recv_json::<Move>().await {
    ///         match received {
    ///             Ok((_client, step)) => drop(ctx.publish_json(&step)?),
    ///             Err(bad) => drop(ctx.refuse_json(&bad)),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// # fn check(_: impl busline::Service) {}
    /// # check(moves);
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    pub async fn recv_json<T: DeserializeOwned>(&mut self) -> Option<Result<(Client, T), BadJson>> {
        loop {
            let message = self.recv().await?;
            // A message that no client sent is another publisher's, and has no answer.
            let Some(client) = message.sender().cloned() else {
                continue;
            };
            return Some(match message.json() {
                Ok(value) => Ok((client, value)),
                Err(error) => Err(BadJson {
                    client,
                    message,
                    error,
                }),
            });
        }
    }

    /// Tells a client that its message was not read: `{"error":{"code":"json","reason":"..."}}`.
    ///
    /// Returns the number of subscribers that got it: 0 if the client has left.
    pub fn refuse_json(&self, bad: &BadJson) -> usize {
        let reason = bad.error.to_string();
        let told = serde_json::json!({ "error": { "code": "json", "reason": reason } });
        self.send_to(&bad.client, told.to_string())
    }

    /// Sends a value as JSON text to every client, and returns the number of clients.
    ///
    /// # Errors
    ///
    /// When the value cannot be written as JSON, such as a map whose keys are no strings.
    pub fn publish_json<T>(&self, value: &T) -> Result<usize, serde_json::Error>
    where
        T: Serialize + ?Sized,
    {
        Ok(self.publish(serde_json::to_string(value)?))
    }

    /// Sends a value as JSON text to one client, and returns the number of subscribers that got it:
    /// 0 if the client has left.
    ///
    /// # Errors
    ///
    /// The errors of [`publish_json`](Self::publish_json).
    pub fn send_json<T>(&self, to: &Client, value: &T) -> Result<usize, serde_json::Error>
    where
        T: Serialize + ?Sized,
    {
        Ok(self.send_to(to, serde_json::to_string(value)?))
    }
}
