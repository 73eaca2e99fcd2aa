//! A believable day of a small shop: who came, what they looked at, what they bought, and what an application gets
//! wrong. The same day every time, so that its summary can be checked.

use crate::queue::{Connection, Outbox};
use anyhow::Context;
use klaviyo_jobs::{Job, Message, Options, Producer, TrackEvent, UpsertProfile};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

const SEED: u64 = 20_261_124;
pub(super) const CUSTOMERS: u64 = 400;
const VIEWS: u64 = 6_000;
const ORDERS: u64 = 250;
const GOODS: [(&str, &str, f64); 5] = [
    ("MUG-01", "Enamel Mug", 14.5),
    ("TEE-07", "Linen Tee", 39.0),
    ("CAP-02", "Wool Cap", 24.0),
    ("BAG-11", "Canvas Bag", 58.25),
    ("PEN-05", "Brass Pen", 31.9),
];

/// What applications send and nobody can deliver, with the queue they send it to.
fn broken() -> [(&'static str, &'static str); 5] {
    [
        (TrackEvent::QUEUE, "{\"kind\": \"event.track\", \"data\": "),
        (
            TrackEvent::QUEUE,
            r#"{"kind": "event.trak", "id": "typo-1", "data": {}}"#,
        ),
        (
            TrackEvent::QUEUE,
            r#"{"kind": "event.track", "id": "nobody-1", "data": {"metric": "Viewed Product"}}"#,
        ),
        (
            TrackEvent::QUEUE,
            r#"{"kind": "event.track", "id": "phone-1", "data": {"metric": "Viewed Product", "profile": {"phone_number": "0150 123"}}}"#,
        ),
        (
            UpsertProfile::QUEUE,
            r#"{"kind": "profile.upsert", "id": "field-1", "data": {"profile": {"emial": "a@klqtest.dev"}}}"#,
        ),
    ]
}

/// The jobs of a day and what must arrive.
#[derive(Debug)]
pub(super) struct Day {
    jobs: Vec<Value>,
    events: u64,
    broken: [(&'static str, &'static str); 5],
}

impl Day {
    pub(super) fn believable() -> Self {
        let mut random = StdRng::seed_from_u64(SEED);
        let mut jobs = Vec::new();
        let mut events = 0;
        let person = |number: u64| json!({"email": format!("customer-{number:04}@klqtest.dev")});
        for number in 0..CUSTOMERS {
            jobs.push(json!({"kind": "profile.upsert", "data": {
                "profile": person(number),
                "attributes": {"first_name": format!("Customer {number}"), "location": {"country": "IT"}},
                "properties": {"plan": if number.is_multiple_of(3) { "gold" } else { "basic" }}}}));
        }
        for view in 0..VIEWS {
            let (sku, name, price) = GOODS[random.random_range(0..GOODS.len())];
            jobs.push(
                json!({"kind": "event.track", "id": format!("view-{view}"), "data": {
                "metric": "Viewed Product", "profile": person(random.random_range(0..CUSTOMERS)),
                "properties": {"SKU": sku, "ProductName": name, "Price": price}}}),
            );
            events += 1;
        }
        for order in 0..ORDERS {
            let mut value = 0.0;
            let lines = random.random_range(1..=3_usize);
            let items: Vec<Value> = (0..lines)
                .map(|_| {
                    let (sku, name, price) = GOODS[random.random_range(0..GOODS.len())];
                    value += price;
                    json!({"sku": sku, "name": name, "quantity": 1, "price": price})
                })
                .collect();
            jobs.push(json!({"kind": "order.placed", "id": format!("order-{order}"), "data": {
                "order_id": format!("order-{order}"), "profile": person(random.random_range(0..CUSTOMERS)),
                "value": value, "value_currency": "EUR", "items": items}}));
            events += 1 + lines as u64;
        }
        Self {
            jobs,
            events,
            broken: broken(),
        }
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len() + self.broken.len()
    }

    pub(super) fn broken(&self) -> usize {
        self.broken.len()
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Enqueues everything, the broken ones as any language would.
    pub(super) async fn feed(
        &self,
        producer: &Producer<Connection>,
        outbox: &Outbox,
    ) -> anyhow::Result<()> {
        let message = |job: &Value| {
            Message::from_json(
                &serde_json::to_vec(job).expect("JSON is written"),
                &Options::default(),
            )
        };
        let messages: Vec<Message> = self.jobs.iter().map(message).collect::<Result<_, _>>()?;
        for enqueued in producer.enqueue_many(messages).await {
            enqueued.context("failed to feed the day")?;
        }
        for (queue, job) in self.broken {
            outbox
                .add_unchecked(queue, job)
                .await
                .context("failed to feed the broken jobs")?;
        }
        Ok(())
    }
}
