//! `order.placed`: one order, recorded as the events Klaviyo's revenue reports expect.
//!
//! It becomes one Placed Order and one Ordered Product per line. The second run is harmless: every event has a
//! `unique_id` made of the order's id. The surprising thing: an Ordered Product is worth the whole line
//! (price x quantity), as Klaviyo's own shop integrations send it.

use crate::event::{QUEUE, validate_time};
use crate::properties::{ARRAY_ITEMS_MAX, COUNT_MAX};
use crate::{
    Amount, Currency, Invalid, Job, MetricName, ProfileRef, Properties, TrackEvent, UniqueId,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// Room for `:` and the number of a line behind the order's id.
const LINE_SUFFIX_MAX: usize = 5;

/// Records an order: one Placed Order and one Ordered Product per line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// The shop's number of the order, at most 250 characters.
    pub order_id: UniqueId,
    /// Who ordered.
    pub profile: ProfileRef,
    /// The whole order, in major units.
    pub value: Amount,
    /// The currency of `value` and of all prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_currency: Option<Currency>,
    /// The lines, at most 4,000.
    pub items: Vec<OrderItem>,
    /// Further properties of the Placed Order; one of the same name replaces ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<Properties>,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderItem {
    /// The shop's number of the article.
    pub sku: Box<str>,
    /// What it is called.
    pub name: Box<str>,
    /// How many, more than 0.
    pub quantity: Amount,
    /// The price of one, in major units.
    pub price: Amount,
    /// The categories it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<Box<str>>>,
    /// Its page in the shop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Box<str>>,
    /// Its picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<Box<str>>,
}

/// A line as Klaviyo's templates know it.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<&'a str>,
    #[serde(rename = "SKU")]
    sku: &'a str,
    product_name: &'a str,
    quantity: &'a Amount,
    item_price: &'a Amount,
    row_total: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<&'a [Box<str>]>,
    #[serde(rename = "ProductURL", skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(rename = "ImageURL", skip_serializing_if = "Option::is_none")]
    image_url: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Order<'a> {
    #[serde(rename = "OrderId")]
    id: &'a str,
    categories: BTreeSet<&'a str>,
    item_names: Vec<&'a str>,
    items: Vec<Line<'a>>,
}

impl PlaceOrder {
    /// Returns the events of this order that happened `at`: the Placed Order first, then the lines in order.
    ///
    /// # Panics
    /// If the order was never validated and its id leaves no room for the number of a line.
    pub fn events(&self, at: Timestamp) -> Vec<TrackEvent> {
        let mut events = Vec::with_capacity(1 + self.items.len());
        let properties = self.order_properties();
        events.push(self.event(
            at,
            "Placed Order",
            self.order_id.as_str(),
            self.value.clone(),
            properties,
        ));
        for (item, number) in self.items.iter().zip(1..) {
            let unique_id = format!("{}:{number}", self.order_id.as_str());
            let properties = Properties::trusted(&item.line(Some(self.order_id.as_str())));
            events.push(self.event(
                at,
                "Ordered Product",
                &unique_id,
                item.row_total(),
                properties,
            ));
        }
        events
    }

    fn event(
        &self,
        at: Timestamp,
        metric: &str,
        unique_id: &str,
        value: Amount,
        properties: Properties,
    ) -> TrackEvent {
        TrackEvent {
            metric: MetricName::parse(metric).expect("our own names are valid"),
            profile: self.profile.clone(),
            properties: Some(properties),
            value: Some(value),
            value_currency: self.value_currency.clone(),
            time: Some(at),
            unique_id: Some(
                UniqueId::parse(unique_id).expect("validation leaves room for the line"),
            ),
            backfill: None,
        }
    }

    fn order_properties(&self) -> Properties {
        let own = Properties::trusted(&Order {
            id: self.order_id.as_str(),
            categories: self.categories().collect(),
            item_names: self.items.iter().map(|item| &*item.name).collect(),
            items: self.items.iter().map(|item| item.line(None)).collect(),
        });
        let Some(given) = &self.properties else {
            return own;
        };
        let mut merged: BTreeMap<String, &RawValue> = own.entries();
        merged.extend(given.entries());
        Properties::trusted(&merged)
    }

    fn categories(&self) -> impl Iterator<Item = &str> {
        self.items
            .iter()
            .flat_map(|item| item.categories.iter().flatten())
            .map(|category| &**category)
    }
}

impl OrderItem {
    fn row_total(&self) -> Amount {
        self.price.times(&self.quantity)
    }

    fn line<'a>(&'a self, order_id: Option<&'a str>) -> Line<'a> {
        Line {
            order_id,
            sku: &self.sku,
            product_name: &self.name,
            quantity: &self.quantity,
            item_price: &self.price,
            row_total: self.row_total(),
            categories: self.categories.as_deref(),
            url: self.url.as_deref(),
            image_url: self.image_url.as_deref(),
        }
    }
}

impl Job for PlaceOrder {
    const KIND: &'static str = "order.placed";
    const QUEUE: &'static str = QUEUE;
    const UNIQUE_BY_DEFAULT: bool = true;

    fn validate(&self, at: Timestamp, now: Timestamp) -> Result<(), Invalid> {
        self.profile.validate()?;
        validate_time(at, now, "/at")?;
        if self.order_id.as_str().chars().count() + LINE_SUFFIX_MAX > 255 {
            return Err(Invalid::at(
                "/data/order_id",
                "`order_id` must have at most 250 characters",
            ));
        }
        if self.items.len() > ARRAY_ITEMS_MAX {
            return Err(Invalid::at(
                "/data/items",
                "`items` must not have more than 4,000 lines",
            ));
        }
        for (index, item) in self.items.iter().enumerate() {
            if item.quantity.as_f64() <= 0.0 {
                return Err(Invalid::at(
                    format!("/data/items/{index}/quantity"),
                    "`quantity` must be more than 0",
                ));
            }
        }
        if self.categories().collect::<BTreeSet<_>>().len() > ARRAY_ITEMS_MAX {
            return Err(Invalid::at(
                "/data/items",
                "`items` must not name more than 4,000 different categories",
            ));
        }
        let own = ["Categories", "ItemNames", "Items", "OrderId"];
        let given = self
            .properties
            .iter()
            .flat_map(Properties::entries)
            .filter(|(name, _)| !own.contains(&name.as_str()));
        if given.count() + own.len() > COUNT_MAX {
            return Err(Invalid::at(
                "/data/properties",
                "`properties` must not have more than 396 of its own",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn order(properties: &Value) -> PlaceOrder {
        let json = json!({
            "order_id": "1001", "profile": {"email": "a@shop.io"}, "value": 35.97, "value_currency": "EUR",
            "items": [
                {"sku": "M", "name": "Mug", "quantity": 3, "price": 9.99, "categories": ["Kitchen", "Gifts"]},
                {"sku": "P", "name": "Pen", "quantity": 1, "price": 6, "categories": ["Gifts"], "url": "https://shop.io/p"}
            ],
            "properties": properties,
        });
        serde_json::from_value(json).unwrap()
    }

    fn properties_of(event: &TrackEvent) -> Value {
        event.properties.as_ref().unwrap().read().unwrap()
    }

    #[test]
    fn an_order_becomes_one_placed_order_and_one_ordered_product_per_line() {
        let at = "2026-11-24T09:00:00Z".parse().unwrap();
        let events = order(&json!({"Coupon": "X"})).events(at);
        let seen: Vec<_> = events
            .iter()
            .map(|event| {
                (
                    event.metric.as_str(),
                    event.unique_id.as_ref().unwrap().as_str(),
                    event.value.as_ref().unwrap().as_str(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("Placed Order", "1001", "35.97"),
                ("Ordered Product", "1001:1", "29.97"),
                ("Ordered Product", "1001:2", "6")
            ]
        );
        let placed = properties_of(&events[0]);
        assert_eq!(placed["OrderId"], "1001");
        assert_eq!(placed["Coupon"], "X");
        assert_eq!(placed["ItemNames"], json!(["Mug", "Pen"]));
        assert_eq!(placed["Categories"], json!(["Gifts", "Kitchen"]));
        assert_eq!(placed["Items"][0]["RowTotal"], json!(29.97));
        let pen = properties_of(&events[2]);
        assert_eq!(
            (&pen["OrderId"], &pen["SKU"], &pen["ProductURL"]),
            (&json!("1001"), &json!("P"), &json!("https://shop.io/p"))
        );
        assert!(
            events
                .iter()
                .all(|event| event.time == Some(at) && event.validate(at, at).is_ok())
        );
    }

    #[test]
    fn a_given_property_replaces_ours() {
        let events = order(&json!({"ItemNames": "secret"})).events(Timestamp::UNIX_EPOCH);
        assert_eq!(properties_of(&events[0])["ItemNames"], "secret");
    }

    #[test]
    fn an_order_that_would_break_a_limit_of_its_events_is_refused() {
        let at = "2026-11-24T09:00:00Z".parse().unwrap();
        let full: Value = (0..397).map(|n| (format!("p{n}"), json!(n))).collect();
        assert_eq!(
            order(&full).validate(at, at).unwrap_err().pointer(),
            Some("/data/properties")
        );
        let mut long = order(&json!({}));
        long.order_id = UniqueId::parse(&"x".repeat(251)).unwrap();
        assert_eq!(
            long.validate(at, at).unwrap_err().pointer(),
            Some("/data/order_id")
        );
        let mut none = order(&json!({}));
        none.items[1].quantity = Amount::from(0);
        assert_eq!(
            none.validate(at, at).unwrap_err().pointer(),
            Some("/data/items/1/quantity")
        );
    }
}
