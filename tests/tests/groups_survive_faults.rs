//! What a group with standbys is made of is killed or stopped under writers, a searcher and a session reader: another member takes over, all
//! is whole again without help, and no promise was broken, by the history of all they did. A sample; `group_faults` tries every fault.

use cluster_tests::group_faults::{Blow, GroupFault, GroupRange, Part, Victim};

const SAMPLE: [GroupFault; 6] = [
    GroupFault::Break(Victim::Primary(Part::Server), Blow::Kill),
    GroupFault::Break(Victim::Primary(Part::Host), Blow::Stop),
    GroupFault::Break(Victim::Standby(Part::Server), Blow::Stop),
    GroupFault::Break(Victim::Primary(Part::Agent), Blow::Kill),
    GroupFault::Break(Victim::LeaderAndPrimary, Blow::Kill),
    GroupFault::Unacknowledged,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_survive_faults() {
    let mut range = GroupRange::start("groups_survive_faults", false).await;
    let mut failed = Vec::new();
    for fault in SAMPLE {
        let trial = range.run(fault).await;
        println!("{trial}");
        if !trial.is_fine() {
            failed.push(trial.to_string());
        }
    }
    let found = range.look_again().await.unwrap_or_else(|waited| panic!("{waited}"));
    assert!(failed.is_empty() && found.is_empty(), "{failed:#?} {found:#?}");
    range.finish().await;
}
