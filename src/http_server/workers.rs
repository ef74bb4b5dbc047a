//! The threads for everything that may block: handlers, and sources that read from a disk.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use crate::http_server::Handler;
use crate::http_server::mailbox::{ConnectionMessage, Mailbox, Waker};
use crate::http_server::request::Request;
use crate::http_server::response::Response;
use crate::http_server::source::{BodySource, PULL_SIZE, Pulled};

/// The stack of a worker.
const STACK: usize = 1024 * 1024;

/// Work for a worker, for the connection with this number.
pub(super) enum HttpJob {
    Handle(u64, Request),
    Pull(u64, Box<dyn BodySource>, Waker),
}

/// The workers of a server. They start when there is work for them.
pub(super) struct WorkerPool {
    shared: Arc<WorkerShared>,
    threads: Vec<JoinHandle<()>>,
    name: String,
    max_threads: usize,
    max_requests: usize,
}

struct WorkerShared {
    queue: Mutex<WorkQueue>,
    changed: Condvar,
    mailbox: Arc<Mailbox>,
    handler: Arc<dyn Handler>,
}

#[derive(Default)]
struct WorkQueue {
    /// Bounded: `max_requests` requests, and one pull for each stream.
    jobs: VecDeque<HttpJob>,
    requests: usize,
    idle: usize,
    is_over: bool,
}

impl WorkerPool {
    pub(super) fn new(
        name: String,
        max_threads: usize,
        max_requests: usize,
        mailbox: Arc<Mailbox>,
        handler: Arc<dyn Handler>,
    ) -> WorkerPool {
        let shared = WorkerShared { queue: Mutex::default(), changed: Condvar::new(), mailbox, handler };
        WorkerPool { shared: Arc::new(shared), threads: Vec::new(), name, max_threads, max_requests }
    }

    /// Queues a job. Returns whether it did: too many requests may wait, or no thread may have started.
    pub(super) fn submit(&mut self, job: HttpJob) -> bool {
        let is_request = matches!(job, HttpJob::Handle(..));
        let lacks_worker = {
            let queue = self.shared.queue.lock();
            if is_request && queue.requests >= self.max_requests {
                return false;
            }
            queue.jobs.len() >= queue.idle
        };
        if lacks_worker && self.threads.len() < self.max_threads.max(1) {
            match self.spawn() {
                Ok(thread) => self.threads.push(thread),
                Err(error) => log::warn!("{}: no further worker: {error}", self.name),
            }
        }
        if self.threads.is_empty() {
            return false;
        }
        let mut queue = self.shared.queue.lock();
        queue.requests += usize::from(is_request);
        queue.jobs.push_back(job);
        self.shared.changed.notify_one();
        true
    }

    /// Drops the jobs that no worker has begun, and waits for the others.
    pub(super) fn finish(&mut self) {
        let jobs = {
            let mut queue = self.shared.queue.lock();
            queue.is_over = true;
            std::mem::take(&mut queue.jobs)
        };
        self.shared.changed.notify_all();
        drop(jobs);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a worker of {} panicked", self.name);
            }
        }
    }

    fn spawn(&self) -> io::Result<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        thread::Builder::new().name(self.name.clone()).stack_size(STACK).spawn(move || shared.work())
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.finish();
    }
}

impl WorkerShared {
    fn work(&self) {
        while let Some(job) = self.next() {
            let message = match job {
                HttpJob::Handle(key, request) => ConnectionMessage::Answered(key, self.handle(request)),
                HttpJob::Pull(key, mut source, waker) => {
                    let pulled = pull(&mut *source, &waker);
                    ConnectionMessage::Pulled(key, source, pulled)
                }
            };
            self.mailbox.send(message);
        }
    }

    fn next(&self) -> Option<HttpJob> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_over {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                queue.requests -= usize::from(matches!(job, HttpJob::Handle(..)));
                return Some(job);
            }
            queue.idle += 1;
            self.changed.wait(&mut queue);
            queue.idle -= 1;
        }
    }

    fn handle(&self, request: Request) -> Response {
        catch_panic(|| self.handler.handle(request)).unwrap_or_else(failed)
    }
}

/// The response if a handler panics.
pub(super) fn failed() -> Response {
    Response::text(500, "an error of this server\n").close()
}

/// Runs code of a handler. `None` if it panics: that must cost one connection only.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(work));
    if result.is_err() {
        log::error!("a handler of HTTP requests panicked");
    }
    result.ok()
}

/// Pulls once.
pub(super) fn pull(source: &mut dyn BodySource, waker: &Waker) -> io::Result<(Pulled, Vec<u8>)> {
    waker.arm();
    let mut bytes = Vec::new();
    let pulled =
        catch_panic(|| source.pull(PULL_SIZE, &mut bytes, waker)).unwrap_or(Err(io::ErrorKind::Other.into()))?;
    // A source that has appended nothing would be asked for ever.
    Ok((if bytes.is_empty() && pulled == Pulled::Data { Pulled::Pending } else { pulled }, bytes))
}
