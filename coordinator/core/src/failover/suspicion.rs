//! When a primary is suspected, by all that is known of it. A false suspicion costs a second of writes and loses nothing, so what counts
//! is to be quick without being nervous.

/// The agent says that its server is down, in milliseconds: more than once. It starts one that died after 250, which then takes some time to recover.
const DOWN_MS: u64 = 50;
/// The host says that neither runs, in milliseconds.
const REFUSED_MS: u64 = 200;
/// The server was not seen by its agent, and others miss it too, in milliseconds.
const MISSED_MS: u64 = 1_500;
/// The server was not seen by its agent, whatever others say, in milliseconds. After the lease, so that a primary that is cut off has stopped
/// by itself.
const SILENT_MS: u64 = 3_000;
/// The agent says that the server runs, and nobody else can reach it, in milliseconds.
const UNREACHABLE_MS: u64 = 2_500;

/// What a primary's agent last said of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It serves at the record's generation.
    Serves,
    /// It does not, for so long by the leader's clock, in milliseconds.
    Down {
        /// For how long.
        for_ms: u64,
    },
}

/// What is known of a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// What its agent said last; none while this leader has heard nothing.
    pub word: Option<Word>,
    /// How long ago its agent saw the server, or this leader began to listen, in milliseconds. It grows where the agent says nothing, and
    /// where it can't ask its server.
    pub silent_ms: u64,
    /// For how long the leader has got no answer from the server itself, in milliseconds; 0 where it answers, or was not asked.
    pub failing_ms: u64,
    /// For how long the host has refused connections to the server, in milliseconds; 0 where it does not. It is part of the time above.
    pub refused_ms: u64,
    /// Standbys that have no connection to it.
    pub standbys_cut: u32,
    /// Standbys that say anything.
    pub standbys_heard: u32,
}

/// Why a primary is suspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Its agent says so; or its agent is gone, and the host says so.
    Down,
    /// Its agent does not see it, and either the leader or all standbys have lost it.
    Missed,
    /// Its agent does not see it, or says nothing.
    Silent,
    /// Its agent says that it runs, but neither the leader nor standbys reach it.
    Unreachable,
}

/// Why the primary is suspected; none while it is not.
pub fn suspicion(evidence: &Evidence) -> Option<Suspicion> {
    let Evidence { word, silent_ms, failing_ms, refused_ms, standbys_cut, standbys_heard } = *evidence;
    let all_cut = standbys_heard > 0 && standbys_cut == standbys_heard;
    if silent_ms >= SILENT_MS {
        return Some(Suspicion::Silent);
    }
    if silent_ms >= MISSED_MS && (failing_ms >= MISSED_MS || all_cut) {
        return Some(Suspicion::Missed);
    }
    if silent_ms >= REFUSED_MS && refused_ms >= REFUSED_MS {
        return Some(Suspicion::Down);
    }
    match word {
        Some(Word::Down { for_ms }) if for_ms >= DOWN_MS => Some(Suspicion::Down),
        // A server that standbys reach goes on: what the leader misses then is its own network.
        Some(Word::Serves) if failing_ms >= UNREACHABLE_MS && all_cut => Some(Suspicion::Unreachable),
        Some(Word::Serves | Word::Down { .. }) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Evidence = Evidence {
        word: Some(Word::Serves),
        silent_ms: 400,
        failing_ms: 0,
        refused_ms: 0,
        standbys_cut: 0,
        standbys_heard: 2,
    };

    #[test]
    fn each_threshold_is_where_it_says() {
        let down = |for_ms| Evidence { word: Some(Word::Down { for_ms }), ..WELL };
        let silent = |silent_ms| Evidence { silent_ms, ..WELL };
        let failing = |silent_ms, failing_ms| Evidence { silent_ms, failing_ms, ..WELL };
        let refused = |silent_ms, refused_ms| Evidence { silent_ms, failing_ms: refused_ms, refused_ms, ..WELL };
        let cut = |silent_ms, standbys_cut| Evidence { silent_ms, standbys_cut, ..WELL };
        for (evidence, expected) in [
            (WELL, None),
            (down(49), None),
            (down(50), Some(Suspicion::Down)),
            (silent(2_999), None),
            (silent(3_000), Some(Suspicion::Silent)),
            (refused(200, 199), None),
            (refused(199, 200), None),
            (refused(200, 200), Some(Suspicion::Down)),
            (failing(1_499, 1_499), None),
            (failing(1_500, 1_499), None),
            (failing(1_499, 1_500), None),
            (failing(1_500, 1_500), Some(Suspicion::Missed)),
            (cut(1_500, 1), None),
            (cut(1_500, 2), Some(Suspicion::Missed)),
            (cut(400, 2), None),
            (Evidence { failing_ms: 9_999, ..WELL }, None),
            (Evidence { failing_ms: 9_999, standbys_cut: 1, ..WELL }, None),
            (Evidence { failing_ms: 2_500, standbys_cut: 2, ..WELL }, Some(Suspicion::Unreachable)),
            (Evidence { failing_ms: 2_499, standbys_cut: 2, ..WELL }, None),
            (Evidence { failing_ms: 2_500, standbys_heard: 0, ..WELL }, None),
            (Evidence { word: None, ..WELL }, None),
        ] {
            assert_eq!(suspicion(&evidence), expected, "{evidence:?}");
        }
    }

    #[test]
    fn a_primary_that_is_cut_off_stops_before_silence_alone_is_held_against_it() {
        const { assert!(atoll_proto::group::LEASE_MS < SILENT_MS) };
    }
}
