//! A client as the sender of messages.

use crate::bus::{ClientId, Sender, Topic};
use crate::client::identity::{ANONYMOUS, Identity};

/// The identity of a client, and the sender record that its messages share; the first message
/// creates the record.
#[derive(Debug)]
pub(super) enum LazySender {
    /// The client has sent nothing yet; `None` if it is anonymous.
    Unsent(Option<Box<Identity>>),
    Created(Sender),
}

impl LazySender {
    pub(super) fn new(identity: Identity) -> Self {
        Self::Unsent((identity != ANONYMOUS).then(|| Box::new(identity)))
    }

    /// The client's identity, from the credentials it has shown.
    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::Unsent(identity) => identity.as_deref().unwrap_or(&ANONYMOUS),
            Self::Created(sender) => sender.identity(),
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
    pub(super) fn get_or_create(&mut self, client: ClientId, topic: &Topic) -> &Sender {
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
        *self = Self::Created(Sender::new(client, self.identity().clone(), topic.clone()));
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
        assert_eq!((first.client(), first.topic()), (ClientId::new(7), &topic));
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
