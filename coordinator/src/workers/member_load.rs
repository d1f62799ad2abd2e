//! How busy a worker is as one of several that could answer: [`Load`] with a clock. Only reads that any member may answer look
//! here, and only they tell of themselves.

use super::WorkerPool;
use atoll_core::members::Load;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was seen of one worker.
#[derive(Debug)]
pub(super) struct MemberLoad {
    load: Mutex<Load>,
    since: Instant,
}

/// A read that one member was asked for. Dropped before it has ended, nobody waits for it any more.
#[derive(Debug)]
pub struct Asked<'a> {
    member: &'a MemberLoad,
    at: Instant,
    has_ended: bool,
}

impl MemberLoad {
    pub(super) fn new() -> Self {
        Self { load: Mutex::default(), since: Instant::now() }
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.since.elapsed().as_micros() as u64
    }
}

impl WorkerPool {
    /// What one more read would cost here, to be compared with others of the group.
    pub fn cost(&self) -> u64 {
        self.member_load.load().cost(self.under_way(), self.member_load.now_us())
    }

    /// When an answer of this worker is late; none if too few were seen.
    pub fn late_after(&self) -> Option<Duration> {
        self.member_load.load().late_after_us().map(Duration::from_micros)
    }

    /// This worker is asked for a read.
    pub fn asked(&self) -> Asked<'_> {
        Asked { member: &self.member_load, at: Instant::now(), has_ended: false }
    }
}

impl Asked<'_> {
    /// The answer came.
    pub fn answered(mut self) {
        self.has_ended = true;
        self.member.load().answered(self.took_us(), self.member.now_us());
    }

    /// It failed, and others would.
    pub fn failed(mut self) {
        self.has_ended = true;
        self.member.load().failed(self.member.now_us());
    }

    fn took_us(&self) -> u64 {
        self.at.elapsed().as_micros() as u64
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.member.load().given_up(self.took_us(), self.member.now_us());
        }
    }
}
