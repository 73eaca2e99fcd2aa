//! The numbers of one daemon, and their page.
//!
//! Each daemon has a recorder of its own instead of the global one of the `metrics` crate, so that two of them can
//! live in one process. Histograms keep single values until somebody drains them: [`Telemetry::upkeep`] must run.

use super::account::AccountMeters;
use super::names::{ALL, Shape};
use crate::queue::Route;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::fmt;
use std::sync::Arc;

const METADATA: Metadata<'static> = Metadata::new("klaviyod", Level::INFO, None);

/// The numbers of one daemon.
#[derive(Clone)]
pub struct Telemetry {
    recorder: Arc<PrometheusRecorder>,
    page: PrometheusHandle,
}

impl Telemetry {
    /// Creates a recorder that knows every name.
    pub fn new() -> Self {
        let builder =
            ALL.iter().fold(
                PrometheusBuilder::new(),
                |builder, (name, shape, _)| match shape {
                    Shape::Histogram(buckets) => builder
                        .set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
                        .expect("no list of buckets is empty"),
                    Shape::Counter | Shape::Gauge => builder,
                },
            );
        let recorder = builder.build_recorder();
        for (name, shape, meaning) in ALL {
            let name = KeyName::from_const_str(name);
            let meaning = (*meaning).into();
            match shape {
                Shape::Counter => recorder.describe_counter(name, None, meaning),
                Shape::Gauge => recorder.describe_gauge(name, None, meaning),
                Shape::Histogram(_) => recorder.describe_histogram(name, None, meaning),
            }
        }
        Self {
            page: recorder.handle(),
            recorder: Arc::new(recorder),
        }
    }

    /// Creates the meters of an account that works on these kinds.
    pub fn account(&self, account: &str, routes: &[Route]) -> Arc<AccountMeters> {
        Arc::new(AccountMeters::new(self.clone(), account, routes))
    }

    /// Empties what histograms have gathered; every second or so.
    pub fn upkeep(&self) {
        self.page.run_upkeep();
    }

    /// Returns all numbers as Prometheus reads them.
    pub fn page(&self) -> String {
        self.page.render()
    }

    pub(super) fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        let key = Key::from_parts(name, labels);
        self.recorder.register_counter(&key, &METADATA)
    }

    pub(super) fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        let key = Key::from_parts(name, labels);
        self.recorder.register_gauge(&key, &METADATA)
    }

    pub(super) fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        let key = Key::from_parts(name, labels);
        self.recorder.register_histogram(&key, &METADATA)
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Telemetry")
    }
}
