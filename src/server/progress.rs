//! How far a connection is with its requests, as its own task sees it; pure.

/// The stage of a connection, which serves one request after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The head of a request is arriving; the first one may not have begun yet.
    Head,
    /// A whole head has arrived: the request is served, and its response is written.
    Served,
    /// The response of a caller is written, and the connection is kept after it.
    Kept,
    /// The response is written, and the connection waits for the next request.
    Idle,
    /// The server has ended its side.
    Over,
}

/// The stage of a connection, and its way there.
#[derive(Debug)]
pub(super) struct Progress {
    stage: Stage,
    is_new: bool,
    /// Whether the request that is being served allows to keep the connection.
    may_be_kept: bool,
    was_kept: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Head,
            is_new: false,
            may_be_kept: false,
            was_kept: false,
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.is_new = true;
    }

    /// Notes that bytes have arrived.
    pub(super) fn arrived(&mut self) {
        if self.stage == Stage::Idle {
            self.enter(Stage::Head);
        }
    }

    /// Notes that a whole head has arrived.
    pub(super) fn served(&mut self) {
        self.may_be_kept = false;
        self.enter(Stage::Served);
    }

    /// Notes that a known caller has sent its whole request.
    pub(super) fn allow(&mut self) {
        self.may_be_kept = true;
    }

    /// Whether the connection may be kept after the request that is being served.
    pub(super) fn may_be_kept(&self) -> bool {
        self.may_be_kept
    }

    /// Notes that the connection is kept after the response; returns whether it was kept before.
    pub(super) fn keep(&mut self) -> bool {
        self.enter(Stage::Kept);
        std::mem::replace(&mut self.was_kept, true)
    }

    /// Whether the connection was kept after one of its responses.
    pub(super) fn was_kept(&self) -> bool {
        self.was_kept
    }

    /// Notes that all that there was to write is written; returns whether the connection waits for
    /// the next request from now on.
    pub(super) fn wrote(&mut self) -> bool {
        let is_next = self.stage == Stage::Kept;
        if is_next {
            self.enter(Stage::Idle);
        }
        is_next
    }

    /// Notes that the server has ended its side.
    pub(super) fn ended(&mut self) {
        self.enter(Stage::Over);
    }

    /// Whether a request is being served.
    pub(super) fn is_served(&self) -> bool {
        match self.stage {
            Stage::Head | Stage::Idle => false,
            Stage::Served | Stage::Kept | Stage::Over => true,
        }
    }

    /// The stage, if the connection has entered one since the last call.
    pub(super) fn news(&mut self) -> Option<Stage> {
        std::mem::take(&mut self.is_new).then_some(self.stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_after_a_kept_response_and_until_bytes_arrive() {
        let mut progress = Progress::new();
        assert_eq!(progress.news(), None);
        progress.arrived();
        assert!(!progress.wrote());
        assert_eq!((progress.news(), progress.is_served()), (None, false));
        progress.served();
        assert!(!progress.wrote(), "the response is not decided about");
        assert_eq!(progress.news(), Some(Stage::Served));
        assert!(!progress.keep());
        assert!(progress.is_served(), "the response is not written");
        assert!(progress.wrote() && !progress.wrote());
        assert_eq!(
            (progress.news(), progress.news()),
            (Some(Stage::Idle), None)
        );
        assert!(!progress.is_served());
        progress.arrived();
        progress.arrived();
        assert_eq!(
            (progress.news(), progress.news()),
            (Some(Stage::Head), None)
        );
        progress.served();
        assert!(progress.keep(), "it was kept before");
        progress.ended();
        assert!(progress.is_served() && progress.was_kept());
    }

    #[test]
    fn each_request_has_to_allow_anew_that_the_connection_is_kept() {
        let mut progress = Progress::new();
        progress.served();
        assert!(!progress.may_be_kept());
        progress.allow();
        assert!(progress.may_be_kept());
        progress.served();
        assert!(!progress.may_be_kept());
    }
}
