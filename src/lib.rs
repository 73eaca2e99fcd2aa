//! klaviyod: the delivery engine between an application and Klaviyo, as a library.

pub mod app;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod edge;
pub mod http;
pub mod klaviyo;
pub mod private_redis;
pub mod queue;
pub mod services;
pub mod store;
pub mod telemetry;
pub mod worker;
