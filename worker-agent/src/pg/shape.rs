//! Carries out planned steps in a schema.

use crate::desired::plan::{SchemaPlan, Step};
use crate::pg::connect::PgError;
use crate::pg::ddl;
use tokio_postgres::Client;

/// Steps in one transaction: few commits, and few locks held at once. A table comes with all its indexes or not at all.
const STEPS_PER_TRANSACTION: usize = 16;

/// Does the plan's steps in order.
pub async fn carry_out(client: &mut Client, plan: &SchemaPlan) -> Result<(), PgError> {
    for steps in plan.steps.chunks(STEPS_PER_TRANSACTION) {
        let text: String = steps.iter().map(|step| statement(&plan.schema, step)).collect();
        let what = || format!("shape the schema `{}`", plan.schema);
        let transaction = client.transaction().await.map_err(PgError::of(what()))?;
        transaction.batch_execute(&text).await.map_err(PgError::of(what()))?;
        transaction.commit().await.map_err(PgError::of(what()))?;
    }
    Ok(())
}

fn statement(schema: &str, step: &Step) -> String {
    match step {
        Step::CreateSchema => ddl::create_schema(schema),
        Step::DropTable(collection) => ddl::drop_table(schema, collection),
        Step::CreateTable(collection) => ddl::create_table(schema, collection),
        Step::SetDurability { collection, logged } => ddl::set_durability(schema, collection, *logged),
    }
}
