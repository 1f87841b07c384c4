//! The journal's writer with what it reports to: run by the journal thread, or step by step by a simulation.
//!
//! It must never go on after a failure.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::Complete;
use super::ahead::AheadOwner;
use super::queue::Queue;
use super::writer::Writer;

type Failed = Box<dyn FnOnce(io::Error) + Send>;

/// See the module.
pub(super) struct Stepped<T> {
    parts: Mutex<Parts<T>>,
}

struct Parts<T> {
    writer: Writer<T>,
    complete: Complete<T>,
    /// `None` once it was called.
    failed: Option<Failed>,
}

impl<T> Stepped<T> {
    pub(super) fn new(writer: Writer<T>, complete: Complete<T>, failed: Failed) -> Self {
        Stepped { parts: Mutex::new(Parts { writer, complete, failed: Some(failed) }) }
    }

    /// See [`Writer::prepare_with`].
    pub(super) fn prepare_with(&mut self, ahead: AheadOwner) {
        let parts = self.parts.get_mut().unwrap_or_else(PoisonError::into_inner);
        parts.writer.prepare_with(ahead);
    }

    /// Writes until the queue is stopped and drained, or a write fails.
    pub(super) fn run(self, queue: &Queue<T>) {
        let Parts { writer, mut complete, failed } =
            self.parts.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer.run(&mut *complete) {
            // Told first, so that nobody who finds the queue failed asks why too early.
            if let Some(failed) = failed {
                failed(error);
            }
            queue.fail();
        }
    }

    /// See [`Writer::step`]; false after a failure, too.
    pub(super) fn step(&self, queue: &Queue<T>) -> bool {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Parts { writer, complete, failed } = &mut *parts;
        if failed.is_none() {
            return false;
        }
        let error = match writer.step(&mut **complete) {
            Ok(worked) => return worked,
            Err(error) => error,
        };
        if let Some(failed) = failed.take() {
            failed(error);
        }
        queue.fail();
        false
    }
}
