//! Calls an API by the crate `cent`, as it is told line by line, for `tests/centrifugo/clients.py`.
//!
//! A line `{"method":"publish","params":{..}}` is answered by a line `{"result":{..}}`,
//! `{"error":{"code":..}}` where the server answers so, or `{"wrong":".."}`.

use std::env::args;

use cent::{BatchOptions, Client, Config, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let usage = "usage: cent-rs ENDPOINT KEY";
    let (endpoint, key) = (args().nth(1).ok_or(usage)?, args().nth(2).ok_or(usage)?);
    let client = Client::new(Config::new(endpoint).api_key(key))?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match call(&client, serde_json::from_str(&line)?).await {
            Ok(answer) => answer,
            Err(error) => json!({ "wrong": error.to_string() }),
        };
        println!("{answer}");
    }
    Ok(())
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T> {
    Ok(from_value(params)?)
}

fn answer<T: Serialize>(done: std::result::Result<T, Error>) -> Result<Value> {
    match done {
        Ok(result) => Ok(json!({ "result": result })),
        Err(Error::Api(error)) => Ok(json!({ "error": { "code": error.code } })),
        Err(error) => Err(error.into()),
    }
}

async fn call(client: &Client, told: Value) -> Result<Value> {
    let params = told["params"].clone();
    match told["method"].as_str().ok_or("no method")? {
        "batch" => batch(client, params).await,
        "broadcast" => broadcast(client, params).await,
        "channels" => answer(client.channels(read(params)?).await),
        "disconnect" => answer(client.disconnect(read(params)?).await),
        "history" => answer(client.history(read(params)?).await),
        "history_remove" => answer(client.history_remove(read(params)?).await),
        "info" => answer(client.info(read(params)?).await),
        "presence" => answer(client.presence(read(params)?).await),
        "presence_stats" => answer(client.presence_stats(read(params)?).await),
        "publish" => answer(client.publish(read(params)?).await),
        "refresh" => answer(client.refresh(read(params)?).await),
        "subscribe" => answer(client.subscribe(read(params)?).await),
        "unsubscribe" => answer(client.unsubscribe(read(params)?).await),
        other => Err(format!("the crate has no {other}").into()),
    }
}

/// The results of a broadcast, in the shape of the server.
async fn broadcast(client: &Client, params: Value) -> Result<Value> {
    let done = client.broadcast(read(params)?).await?;
    let channels = done.channels.into_iter();
    let responses: Result<Vec<_>> = channels.map(|channel| answer(channel.result)).collect();
    Ok(json!({ "result": { "responses": responses? } }))
}

/// A batch of a publish and of a look at the server, in the shape of the server.
async fn batch(client: &Client, params: Value) -> Result<Value> {
    let mut batch = client.new_batch(BatchOptions::default());
    let publish = batch.publish(read(params["commands"][0]["publish"].clone())?);
    let info = batch.info(read(params["commands"][1]["info"].clone())?);
    batch.send().await?;
    let (publish, info) = (publish.result()?, info.result()?);
    Ok(json!({ "result": { "replies": [{ "publish": publish }, { "info": info }] } }))
}
