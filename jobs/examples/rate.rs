//! Measures how many events a second one core decodes and one producer enqueues:
//! `cargo run --release -p klaviyo-jobs --example rate -- [redis://127.0.0.1:6379]`. It writes to the account
//! `rate` and deletes what it wrote.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Job, Keys, Lane, Message, Options, Producer, TrackEvent, decode};
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

const DECODED: u32 = 2_000_000;
const ENQUEUED: u32 = 200_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    decode_rate()?;
    if let Some(url) = std::env::args().nth(1) {
        let connection = redis::Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        let producer = Producer::new(connection.clone(), Keys::new("klaviyod", "rate")?);
        enqueue_rate(&producer, "claimed", None).await?;
        enqueue_rate(&producer, "plain", Some(Duration::ZERO)).await?;
        let stream = producer.keys().queue(TrackEvent::QUEUE, Lane::Live);
        redis::cmd("UNLINK")
            .arg(stream)
            .exec_async(&mut connection.clone())
            .await?;
    }
    Ok(())
}

fn job(number: u32) -> String {
    format!(
        r#"{{"kind":"event.track","id":"order-{number}","at":"2026-11-24T09:00:00Z","data":{{"metric":"Placed Order","profile":{{"email":"customer-{number}@shop.io"}},"value":9.99,"value_currency":"EUR","unique_id":"order-{number}","properties":{{"OrderId":"{number}","Items":[{{"SKU":"MUG","Quantity":3}}]}}}}}}"#
    )
}

fn decode_rate() -> Result<(), Box<dyn Error>> {
    let json = job(1001);
    let now = Timestamp::now();
    let started = Instant::now();
    for _ in 0..DECODED {
        let envelope = Envelope::parse(black_box(json.as_bytes()))?;
        let event: TrackEvent = decode(envelope.data)?;
        event.validate(envelope.at.unwrap_or(now), now)?;
        black_box(event);
    }
    let rate = f64::from(DECODED) / started.elapsed().as_secs_f64();
    println!(
        "decoded and validated {rate:.0} jobs/s of {} bytes",
        json.len()
    );
    Ok(())
}

async fn enqueue_rate(
    producer: &Producer<redis::aio::MultiplexedConnection>,
    name: &str,
    unique_for: Option<Duration>,
) -> Result<(), Box<dyn Error>> {
    // Short claims, so that nothing of the measurement stays in Redis for an hour.
    let options = Options {
        unique_for: unique_for.or(Some(Duration::from_secs(20))),
        ..Options::default()
    };
    let run = Timestamp::now().as_millisecond();
    let started = Instant::now();
    let messages = (0..ENQUEUED).map(|number| {
        let options = Options {
            id: Some(format!("{run}-{number}")),
            ..options.clone()
        };
        Message::from_json(job(number).as_bytes(), &options).expect("a valid job")
    });
    for outcome in producer.enqueue_many(messages).await {
        outcome?;
    }
    let rate = f64::from(ENQUEUED) / started.elapsed().as_secs_f64();
    println!("checked and enqueued {rate:.0} {name} jobs/s");
    Ok(())
}
