//! One fetching task and the clients that wait for it, under virtual time.

use std::cell::RefCell;
use std::collections::VecDeque;

use futures::channel::oneshot;
use futures::future::{BoxFuture, Either, pending};
use futures::poll;
use tokio::time::timeout;

use super::*;

const URL: &str = "http://id.example/keys";

const POLICY: FetchPolicy = FetchPolicy {
    refresh: Duration::from_secs(300),
    cooldown: Duration::from_secs(5),
    retry_min: Duration::from_secs(1),
    retry_max: Duration::from_secs(30),
};

const SECOND: Duration = Duration::from_secs(1);

type Fetched = Result<Keys, String>;

/// An issuer with scripted outcomes, and the times at which the fetches began.
struct Issuer {
    rt: Tokio,
    answers: RefCell<VecDeque<BoxFuture<'static, Fetched>>>,
    asked: RefCell<Vec<Instant>>,
}

impl Issuer {
    fn new(rt: &Tokio) -> Self {
        Self {
            rt: rt.clone(),
            answers: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    /// Adds the outcome of one more fetch.
    fn answers(&self, answer: impl Future<Output = Fetched> + Send + 'static) -> &Self {
        self.answers.borrow_mut().push_back(Box::pin(answer));
        self
    }

    /// Adds one more fetch, whose outcome the returned sender sets.
    fn answers_when_told(&self) -> oneshot::Sender<Fetched> {
        let (tell, told) = oneshot::channel();
        self.answers(async move { told.await.expect("it is told") });
        tell
    }

    /// The outcome of the next fetch; a fetch without a scripted outcome never ends.
    fn fetch(&self) -> BoxFuture<'static, Fetched> {
        self.asked.borrow_mut().push(self.rt.now());
        let answer = self.answers.borrow_mut().pop_front();
        answer.unwrap_or_else(|| Box::pin(pending()))
    }

    fn asked(&self) -> usize {
        self.asked.borrow().len()
    }

    /// Whole milliseconds between the beginnings of the fetches.
    fn pauses(&self) -> Vec<u128> {
        let asked = self.asked.borrow();
        let pairs = asked.windows(2);
        let pause = |pair: &[Instant]| pair[1].saturating_since(pair[0]).as_millis();
        pairs.map(pause).collect()
    }
}

fn some() -> Fetched {
    Ok(Keys::secret(&[b'x'; 32]).expect("long enough"))
}

fn none() -> Fetched {
    Err("the issuer is away".to_owned())
}

fn app() -> App<Tokio> {
    App::builder(Tokio::current()).build()
}

/// Runs a future beside the fetching task.
async fn beside<T>(
    published: &Published,
    issuer: &Issuer,
    app: &App<Tokio>,
    future: impl Future<Output = T>,
) -> T {
    let keep = pin!(published.keep(app, &URL, || issuer.fetch()));
    let patience = Duration::from_secs(3_600);
    match select(pin!(timeout(patience, future)), keep).await {
        Either::Left((output, _)) => output.expect("it happens in time"),
        Either::Right((never, _)) => match never {},
    }
}

async fn pass(app: &App<Tokio>, time: Duration) {
    app.rt().sleep_until(app.rt().now() + time).await;
}

const FRESH: News = News::Fetched { is_fresh: true };

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_fetched_once_for_all_who_ask_and_they_learn_of_it() {
    let (app, published) = (app(), Published::new(POLICY));
    let issuer = Issuer::new(app.rt());
    issuer.answers(async { some() });
    let tell = issuer.answers_when_told();
    beside(&published, &issuer, &app, async {
        pass(&app, SECOND).await;
        assert_eq!(issuer.asked(), 1, "by itself");
        let mut first = pin!(published.news());
        let mut second = pin!(published.news());
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        {
            // A client that stops waiting does not affect the others.
            let mut third = pin!(published.news());
            assert!(poll!(&mut third).is_pending());
        }
        pass(&app, SECOND).await;
        assert_eq!(issuer.asked(), 2, "one for all");
        assert!(poll!(&mut first).is_pending(), "the fetch runs");
        tell.send(some()).expect("it is waited for");
        assert_eq!(futures::join!(first, second), (FRESH, FRESH));
        let News::Later { retry_after } = published.news().await else {
            panic!("the cooldown is not over");
        };
        assert_eq!(retry_after, POLICY.cooldown);
        issuer.answers(async { some() });
        pass(&app, retry_after).await;
        assert_eq!(published.news().await, FRESH);
    })
    .await;
    assert_eq!(issuer.asked(), 3);
    let counts = app.counts().sessions;
    assert_eq!((counts.keys_fetched, counts.keys_not_fetched), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_fetches_follow_each_other_with_waits_that_double() {
    let (app, published) = (app(), Published::new(POLICY));
    let issuer = Issuer::new(app.rt());
    for _ in 0..7 {
        issuer.answers(async { none() });
    }
    issuer.answers(async { some() });
    beside(&published, &issuer, &app, async {
        while !published.is_known() {
            pass(&app, SECOND).await;
        }
    })
    .await;
    let pauses = issuer.pauses();
    assert_eq!(pauses.len(), 7);
    for (pause, whole) in pauses.into_iter().zip([1, 2, 4, 8, 16, 30, 30]) {
        let range = whole * 750..=whole * 1000 + 1;
        assert!(range.contains(&pause), "{pause} ms in {range:?}");
    }
    let counts = app.counts().sessions;
    assert_eq!((counts.keys_fetched, counts.keys_not_fetched), (1, 7));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_later_keeps_the_keys_and_is_soon_tried_again() {
    let (app, published) = (app(), Published::new(POLICY));
    let issuer = Issuer::new(app.rt());
    issuer.answers(async { some() }).answers(async { none() });
    issuer.answers(async { some() });
    beside(&published, &issuer, &app, async {
        pass(&app, POLICY.refresh + SECOND / 2).await;
        assert_eq!(issuer.asked(), 2);
        assert_eq!(published.keys().len(), 1, "the old ones stay");
        pass(&app, SECOND).await;
        assert_eq!(issuer.asked(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_fetch_that_fails_learns_when_to_come_again() {
    let (app, published) = (app(), Published::new(POLICY));
    let issuer = Issuer::new(app.rt());
    let tell = issuer.answers_when_told();
    beside(&published, &issuer, &app, async {
        let mut news = pin!(published.news());
        while issuer.asked() == 0 {
            pass(&app, SECOND).await;
        }
        assert!(poll!(&mut news).is_pending());
        tell.send(none()).expect("it is waited for");
        let News::Later { retry_after } = news.await else {
            panic!("nothing was fetched");
        };
        assert!(retry_after <= SECOND, "{retry_after:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_order_is_carried_out_at_once_and_again_if_a_fetch_was_under_way() {
    let (app, published) = (app(), Published::new(POLICY));
    let issuer = Issuer::new(app.rt());
    issuer.answers(async { some() });
    let tell = issuer.answers_when_told();
    issuer.answers(async { some() });
    beside(&published, &issuer, &app, async {
        pass(&app, SECOND).await;
        published.order();
        pass(&app, SECOND).await;
        assert_eq!(issuer.asked(), 2);
        published.order();
        pass(&app, SECOND).await;
        assert_eq!(issuer.asked(), 2, "one at a time");
        tell.send(some()).expect("it is waited for");
        pass(&app, SECOND).await;
        assert_eq!(issuer.asked(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_has_failed_and_is_tried_again() {
    let (app, published) = (app(), Published::new(POLICY));
    let issuer = Issuer::new(app.rt());
    issuer.answers(async { panic!("as the test wants it") });
    issuer.answers(async { some() });
    beside(&published, &issuer, &app, async {
        let news = published.news().await;
        assert!(matches!(news, News::Later { .. }), "{news:?}");
        pass(&app, SECOND).await;
        assert!(published.is_known());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_where_nobody_fetches() {
    let (app, published) = (app(), Published::new(POLICY));
    let away = News::Later { retry_after: RETRY };
    assert_eq!(published.news().await, away, "no task has begun");
    let issuer = Issuer::new(app.rt());
    issuer.answers(async { some() });
    beside(&published, &issuer, &app, pass(&app, SECOND)).await;
    assert_eq!(published.news().await, away, "the task is gone");
    let _never_told = issuer.answers_when_told();
    let mut news = pin!(published.news());
    {
        let mut keep = pin!(published.keep(&app, &URL, || issuer.fetch()));
        assert!(poll!(&mut keep).is_pending());
        news.set(published.news());
        assert!(poll!(&mut news).is_pending() && poll!(&mut keep).is_pending());
        assert_eq!(issuer.asked(), 2, "the fetch runs");
    }
    assert_eq!(news.await, away, "the task is gone");
    issuer.answers(async { some() });
    beside(&published, &issuer, &app, pass(&app, SECOND)).await;
    assert_eq!(issuer.asked(), 3, "the next task begins with it at once");
}

#[tokio::test(start_paused = true)]
async fn a_second_task_waits_until_the_first_is_gone() {
    let (app, published) = (app(), Published::new(POLICY));
    let issuer = Issuer::new(app.rt());
    issuer.answers(async { some() });
    beside(&published, &issuer, &app, async {
        pass(&app, SECOND).await;
        let idle = Issuer::new(app.rt());
        beside(&published, &idle, &app, pass(&app, SECOND)).await;
        assert_eq!(idle.asked(), 0);
        issuer.answers(async { some() });
        assert_eq!(published.news().await, FRESH, "the first one is there");
    })
    .await;
}
