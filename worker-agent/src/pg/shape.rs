//! Carries out planned steps in a schema.

use crate::desired::plan::{SchemaPlan, Step};
use crate::pg::connect::PgError;
use crate::pg::ddl;
use crate::pg::patience::{self, SendAway};
use crate::pg::session::Session;

/// New tables in one transaction: few commits, and few locks held at once. A table comes with all its indexes or not at all.
const CREATED_PER_TRANSACTION: usize = 16;

/// Does the plan's steps in order. A step that changes what is there is a transaction of its own, and one that fails does not
/// keep back those after it; the first error is told.
pub async fn carry_out(session: &Session, plan: &SchemaPlan) -> Result<(), PgError> {
    let what = format!("shape the schema `{}`", plan.schema);
    let runs = plan.steps.chunk_by(|one, next| send_away(one).is_none() && send_away(next).is_none());
    let mut first_error = None;
    for steps in runs.flat_map(|run| run.chunks(CREATED_PER_TRANSACTION)) {
        let statements: String = steps.iter().map(|step| statement(&plan.schema, step)).collect();
        let table = ddl::qualified(&plan.schema, steps[0].table());
        let who = send_away(&steps[0]).unwrap_or(SendAway::Nobody);
        match patience::run(session, &what, &statements, &table, who).await {
            Ok(()) => {}
            Err(error) if error.is_lost() => return Err(error),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Who has to go when a step needs its table for itself; none for a step that makes something new.
fn send_away(step: &Step) -> Option<SendAway> {
    match step {
        Step::CreateSchema | Step::CreateTable(_) => None,
        Step::SetDurability { .. } => Some(SendAway::Agent),
        Step::ReplaceTable(_) | Step::DropTable(_) => Some(SendAway::AgentAndCoordinators),
    }
}

fn statement(schema: &str, step: &Step) -> String {
    match step {
        Step::CreateSchema => ddl::create_schema(schema),
        Step::CreateTable(collection) => ddl::create_table(schema, collection),
        Step::ReplaceTable(collection) => {
            ddl::drop_table(schema, &collection.name) + &ddl::create_table(schema, collection)
        }
        Step::SetDurability { collection, logged } => ddl::set_durability(schema, collection, *logged),
        Step::DropTable(collection) => ddl::drop_table(schema, collection),
    }
}
