//! What operators may have done with a group: a planned switchover, and going on with one disk for good, whatever it lacks. Decided on what
//! a coordinator heard of the members within the last seconds. The catalog decides once more, on the record; what was not known costs a
//! failover that would not have been, and loses nothing that was not agreed to.

use super::change::Change;
use super::step::is_primary;
use atoll_proto::WorkerId;
use atoll_proto::group::{Disk, GroupRecord, MemberSeen, Phase, Report, Server};
use std::collections::BTreeMap;

/// Who has more than this to replay would keep writers waiting, in bytes.
pub const BEHIND_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What each member said lately; nobody is here who did not answer.
pub type Lately = BTreeMap<WorkerId, MemberSeen>;

/// Why it is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotByHand {
    /// Another primary is being looked for already.
    Changing(Phase),
    /// It is no worker of the group.
    NoMember(WorkerId),
    /// It is the primary.
    IsPrimary(WorkerId),
    /// It may lack acknowledged writes.
    NotInSync(WorkerId),
    /// It does not receive from the primary, as far as both say.
    NotFollowing(WorkerId),
    /// It has so much to replay yet, in bytes.
    Behind(WorkerId, u64),
    /// No standby could take over.
    NobodyFollows,
    /// The primary does not say that it serves: if it is lost, the leader replaces it.
    PrimaryLost(WorkerId),
    /// This primary is there, and has every acknowledged write.
    PrimaryThere(WorkerId),
    /// Enough voters answer to go on.
    EnoughAnswer,
    /// It does not answer, or its data is half.
    NotUsable(WorkerId),
    /// This one has more.
    HasLess(WorkerId),
}

/// The switchover to `to`, else to the standby that has the least to replay.
pub fn switchover(record: &GroupRecord, lately: &Lately, to: Option<WorkerId>) -> Result<Change, NotByHand> {
    match record.phase {
        Phase::Steady => {}
        phase @ (Phase::HandingOver { .. } | Phase::Fencing { .. } | Phase::Promoting { .. }) => {
            return Err(NotByHand::Changing(phase));
        }
    }
    match to {
        Some(to) if !record.workers.contains(&to) => return Err(NotByHand::NoMember(to)),
        Some(to) if to == record.primary.worker => return Err(NotByHand::IsPrimary(to)),
        Some(_) | None => {}
    }
    let lost = NotByHand::PrimaryLost(record.primary.worker);
    let primary = lately.get(&record.primary.worker).filter(|seen| serves(record, &seen.report)).ok_or(lost)?;
    let behind = |disk: &Disk| {
        let report = &lately.get(&disk.worker)?.report;
        let both_say_so = report.server == Server::Following { worker: record.primary.worker }
            && report.disk == *disk
            && primary.report.streaming.contains(disk);
        both_say_so.then(|| primary.lags.get(&disk.worker).map_or(u64::MAX, |lag| lag.bytes))
    };
    let (disk, bytes) = match to {
        Some(to) => {
            let voter = record.voters.iter().find(|disk| disk.worker == to).ok_or(NotByHand::NotInSync(to))?;
            (*voter, behind(voter).ok_or(NotByHand::NotFollowing(to))?)
        }
        None => {
            let able = record.voting_standbys().filter_map(|disk| Some((disk, behind(&disk)?)));
            able.min_by_key(|(disk, bytes)| (*bytes, *disk)).ok_or(NotByHand::NobodyFollows)?
        }
    };
    match bytes <= BEHIND_BYTES_MAX {
        true => Ok(Change::HandOver { to: disk }),
        false => Err(NotByHand::Behind(disk.worker, bytes)),
    }
}

/// Going on with what `survivor` has, where nobody can find out any more who has every acknowledged write, or too few are left to acknowledge
/// one.
pub fn acceptance(record: &GroupRecord, lately: &Lately, survivor: WorkerId) -> Result<Change, NotByHand> {
    if !record.workers.contains(&survivor) {
        return Err(NotByHand::NoMember(survivor));
    }
    let usable = lately.values().map(|seen| &seen.report).filter(|report| is_usable(report));
    let usable: BTreeMap<Disk, &Report> = usable.map(|report| (report.disk, report)).collect();
    let would_answer = |disk: &Disk| usable.get(disk).is_some_and(|report| !report.restored);
    let has_primary = record.phase == Phase::Steady && would_answer(&record.primary);
    if has_primary && survivor != record.primary.worker {
        return Err(NotByHand::PrimaryThere(record.primary.worker));
    }
    // Of a primary that is left alone no write is acknowledged until others come, and these may still be voters and gone for good.
    let needed = if has_primary { record.copies as usize } else { record.answers_needed() };
    if record.voters.iter().filter(|disk| would_answer(disk)).count() >= needed {
        return Err(NotByHand::EnoughAnswer);
    }
    let found = usable.iter().find(|(disk, _)| disk.worker == survivor);
    let (disk, report) = found.ok_or(NotByHand::NotUsable(survivor))?;
    // Also of those that were restored: theirs is less than it was, and may be more than all others have.
    let further = usable.iter().filter(|(_, other)| other.position > report.position);
    let further = further.max_by_key(|(_, other)| other.position);
    match further {
        Some((better, _)) => Err(NotByHand::HasLess(better.worker)),
        None => Ok(Change::AcceptLoss { survivor: *disk }),
    }
}

/// Whether it says that it is the primary of the record's generation.
pub fn serves(record: &GroupRecord, report: &Report) -> bool {
    report.disk == record.primary && is_primary(record, report)
}

fn is_usable(report: &Report) -> bool {
    match report.server {
        Server::Stopped { .. } | Server::Detached | Server::Following { .. } | Server::Primary => true,
        Server::Unusable { .. } => false,
    }
}

#[cfg(test)]
#[path = "by_hand_tests.rs"]
mod tests;
