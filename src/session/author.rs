//! A client as the sender of messages.

use crate::bus::{ClientId, Sender, Topic};
use crate::client::identity::{ANONYMOUS, Identity};

/// The identity of a client, and the sender record that its messages share; the first message
/// creates the record.
#[derive(Debug)]
pub(super) enum Author {
    /// The client has sent nothing yet; `None` if it is anonymous.
    Silent(Option<Box<Identity>>),
    Heard(Sender),
}

impl Author {
    pub(super) fn new(identity: Identity) -> Self {
        Self::Silent((identity != ANONYMOUS).then(|| Box::new(identity)))
    }

    /// The client's identity, from the credentials it has shown.
    pub(super) fn identity(&self) -> &Identity {
        match self {
            Self::Silent(identity) => identity.as_deref().unwrap_or(&ANONYMOUS),
            Self::Heard(sender) => sender.identity(),
        }
    }

    /// Replaces the identity after the client has shown a fresh token.
    pub(super) fn renew(&mut self, identity: Identity) {
        *self = match self {
            Self::Silent(_) => Self::new(identity),
            Self::Heard(sender) => Self::Heard(sender.renewed(identity)),
        };
    }

    /// The sender record of the client's messages: its number and the topic that this client alone
    /// reads.
    #[inline]
    pub(super) fn sender(&mut self, client: ClientId, topic: &Topic) -> &Sender {
        loop {
            match self {
                Self::Silent(_) => self.speak(client, topic),
                Self::Heard(sender) => return sender,
            }
        }
    }

    /// Creates the sender record, at the first message.
    #[cold]
    fn speak(&mut self, client: ClientId, topic: &Topic) {
        *self = Self::Heard(Sender::new(client, self.identity().clone(), topic.clone()));
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
        let mut author = Author::new(Identity::anonymous());
        assert_eq!(author.identity(), &Identity::anonymous());
        author.renew(named("alice"));
        assert_eq!(author.identity(), &named("alice"));
        let first = author.sender(ClientId::new(7), &topic).clone();
        assert_eq!((first.client(), first.topic()), (ClientId::new(7), &topic));
        assert_eq!(first.subject(), Some("alice"));
        assert_eq!(author.sender(ClientId::new(7), &topic), &first);
        author.renew(named("bob"));
        let second = author.sender(ClientId::new(7), &topic).clone();
        assert_eq!(
            (first.subject(), second.subject()),
            (Some("alice"), Some("bob"))
        );
        assert_eq!(second.topic(), &topic);
    }
}
