//! Decides what a server lacks to be what it should. Takes values, returns values: what exists was read before, and what
//! is decided is done elsewhere.

use crate::pg::ddl::{graph, is_logged, next_vector_index, vector_index};
use crate::pg::existing::{Existing, ExistingTable};
use atoll_proto::agent::{DesiredCollection, DesiredState, IDEMPOTENCY_TABLE, REFERENCE_SCHEMA, shard_schema};
use atoll_proto::{CollectionName, Distribution};
use std::collections::{BTreeMap, BTreeSet};

/// Steps in one schema, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaPlan {
    /// The schema.
    pub schema: String,
    /// What to do there.
    pub steps: Vec<Step>,
}

/// A step. Each can be repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The schema, or its table of remembered outcomes, is missing.
    CreateSchema,
    /// A collection was dropped.
    DropTable(CollectionName),
    /// A collection has no table here.
    CreateTable(DesiredCollection),
    /// A collection's table survives crashes and should not, or the other way round.
    SetDurability {
        /// The collection.
        collection: CollectionName,
        /// Whether it should survive.
        logged: bool,
    },
}

/// A table of that name belongs to another collection, and nobody said that it may go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table `{schema}`.`{collection}` belongs to another collection that is not being dropped")]
pub struct Conflict {
    /// The schema.
    pub schema: String,
    /// The collection that should be there.
    pub collection: CollectionName,
}

/// A vector index to build anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Rebuild {
    /// The schema.
    pub schema: String,
    /// The collection.
    pub collection: DesiredCollection,
    /// What is left to do.
    pub work: RebuildWork,
}

/// How far a rebuild got before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildWork {
    /// Build, then swap. An earlier unfinished or outdated build goes first.
    BuildAndSwap,
    /// Built already: swap.
    Swap,
    /// The index in use is right; what is left of another build goes.
    DropLeftover,
}

/// What each schema lacks. Schemas that lack nothing do not appear; schemas of shards that the group does not own are
/// never touched.
pub fn plan(desired: &DesiredState, existing: &Existing) -> Result<Vec<SchemaPlan>, Conflict> {
    let mut plans = Vec::new();
    for (schema, distribution) in schemas(desired) {
        let tables = existing.schemas.get(&schema);
        let mut steps = Vec::new();
        if tables.is_none_or(|tables| !tables.contains_key(IDEMPOTENCY_TABLE)) {
            steps.push(Step::CreateSchema);
        }
        let empty = BTreeMap::new();
        let tables = tables.unwrap_or(&empty);
        let mut dropped = BTreeSet::new();
        for collection in &desired.dropping {
            let Some(table) = tables.get(collection.name.as_str()) else {
                continue;
            };
            // The name may be in use again: the table of a later collection stays.
            if table.collection.is_none_or(|id| id == collection.id) && dropped.insert(&collection.name) {
                steps.push(Step::DropTable(collection.name.clone()));
            }
        }
        for collection in of_distribution(desired, distribution) {
            match tables.get(collection.name.as_str()) {
                Some(table) if !dropped.contains(&collection.name) => {
                    if table.collection.is_some_and(|id| id != collection.id) {
                        return Err(Conflict { schema, collection: collection.name.clone() });
                    }
                    let logged = is_logged(collection.settings.durability);
                    if table.logged != logged {
                        steps.push(Step::SetDurability { collection: collection.name.clone(), logged });
                    }
                }
                Some(_) | None => steps.push(Step::CreateTable(collection.clone())),
            }
        }
        if !steps.is_empty() {
            plans.push(SchemaPlan { schema, steps });
        }
    }
    Ok(plans)
}

/// Vector indexes whose profile is not the one wanted, and what builds that did not finish left behind.
pub fn rebuilds(desired: &DesiredState, existing: &Existing) -> Vec<Rebuild> {
    let mut rebuilds = Vec::new();
    for (schema, distribution) in schemas(desired) {
        let Some(tables) = existing.schemas.get(&schema) else {
            continue;
        };
        for collection in of_distribution(desired, distribution) {
            let Some(table) = tables.get(collection.name.as_str()) else {
                continue;
            };
            if table.collection != Some(collection.id) || collection.settings.dimensions.is_none() {
                continue;
            }
            if let Some(work) = rebuild_work(collection, table) {
                rebuilds.push(Rebuild { schema: schema.clone(), collection: collection.clone(), work });
            }
        }
    }
    rebuilds
}

fn rebuild_work(collection: &DesiredCollection, table: &ExistingTable) -> Option<RebuildWork> {
    let wanted = graph(collection.settings.index.profile);
    let is_right =
        |name: &str| table.vector_indexes.get(name).is_some_and(|index| index.valid && index.graph == wanted);
    let next = next_vector_index(&collection.name);
    match (is_right(&vector_index(&collection.name)), is_right(&next)) {
        (true, _) if table.vector_indexes.contains_key(&next) => Some(RebuildWork::DropLeftover),
        (true, _) => None,
        (false, true) => Some(RebuildWork::Swap),
        (false, false) => Some(RebuildWork::BuildAndSwap),
    }
}

/// The schemas that should be, each with the distribution of the collections in it.
fn schemas(desired: &DesiredState) -> Vec<(String, Distribution)> {
    let mut schemas: Vec<_> =
        desired.shards.iter().map(|shard| (shard_schema(shard.shard, shard.generation), Distribution::Hash)).collect();
    let references = desired.collections.iter().chain(&desired.dropping);
    if references.into_iter().any(|collection| collection.settings.distribution == Distribution::Reference) {
        schemas.push((REFERENCE_SCHEMA.to_owned(), Distribution::Reference));
    }
    schemas
}

fn of_distribution(desired: &DesiredState, distribution: Distribution) -> impl Iterator<Item = &DesiredCollection> {
    desired.collections.iter().filter(move |collection| collection.settings.distribution == distribution)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pg::existing::ExistingVectorIndex;
    use atoll_proto::agent::DesiredShard;
    use atoll_proto::{
        CatalogVersion, CollectionId, CollectionSettings, Durability, Generation, GroupId, IndexProfile, ShardId,
    };

    fn collection(id: u64, name: &str) -> DesiredCollection {
        DesiredCollection {
            id: CollectionId(id),
            name: CollectionName::parse(name).unwrap(),
            settings: CollectionSettings::memory_entries(),
        }
    }

    fn desired(collections: Vec<DesiredCollection>, dropping: Vec<DesiredCollection>) -> DesiredState {
        DesiredState {
            cluster_id: "c".to_owned(),
            catalog_version: CatalogVersion(1),
            group: GroupId(1),
            shards: vec![DesiredShard { shard: ShardId(3), generation: Generation(2) }],
            collections,
            dropping,
        }
    }

    fn table(id: u64, name: &str, graph: (u32, u32)) -> (String, ExistingTable) {
        let index = ExistingVectorIndex { valid: true, graph };
        let vector_indexes = BTreeMap::from([(format!("{name}_hnsw"), index)]);
        (name.to_owned(), ExistingTable { collection: Some(CollectionId(id)), logged: true, vector_indexes })
    }

    fn existing(tables: Vec<(String, ExistingTable)>) -> Existing {
        let outcomes = ExistingTable { collection: None, logged: true, vector_indexes: BTreeMap::new() };
        let mut all = BTreeMap::from([(IDEMPOTENCY_TABLE.to_owned(), outcomes)]);
        all.extend(tables);
        Existing { schemas: BTreeMap::from([("s0003_g2".to_owned(), all)]) }
    }

    #[test]
    fn an_empty_server_gets_everything_and_a_right_one_nothing() {
        let wanted = desired(vec![collection(7, "a")], Vec::new());
        let plans = plan(&wanted, &Existing::default()).unwrap();
        let steps = vec![Step::CreateSchema, Step::CreateTable(collection(7, "a"))];
        assert_eq!(plans, [SchemaPlan { schema: "s0003_g2".to_owned(), steps }]);
        assert_eq!(plan(&wanted, &existing(vec![table(7, "a", (16, 64))])).unwrap(), []);
    }

    #[test]
    fn only_what_is_named_is_dropped() {
        let there = existing(vec![table(7, "a", (16, 64)), table(8, "b", (16, 64))]);
        let plans = plan(&desired(Vec::new(), vec![collection(7, "a")]), &there).unwrap();
        assert_eq!(plans[0].steps, [Step::DropTable(CollectionName::parse("a").unwrap())]);
    }

    #[test]
    fn a_name_used_again_is_told_apart_by_its_id() {
        let again = desired(vec![collection(9, "a")], vec![collection(7, "a")]);
        let steps = plan(&again, &existing(vec![table(7, "a", (16, 64))])).unwrap().remove(0).steps;
        assert_eq!(
            steps,
            [Step::DropTable(CollectionName::parse("a").unwrap()), Step::CreateTable(collection(9, "a"))]
        );
        assert_eq!(plan(&again, &existing(vec![table(9, "a", (16, 64))])).unwrap(), []);
        let missing_drop = desired(vec![collection(9, "a")], Vec::new());
        assert!(plan(&missing_drop, &existing(vec![table(7, "a", (16, 64))])).is_err());
    }

    #[test]
    fn changed_durability_changes_the_table() {
        let mut ephemeral = collection(7, "a");
        ephemeral.settings.durability = Durability::Ephemeral;
        let steps = plan(&desired(vec![ephemeral.clone()], Vec::new()), &existing(vec![table(7, "a", (16, 64))]));
        let expected = Step::SetDurability { collection: ephemeral.name, logged: false };
        assert_eq!(steps.unwrap()[0].steps, [expected]);
    }

    #[test]
    fn reference_collections_have_a_schema_of_their_own() {
        let mut reference = collection(7, "a");
        reference.settings.distribution = Distribution::Reference;
        let plans = plan(&desired(vec![reference.clone()], Vec::new()), &existing(Vec::new())).unwrap();
        assert_eq!(plans.len(), 1);
        assert_eq!(plans[0].schema, REFERENCE_SCHEMA);
        assert_eq!(plans[0].steps, [Step::CreateSchema, Step::CreateTable(reference)]);
    }

    #[test]
    fn a_changed_profile_rebuilds_from_where_it_got_to() {
        let mut dense = collection(7, "a");
        dense.settings.index.profile = IndexProfile::Accuracy;
        let wanted = desired(vec![dense], Vec::new());
        let work = |table| rebuilds(&wanted, &existing(vec![table])).first().map(|rebuild| rebuild.work);
        assert_eq!(work(table(7, "a", (32, 128))), None);
        assert_eq!(work(table(7, "a", (16, 64))), Some(RebuildWork::BuildAndSwap));
        let with_next = |used, valid| {
            let (name, mut table) = table(7, "a", used);
            let next = ExistingVectorIndex { valid, graph: (32, 128) };
            table.vector_indexes.insert("a_hnsw_new".to_owned(), next);
            (name, table)
        };
        assert_eq!(work(with_next((16, 64), true)), Some(RebuildWork::Swap));
        assert_eq!(work(with_next((16, 64), false)), Some(RebuildWork::BuildAndSwap));
        assert_eq!(work(with_next((32, 128), true)), Some(RebuildWork::DropLeftover));
        // A table of another collection is not ours to index.
        assert_eq!(work(table(8, "a", (16, 64))), None);
    }
}
