//! What may be read, and where it goes that was: to the line of its kind, or to the dead letters with a reason.

use crate::queue::engine::{Engine, State};
use crate::queue::holding::deaths::Deaths;
use crate::queue::holding::lines::Line;
use crate::queue::job::entry::{Entry, QueuedJob};
use crate::queue::job::verdict::{Reason, Verdict};
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, Invalid};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long a job stays away that could not leave and would take the room of other kinds on its queue.
const OTHERS_FIRST: Duration = Duration::from_secs(30);

impl Engine {
    /// What is paused is not known yet: nothing is read.
    pub(crate) fn forget_paused(&self) {
        *self.paused.lock().expect("no holder of this lock panics") = None;
    }

    pub(crate) fn set_paused(&self, paused: HashSet<String>) {
        let mut known = self.paused.lock().expect("no holder of this lock panics");
        if known.replace(paused) != *known {
            // Something may be read by now that could not before.
            self.has_room.notify_one();
        }
    }

    pub(crate) fn knows_paused(&self) -> bool {
        let paused = self.paused.lock().expect("no holder of this lock panics");
        paused.is_some()
    }

    /// Whether the queue is paused, as each is that is not known to be not.
    pub(crate) fn is_paused(&self, queue: &str) -> bool {
        let paused = self.paused.lock().expect("no holder of this lock panics");
        paused.as_ref().is_none_or(|it| it.contains(queue))
    }

    /// Whether the queue is paused, or every kind on it has a shut gate.
    pub(crate) fn is_shut(&self, queue: &str) -> bool {
        if self.is_paused(queue) {
            return true;
        }
        let Some(outlook) = &self.config.outlook else {
            return false;
        };
        let mut kinds = self.config.routes.iter().filter(|it| it.queue == queue);
        kinds.all(|route| outlook.is_shut(route.kind))
    }

    fn is_kind_shut(&self, line: usize) -> bool {
        let outlook = self.config.outlook.as_ref();
        outlook.is_some_and(|outlook| outlook.is_shut(self.config.routes[line].kind))
    }

    /// How many jobs may be read from the stream now.
    pub(crate) fn room(&self, stream: usize) -> usize {
        self.state().flight.room(stream)
    }

    /// Takes in what was read from a stream: each job joins the line of its kind, nonsense goes to the dead letters.
    pub(crate) fn accept(&self, stream: usize, entries: Vec<Entry>, asked: Instant) {
        let now = Timestamp::now();
        let mut settled = Vec::new();
        let mut guard = self.state();
        let State { lines, flight } = &mut *guard;
        let bytes: usize = entries.iter().map(|entry| entry.job.payload.len()).sum();
        flight.measured(stream, entries.len(), bytes);
        for entry in entries {
            let Entry {
                mut job,
                has_payload,
            } = entry;
            if !flight.add(&job, asked) {
                continue;
            }
            let place = self.place(&job, has_payload, now);
            job.kind = place.as_ref().ok().map(|it| self.config.routes[*it].kind);
            match place {
                // Nobody will open a lot any more: it goes back at once.
                Ok(_) if self.is_quiet() => settled.push((job, Verdict::Snooze(Duration::ZERO))),
                Ok(line) if flight.is_half_full(stream) && self.is_kind_shut(line) => {
                    settled.push((job, Verdict::Snooze(OTHERS_FIRST)));
                }
                Ok(line) => lines[line].push(job),
                Err(reason) => settled.push((job, Verdict::Bury(reason))),
            }
        }
        lines.iter_mut().for_each(Line::wake);
        drop(guard);
        self.settle(settled);
    }

    /// The line a job joins, or why it goes to the dead letters.
    fn place(&self, job: &QueuedJob, has_payload: bool, now: Timestamp) -> Result<usize, Reason> {
        if let Some(poison) = job.deaths.and_then(Deaths::poison) {
            return Err(poison);
        }
        if !has_payload {
            return Err(Reason::from(&Invalid::no_job_field()));
        }
        let envelope = Envelope::parse(&job.payload).map_err(|invalid| Reason::from(&invalid))?;
        let line = self.line_of(job, &envelope.kind);
        let line = line.map_err(|invalid| Reason::from(&invalid))?;
        if envelope.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Reason::expired());
        }
        Ok(line)
    }

    fn line_of(&self, job: &QueuedJob, kind: &str) -> Result<usize, Invalid> {
        let queue = &self.streams[job.stream].queue;
        let mut routes = self.config.routes.iter();
        let found = routes.position(|route| {
            route.kind == kind && route.queue == *queue && (!route.internal || job.engine_wrote)
        });
        match found {
            Some(line) => Ok(line),
            None => Err(klaviyo_jobs::kind(kind)?
                .on_queue(queue)
                .err()
                .unwrap_or_else(Invalid::no_job_field)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private_redis::PrivateRedis;
    use crate::queue::connection::Redis;
    use crate::queue::engine::{EngineConfig, Outlook, Route};
    use crate::queue::job::entry::EntryId;
    use klaviyo_jobs::Lane;
    use std::sync::Arc;

    #[derive(Debug)]
    struct OneShut;

    impl Outlook for OneShut {
        fn is_shut(&self, kind: &str) -> bool {
            kind == "profile.delete"
        }
    }

    fn route(kind: &'static str) -> Route {
        Route {
            kind,
            queue: "profile-sync",
            internal: false,
        }
    }

    #[tokio::test]
    async fn a_shut_kind_takes_no_more_than_half_of_the_room_of_its_queue() {
        let folder = tempfile::tempdir().unwrap();
        let server = PrivateRedis::start(folder.path(), false).await.unwrap();
        let redis = Redis::at(&server.url()).unwrap().connect().await.unwrap();
        let routes = vec![route("profile.upsert"), route("profile.delete")];
        let mut config = EngineConfig::new(<_>::default(), "me".to_owned(), routes);
        config.outlook = Some(Arc::new(OneShut));
        let (engine, mut inbox) = Engine::idle(redis, config);
        let mut streams = engine.streams().iter();
        let live = streams.position(|it| it.lane == Lane::Live).unwrap();
        let entries = |kind: &str, ids: std::ops::Range<u64>| {
            let payload = format!(r#"{{"kind":"{kind}","data":{{}}}}"#);
            let entry = |ms| Entry {
                job: QueuedJob {
                    payload: payload.clone().into(),
                    ..QueuedJob::for_test(live, EntryId { ms, seq: 0 }, 0)
                },
                has_payload: true,
            };
            ids.map(entry).collect::<Vec<_>>()
        };
        engine.accept(live, entries("profile.delete", 0..10_005), Instant::now());
        engine.accept(
            live,
            entries("profile.upsert", 20_000..20_010),
            Instant::now(),
        );
        let mut sent_back = Vec::new();
        while let Ok(settlement) = inbox.try_recv() {
            sent_back.extend(settlement);
        }
        assert_eq!(sent_back.len(), 5);
        assert!(
            sent_back
                .iter()
                .all(|(_, verdict)| *verdict == Verdict::Snooze(OTHERS_FIRST))
        );
        assert_eq!((engine.waiting(1), engine.waiting(0)), (10_000, 10));
    }
}
