//! Decides what a server lacks to be what it should. Takes values, returns values: what exists was read before, and what
//! is decided is done elsewhere.

use crate::pg::ddl::{comment, graph, is_logged, next_vector_index, vector_index};
use crate::pg::existing::{Existing, ExistingTable};
use atoll_proto::agent::{DesiredCollection, DesiredState, IDEMPOTENCY_TABLE, REFERENCE_SCHEMA, shard_schema};
use atoll_proto::{CollectionId, CollectionName, Distribution};
use std::collections::BTreeMap;

/// What a server lacks, and what is in the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Schemas that lack something.
    pub schemas: Vec<SchemaPlan>,
    /// Tables that are left alone although something should become of them. They hold nothing else up.
    pub conflicts: Vec<Conflict>,
}

/// Steps in one schema, in order: what is new first, what goes last, because it may have to wait for others.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaPlan {
    /// The schema.
    pub schema: String,
    /// What to do there.
    pub steps: Vec<Step>,
}

/// A step: done whole or not at all, and no longer planned once it is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The schema, or its table of remembered outcomes, is missing.
    CreateSchema,
    /// A collection has no table here.
    CreateTable(DesiredCollection),
    /// A collection was dropped, and another one has its name.
    ReplaceTable(DesiredCollection),
    /// A collection's table survives crashes and should not, or the other way round.
    SetDurability {
        /// The collection.
        collection: CollectionName,
        /// Whether it should survive.
        logged: bool,
    },
    /// A collection was dropped.
    DropTable(CollectionName),
}

impl Step {
    /// The table that it is about.
    pub fn table(&self) -> &str {
        match self {
            Self::CreateSchema => IDEMPOTENCY_TABLE,
            Self::CreateTable(collection) | Self::ReplaceTable(collection) => collection.name.as_str(),
            Self::SetDurability { collection, .. } | Self::DropTable(collection) => collection.as_str(),
        }
    }
}

/// A table that is left alone, and what somebody has to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Nobody said that it may go.
    #[error("table `{schema}`.`{collection}` belongs to another collection that is not being dropped")]
    OtherCollection {
        /// The schema.
        schema: String,
        /// The collection that should be there.
        collection: CollectionName,
    },
    /// It does not say whose it is: perhaps somebody made it by hand.
    #[error(
        "table `{schema}`.`{collection}` has no comment that says whose it is: rename or drop it; if it is the \
         collection's, set its comment to '{}'", comment(*id)
    )]
    Unclaimed {
        /// The schema.
        schema: String,
        /// The collection of its name.
        collection: CollectionName,
        /// The collection's id.
        id: CollectionId,
    },
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
    /// The collection wants no index over the whole table.
    DropAll,
}

/// What each schema lacks. Schemas that lack nothing do not appear; schemas of shards that the group does not own are
/// never touched.
pub fn plan(desired: &DesiredState, existing: &Existing) -> Plan {
    let empty = BTreeMap::new();
    let mut plan = Plan::default();
    for (schema, distribution) in schemas(desired) {
        let tables = existing.schemas.get(&schema).unwrap_or(&empty);
        let steps = steps(&schema, distribution, desired, tables, &mut plan.conflicts);
        if !steps.is_empty() {
            plan.schemas.push(SchemaPlan { schema, steps });
        }
    }
    plan
}

fn steps(
    schema: &str,
    distribution: Distribution,
    desired: &DesiredState,
    tables: &BTreeMap<String, ExistingTable>,
    conflicts: &mut Vec<Conflict>,
) -> Vec<Step> {
    let wanted = || of_distribution(&desired.collections, distribution);
    let unclaimed = |DesiredCollection { id, name, .. }: &DesiredCollection| Conflict::Unclaimed {
        schema: schema.to_owned(),
        collection: name.clone(),
        id: *id,
    };
    let mut new = Vec::new();
    let mut changed = Vec::new();
    if !tables.contains_key(IDEMPOTENCY_TABLE) {
        new.push(Step::CreateSchema);
    }
    for collection in wanted() {
        let Some(table) = tables.get(collection.name.as_str()) else {
            new.push(Step::CreateTable(collection.clone()));
            continue;
        };
        let logged = is_logged(collection.settings.durability);
        match table.collection {
            Some(id) if id == collection.id && table.logged == logged => {}
            Some(id) if id == collection.id => {
                changed.push(Step::SetDurability { collection: collection.name.clone(), logged });
            }
            Some(id) if desired.dropping.iter().any(|gone| gone.id == id) => {
                changed.push(Step::ReplaceTable(collection.clone()));
            }
            Some(_) => conflicts
                .push(Conflict::OtherCollection { schema: schema.to_owned(), collection: collection.name.clone() }),
            None => conflicts.push(unclaimed(collection)),
        }
    }
    for gone in of_distribution(&desired.dropping, distribution) {
        if wanted().any(|collection| collection.name == gone.name) {
            // The name is in use again: seen to above.
            continue;
        }
        match tables.get(gone.name.as_str()).map(|table| table.collection) {
            Some(Some(id)) if id == gone.id => changed.push(Step::DropTable(gone.name.clone())),
            Some(None) => conflicts.push(unclaimed(gone)),
            Some(Some(_)) | None => {}
        }
    }
    new.extend(changed);
    new
}

/// Indexes over whole tables that are not as wanted, and what builds that did not finish left behind.
pub fn rebuilds(desired: &DesiredState, existing: &Existing) -> Vec<Rebuild> {
    let mut rebuilds = Vec::new();
    for (schema, distribution) in schemas(desired) {
        let Some(tables) = existing.schemas.get(&schema) else {
            continue;
        };
        for collection in of_distribution(&desired.collections, distribution) {
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
    let (used, next) = (vector_index(&collection.name), next_vector_index(&collection.name));
    if !collection.settings.index.scope.has_shard_graph() {
        let is_there = [&used, &next].into_iter().any(|name| table.vector_indexes.contains_key(name));
        return is_there.then_some(RebuildWork::DropAll);
    }
    match (is_right(&used), is_right(&next)) {
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

fn of_distribution(
    collections: &[DesiredCollection],
    distribution: Distribution,
) -> impl Iterator<Item = &DesiredCollection> {
    collections.iter().filter(move |collection| collection.settings.distribution == distribution)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pg::existing::ExistingVectorIndex;
    use atoll_proto::agent::DesiredShard;
    use atoll_proto::{
        CatalogVersion, CollectionId, CollectionSettings, Durability, Generation, GroupId, IndexProfile, IndexScope,
        ShardId,
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
            moves: Vec::new(),
        }
    }

    fn table(id: u64, name: &str, graph: (u32, u32)) -> (String, ExistingTable) {
        let index = ExistingVectorIndex { valid: true, building: false, graph, namespace: None };
        let vector_indexes = BTreeMap::from([(format!("_{name}_hnsw"), index)]);
        (name.to_owned(), ExistingTable { collection: Some(CollectionId(id)), logged: true, vector_indexes })
    }

    fn existing(tables: Vec<(String, ExistingTable)>) -> Existing {
        let outcomes = ExistingTable { collection: None, logged: true, vector_indexes: BTreeMap::new() };
        let mut all = BTreeMap::from([(IDEMPOTENCY_TABLE.to_owned(), outcomes)]);
        all.extend(tables);
        Existing { schemas: BTreeMap::from([("s0003_g2".to_owned(), all)]) }
    }

    /// The steps in the only schema that lacks something; nothing may be in the way.
    fn only_steps(desired: &DesiredState, existing: &Existing) -> Vec<Step> {
        let Plan { mut schemas, conflicts } = plan(desired, existing);
        assert_eq!((schemas.len(), conflicts), (1, Vec::new()));
        schemas.remove(0).steps
    }

    fn name(text: &str) -> CollectionName {
        CollectionName::parse(text).unwrap()
    }

    #[test]
    fn an_empty_server_gets_everything_and_a_right_one_nothing() {
        let wanted = desired(vec![collection(7, "a")], Vec::new());
        let steps = vec![Step::CreateSchema, Step::CreateTable(collection(7, "a"))];
        let schemas = vec![SchemaPlan { schema: "s0003_g2".to_owned(), steps }];
        assert_eq!(plan(&wanted, &Existing::default()), Plan { schemas, conflicts: Vec::new() });
        assert_eq!(plan(&wanted, &existing(vec![table(7, "a", (16, 64))])), Plan::default());
    }

    #[test]
    fn only_what_is_named_is_dropped_and_after_what_is_new() {
        let there = existing(vec![table(7, "a", (16, 64)), table(8, "b", (16, 64))]);
        let wanted = desired(vec![collection(9, "c")], vec![collection(7, "a")]);
        assert_eq!(only_steps(&wanted, &there), [Step::CreateTable(collection(9, "c")), Step::DropTable(name("a"))]);
    }

    #[test]
    fn a_name_used_again_is_told_apart_by_its_id() {
        let again = desired(vec![collection(9, "a")], vec![collection(7, "a")]);
        let old = existing(vec![table(7, "a", (16, 64))]);
        assert_eq!(only_steps(&again, &old), [Step::ReplaceTable(collection(9, "a"))]);
        assert_eq!(plan(&again, &existing(vec![table(9, "a", (16, 64))])), Plan::default());
        let late = desired(Vec::new(), vec![collection(7, "a")]);
        assert_eq!(plan(&late, &existing(vec![table(9, "a", (16, 64))])), Plan::default());
    }

    #[test]
    fn what_belongs_to_others_is_left_alone_and_holds_nothing_up() {
        let missing_drop = desired(vec![collection(9, "a"), collection(10, "b")], Vec::new());
        let Plan { schemas, conflicts } = plan(&missing_drop, &existing(vec![table(7, "a", (16, 64))]));
        assert_eq!(schemas[0].steps, [Step::CreateTable(collection(10, "b"))]);
        assert!(matches!(&conflicts[..], [Conflict::OtherCollection { .. }]));

        let (by_hand, mut table) = table(7, "a", (16, 64));
        table.collection = None;
        let there = existing(vec![(by_hand, table)]);
        for wanted in [desired(vec![collection(7, "a")], Vec::new()), desired(Vec::new(), vec![collection(7, "a")])] {
            let Plan { schemas, conflicts } = plan(&wanted, &there);
            assert_eq!(schemas, []);
            assert!(conflicts[0].to_string().contains("set its comment to 'atoll collection 7'"), "{conflicts:?}");
        }
    }

    #[test]
    fn changed_durability_changes_the_table() {
        let mut ephemeral = collection(7, "a");
        ephemeral.settings.durability = Durability::Ephemeral;
        let steps = only_steps(&desired(vec![ephemeral], Vec::new()), &existing(vec![table(7, "a", (16, 64))]));
        assert_eq!(steps, [Step::SetDurability { collection: name("a"), logged: false }]);
    }

    #[test]
    fn reference_collections_have_a_schema_of_their_own() {
        let mut reference = collection(7, "a");
        reference.settings.distribution = Distribution::Reference;
        let schemas = plan(&desired(vec![reference.clone()], Vec::new()), &existing(Vec::new())).schemas;
        let steps = vec![Step::CreateSchema, Step::CreateTable(reference)];
        assert_eq!(schemas, [SchemaPlan { schema: REFERENCE_SCHEMA.to_owned(), steps }]);
    }

    #[test]
    fn a_changed_profile_rebuilds_from_where_it_got_to() {
        let mut dense = collection(7, "a");
        dense.settings.index.profile = IndexProfile::Accuracy;
        dense.settings.index.scope = IndexScope::Both;
        let wanted = desired(vec![dense], Vec::new());
        let work = |table| rebuilds(&wanted, &existing(vec![table])).first().map(|rebuild| rebuild.work);
        assert_eq!(work(table(7, "a", (32, 128))), None);
        assert_eq!(work(table(7, "a", (16, 64))), Some(RebuildWork::BuildAndSwap));
        let with_next = |used, valid| {
            let (name, mut table) = table(7, "a", used);
            let next = ExistingVectorIndex { valid, building: false, graph: (32, 128), namespace: None };
            table.vector_indexes.insert("_a_hnsw_new".to_owned(), next);
            (name, table)
        };
        assert_eq!(work(with_next((16, 64), true)), Some(RebuildWork::Swap));
        assert_eq!(work(with_next((16, 64), false)), Some(RebuildWork::BuildAndSwap));
        assert_eq!(work(with_next((32, 128), true)), Some(RebuildWork::DropLeftover));
        // A table of another collection is not ours to index.
        assert_eq!(work(table(8, "a", (16, 64))), None);
    }

    #[test]
    fn a_collection_without_shard_graphs_keeps_none() {
        let wanted = desired(vec![collection(7, "a")], Vec::new());
        let work = |there: &Existing| rebuilds(&wanted, there).first().map(|rebuild| rebuild.work);
        let (name, mut bare) = table(7, "a", (16, 64));
        assert_eq!(work(&existing(vec![(name.clone(), bare.clone())])), Some(RebuildWork::DropAll));
        bare.vector_indexes.clear();
        assert_eq!(work(&existing(vec![(name, bare)])), None);
    }
}
