//! What a move needs is killed or stopped in the middle of it, it is cancelled, its copy is altered: it ends without help, every
//! acknowledged write is there, and nothing is left behind. A sample; `move_faults` tries every moment.

use cluster_tests::faults::{Cell, Deed, Fault, Moment, Range, Victim};

const SAMPLE: [Cell; 7] = [
    broken(Moment::Copying, Victim::SourcePostgres, Fault::Kill),
    broken(Moment::Indexing, Victim::TargetAgent, Fault::Kill),
    broken(Moment::Locked, Victim::SourceAgent, Fault::Stop),
    broken(Moment::Retired, Victim::TargetPostgres, Fault::Kill),
    broken(Moment::BeforeSwitch, Victim::Leader, Fault::Kill),
    Cell { moment: Moment::TakenOver, deed: Deed::Cancel },
    Cell { moment: Moment::CatchingUp, deed: Deed::Meddle },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_survive_faults() {
    let mut range = Range::start("moves_survive_faults").await;
    for cell in SAMPLE {
        let told = range.run(cell).await;
        println!("{cell} {told}");
    }
    range.finish().await;
}

const fn broken(moment: Moment, victim: Victim, fault: Fault) -> Cell {
    Cell { moment, deed: Deed::Break(victim, fault) }
}
