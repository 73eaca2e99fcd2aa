//! klaviyod: the delivery engine between an application and Klaviyo, as a library.

pub mod klaviyo;
pub mod queue;
pub mod services;
pub mod worker;
