//! Metrics, which come into being with their first event.

use super::{Call, Reply};
use crate::cursor::Page;
use crate::document;
use crate::problem::{Problem, Refusal};

const PAGE: usize = 200;
/// All metrics of the simulator come from the API.
const INTEGRATION: &str = "API";

pub(super) fn get_metrics(call: &Call<'_>) -> Result<Reply, Refusal> {
    let filters = call.query.filter(&[
        ("integration.name", &["equals"]),
        ("integration.category", &["equals"]),
    ])?;
    let page = Page::fixed(call.query, PAGE)?;
    let state = call.state.at(call.now);
    let is_asked = filters
        .iter()
        .all(|condition| condition.value().eq_ignore_ascii_case(INTEGRATION));
    let metrics = state.events.metrics().iter().filter(|_| is_asked);
    let (rows, more) = page.cut(metrics.map(|metric| metric.document(call.base_url)));
    Ok(Reply::read(document::collection(
        &rows,
        &page.links(&call.url(), call.query, more),
    )))
}

pub(super) fn get_metric(call: &Call<'_>) -> Result<Reply, Refusal> {
    let state = call.state.at(call.now);
    let Some(metric) = state
        .events
        .metrics()
        .iter()
        .find(|metric| metric.id == call.id)
    else {
        return Err(Problem::not_found("metric", call.id).into());
    };
    Ok(Reply::read(document::single(
        &metric.document(call.base_url),
    )))
}
