//! Makes the copy of a table slow, so that something can happen in the middle of it: a trigger on the target waits at each row for as
//! long as a file is there.

use crate::cluster::WorkerPlace;
use crate::poll;
use crate::sql;
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct SlowCopy {
    dsn: String,
    schema: String,
    file: PathBuf,
}

impl SlowCopy {
    /// From when the target has its tables on, and before it subscribes.
    pub(super) async fn begin(target: &WorkerPlace, schema: &str, file: PathBuf) -> Self {
        std::fs::write(&file, "").expect("the folder is ours");
        let statements = format!(
            "create function public.slow_copy() returns trigger language plpgsql security definer as
                 $$ begin
                     if (pg_stat_file('{}', true)).size is not null then perform pg_sleep(0.003); end if;
                     return new;
                 end $$;
             create trigger slow_copy before insert on {schema}.memory_entries
                 for each row execute function public.slow_copy();
             alter table {schema}.memory_entries enable always trigger slow_copy",
            file.display()
        );
        let dsn = target.owner_dsn();
        sql::rows(&dsn, &statements).await;
        Self { dsn, schema: schema.to_owned(), file }
    }

    /// Waits until some rows are copied, and some are not.
    pub(super) async fn wait_for_the_middle(&self) {
        let copied = format!(
            "select tuples_processed from pg_stat_progress_copy
              where relid = to_regclass('{}.memory_entries') and tuples_processed > 0",
            self.schema
        );
        poll::until("rows to be copied", PATIENCE, async || match sql::rows(&self.dsn, &copied).await.is_empty() {
            false => Ok(()),
            true => Err("none yet".to_owned()),
        })
        .await;
    }

    /// From now on copies are as fast as ever.
    pub(super) fn let_go(&self) {
        let _ = std::fs::remove_file(&self.file);
    }

    /// Removes the trigger. Again, if a build of a graph was in the way.
    pub(super) async fn end(self) {
        poll::until("the trigger to go", PATIENCE, async || {
            sql::try_rows(&self.dsn, "drop function if exists public.slow_copy() cascade").await
        })
        .await;
    }
}
