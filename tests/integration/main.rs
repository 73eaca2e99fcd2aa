//! From the queue to Klaviyo, with a real Redis, real sockets and the local Klaviyo: enqueue, and look at what arrived.
//!
//! Each test has its own Redis and its own Klaviyo, so they run at the same time and in any order.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod accounts;
mod actions;
mod bucket;
mod config;
mod crash;
mod databases;
mod dead;
mod delivery;
mod dlq;
mod doctor;
mod fleet;
mod foreign;
mod gates;
mod harness;
mod health;
mod hostile;
mod http;
mod letters;
mod limits;
mod operate;
mod page;
mod records;
mod recovery;
mod redis;
mod replay;
mod store;
