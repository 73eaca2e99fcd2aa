//! Finds every copy of a job by its id, and says where it was looked for.

use super::{Operations, queues};
use crate::queue::operating::find::{
    DelayedJob, ENTRIES_MAX, Found, Wanted, find_delayed, find_on_stream,
};
use crate::queue::operating::place::{Holder, holder};
use crate::queue::{QueuedJob, RedisResult};
use crate::services::FollowImport;
use klaviyo_jobs::Lane;
use serde::Serialize;
use std::collections::BTreeSet;

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
    /// Whether it was found by its place: another job may have the same one elsewhere.
    by_place: bool,
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
    /// Those first that leave first.
    pub(super) copies: Vec<Copy>,
    /// How many more there are.
    pub(super) more: usize,
    pub(super) searched: Vec<Searched>,
}

impl Copy {
    fn of(wanted: &Wanted, queue: &'static str, place: Place) -> Self {
        let by_place = !wanted.is_own_id(place.payload());
        Self {
            queue,
            place,
            by_place,
        }
    }

    /// Whether it follows an import that Klaviyo has accepted: without it nobody learns what became of those rows.
    pub(super) fn is_follow_up(&self) -> bool {
        let begin = FollowImport::begin();
        self.place.payload().starts_with(begin.as_bytes())
    }

    /// What names this one and no other.
    fn name(&self) -> Option<String> {
        let (lane, sid) = match &self.place {
            Place::Ready(job) | Place::InFlight(job, _) | Place::Dead(job) => (job.lane, job.sid),
            Place::Delayed(job) => (job.lane, job.sid?),
        };
        Some(format!("{}:{}/{sid}", self.queue, lane.as_str()))
    }
}

impl Place {
    fn payload(&self) -> &[u8] {
        match self {
            Self::Ready(job) | Self::InFlight(job, _) | Self::Dead(job) => &job.payload,
            Self::Delayed(job) => job.payload(),
        }
    }

    /// What is about to happen comes before what has to wait.
    fn rank(&self) -> u8 {
        match self {
            Self::InFlight(..) => 0,
            Self::Ready(_) => 1,
            Self::Delayed(_) => 2,
            Self::Dead(_) => 3,
        }
    }
}

impl Search {
    /// The names of the jobs, if a stream id found several that have nothing else in common; else nothing.
    pub(super) fn ambiguous(&self) -> Vec<String> {
        if !self.copies.iter().any(|copy| copy.by_place) {
            return Vec::new();
        }
        let names: BTreeSet<String> = self.copies.iter().filter_map(Copy::name).collect();
        if names.len() < 2 {
            return Vec::new();
        }
        names.into_iter().collect()
    }

    /// What was not looked at, in words.
    pub(super) fn not_searched(&self) -> Vec<String> {
        let partly = self.searched.iter().filter(|it| !it.complete);
        let rest = |it: &Searched| {
            if it.place.ends_with(":delayed") {
                format!("{}: all but the {ENTRIES_MAX} due last", it.place)
            } else {
                format!("{}: all but the newest {ENTRIES_MAX}", it.place)
            }
        };
        partly.map(rest).collect()
    }

    fn looked<T>(&mut self, place: String, found: &Found<T>) {
        self.more += found.more;
        self.searched.push(Searched {
            place,
            entries: found.searched,
            complete: !found.has_more,
        });
    }
}

impl Operations {
    /// Searches everywhere but the audit, and keeps at most `copies_max`.
    pub(super) async fn search(&mut self, id: &str, copies_max: usize) -> RedisResult<Search> {
        let wanted = Wanted::new(id);
        let first = self.search_once(&wanted, copies_max).await?;
        if first.copies.is_empty() {
            // A job that moved the other way meanwhile was in neither place.
            return self.search_once(&wanted, copies_max).await;
        }
        Ok(first)
    }

    async fn search_once(&mut self, wanted: &Wanted, copies_max: usize) -> RedisResult<Search> {
        let mut search = Search::default();
        for queue in queues() {
            let redis = &mut self.redis;
            let copy = |place| Copy::of(wanted, queue, place);
            // Delayed jobs first: one that comes due meanwhile is on the stream when that is searched.
            let found = find_delayed(redis, &self.keys, queue, wanted, copies_max).await?;
            search.looked(format!("{queue}:delayed"), &found);
            let places = found.jobs.into_iter().map(Place::Delayed);
            search.copies.extend(places.map(copy));
            for lane in Lane::ALL {
                let stream = self.keys.queue(queue, lane);
                let found =
                    find_on_stream(redis, &stream, queue, Some(lane), wanted, copies_max).await?;
                search.looked(format!("{queue}:{}", lane.as_str()), &found);
                for job in found.jobs {
                    let place = match holder(redis, &stream, job.id).await? {
                        Some(holder) => Place::InFlight(job, holder),
                        None => Place::Ready(job),
                    };
                    search.copies.push(copy(place));
                }
            }
            let dead = self.keys.dead(queue);
            let found = find_on_stream(redis, &dead, queue, None, wanted, copies_max).await?;
            search.looked(format!("{queue}:dead"), &found);
            let places = found.jobs.into_iter().map(Place::Dead);
            search.copies.extend(places.map(copy));
        }
        search.copies.sort_by_key(|copy| copy.place.rank());
        search.more += search.copies.len().saturating_sub(copies_max);
        search.copies.truncate(copies_max);
        Ok(search)
    }
}
