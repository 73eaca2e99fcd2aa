//! The query string of one request.

use axum::extract::Query as Decoded;
use axum::http::Uri;

use crate::filter::{self, Condition};
use crate::problem::Problem;
use crate::windows::Surcharge;

#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let pairs = Decoded::<Vec<(String, String)>>::try_from_uri(uri).map(|Decoded(pairs)| pairs);
        Self {
            pairs: pairs.unwrap_or_default(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The pairs that a link to the next page repeats.
    pub(crate) fn without_cursor(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .filter(|(key, _)| *key != "page[cursor]")
    }

    pub(crate) fn has(&self, name: &str, word: &str) -> bool {
        self.get(name)
            .is_some_and(|list| list.split(',').any(|item| item.trim() == word))
    }

    /// The conditions of `filter`, each of which must name one of the fields and operators that are allowed.
    pub(crate) fn filter(&self, allowed: &[(&str, &[&str])]) -> Result<Vec<Condition>, Problem> {
        let Some(text) = self.get("filter") else {
            return Ok(Vec::new());
        };
        let conditions = filter::parse(text)
            .ok_or_else(|| Problem::parameter("filter", "The filter cannot be parsed."))?;
        for condition in &conditions {
            let operators = allowed
                .iter()
                .find(|(field, _)| *field == condition.field)
                .map(|(_, operators)| *operators);
            let Some(operators) = operators else {
                return Err(Problem::parameter(
                    "filter",
                    format!("'{}' is not a filterable field.", condition.field),
                ));
            };
            if !operators.contains(&condition.operator.as_str()) {
                let detail = format!(
                    "'{}' is not allowed for the field '{}'.",
                    condition.operator, condition.field
                );
                return Err(Problem::parameter("filter", detail));
            }
        }
        Ok(conditions)
    }

    pub(crate) fn sort(&self, allowed: &[&str]) -> Result<Option<&str>, Problem> {
        match self.get("sort") {
            Some(sort) if !allowed.contains(&sort.trim_start_matches('-')) => Err(
                Problem::parameter("sort", format!("'{sort}' is not a valid sort option.")),
            ),
            sort => Ok(sort),
        }
    }

    pub(crate) fn surcharges(&self) -> Vec<Surcharge> {
        let includes = |words: [&str; 2]| words.iter().any(|word| self.has("include", word));
        let profile_count = ["additional-fields[list]", "additional-fields[segment]"];
        [
            (includes(["lists", "list"]), Surcharge::IncludeLists),
            (
                includes(["segments", "segment"]),
                Surcharge::IncludeSegments,
            ),
            (
                self.has("additional-fields[profile]", "predictive_analytics"),
                Surcharge::PredictiveAnalytics,
            ),
            (
                profile_count
                    .iter()
                    .any(|name| self.has(name, "profile_count")),
                Surcharge::ProfileCount,
            ),
        ]
        .into_iter()
        .filter_map(|(asked, surcharge)| asked.then_some(surcharge))
        .collect()
    }
}
