//! Waiting for a condition: until it holds, or until patience ends and the last status is told.

use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until `look` gives something. What it says while it does not is told when patience ends.
pub async fn until<T>(what: &str, patience: Duration, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(what, patience, look).await.unwrap_or_else(|waited| panic!("{waited}"))
}

/// The same, for who goes on without it: the error says what was waited for, and what was seen last.
pub async fn within<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(status) if Instant::now() >= deadline => {
                return Err(format!("waited {} s for {what}; last seen: {status}", patience.as_secs_f32()));
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
