//! Steps that a test holds, so that something dies in the middle of them. In a release build nothing of it is there: only debug builds
//! look, and only where `ATOLL_PAUSE_DIR` names a folder.

use atoll_proto::moves::MoveWork;
use std::path::PathBuf;
use std::time::Duration;

/// Names the folder in which a test puts a file for each step that it holds.
const FOLDER: &str = "ATOLL_PAUSE_DIR";
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Before an order is carried out: the file is `before-fence`.
pub async fn before(work: MoveWork) {
    let_order_through("before", work).await;
}

/// When an order is carried out, before that is told: the file is `after-fence`.
pub async fn after(work: MoveWork) {
    let_order_through("after", work).await;
}

async fn let_order_through(when: &str, work: MoveWork) {
    if cfg!(debug_assertions) {
        let name = serde_json::to_value(work).unwrap_or_default();
        let_through(&format!("{when}-{}", name["do"].as_str().unwrap_or_default())).await;
    }
}

/// Waits while the folder holds a file of the step's name, and says by another, `….reached`, that it does.
pub async fn let_through(step: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    while folder.join(step).exists() {
        // A test that is not told fails by itself.
        let _ = std::fs::write(folder.join(format!("{step}.reached")), "");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
