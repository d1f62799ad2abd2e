//! What was read from files, and can be read anew.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A value that was made from files. A clone is the same: what one of them reads anew all have.
pub struct Kept<T, E = crate::TlsError> {
    now: Arc<RwLock<Arc<T>>>,
    make: Arc<dyn Fn() -> Result<T, E> + Send + Sync>,
}

impl<T, E> Kept<T, E> {
    /// Makes the value for the first time.
    pub fn new(make: impl Fn() -> Result<T, E> + Send + Sync + 'static) -> Result<Self, E> {
        let first = make()?;
        Ok(Self { now: Arc::new(RwLock::new(Arc::new(first))), make: Arc::new(make) })
    }

    /// The value as it was made last.
    pub fn now(&self) -> Arc<T> {
        // It is replaced whole, so a panic leaves nothing half done.
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes it anew. If that fails it stays as it is.
    pub fn renew(&self) -> Result<(), E> {
        let made = Arc::new((self.make)()?);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = made;
        Ok(())
    }
}

impl<T, E> Clone for Kept<T, E> {
    fn clone(&self) -> Self {
        Self { now: Arc::clone(&self.now), make: Arc::clone(&self.make) }
    }
}

impl<T, E> fmt::Debug for Kept<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept(…)")
    }
}

/// Logs what became of reading `what` anew.
pub fn tell(what: &str, renewed: Result<(), impl Error + 'static>) {
    match renewed {
        Ok(()) => tracing::info!(what, "read anew"),
        Err(error) => {
            let error = &error as &dyn Error;
            tracing::error!(what, error, "can't be read anew: what was read before stays in use");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicI32, Ordering};

    #[test]
    fn what_cannot_be_made_anew_stays_for_all_who_have_it() {
        let source = Arc::new(AtomicI32::new(1));
        let read = Arc::clone(&source);
        let kept = Kept::new(move || match read.load(Ordering::Relaxed) {
            0 => Err("broken"),
            good => Ok(good),
        });
        let kept = kept.unwrap();
        let other = kept.clone();
        source.store(2, Ordering::Relaxed);
        kept.renew().unwrap();
        assert_eq!(*other.now(), 2);
        source.store(0, Ordering::Relaxed);
        assert_eq!(kept.renew(), Err("broken"));
        assert_eq!(*other.now(), 2);
    }
}
