//! The closed loop: clients that each ask the next thing when they have the answer to the last.
//!
//! Two sides that are compared must see the same machine, which is never the same for long. One client takes turns request by
//! request, the first by turns, so that neither always finds caches warmed by the other. Many clients take turns in slices.

use super::connection::{Address, Connection};
use super::operation::Side;
use super::stop::Stop;
use super::tally::Tally;
use super::work::Work;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long many clients ask one side before they turn to the other.
const SLICE: Duration = Duration::from_secs(1);

/// When a measurement ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Length {
    /// After so long, for each side.
    Time(Duration),
    /// After so many requests, of each side.
    Requests(u64),
}

/// What was seen of one side, and how long it took.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) tally: Tally,
    pub(super) elapsed: Duration,
}

/// What was seen of both.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) http: Seen,
    pub(super) floor: Option<Seen>,
}

/// How much of one side may still be asked, shared by its clients.
struct Budget {
    left: AtomicU64,
    /// The next operation's number.
    next: AtomicU64,
}

impl Budget {
    fn new(length: Length) -> Self {
        let left = match length {
            Length::Time(_) => u64::MAX,
            Length::Requests(requests) => requests,
        };
        Self { left: AtomicU64::new(left), next: AtomicU64::new(0) }
    }

    /// The number of an operation that may be asked now; none when there are no more, or it is too late.
    fn take(&self, until: Option<Instant>) -> Option<u64> {
        if until.is_some_and(|until| Instant::now() >= until) {
            return None;
        }
        let one_less = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).ok()?;
        Some(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn is_empty(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

/// Puts load on both sides, or on the coordinator alone where there is no floor.
pub(super) async fn run(work: &Arc<Work>, address: &Address, clients: u32, length: Length, stop: &Stop) -> Measured {
    if clients == 1 && work.has_floor {
        return by_turns(work, Connection::new(address.clone()), length, stop).await;
    }
    let connections = (0..clients).map(|_| Connection::new(address.clone())).collect();
    let mut clients = Clients { work: work.clone(), connections, stop: stop.clone() };
    let mut http = Half::new(Side::Http, length);
    if !work.has_floor {
        clients.ask(&mut http, None).await;
        return Measured { http: http.seen, floor: None };
    }
    let mut floor = Half::new(Side::Floor, length);
    while !(stop.came() || http.is_over() && floor.is_over()) {
        clients.ask(&mut http, Some(SLICE)).await;
        clients.ask(&mut floor, Some(SLICE)).await;
    }
    Measured { http: http.seen, floor: Some(floor.seen) }
}

/// One side of a measurement under way.
struct Half {
    side: Side,
    length: Length,
    budget: Arc<Budget>,
    seen: Seen,
}

impl Half {
    fn new(side: Side, length: Length) -> Self {
        let seen = Seen { tally: Tally::new(), elapsed: Duration::ZERO };
        Self { side, length, budget: Arc::new(Budget::new(length)), seen }
    }

    fn is_over(&self) -> bool {
        match self.length {
            Length::Time(time) => self.seen.elapsed >= time,
            Length::Requests(_) => self.budget.is_empty(),
        }
    }

    /// When clients that begin now have to end; none if only the number of requests ends them.
    fn until(&self, slice: Option<Duration>) -> Option<Instant> {
        let left = match self.length {
            Length::Time(time) => Some(time.saturating_sub(self.seen.elapsed)),
            Length::Requests(_) => None,
        };
        let shorter = left.into_iter().chain(slice).min();
        shorter.map(|time| Instant::now() + time)
    }
}

/// Clients and their connections, which stay from slice to slice.
struct Clients {
    work: Arc<Work>,
    connections: Vec<Connection>,
    stop: Stop,
}

impl Clients {
    /// All ask one side until it is over, or a slice of time has passed.
    async fn ask(&mut self, half: &mut Half, slice: Option<Duration>) {
        let (side, until, started) = (half.side, half.until(slice), Instant::now());
        let mut clients = JoinSet::new();
        for mut connection in self.connections.drain(..) {
            let (work, budget, stop) = (self.work.clone(), half.budget.clone(), self.stop.clone());
            clients.spawn(async move {
                let mut tally = Tally::new();
                while !stop.came()
                    && let Some(number) = budget.take(until)
                {
                    let operation = work.operation(number, side);
                    match side {
                        Side::Http => operation.ask_coordinator(&mut connection, &mut tally).await,
                        Side::Floor => operation.ask_workers(&mut tally).await,
                    }
                }
                (connection, tally)
            });
        }
        while let Some(client) = clients.join_next().await {
            let (connection, tally) = client.expect("a client neither panics nor is cancelled");
            self.connections.push(connection);
            half.seen.tally.add(tally);
        }
        half.seen.elapsed += started.elapsed();
    }
}

/// One client asks both sides the same thing, then the next. A side's time is what it was waited for.
async fn by_turns(work: &Work, mut connection: Connection, length: Length, stop: &Stop) -> Measured {
    let budget = Budget::new(length);
    let until = match length {
        Length::Time(time) => Some(Instant::now() + time * 2),
        Length::Requests(_) => None,
    };
    let (mut http, mut floor) = (Tally::new(), Tally::new());
    while !stop.came()
        && let Some(number) = budget.take(until)
    {
        let (asked, straight) = (work.operation(number, Side::Http), work.operation(number, Side::Floor));
        if number % 2 == 0 {
            asked.ask_coordinator(&mut connection, &mut http).await;
            straight.ask_workers(&mut floor).await;
        } else {
            straight.ask_workers(&mut floor).await;
            asked.ask_coordinator(&mut connection, &mut http).await;
        }
    }
    let seen = |tally: Tally| Seen { elapsed: tally.busy(), tally };
    Measured { http: seen(http), floor: Some(seen(floor)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_requests_ends_and_numbers_them() {
        let budget = Budget::new(Length::Requests(3));
        let numbers: Vec<Option<u64>> = (0..5).map(|_| budget.take(None)).collect();
        assert_eq!(numbers, [Some(0), Some(1), Some(2), None, None]);
        assert!(budget.is_empty());
    }

    #[test]
    fn nothing_is_taken_too_late() {
        let budget = Budget::new(Length::Time(Duration::from_secs(1)));
        assert_eq!(budget.take(Some(Instant::now() + Duration::from_secs(60))), Some(0));
        assert_eq!(budget.take(Some(Instant::now())), None);
    }

    #[test]
    fn a_half_is_over_after_its_time_or_its_requests() {
        let mut timed = Half::new(Side::Http, Length::Time(Duration::from_secs(3)));
        timed.seen.elapsed = Duration::from_secs(2);
        assert!(!timed.is_over());
        timed.seen.elapsed = Duration::from_secs(3);
        assert!(timed.is_over());
        let counted = Half::new(Side::Http, Length::Requests(1));
        assert!(!counted.is_over() && counted.until(None).is_none());
        counted.budget.take(None);
        assert!(counted.is_over());
    }
}
