//! Records that a test holds back, so that a leader dies between two of them. In a release build nothing of it is there: only debug
//! builds look, and only where `ATOLL_PAUSE_DIR` names a folder.

use atoll_proto::moves::MovePhase;
use std::path::PathBuf;
use std::time::Duration;

/// Names the folder in which a test puts a file for each step that it holds.
const FOLDER: &str = "ATOLL_PAUSE_DIR";
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Before the beginning of a phase is recorded: waits while the folder holds the file, such as `record-switching`, and says by another,
/// `….reached`, that it does.
pub(super) async fn before_record(phase: MovePhase) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let step = format!("record-{phase}");
    while folder.join(&step).exists() {
        // A test that is not told fails by itself.
        let _ = std::fs::write(folder.join(format!("{step}.reached")), "");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
