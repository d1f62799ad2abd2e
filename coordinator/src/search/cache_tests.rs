//! What is kept, under which key, and for how long.
#![allow(clippy::unwrap_used)]

use super::super::request;
use super::*;

use atoll_core::access::Grant;
use atoll_core::catalog::{Catalog, Collection, Command, testing};
use atoll_core::freshness::Position;
use atoll_core::routing::RoutingTable;
use atoll_proto::collection::CollectionState;
use atoll_proto::search::SearchRequest;
use atoll_proto::{CatalogVersion, CollectionSettings, Generation, GroupId, Lsn, Namespace};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Two groups with two shards each; `version` is the catalog's.
fn target(version: u64) -> Target {
    let mut catalog = Catalog::default();
    catalog.apply(1, testing::init(4, 2));
    catalog.apply(2, Command::RegisterWorker(testing::worker("w2")));
    catalog.apply(3, Command::RegisterWorker(testing::worker("w3")));
    catalog.version = CatalogVersion(version);
    let settings = CollectionSettings { dimensions: Some(2), ..CollectionSettings::memory_entries() };
    let name = "c".parse().unwrap();
    let state = CollectionState::Active;
    let collection = Collection { name, settings, state, changed_at: CatalogVersion(4), settled: true };
    let view = Arc::new(RoutingTable::new(Arc::new(catalog), None));
    Target { view, name: collection.name.clone(), collection: collection.into(), grant: Grant::everything() }
}

fn search(target: &Target, changes: &Value) -> CheckedSearch {
    let mut body = json!({"vector": [1, 2], "k": 3, "namespaces": ["a"]});
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    let request: SearchRequest = serde_json::from_value(body).unwrap();
    request::check(&request, target).unwrap()
}

fn vector(numbers: [f32; 2]) -> Vector {
    Vector::new(numbers.to_vec()).unwrap()
}

fn answer() -> SearchAnswer {
    serde_json::from_value(json!({
        "hits": [{"namespace": "a", "key": "k", "score": 1.0, "distance": 0.0, "version": 1, "value": "v", "metadata": {"a": [1]},
                  "tags": ["t"], "vector": null}],
        "complete": true, "short_reason": null, "coverage": {"shards": {"total": 1, "ok": 1, "failed": 0}, "failures": []},
        "plan": {"profile": "balanced", "ef": null, "overfetch": 2.0, "candidates": 1,
                 "strategies": {"exact": 1, "hnsw": 0, "exact_fallback": 0}},
        "catalog_version": 5, "cache": "miss", "session": null,
        "timings": {"total_ms": 9.0, "fanout_ms": 8.0, "slowest_shard_ms": 7.0, "merge_ms": 0.1}, "explain": null}))
    .unwrap()
}

struct World {
    cache: AnswerCache,
    freshness: Freshness,
    metrics: Metrics,
    target: Target,
}

impl World {
    fn new(max_bytes: u64) -> Self {
        let (freshness, metrics) = (Freshness::new(Duration::from_secs(1)), Metrics::new());
        let settings = CacheSettings { max_bytes, ..CacheSettings::default() };
        let cache = AnswerCache::new(&settings, freshness.clone(), metrics.clone());
        Self { cache, freshness, metrics, target: target(5) }
    }

    fn asked(&self, changes: &Value) -> Option<Asked> {
        self.cache.asked(&self.target, &search(&self.target, changes), &vector([1.0, 2.0]))
    }

    fn keep(&self, changes: &Value, expires_at: Option<SystemTime>) {
        let asked = self.asked(changes).unwrap();
        let begun = self.cache.begin(&asked, &self.target, &search(&self.target, changes)).unwrap().unwrap();
        self.cache.keep(begun, &answer(), expires_at);
    }

    fn finds(&self, changes: &Value, session: &SessionToken) -> bool {
        self.cache.find(&self.asked(changes).unwrap(), session, Instant::now()).is_some()
    }
}

#[test]
fn a_hit_is_the_answer_with_times_of_its_own() {
    let world = World::new(1 << 20);
    let none = SessionToken::default();
    assert!(!world.finds(&json!({}), &none));
    world.keep(&json!({}), None);
    let hit = world.cache.find(&world.asked(&json!({})).unwrap(), &none, Instant::now()).unwrap();
    let SearchAnswer { cache, timings, .. } = &hit;
    assert_eq!((cache.as_str(), timings.fanout_ms, timings.slowest_shard_ms), ("hit", 0.0, 0.0));
    assert!(timings.total_ms < 9.0);
    assert_eq!(SearchAnswer { cache: "miss".to_owned(), timings: answer().timings, ..hit }, answer());
    assert_eq!((world.metrics.cache_hits.get(), world.metrics.cache_misses.get()), (1, 1));
    assert!((400..2_000).contains(&world.cache.bytes()), "{}", world.cache.bytes());
}

#[test]
fn a_write_or_an_expiry_ends_it() {
    let world = World::new(1 << 20);
    let none = SessionToken::default();
    world.keep(&json!({}), Some(SystemTime::now() + Duration::from_secs(60)));
    assert!(world.finds(&json!({}), &none));
    world.freshness.writing(MarkSet::of_write(&world.target.name, ["b"])).known();
    assert!(world.finds(&json!({}), &none), "another namespace");
    world.freshness.writing(MarkSet::of_write(&world.target.name, ["a"])).known();
    assert!(!world.finds(&json!({}), &none));
    world.keep(&json!({}), Some(SystemTime::now() - Duration::from_millis(1)));
    assert!(!world.finds(&json!({}), &none), "a hit has expired");

    // Of all and of a prefix, any write to the collection is one.
    for scope in [json!({"namespaces": null, "all": true}), json!({"namespaces": null, "prefix": "x"})] {
        world.keep(&scope, None);
        assert!(world.finds(&scope, &none));
        world.freshness.writing(MarkSet::of_write(&world.target.name, ["b"])).known();
        assert!(!world.finds(&scope, &none));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_old_when_it_comes() {
    let world = World::new(1 << 20);
    let (none, lasts) = (SessionToken::default(), Duration::from_secs(CacheSettings::default().ttl_seconds));
    let begin =
        || world.cache.begin(&world.asked(&json!({})).unwrap(), &world.target, &search(&world.target, &json!({})));
    let begun = begin().unwrap().unwrap();
    tokio::time::advance(lasts - Duration::from_secs(1)).await;
    world.cache.keep(begun, &answer(), None);
    assert!(world.finds(&json!({}), &none));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!world.finds(&json!({}), &none), "others may have written since its fan-out began");
}

#[test]
fn what_was_written_beside_a_search_keeps_its_answer_out() {
    let world = World::new(1 << 20);
    let plain = search(&world.target, &json!({}));
    let asked = world.asked(&json!({})).unwrap();
    let begun = world.cache.begin(&asked, &world.target, &plain).unwrap().unwrap();
    let writing = world.freshness.writing(MarkSet::of_write(&world.target.name, ["a"]));
    assert!(world.cache.begin(&asked, &world.target, &plain).unwrap().is_none());
    world.cache.keep(begun, &answer(), None);
    writing.known();
    assert!(!world.finds(&json!({}), &SessionToken::default()));
}

#[test]
fn a_session_sees_what_it_wrote_elsewhere() {
    let world = World::new(1 << 20);
    let route = world.target.route(&Namespace::parse("a").unwrap()).unwrap();
    let position = |lsn| Position { generation: Generation(1), lsn: Lsn(lsn) };
    let token = |group: GroupId, lsn| {
        let mut token = SessionToken::default();
        token.add(group, position(lsn), CatalogVersion(5));
        token
    };
    world.freshness.learn(route.group, position(100));
    world.keep(&json!({}), None);
    assert!(world.finds(&json!({}), &token(route.group, 99)));
    assert!(!world.finds(&json!({}), &token(route.group, 100)));
    let other = if route.group == GroupId(2) { GroupId(3) } else { GroupId(2) };
    assert!(world.finds(&json!({}), &token(other, 999)), "the search asks nothing of that group");
    let all = json!({"namespaces": null, "all": true});
    world.keep(&all, None);
    assert!(!world.finds(&all, &token(other, 1)), "here it does, and nothing is known of it");
}

#[test]
fn whatever_bears_on_the_answer_is_in_the_key() {
    let world = World::new(1 << 20);
    let key_of =
        |target: &Target, changes: &Value, numbers: [f32; 2]| key(target, &search(target, changes), &vector(numbers));
    let plain = key_of(&world.target, &json!({}), [1.0, 2.0]);
    let filter = |value: Value| json!({"filter": {"must": [{"field": "metadata.a", "eq": value}]}});
    let different = [
        json!({"k": 4}),
        json!({"namespaces": ["b"]}),
        json!({"namespaces": ["a", "b"]}),
        json!({"namespaces": null, "prefix": "a"}),
        json!({"namespaces": null, "all": true}),
        json!({"namespaces": null, "all": true, "exclude": ["a"]}),
        json!({"min_score": 0.5}),
        filter(json!(1)),
        filter(json!("1")),
        json!({"profile": "speed"}),
        json!({"target_recall": 0.9}),
        json!({"ef": 50}),
        json!({"exact": true}),
        json!({"overfetch": 3.0}),
        json!({"include": []}),
        json!({"group_by_namespace": 1}),
        json!({"vector": null, "like": {"namespace": "a", "key": "k"}}),
    ];
    let mut keys: BTreeSet<Key> = different.iter().map(|one| key_of(&world.target, one, [1.0, 2.0])).collect();
    keys.extend([plain, key_of(&world.target, &json!({}), [1.0, 2.5]), key_of(&target(6), &json!({}), [1.0, 2.0])]);
    assert_eq!(keys.len(), different.len() + 3);
    // These say how it is answered, not what.
    for same in
        [json!({"partial": {"allow": true}}), json!({"namespaces": ["a", "a"]}), json!({"consistency": "session"})]
    {
        assert_eq!(key_of(&world.target, &same, [1.0, 2.0]), plain, "{same}");
    }
}

#[test]
fn some_searches_never_meet_the_cache() {
    assert!(World::new(0).asked(&json!({})).is_none());
    let world = World::new(1 << 20);
    assert!(world.asked(&json!({"cache": "bypass"})).is_none());
    assert!(world.asked(&json!({"explain": true})).is_none());
    assert!(world.asked(&json!({})).is_some());
}

#[test]
fn what_others_than_primaries_answer_is_not_kept() {
    let world = World::new(1 << 20);
    let of = |consistency| CheckedSearch { consistency, ..search(&world.target, &json!({})) };
    let asked = |consistency| world.cache.asked(&world.target, &of(consistency), &vector([1.0, 2.0]));
    let may_keep = |asked: &Asked, consistency| world.cache.begin(asked, &world.target, &of(consistency)).unwrap();
    assert!(asked(Consistency::Session).is_none(), "it is to be told what it was shown");
    let eventual = asked(Consistency::Eventual).unwrap();
    assert!(may_keep(&eventual, Consistency::Eventual).is_none());
    world.keep(&json!({}), None);
    let found = world.cache.find(&eventual, &SessionToken::default(), Instant::now());
    assert!(found.is_some(), "the primary's will do");
}

#[test]
fn no_more_is_kept_than_fits() {
    let world = World::new(4_000);
    for k in 1..=100 {
        world.keep(&json!({"k": k}), None);
    }
    assert!(world.cache.bytes() <= 4_000, "{}", world.cache.bytes());
    let found = (1..=100).filter(|k| world.finds(&json!({"k": k}), &SessionToken::default())).count();
    assert!((2..=10).contains(&found), "{found}");
}

#[test]
fn what_an_answer_was_made_from_takes_memory_too() {
    let bytes = |namespaces: &[String]| {
        let world = World::new(1 << 20);
        world.keep(&json!({"namespaces": namespaces}), None);
        world.cache.bytes()
    };
    let many: Vec<String> = (0..1_000).map(|i| format!("n{i}")).collect();
    let (one, all) = (bytes(&many[..1]), bytes(&many));
    // A number and a count of each mark, of which a few are shared, and the position of another group.
    assert!((15_000..17_000).contains(&(all - one)), "{one} {all}");
}

#[test]
fn what_a_key_is_not_for_is_refused_before_an_answer_is_looked_for() {
    let namespaces = serde_json::from_value(json!(["a", "a:*"])).unwrap();
    let target = Target { grant: Grant::of(&namespaces), ..target(5) };
    let checked = |changes: Value| {
        let mut body = json!({"vector": [1, 2], "k": 3});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        request::check(&serde_json::from_value(body).unwrap(), &target)
    };
    for own in
        [json!({"namespaces": ["a", "a:1"]}), json!({"prefix": "a:"}), json!({"prefix": "a:1", "exclude": ["a:2"]})]
    {
        assert!(checked(own.clone()).is_ok(), "{own}");
    }
    for foreign in [
        json!({"all": true}),
        json!({"prefix": "a"}),
        json!({"namespaces": ["a", "b"]}),
        json!({"prefix": "a:", "exclude": ["b"]}),
        json!({"namespaces": ["a"], "vector": null, "like": {"namespace": "b", "key": "k"}}),
    ] {
        assert!(matches!(checked(foreign.clone()), Err(RequestError::Foreign)), "{foreign}");
    }
    // Who forgets that gets no further.
    let route = |name: &str| target.route(&Namespace::parse(name).unwrap()).is_ok();
    assert!(route("a:1") && !route("b"));
}
