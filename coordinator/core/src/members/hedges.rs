//! How many reads may be asked for twice.

/// Reads that pay for one that is asked for twice.
const READS_A_HEDGE: u32 = 10;
/// Hedges that may be saved up: a member that stops answering meets all reads under way at once.
const SAVED_MAX: u32 = 20;

/// What is left for asking twice. Late answers of a server with too much to do are no reason to ask all that of another one too.
#[derive(Debug, Clone, Default)]
pub struct Hedges {
    /// In parts of a hedge: so many as reads pay for one.
    saved: u32,
}

impl Hedges {
    /// A read began.
    pub fn earn(&mut self) {
        self.saved = (self.saved + 1).min(SAVED_MAX * READS_A_HEDGE);
    }

    /// Whether a read that is late may be asked for once more. It is taken to be.
    pub fn take(&mut self) -> bool {
        let enough = self.saved >= READS_A_HEDGE;
        if enough {
            self.saved -= READS_A_HEDGE;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_read_in_ten_is_asked_for_twice_at_most() {
        let mut hedges = Hedges::default();
        assert!(!hedges.take(), "nothing was earned yet");
        let mut taken = 0;
        for _ in 0..1_000 {
            hedges.earn();
            taken += u32::from(hedges.take());
        }
        assert_eq!(taken, 100);
    }

    #[test]
    fn what_is_saved_up_has_an_end() {
        let mut hedges = Hedges::default();
        (0..100_000).for_each(|_| hedges.earn());
        let taken = (0..1_000).filter(|_| hedges.take()).count();
        assert_eq!(taken, SAVED_MAX as usize);
    }
}
