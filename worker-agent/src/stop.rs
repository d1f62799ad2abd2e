//! How parts are told to stop.

use tokio::sync::watch;

/// Tells all holders of its [`Stop`] to stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Hears that it should stop.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A pair; nobody was told yet.
pub fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Tells them.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Whether it was told.
    pub fn is_told(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is told, or until nobody is left who could. Cancel-safe.
    pub async fn told(&mut self) {
        // An error means that the sender is gone, which is the end as well.
        let _ = self.0.wait_for(|told| *told).await;
    }
}
