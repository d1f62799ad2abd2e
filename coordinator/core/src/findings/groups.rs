//! What is wrong with a group that has standbys: who could be lost next, and what that would mean.

use super::{KnownGroup, KnownMember};
use atoll_proto::finding::{Finding, FindingCode, Severity};

/// All there is to say of a group. Of workers that are down it is said elsewhere that they are.
pub(super) fn of_a_group(group: &KnownGroup, found: &mut Vec<Finding>) {
    let KnownGroup { name, has_primary, copies, members } = group;
    let voters = members.iter().filter(|member| member.in_sync);
    let down: Vec<&str> = voters.clone().filter(|member| !member.up).map(|member| member.name.as_str()).collect();
    // One that was put back to an earlier state answers for nothing.
    let up = voters.clone().filter(|member| member.up && !member.restored).count();
    let (voters, copies) = (voters.count(), *copies as usize);
    let of_the_group = |severity, code, detail: String, action: String| {
        let subject = format!("group {name}");
        Finding { severity, code, subject, detail, action }
    };
    if !has_primary {
        let needed = if voters < copies { voters } else { voters - copies + 1 };
        let action = if up >= needed {
            "another takes over by itself within seconds; if it stays so, see the leader's log".to_owned()
        } else if down.is_empty() {
            format!(
                "{needed} of those in sync have to answer for what they confirmed before one may take over, and {up} do. Put back the disks \
                 that they had last; if these are lost: atoll group accept-loss --help"
            )
        } else {
            format!(
                "start {}: {needed} of those in sync have to answer before one may take over, {up} do. If they never come back: \
                 atoll group accept-loss --help",
                down.join(" or ")
            )
        };
        let detail = format!("group {name} has no primary: nothing is written there");
        found.push(of_the_group(Severity::Error, FindingCode::NoPrimary, detail, action));
    } else if up < copies {
        let detail = format!(
            "each write to group {name} has to be on {copies} workers, and {up} of those in sync are up: writes are not acknowledged"
        );
        let action = "start those that are down; if their disks are lost: atoll group accept-loss --help".to_owned();
        found.push(of_the_group(Severity::Error, FindingCode::WritesWait, detail, action));
    } else if up == copies && up < members.len() {
        let detail = format!(
            "group {name} has {up} of {} workers in sync: one more that is lost stops its writes",
            members.len()
        );
        let action = "bring the others back (atoll group list), before anything else is restarted".to_owned();
        found.push(of_the_group(Severity::Warning, FindingCode::GroupShort, detail, action));
    }
    for KnownMember { name: worker, .. } in members.iter().filter(|member| member.restored) {
        found.push(Finding {
            severity: Severity::Warning,
            code: FindingCode::DiskRestored,
            subject: format!("worker {worker}"),
            detail: format!(
                "the data of worker {worker} of group {name} was put back to an earlier state and lacks what it has confirmed since: it \
                 counts for nothing"
            ),
            action: "it is copied anew by itself as soon as another worker is the primary (atoll group list)".to_owned(),
        });
    }
    for member in members.iter().filter(|member| member.up && !member.in_sync && !member.restored) {
        let worker = &member.name;
        found.push(Finding {
            severity: Severity::Warning,
            code: FindingCode::StandbyNotInSync,
            subject: format!("worker {worker}"),
            detail: format!("worker {worker} of group {name} is up and not in sync: it could not take over"),
            action: "a new one is being copied, one that was away catches up (atoll group list); if it stays so, see its agent's log"
                .to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members of a group of three, two of which have to hold a write: `-` is down, `<` was put back, capitals are in sync.
    fn found(has_primary: bool, members: [&str; 3]) -> Vec<(FindingCode, String)> {
        let member = |text: &&str| {
            let name = text.trim_start_matches(['-', '<']);
            let in_sync = name.chars().all(char::is_uppercase);
            let (up, restored) = (!text.starts_with('-'), text.starts_with('<'));
            KnownMember { name: name.to_owned(), in_sync, up, restored }
        };
        let members = members.iter().map(member).collect();
        let mut found = Vec::new();
        of_a_group(&KnownGroup { name: "g".to_owned(), has_primary, copies: 2, members }, &mut found);
        found.into_iter().map(|finding| (finding.code, finding.action)).collect()
    }

    fn codes(has_primary: bool, members: [&str; 3]) -> Vec<FindingCode> {
        found(has_primary, members).into_iter().map(|(code, _)| code).collect()
    }

    #[test]
    fn a_group_that_is_whole_is_well() {
        assert_eq!(codes(true, ["A", "B", "C"]), []);
    }

    #[test]
    fn a_group_that_cannot_lose_another_is_told_before_it_does() {
        assert_eq!(codes(true, ["A", "B", "-C"]), [FindingCode::GroupShort]);
        assert_eq!(codes(true, ["A", "B", "-c"]), [FindingCode::GroupShort]);
        assert_eq!(codes(true, ["A", "B", "c"]), [FindingCode::GroupShort, FindingCode::StandbyNotInSync]);
        assert_eq!(codes(true, ["A", "-B", "-C"]), [FindingCode::WritesWait]);
        assert_eq!(codes(true, ["A", "b", "c"])[0], FindingCode::WritesWait);
    }

    #[test]
    fn without_a_primary_it_is_told_whether_one_comes_by_itself() {
        let first = |members| found(false, members).remove(0);
        assert!(matches!(first(["-A", "B", "C"]), (FindingCode::NoPrimary, action) if action.contains("by itself")));
        let (code, action) = first(["-A", "B", "-C"]);
        assert_eq!(code, FindingCode::NoPrimary);
        assert!(
            action.starts_with("start A or C: 2 of those in sync have to answer before one may take over, 1 do."),
            "{action}"
        );
        assert!(matches!(first(["-A", "B", "c"]), (FindingCode::NoPrimary, action) if action.contains("by itself")));
        assert!(matches!(first(["-A", "<B", "C"]), (FindingCode::NoPrimary, action) if action.starts_with("start A")));
        assert!(matches!(first(["<A", "<B", "C"]), (FindingCode::NoPrimary, action) if action.contains("Put back")));
    }

    #[test]
    fn data_that_was_put_back_is_told_of_and_counts_for_nothing() {
        assert_eq!(codes(true, ["A", "B", "<c"]), [FindingCode::GroupShort, FindingCode::DiskRestored]);
        assert_eq!(codes(true, ["A", "<B", "-C"]), [FindingCode::WritesWait, FindingCode::DiskRestored]);
    }
}
