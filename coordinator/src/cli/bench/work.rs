//! The requests of a scenario, made before the clock runs.

use super::connection::Request;
use super::floor::{Floor, Place, ShardSearch};
use super::operation::{Ask, Expected, Operation, Side};
use super::quality::Quality;
use super::queries::Query;
use super::scenario::Scenario;
use super::scratch::Scratch;
use super::seeded::{below, mixed, shuffled};
use super::stop::Stop;
use super::truth::{Found, Truth};
use crate::cli::client::{Client, Patience};
use crate::cli::error::CommandError;
use crate::cli::path;
use atoll_core::filter::Expr;
use atoll_proto::entry::{EntryId, EntryPage};
use atoll_proto::filter::Filter;
use atoll_proto::search::Consistency;
use atoll_proto::{CollectionName, EntryKey, Namespace, Vector};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Namespaces that a search of five has beside the query's own.
const OTHERS: usize = 4;
/// Exact searches that are under way at once while the truth is looked up.
const EXACT_AT_ONCE: usize = 2;
/// Namespaces that entries are read from, and entries of each.
const READ_NAMESPACES: usize = 64;
const READ_ENTRIES: u32 = 50;
/// Namespaces that single entries are written to, and keys in each: small ones, which have no graph.
const WRITE_NAMESPACES: u64 = 64;
const WRITE_KEYS: u64 = 64;

/// Where to search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Where {
    Namespaces(Vec<Namespace>),
    All,
}

/// The requests of a scenario.
pub(super) struct Work {
    parts: Vec<(u64, Source)>,
    /// Whether each operation can also be asked of the workers.
    pub(super) has_floor: bool,
}

enum Source {
    /// The same ones again and again.
    Ready(Vec<Arc<Operation>>),
    /// Each written anew.
    Upserts(Upserts),
}

impl Work {
    /// The operation at a place of the endless row that this scenario is.
    pub(super) fn operation(&self, number: u64, side: Side) -> Arc<Operation> {
        let mut roll = mixed(number) % 1_000;
        for (share, source) in &self.parts {
            if roll < *share {
                return match source {
                    Source::Ready(operations) => operations[number as usize % operations.len()].clone(),
                    Source::Upserts(upserts) => Arc::new(upserts.next(number, side)),
                };
            }
            roll -= share;
        }
        unreachable!("shares add up to a thousand")
    }
}

/// Makes the requests of scenarios.
pub(super) struct Builder<'a> {
    pub(super) client: &'a Client,
    pub(super) collection: &'a CollectionName,
    pub(super) queries: &'a [Query],
    /// Those that hold entries, in byte order.
    pub(super) namespaces: &'a [Namespace],
    pub(super) scratch: &'a Scratch,
    pub(super) stop: &'a Stop,
    pub(super) floor: Option<Floor>,
    pub(super) filter: Filter,
    /// The same, checked.
    pub(super) checked_filter: Arc<Expr>,
    pub(super) k: u32,
    pub(super) recall_queries: usize,
    pub(super) base64: bool,
    /// Of searches; the truth is always the primaries'.
    pub(super) consistency: Consistency,
    /// The truths of scenarios that were looked up already.
    pub(super) truths: HashMap<Scenario, Vec<Arc<Truth>>>,
    /// Upserts that were made so far: no two are the same.
    pub(super) written: Arc<AtomicU64>,
}

impl Builder<'_> {
    /// The requests of a scenario, for one measurement. With a floor it is learned from the coordinator how it asks the workers by
    /// now: that changes while it counts rows and learns which ef gives which recall.
    pub(super) async fn build(&mut self, scenario: Scenario, quality: Quality) -> Result<Work, CommandError> {
        let has_floor = self.floor.is_some() && scenario.has_floor();
        let mut parts = Vec::new();
        for (share, part) in scenario.parts() {
            let source = match part {
                Scenario::Get => Source::Ready(self.gets(has_floor).await?),
                Scenario::Upsert => Source::Upserts(self.upserts(has_floor).await?),
                Scenario::Own | Scenario::Five | Scenario::All | Scenario::Filtered => {
                    Source::Ready(self.searches(*part, quality, scenario.searches(), has_floor).await?)
                }
                Scenario::Bulk | Scenario::Mixed | Scenario::MixedReadWrite => {
                    unreachable!("a scenario is made of simple ones")
                }
            };
            parts.push((*share, source));
        }
        Ok(Work { parts, has_floor })
    }

    async fn searches(
        &mut self,
        scenario: Scenario,
        quality: Quality,
        with_truth: bool,
        with_floor: bool,
    ) -> Result<Vec<Arc<Operation>>, CommandError> {
        let truths = if with_truth { self.truths(scenario).await? } else { Vec::new() };
        let filter = (scenario == Scenario::Filtered).then(|| self.checked_filter.clone());
        let to = path::collection(self.collection, "/search");
        let mut learned: HashMap<Where, Vec<ShardSearch>> = HashMap::new();
        let mut operations = Vec::with_capacity(self.queries.len());
        for (i, query) in self.queries.iter().enumerate() {
            let at = self.place(scenario, query);
            let mut body = self.body(scenario, query, &at);
            quality.ask(&mut body);
            let mut asks = Vec::new();
            if with_floor && let Some(floor) = &mut self.floor {
                if self.stop.came() {
                    return Err(stopped());
                }
                // In a search of everything ef depends on the vector.
                if at == Where::All || !learned.contains_key(&at) {
                    let searches = floor.learn(self.client, &body, &at, filter.as_ref()).await?;
                    learned.insert(at.clone(), searches);
                }
                asks = learned[&at].iter().map(|search| search.ask(&query.vector)).collect();
            }
            body["consistency"] = json!(self.consistency);
            let truth = truths.get(i);
            operations.push(Arc::new(Operation {
                request: Request::json(Method::POST, &to, body.to_string()),
                asks,
                rows_min: truth.map_or(0, |truth| truth.hits()),
                expected: truth.map(|truth| Expected::new(truth.clone())),
            }));
        }
        Ok(operations)
    }

    /// The exact answers to the first queries.
    async fn truths(&mut self, scenario: Scenario) -> Result<Vec<Arc<Truth>>, CommandError> {
        if let Some(truths) = self.truths.get(&scenario) {
            return Ok(truths.clone());
        }
        let to = &path::collection(self.collection, "/search");
        let bodies = self.queries.iter().take(self.recall_queries).map(|query| {
            let mut body = self.body(scenario, query, &self.place(scenario, query));
            Quality::Exact.ask(&mut body);
            body["include"] = json!([]);
            body
        });
        let (client, stop) = (self.client, self.stop);
        let exact = |body: Value| async move {
            if stop.came() {
                return Err(stopped());
            }
            let found: Found = client.send(Method::POST, to, &[], &body, Patience::Long).await?.parse()?;
            Ok(Arc::new(Truth::new(found)))
        };
        let bodies: Vec<Value> = bodies.collect();
        let truths: Vec<Arc<Truth>> = stream::iter(bodies).map(exact).buffered(EXACT_AT_ONCE).try_collect().await?;
        self.truths.insert(scenario, truths.clone());
        Ok(truths)
    }

    fn body(&self, scenario: Scenario, query: &Query, at: &Where) -> Value {
        let mut body = json!({"vector": self.wire_vector(&query.vector), "k": self.k, "cache": "bypass"});
        match at {
            Where::Namespaces(namespaces) => body["namespaces"] = json!(namespaces),
            Where::All => body["all"] = json!(true),
        }
        if scenario == Scenario::Filtered {
            body["filter"] = json!(self.filter);
        }
        body
    }

    /// Numbers as most clients write them: each as the double that it is.
    fn wire_vector(&self, vector: &Vector) -> Value {
        if self.base64 { json!({"b64": vector.to_b64()}) } else { json!(vector) }
    }

    /// Where a query is searched for. A namespace has the same company each time, as a team has.
    fn place(&self, scenario: Scenario, query: &Query) -> Where {
        match scenario {
            Scenario::All => Where::All,
            Scenario::Five => {
                let own = &query.namespace;
                let mut namespaces = company(own, self.namespaces);
                namespaces.push(own.clone());
                Where::Namespaces(namespaces)
            }
            Scenario::Own
            | Scenario::Filtered
            | Scenario::Get
            | Scenario::Upsert
            | Scenario::Bulk
            | Scenario::Mixed
            | Scenario::MixedReadWrite => Where::Namespaces(vec![query.namespace.clone()]),
        }
    }

    async fn gets(&mut self, with_floor: bool) -> Result<Vec<Arc<Operation>>, CommandError> {
        let own: BTreeSet<&Namespace> = self.queries.iter().map(|query| &query.namespace).collect();
        let mut operations = Vec::new();
        for namespace in shuffled(own.into_iter().collect()).into_iter().take(READ_NAMESPACES) {
            let home = match &mut self.floor {
                Some(floor) if with_floor => Some(floor.home(self.client, namespace).await?),
                Some(_) | None => None,
            };
            let list = json!({"namespace": namespace, "limit": READ_ENTRIES, "include": []});
            let page: EntryPage =
                self.client.post(&path::collection(self.collection, "/entries/list"), &list).await?.parse()?;
            for entry in page.entries {
                let key = EntryKey::parse(&entry.key).map_err(|error| CommandError::failed(&error))?;
                let request = Request::get(&path::entry(self.collection, namespace, &key));
                let id = EntryId { namespace: namespace.clone(), key };
                let asks = home.iter().map(|home| home.get(id.clone())).collect();
                operations.push(Arc::new(Operation { request, asks, rows_min: 1, expected: None }));
            }
        }
        match operations.is_empty() {
            true => Err(CommandError::Failed("there are no entries to read".to_owned())),
            false => Ok(shuffled(operations)),
        }
    }

    async fn upserts(&mut self, with_floor: bool) -> Result<Upserts, CommandError> {
        let mut homes = Vec::new();
        for number in 0..WRITE_NAMESPACES {
            let namespace = self.scratch.namespace(number);
            let home = match &mut self.floor {
                Some(floor) if with_floor => Some(floor.home(self.client, &namespace).await?),
                Some(_) | None => None,
            };
            homes.push((namespace, home));
        }
        let queries =
            self.queries.iter().map(|query| (query.vector.clone(), self.wire_vector(&query.vector).to_string()));
        Ok(Upserts {
            collection: self.collection.clone(),
            homes,
            vectors: queries.collect(),
            written: self.written.clone(),
        })
    }
}

/// Single entries, each as never before: one that is there as given would not be written.
struct Upserts {
    collection: CollectionName,
    /// Namespaces and, for the floor, where they lie.
    homes: Vec<(Namespace, Option<Place>)>,
    /// Vectors, also as they go over the wire.
    vectors: Vec<(Vector, String)>,
    written: Arc<AtomicU64>,
}

impl Upserts {
    fn next(&self, number: u64, side: Side) -> Operation {
        let written = self.written.fetch_add(1, Ordering::Relaxed);
        let (namespace, home) = &self.homes[below(number, self.homes.len())];
        // Each side has its own keys: what one has inserted the other would only update.
        let name = format!("{}{}", if side == Side::Http { "h" } else { "s" }, mixed(number + 1) % WRITE_KEYS);
        let id = EntryId { namespace: namespace.clone(), key: EntryKey::parse(&name).expect("a letter and a number") };
        let value = format!("benchmark entry {written}");
        let (vector, wire_vector) = &self.vectors[written as usize % self.vectors.len()];
        let to = path::entry(&self.collection, &id.namespace, &id.key);
        let body = format!("{{\"value\":\"{value}\",\"vector\":{wire_vector}}}");
        let asks: Vec<Ask> = match (side, home) {
            (Side::Floor, Some(home)) => vec![home.upsert(id, value, vector.clone())],
            _ => Vec::new(),
        };
        Operation { request: Request::json(Method::PUT, &to, body), asks, rows_min: 1, expected: None }
    }
}

/// Four other namespaces, the same for a namespace each time.
fn company(own: &Namespace, namespaces: &[Namespace]) -> Vec<Namespace> {
    let seed = namespaces.partition_point(|other| other < own) as u64 * 1_000_003;
    let mut others: Vec<(u64, &Namespace)> =
        (seed..).map(mixed).zip(namespaces.iter().filter(|other| *other != own)).collect();
    others.sort_unstable();
    others.into_iter().take(OTHERS).map(|(_, other)| other.clone()).collect()
}

/// Ctrl-C came while something was being looked up.
pub(super) fn stopped() -> CommandError {
    CommandError::Failed("stopped".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(count: usize) -> Vec<Namespace> {
        (0..count).map(|n| Namespace::parse(&format!("n{n:02}")).unwrap()).collect()
    }

    fn upserts() -> Upserts {
        let vector = Vector::new(vec![1.0, 0.5]).unwrap();
        let wire = json!(vector).to_string();
        Upserts {
            collection: "c".parse().unwrap(),
            homes: names(8).into_iter().map(|name| (name, None)).collect(),
            vectors: vec![(vector, wire)],
            written: Arc::default(),
        }
    }

    #[test]
    fn company_is_four_others_and_always_the_same() {
        let names = names(45);
        for own in &names {
            let others = company(own, &names);
            let distinct: BTreeSet<&Namespace> = others.iter().collect();
            assert_eq!((others.len(), distinct.len(), distinct.contains(own)), (4, 4, false));
            assert_eq!(others, company(own, &names));
        }
        assert_ne!(company(&names[0], &names), company(&names[1], &names));
        assert_eq!(company(&names[0], &names[..3]).len(), 2);
        assert!(company(&names[0], &names[..1]).is_empty());
    }

    #[test]
    fn a_mix_keeps_its_shares() {
        let ready = |path: &str| {
            let request = Request::get(path);
            Source::Ready(vec![Arc::new(Operation { request, asks: Vec::new(), rows_min: 0, expected: None })])
        };
        let parts = vec![(710, ready("/own")), (290, Source::Upserts(upserts()))];
        let work = Work { parts, has_floor: false };
        let gets = (0..10_000).filter(|n| work.operation(*n, Side::Http).request.is_get()).count();
        assert!((6_900..7_300).contains(&gets), "{gets}");
    }

    #[test]
    fn no_two_upserts_are_the_same() {
        let upserts = upserts();
        let bodies: BTreeSet<String> = (0..100).map(|_| upserts.next(7, Side::Http).request.body_text()).collect();
        assert_eq!(bodies.len(), 100);
        let first: Value = serde_json::from_str(bodies.first().unwrap()).unwrap();
        assert_eq!(first["vector"], json!([1.0, 0.5]));
    }
}
