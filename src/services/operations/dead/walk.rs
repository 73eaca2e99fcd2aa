//! A walk over dead letters, page by page, oldest first within each queue.

use super::super::{Operations, QueueName, queues};
use super::error::DeadError;
use super::select::{DeadFilter, DeadSelection};
use crate::queue::{
    Connection, DeadJob, DeadRange, EntryId, RedisResult, dead_job, dead_page, newest_dead,
};
use klaviyo_jobs::Keys;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Entries that are fetched by name for one page: each may have 5 MB.
const NAMED_PER_PAGE: usize = 10;

/// The last entry in each queue that a walk comes to; it passes the other queues by.
pub(super) type Ends = BTreeMap<String, EntryId>;

/// A walk over dead letters. It ends where they ended when it came to the queue.
#[derive(Debug)]
pub struct DeadWalk {
    redis: Connection,
    keys: Keys,
    source: Source,
    ends: Option<Ends>,
    left: u64,
}

#[derive(Debug)]
enum Source {
    Named(VecDeque<(&'static str, EntryId)>),
    Matching {
        filter: DeadFilter,
        rest: VecDeque<&'static str>,
        current: Option<(&'static str, DeadRange)>,
    },
}

impl Operations {
    /// Begins a walk over the chosen dead jobs.
    ///
    /// # Errors
    /// [`DeadError`] if an entry is not there or in several queues.
    pub async fn dead_walk(&mut self, selection: &DeadSelection) -> Result<DeadWalk, DeadError> {
        let (source, limit) = match selection {
            DeadSelection::Entries { queue, entries } => {
                let mut named = VecDeque::new();
                for entry in entries.iter().copied().collect::<BTreeSet<_>>() {
                    let found = self.dead_at(*queue, entry).await?;
                    named.push_back((found.0, entry));
                }
                (Source::Named(named), None)
            }
            DeadSelection::Matching(filter) => {
                let wanted = |name: &&str| filter.queue.is_none_or(|queue| queue.as_str() == *name);
                let matching = Source::Matching {
                    filter: filter.clone(),
                    rest: queues().filter(wanted).collect(),
                    current: None,
                };
                (matching, filter.limit)
            }
        };
        Ok(DeadWalk {
            redis: self.redis.clone(),
            keys: self.keys.clone(),
            source,
            ends: None,
            left: limit.unwrap_or(u64::MAX),
        })
    }

    /// Returns the dead job at an entry.
    ///
    /// # Errors
    /// [`DeadError`] if there is none or if several queues have one.
    pub async fn dead_job(
        &mut self,
        queue: Option<QueueName>,
        entry: EntryId,
    ) -> Result<DeadJob, DeadError> {
        Ok(self.dead_at(queue, entry).await?.1)
    }

    /// Returns the youngest dead job with this id, and how many have it.
    ///
    /// # Errors
    /// Redis' own.
    pub async fn dead_job_by_id(
        &mut self,
        queue: Option<QueueName>,
        id: &str,
    ) -> Result<Option<(DeadJob, u64)>, DeadError> {
        let everything = DeadSelection::Matching(DeadFilter {
            queue,
            ..DeadFilter::default()
        });
        let mut walk = self.dead_walk(&everything).await?;
        let mut found: Option<(DeadJob, u64)> = None;
        while let Some(page) = walk.next_page().await? {
            for job in page.into_iter().filter(|job| job.id == id) {
                found = Some(match found {
                    Some((known, count)) if known.entry >= job.entry => (known, count + 1),
                    Some((_, count)) => (job, count + 1),
                    None => (job, 1),
                });
            }
        }
        Ok(found)
    }

    /// Returns dead jobs, oldest first within a queue, at most `limit`. Whoever can take them page by page does better
    /// with [`Self::dead_walk`].
    ///
    /// # Errors
    /// Redis' own.
    pub async fn dead(
        &mut self,
        filter: &DeadFilter,
        limit: usize,
    ) -> Result<Vec<DeadJob>, DeadError> {
        let mut walk = self
            .dead_walk(&DeadSelection::Matching(filter.clone()))
            .await?;
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(page) = walk.next_page().await? else {
                break;
            };
            found.extend(page);
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn dead_at(
        &mut self,
        queue: Option<QueueName>,
        entry: EntryId,
    ) -> Result<(&'static str, DeadJob), DeadError> {
        let mut found = Vec::new();
        for name in queues().filter(|name| queue.is_none_or(|queue| queue.as_str() == *name)) {
            let job = dead_job(&mut self.redis, &self.keys, name, entry).await?;
            found.extend(job.map(|job| (name, job)));
        }
        if found.len() > 1 {
            let queues = found.iter().filter_map(|(name, _)| name.parse().ok());
            return Err(DeadError::Ambiguous {
                entry,
                queues: queues.collect(),
            });
        }
        found.pop().ok_or(DeadError::NoSuchEntry(entry))
    }
}

impl DeadWalk {
    /// Ends the walk earlier: what came after these was not there when somebody looked. Named entries never change, so
    /// a walk over them needs no end.
    pub(super) fn until(mut self, last: Ends) -> Self {
        self.ends = Some(last);
        self
    }

    /// Lets whoever walks count for themselves how many are meant.
    pub(super) fn unlimited(mut self) -> Self {
        self.left = u64::MAX;
        self
    }

    /// Returns the next page that has something in it; `None` at the end.
    ///
    /// # Errors
    /// Redis' own; the walk may go on after it.
    pub async fn next_page(&mut self) -> RedisResult<Option<Vec<DeadJob>>> {
        while self.left > 0 {
            let Some(mut page) = self.page().await? else {
                return Ok(None);
            };
            page.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= page.len() as u64;
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    async fn page(&mut self) -> RedisResult<Option<Vec<DeadJob>>> {
        let Self {
            redis,
            keys,
            source,
            ends,
            ..
        } = self;
        match source {
            Source::Named(named) => {
                let mut page = Vec::new();
                while page.len() < NAMED_PER_PAGE
                    && let Some((queue, entry)) = named.front().copied()
                {
                    page.extend(dead_job(redis, keys, queue, entry).await?);
                    named.pop_front();
                }
                Ok((!page.is_empty() || !named.is_empty()).then_some(page))
            }
            Source::Matching {
                filter,
                rest,
                current,
            } => {
                let (queue, range) = match current {
                    Some(current) => *current,
                    None => match begin(redis, keys, filter, ends.as_ref(), rest).await? {
                        Some(begun) => *current.insert(begun),
                        None => return Ok(None),
                    },
                };
                let mut page = dead_page(redis, keys, queue, range).await?;
                *current = page.last().map(|last| {
                    let from = last.entry.next();
                    (queue, DeadRange { from, ..range })
                });
                page.retain(|job| filter.matches(job));
                Ok(Some(page))
            }
        }
    }
}

/// Comes to the next queue that has dead letters, and notes where they end.
async fn begin(
    redis: &mut Connection,
    keys: &Keys,
    filter: &DeadFilter,
    ends: Option<&Ends>,
    rest: &mut VecDeque<&'static str>,
) -> RedisResult<Option<(&'static str, DeadRange)>> {
    while let Some(queue) = rest.front().copied() {
        let newest = match ends {
            Some(ends) => ends.get(queue).copied(),
            None => newest_dead(redis, keys, queue).await?,
        };
        rest.pop_front();
        if let Some(newest) = newest {
            let range = filter.range();
            let to = range.to.min(newest);
            return Ok(Some((queue, DeadRange { to, ..range })));
        }
    }
    Ok(None)
}
