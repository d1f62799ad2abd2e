//! Asking one after the other until one answers.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer is waited for before another is asked too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// When the first one is late: then the next may be asked, if there is leave to. None if nobody knows.
    pub(super) late: Option<Duration>,
    /// When there is no more hope of whoever was asked last, and each time so long after: then the next may be asked.
    pub(super) patience: Duration,
}

/// Asks the first, and the next each time that one fails, or none has answered in time. The first answer wins, and what else is
/// under way is dropped; the failures, if there are no answers. `may_ask` gives leave to ask the next because of time alone: told whether it is
/// only late.
pub(super) async fn race<T, E, F: Future<Output = Result<T, E>>>(
    asks: impl IntoIterator<Item = F>,
    waits: Waits,
    mut may_ask: impl FnMut(bool) -> bool,
) -> Result<T, Vec<E>> {
    let (mut asks, mut failures) = (asks.into_iter().peekable(), Vec::new());
    let mut under_way: FuturesUnordered<F> = asks.next().into_iter().collect();
    let mut late = waits.late.filter(|late| *late < waits.patience);
    loop {
        let wait = late.unwrap_or(waits.patience);
        let ended = match asks.peek() {
            Some(_) => timeout(wait, under_way.next()).await,
            None => Ok(under_way.next().await),
        };
        let is_next_asked = match ended {
            Ok(Some(Ok(answer))) => return Ok(answer),
            Ok(Some(Err(failure))) => {
                failures.push(failure);
                true
            }
            Ok(None) => return Err(failures),
            Err(_) => may_ask(late.take().is_some()),
        };
        if is_next_asked {
            under_way.extend(asks.next());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::{Instant, sleep};

    const LATE: Duration = Duration::from_millis(10);
    const PATIENCE: Duration = Duration::from_millis(500);
    const NEVER: Duration = Duration::from_secs(3_600);

    /// What is to become of an ask: after so many milliseconds an answer, or a failure.
    type Fate = (u64, Result<&'static str, &'static str>);

    /// Races; also says how long it took, and how many were asked.
    async fn run(fates: &[Fate], may_hedge: bool) -> (Result<&'static str, Vec<&'static str>>, u128, usize) {
        let (began, asked) = (Instant::now(), AtomicUsize::new(0));
        let asks = fates.iter().map(|(ms, outcome)| {
            asked.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(Duration::from_millis(*ms)).await;
                *outcome
            }
        });
        let done = race(asks, Waits { late: Some(LATE), patience: PATIENCE }, |is_late| may_hedge || !is_late).await;
        (done, began.elapsed().as_millis(), asked.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_time_is_the_only_one_asked_for() {
        // One more is made ready than is begun.
        assert_eq!(run(&[(9, Ok("a")), (0, Ok("b")), (0, Ok("c"))], true).await, (Ok("a"), 9, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_one_is_asked_for_twice_and_the_first_answer_wins() {
        assert_eq!(run(&[(100, Ok("a")), (3, Ok("b")), (0, Ok("c"))], true).await.0, Ok("b"));
        assert_eq!(run(&[(12, Ok("a")), (30, Ok("b"))], true).await, (Ok("a"), 12, 2));
        let (done, ms, _) = run(&[(100, Ok("a")), (3, Ok("b"))], false).await;
        assert_eq!((done, ms), (Ok("a"), 100), "there was no leave to");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_passed_over_with_leave_or_without() {
        let never = NEVER.as_millis() as u64;
        let (done, ms, _) = run(&[(never, Ok("a")), (never, Ok("b")), (3, Ok("c"))], true).await;
        assert_eq!((done, ms), (Ok("c"), 10 + 500 + 3));
        let (done, ms, _) = run(&[(never, Ok("a")), (3, Ok("b"))], false).await;
        assert_eq!((done, ms), (Ok("b"), 10 + 500 + 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_followed_by_the_next_at_once() {
        assert_eq!(run(&[(1, Err("a")), (1, Err("b")), (1, Ok("c"))], false).await.0, Ok("c"));
        assert_eq!(run(&[(1, Err("a")), (1, Err("b"))], false).await, (Err(vec!["a", "b"]), 2, 2));
        let (done, ms, _) = run(&[(30, Err("a")), (100, Ok("b"))], true).await;
        assert_eq!((done, ms), (Ok("b"), 110), "what is under way goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_to_ask_is_no_answer() {
        assert_eq!(run(&[], true).await.0, Err(vec![]));
    }
}
