//! A client as the sender of messages.

use crate::bus::{About, Client, ClientId, Topic};
use crate::client::identity::{ANONYMOUS, Identity};

/// The identity of a client, and the sender record that its messages share; the first message
/// creates the record.
#[derive(Debug)]
pub(super) enum LazySender {
    /// The client has sent nothing yet; `None` if it is anonymous.
    Unsent(Option<Box<Identity>>),
    /// The client has sent a message, or its service knows it.
    Created(Client),
}

impl LazySender {
    pub(super) fn new(identity: Identity) -> Self {
        Self::Unsent((identity != ANONYMOUS).then(|| Box::new(identity)))
    }

    /// Creates the sender record before the first message, for a service that knows its clients.
    pub(super) fn introduce(&mut self, id: ClientId, topic: &Topic, about: About) -> Client {
        let client = Client::new(id, self.identity().clone(), topic.clone()).about(about);
        *self = Self::Created(client.clone());
        client
    }

    /// The client's identity, from the credentials it has shown.
    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::Unsent(identity) => identity.as_deref().unwrap_or(&ANONYMOUS),
            Self::Created(sender) => sender.identity(),
        }
    }

    /// The sender record, if there is one already.
    pub(super) fn known(&self) -> Option<&Client> {
        match self {
            Self::Unsent(_) => None,
            Self::Created(client) => Some(client),
        }
    }

    /// Replaces the identity after the client has shown a fresh token.
    pub(super) fn renew(&mut self, identity: Identity) {
        *self = match self {
            Self::Unsent(_) => Self::new(identity),
            Self::Created(sender) => Self::Created(sender.renewed(identity)),
        };
    }

    /// The sender record of the client's messages: its number and the topic that this client alone
    /// reads.
    #[inline]
    pub(super) fn get_or_create(&mut self, client: ClientId, topic: &Topic) -> &Client {
        loop {
            match self {
                Self::Unsent(_) => self.create(client, topic),
                Self::Created(sender) => return sender,
            }
        }
    }

    /// Creates the sender record, at the first message.
    #[cold]
    fn create(&mut self, client: ClientId, topic: &Topic) {
        *self = Self::Created(Client::new(client, self.identity().clone(), topic.clone()));
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn named(subject: &str) -> Identity {
        Identity {
            subject: Some(subject.into()),
            ..Identity::default()
        }
    }

    #[test]
    fn a_client_is_who_it_has_shown_to_be_before_and_after_its_first_message() {
        let topic: Topic = "t".parse().expect("a valid name");
        let mut sender = LazySender::new(Identity::anonymous());
        assert_eq!(sender.identity(), &Identity::anonymous());
        sender.renew(named("alice"));
        assert_eq!(sender.identity(), &named("alice"));
        let first = sender.get_or_create(ClientId::new(7), &topic).clone();
        assert_eq!((first.id(), first.topic()), (ClientId::new(7), &topic));
        assert_eq!(first.subject(), Some("alice"));
        assert_eq!(sender.get_or_create(ClientId::new(7), &topic), &first);
        sender.renew(named("bob"));
        let second = sender.get_or_create(ClientId::new(7), &topic).clone();
        assert_eq!(
            (first.subject(), second.subject()),
            (Some("alice"), Some("bob"))
        );
        assert_eq!(second.topic(), &topic);
    }
}
