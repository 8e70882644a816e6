//! Tests the chat room of `examples/chat.rs` under virtual time, on a network that does its worst.
//!
//! ```text
//! cargo run -p sim --example chat                # 200 seeds: every rule is kept
//! cargo run -p sim --example chat -- --broken    # a chat that loses texts: the seed that shows it
//! SIM_SEED=3 cargo run -p sim --example chat     # one seed; SIM_HTML=run.html draws it
//! ```

use std::time::Duration;

use busline::service::Next;
use busline::{App, Context};
use sim::kit::{Client, Faults, Gone, Sim};

#[path = "../../examples/chat/service.rs"]
mod service;

/// Says three things, and hears each of them, in order, after the same number.
async fn talker(client: Client) -> Result<(), Gone> {
    let mut room = client.connect("chat").await?;
    let mut number = None;
    for turn in 0..3 {
        client
            .sleep(Duration::from_millis(client.random(0..=500)))
            .await;
        let text = format!("{} says {turn}", client.number());
        room.send(text.as_str()).await?;
        let sender = loop {
            let heard = room.recv().await?;
            if let Some((sender, said)) = heard.split_once(": ")
                && said == text
            {
                break sender.to_owned();
            }
        };
        let first = number.get_or_insert_with(|| sender.clone());
        assert_eq!(*first, sender, "a client keeps its number");
    }
    room.close().await
}

/// As the chat, but while it "saves" a text it forgets what comes meanwhile.
async fn forgetful(mut ctx: Context) {
    while let Some(message) = ctx.recv().await {
        if let (Some(sender), Some(text)) = (message.sender(), message.as_text()) {
            ctx.publish(format!("{sender}: {}", text.trim_end()));
        }
        let saved = ctx.now() + Duration::from_millis(20);
        while let Next::Message(_) = ctx.next_until(saved).await {}
    }
}

fn main() {
    let is_broken = std::env::args().any(|argument| argument == "--broken");
    let report = Sim::new(move |rt| {
        let app = App::builder(rt);
        let app = if is_broken {
            app.service("chat", forgetful)
        } else {
            app.service("chat", service::chat)
        };
        app.expect("it is the only one").build()
    })
    .clients(1..=6, talker)
    .faults(Faults::all())
    .seeds(0..200)
    .run();
    report.assert_ok();
    println!(
        "{} seeds, {:.1} virtual hours: every rule was kept",
        report.runs(),
        report.virtual_time().as_secs_f64() / 3600.0
    );
}
