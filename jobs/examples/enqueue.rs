//! Enqueues one job of each kind: `cargo run -p klaviyo-jobs --example enqueue -- redis://127.0.0.1:6379`.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use klaviyo_jobs::{
    Amount, Change, Currency, Email, MetricName, Options, OrderItem, PlaceOrder, Producer,
    ProfileRef, Properties, TrackEvent, UniqueId, UpsertProfile,
};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let producer = Producer::connect(&url).await?;
    let profile = ProfileRef::by_email(Email::parse("ada@shop.io")?);

    let mut event = TrackEvent::new(MetricName::parse("Viewed Product")?, profile.clone());
    event.properties = Some(Properties::new(
        &serde_json::json!({"SKU": "MUG", "ProductName": "Mug"}),
    )?);
    let viewed = producer.enqueue_with(&event, with_id("view-rs-1")).await?;

    let order = PlaceOrder {
        order_id: UniqueId::parse("rs-1001")?,
        profile: profile.clone(),
        value: Amount::new(19.98).ok_or("a finite value")?,
        value_currency: Some(Currency::parse("EUR")?),
        items: vec![OrderItem {
            sku: "MUG".into(),
            name: "Mug".into(),
            quantity: Amount::from(2),
            price: Amount::new(9.99).ok_or("a finite price")?,
            categories: Some(vec!["Kitchen".into()]),
            url: None,
            image_url: None,
        }],
        properties: None,
    };
    let ordered = producer
        .enqueue_with(&order, with_id("order-rs-1001"))
        .await?;

    let mut upsert = UpsertProfile::new(profile);
    upsert.attributes.first_name = Change::Set("Ada".into());
    upsert.attributes.title = Change::Clear;
    let upserted = producer.enqueue(&upsert).await?;

    for receipt in [viewed, ordered, upserted] {
        println!("{} {:?}", receipt.id, receipt.outcome);
    }
    Ok(())
}

fn with_id(id: &str) -> Options {
    Options {
        id: Some(id.to_owned()),
        ..Options::default()
    }
}
