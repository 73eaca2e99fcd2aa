//! Faults at single Redis commands: the process stops right before or right after one, its answer is lost, or the task
//! that sent it stands still while others go on.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, RedisError, RedisResult};
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// What happens at which command, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(super) at: usize,
    pub(super) moment: Moment,
    pub(super) blow: Blow,
}

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Redis never saw the command.
    Before,
    /// Of a pipeline, Redis saw the first half; of a single command nothing.
    Midway,
    /// Redis carried it out.
    After,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The process ends.
    Crash,
    /// The task gets an error.
    Error,
    /// The task stands still until it is released.
    Hold,
}

/// The faults of one task. Without a plan it does nothing.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Shared>);

#[derive(Default)]
struct Shared {
    plan: Mutex<Option<Fault>>,
    struck: Mutex<Option<Blow>>,
    has_struck: Notify,
    stands: Mutex<bool>,
    released: Notify,
}

impl fmt::Debug for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Faults")
    }
}

impl Faults {
    /// Plans a fault, or none.
    pub(super) fn plan(&self, fault: Option<Fault>) {
        *self.0.plan.lock().unwrap() = fault;
    }

    /// Waits until the task was stopped for good or for a while.
    pub(super) async fn struck(&self) -> Blow {
        self.0.has_struck.notified().await;
        self.0.struck.lock().unwrap().take().unwrap()
    }

    /// Lets the task go on if it stands still.
    pub(super) fn release(&self) {
        if std::mem::take(&mut *self.0.stands.lock().unwrap()) {
            self.0.released.notify_one();
        }
    }

    /// Sends commands, or does to them what is planned.
    pub(crate) async fn around<'a, T>(
        &self,
        commands: impl Iterator<Item = &'a Cmd>,
        mut socket: MultiplexedConnection,
        send: impl Future<Output = RedisResult<T>>,
    ) -> RedisResult<T> {
        let Some(Fault { moment, blow, .. }) = self.next() else {
            return send.await;
        };
        match moment {
            Moment::Before => {
                self.strike(blow).await?;
                send.await
            }
            Moment::After => {
                let answer = send.await;
                self.strike(blow).await?;
                answer
            }
            Moment::Midway => {
                let commands: Vec<&Cmd> = commands.collect();
                for command in &commands[..commands.len() / 2] {
                    socket.req_packed_command(command).await?;
                }
                self.strike(blow).await?;
                Err(broken())
            }
        }
    }

    fn next(&self) -> Option<Fault> {
        let mut plan = self.0.plan.lock().unwrap();
        let fault = plan.as_mut()?;
        fault.at -= 1;
        if fault.at > 0 {
            return None;
        }
        plan.take()
    }

    async fn strike(&self, blow: Blow) -> RedisResult<()> {
        if blow == Blow::Error {
            return Err(broken());
        }
        *self.0.struck.lock().unwrap() = Some(blow);
        self.0.has_struck.notify_one();
        if blow == Blow::Crash {
            pending::<()>().await;
        }
        *self.0.stands.lock().unwrap() = true;
        self.0.released.notified().await;
        Ok(())
    }
}

fn broken() -> RedisError {
    RedisError::from((ErrorKind::Io, "a planned fault"))
}
