//! Finds every copy of a job by its id, and says where it was looked for.

use super::{Operations, queues};
use crate::queue::find::{DelayedJob, ENTRIES_MAX, Found, Wanted, find_delayed, find_on_stream};
use crate::queue::place::{Holder, holder};
use crate::queue::{QueuedJob, RedisResult};
use klaviyo_jobs::Lane;
use serde::Serialize;

/// One place that was searched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Searched {
    /// Its name, such as `event-tracking:backfill`.
    pub place: String,
    /// How many entries were looked at.
    pub entries: usize,
    /// Whether those were all.
    pub complete: bool,
}

/// A copy of the job that is somewhere.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) queue: &'static str,
    pub(super) place: Place,
}

/// Where a copy is.
#[derive(Debug)]
pub(super) enum Place {
    Ready(QueuedJob),
    InFlight(QueuedJob, Holder),
    Delayed(DelayedJob),
    Dead(QueuedJob),
}

/// What a search brought.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) copies: Vec<Copy>,
    pub(super) searched: Vec<Searched>,
}

impl Search {
    /// What was not looked at, in words.
    pub(super) fn not_searched(&self) -> Vec<String> {
        let partly = self.searched.iter().filter(|it| !it.complete);
        let rest = |it: &Searched| {
            if it.place.ends_with(":delayed") {
                format!("{}: all but the {ENTRIES_MAX} due first", it.place)
            } else {
                format!("{}: all but the newest {ENTRIES_MAX}", it.place)
            }
        };
        partly.map(rest).collect()
    }

    fn looked<T>(&mut self, place: String, found: &Found<T>) {
        self.searched.push(Searched {
            place,
            entries: found.searched,
            complete: !found.has_more,
        });
    }
}

impl Operations {
    /// Searches everywhere but the audit.
    pub(super) async fn search(&mut self, id: &str) -> RedisResult<Search> {
        let wanted = Wanted::new(id);
        let first = self.search_once(&wanted).await?;
        if first.copies.is_empty() {
            // A job that moved the other way meanwhile was in neither place.
            return self.search_once(&wanted).await;
        }
        Ok(first)
    }

    async fn search_once(&mut self, wanted: &Wanted) -> RedisResult<Search> {
        let mut search = Search::default();
        for queue in queues() {
            let redis = &mut self.redis;
            // Delayed jobs first: one that comes due meanwhile is on the stream when that is searched.
            let found = find_delayed(redis, &self.keys, queue, wanted).await?;
            search.looked(format!("{queue}:delayed"), &found);
            let copies = found.jobs.into_iter().map(Place::Delayed);
            search
                .copies
                .extend(copies.map(|place| Copy { queue, place }));
            for lane in Lane::ALL {
                let stream = self.keys.queue(queue, lane);
                let found = find_on_stream(redis, &stream, queue, lane, wanted).await?;
                search.looked(format!("{queue}:{}", lane.as_str()), &found);
                for job in found.jobs {
                    let place = match holder(redis, &stream, job.id).await? {
                        Some(holder) => Place::InFlight(job, holder),
                        None => Place::Ready(job),
                    };
                    search.copies.push(Copy { queue, place });
                }
            }
            let dead = self.keys.dead(queue);
            let found = find_on_stream(redis, &dead, queue, Lane::Live, wanted).await?;
            search.looked(format!("{queue}:dead"), &found);
            let copies = found.jobs.into_iter().map(Place::Dead);
            search
                .copies
                .extend(copies.map(|place| Copy { queue, place }));
        }
        Ok(search)
    }
}
