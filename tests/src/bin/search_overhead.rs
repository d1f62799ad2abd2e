//! What a search costs over HTTP more than the same SQL straight at the worker: each query in its own namespace, one client,
//! interleaved.
//!
//! Both sides get the same queries in the same order. The SQL is the statement that the coordinator sends, prepared, its vector
//! in binary, in one flight with `begin` and `commit`. Each query is asked of both sides in turn, the first by turns, so that
//! neither always finds the server's caches warmed by the other.

use bytes::{BufMut, Bytes, BytesMut};
use clap::Parser;
use cluster_tests::cluster::Layout;
use cluster_tests::wordnet::{self, Sample};
use futures::future::join;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, Statement};

/// Entries that have not expired.
const ALIVE: &str = "(expires_at is null or expires_at > now())";
/// What the coordinator connects with.
const OPTIONS: &str =
    "-c statement_timeout=60000 -c lock_timeout=10000 -c plan_cache_mode=force_custom_plan -c jit=off";
/// Namespaces of up to so many entries are reported together; the last class is open.
const CLASSES: [u64; 5] = [300, 1_000, 3_000, 10_000, u64::MAX];

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures one-namespace searches over HTTP against the same SQL straight at the worker.
#[derive(Debug, Parser)]
struct Arguments {
    /// `cluster.json` of the cluster.
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// Queries, as WordNet entries a line: each is searched for in its namespace.
    #[arg(long, value_name = "FILE", default_value = "sample/wordnet.jsonl.gz")]
    queries: PathBuf,
    /// Vectors of the queries: little-endian uint32 n, uint32 d, then n x d half-precision floats.
    #[arg(long, value_name = "FILE", default_value = "sample/wordnet.f16bin")]
    vectors: PathBuf,
    /// Searches all queries in this namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// Collection to search; must be cosine and float32.
    #[arg(long, default_value = "memory_entries")]
    collection: String,
    /// Searches measured.
    #[arg(long, default_value_t = 1_000)]
    searches: usize,
    /// Searches before the first that is measured.
    #[arg(long, default_value_t = 200)]
    warm_up: usize,
    /// Hits.
    #[arg(short, long, default_value_t = 10)]
    k: i64,
    /// Send vectors as base64 in place of JSON numbers.
    #[arg(long)]
    base64: bool,
}

/// Times of one query, in milliseconds.
struct Timed {
    entries: u64,
    http: f64,
    inside: f64,
    sql: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let queries = queries(&arguments)?;
    let cluster: Layout = serde_json::from_slice(&std::fs::read(&arguments.cluster)?)?;
    let mut over_http = OverHttp::connect(&arguments, &cluster).await?;
    let mut straight = Straight::connect(&arguments, &cluster).await?;
    for query in &queries {
        straight.find(&query.namespace, &mut over_http, &query.vector).await?;
    }

    let mut timed = Vec::with_capacity(arguments.searches);
    // PostgreSQL's distances are of single precision, the coordinator's of double: near ties may fall out differently.
    let mut different = 0_u32;
    for turn in 0..arguments.warm_up + arguments.searches {
        // A stride without a common divisor with the number of queries: neighbours in the file are neighbours in meaning.
        let Sample { namespace, vector, .. } = &queries[turn * 7_919 % queries.len()];
        let (found_over_http, found_straight) = if turn % 2 == 0 {
            let first = over_http.search(namespace, vector).await?;
            (first, straight.search(namespace, vector).await?)
        } else {
            let first = straight.search(namespace, vector).await?;
            (over_http.search(namespace, vector).await?, first)
        };
        different += u32::from(found_over_http.keys != found_straight.keys);
        if turn >= arguments.warm_up {
            let entries = straight.places[namespace].entries;
            let Found { ms: http, inside_ms: inside, .. } = found_over_http;
            timed.push(Timed { entries, http, inside, sql: found_straight.ms });
        }
    }
    report(&arguments, &timed);
    println!("searches whose two answers differ: {different} of {}", arguments.warm_up + arguments.searches);
    Ok(())
}

fn queries(arguments: &Arguments) -> Outcome<Vec<Sample>> {
    let mut queries = wordnet::read(&arguments.queries, &arguments.vectors);
    if let Some(namespace) = &arguments.namespace {
        queries.iter_mut().for_each(|query| query.namespace.clone_from(namespace));
    }
    if queries.is_empty() { Err("there are no queries".into()) } else { Ok(queries) }
}

fn report(arguments: &Arguments, timed: &[Timed]) {
    println!("{} searches, k {}, one client; p50 in milliseconds", timed.len(), arguments.k);
    println!(
        "{:<24}{:>9}{:>9}{:>14}{:>11}{:>8}{:>12}",
        "entries of namespace", "searches", "HTTP", "inside of it", "SQL", "ratio", "difference"
    );
    let mut from = 0;
    for to in CLASSES {
        let name = if to == u64::MAX { format!("{from} and more") } else { format!("{from} to {to}") };
        let of_class: Vec<&Timed> = timed.iter().filter(|one| (from..=to).contains(&one.entries)).collect();
        if !of_class.is_empty() {
            line(&name, &of_class);
        }
        from = to.saturating_add(1);
    }
    line("all", &timed.iter().collect::<Vec<_>>());
}

fn line(name: &str, timed: &[&Timed]) {
    let p50 = |of: fn(&Timed) -> f64| median(timed.iter().map(|one| of(one)).collect());
    let (http, inside, sql) = (p50(|one| one.http), p50(|one| one.inside), p50(|one| one.sql));
    let searches = timed.len();
    println!("{name:<24}{searches:>9}{http:>9.3}{inside:>14.3}{sql:>11.3}{:>8.2}{:>12.3}", http / sql, http - sql);
}

/// What a search found, and how long it took.
struct Found {
    keys: Vec<String>,
    ms: f64,
    inside_ms: f64,
}

/// The coordinator, over one connection.
struct OverHttp {
    client: http1::SendRequest<Full<Bytes>>,
    host: String,
    base: String,
    k: i64,
    base64: bool,
}

impl OverHttp {
    async fn connect(arguments: &Arguments, cluster: &Layout) -> Outcome<Self> {
        let url = &cluster.coordinators.first().ok_or("cluster.json names no coordinator")?.http;
        let host = url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            client,
            host,
            base: format!("/v1/collections/{}", arguments.collection),
            k: arguments.k,
            base64: arguments.base64,
        })
    }

    async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Outcome<(Bytes, f64)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let started = Instant::now();
        let answer = self.client.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let ms = started.elapsed().as_secs_f64() * 1_000.0;
        match status.is_success() {
            true => Ok((body, ms)),
            false => Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into()),
        }
    }

    fn body(&self, namespace: &str, query: &[f32], explain: bool) -> Bytes {
        let vector = match self.base64 {
            true => {
                let bytes: Vec<u8> = query.iter().flat_map(|x| x.to_le_bytes()).collect();
                json!({"b64": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)})
            }
            false => json!(query),
        };
        let body = json!({"vector": vector, "k": self.k, "namespaces": [namespace], "explain": explain,
                          "cache": "bypass"});
        body.to_string().into()
    }

    async fn search(&mut self, namespace: &str, query: &[f32]) -> Outcome<Found> {
        let (answer, ms) = self.ask(Method::POST, "/search", self.body(namespace, query, false)).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let hits = answer["hits"].as_array().ok_or("an answer without hits")?;
        let keys = hits.iter().map(|hit| hit["key"].as_str().unwrap_or_default().to_owned()).collect();
        Ok(Found { keys, ms, inside_ms: answer["timings"]["total_ms"].as_f64().unwrap_or_default() })
    }
}

/// The workers, asked as the coordinator asks them.
struct Straight {
    clients: BTreeMap<String, Client>,
    places: BTreeMap<String, Place>,
    collection: String,
    k: i64,
}

/// A namespace on its worker.
struct Place {
    group: String,
    statement: Statement,
    settings: String,
    entries: u64,
}

impl Straight {
    async fn connect(arguments: &Arguments, cluster: &Layout) -> Outcome<Self> {
        let mut clients = BTreeMap::new();
        for worker in &cluster.workers {
            let mut config: tokio_postgres::Config = worker.dsn.parse()?;
            let (client, connection) = config.options(OPTIONS).connect(NoTls).await?;
            tokio::spawn(connection);
            clients.insert(worker.group.clone(), client);
        }
        Ok(Self { clients, places: BTreeMap::new(), collection: arguments.collection.clone(), k: arguments.k })
    }

    /// Learns where a namespace lies and how the coordinator searches it: the statement follows its choice.
    async fn find(&mut self, namespace: &str, over_http: &mut OverHttp, query: &[f32]) -> Outcome<()> {
        if self.places.contains_key(namespace) {
            return Ok(());
        }
        let (place, _) = over_http.ask(Method::GET, &format!("/namespaces/{namespace}"), Bytes::new()).await?;
        let place: Value = serde_json::from_slice(&place)?;
        let text = |field: &str| place[field].as_str().map(str::to_owned).ok_or_else(|| format!("no {field}"));
        let (schema, group) = (text("schema")?, text("group")?);
        let body = over_http.body(namespace, query, true);
        let (explained, _) = over_http.ask(Method::POST, "/search", body).await?;
        let explained: Value = serde_json::from_slice(&explained)?;
        let shard = &explained["explain"]["shards"][0];
        let (settings, rows) = match shard["strategy"].as_str().ok_or("the coordinator explains nothing")? {
            "exact" => (
                "; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off".to_owned(),
                format!("namespace = $2 and {ALIVE} order by (embedding <=> $1) + 0, namespace, key"),
            ),
            // Its own graph.
            "hnsw" => (
                format!(
                    "; set local hnsw.ef_search = {}; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off; \
                     set local enable_sort = off",
                    shard["ef"]
                ),
                format!("namespace = '{namespace}' and $2::text is not null and {ALIVE} order by embedding <=> $1"),
            ),
            other => return Err(format!("the statement of strategy {other} is not known here").into()),
        };
        let statement = format!(
            "select namespace, key, version, expires_at, embedding, value, metadata, tags from \"{schema}\".\"{}\" where \
             {rows} limit {}",
            self.collection, shard["candidates_wanted"]
        );
        let client = self.clients.get(&group).ok_or("the group has no worker")?;
        let place = Place {
            statement: client.prepare(&statement).await?,
            settings: format!("begin read only; set local statement_timeout = 2000{settings}"),
            entries: place["count"].as_u64().unwrap_or_default(),
            group,
        };
        self.places.insert(namespace.to_owned(), place);
        Ok(())
    }

    async fn search(&self, namespace: &str, query: &[f32]) -> Outcome<Found> {
        let place = &self.places[namespace];
        let client = &self.clients[&place.group];
        let vector = BinaryVector(query);
        let started = Instant::now();
        let begin = client.batch_execute(&place.settings);
        let params: [&(dyn ToSql + Sync); 2] = [&vector, &namespace];
        let rows = client.query(&place.statement, &params);
        let commit = client.batch_execute("commit");
        let (begun, (rows, committed)) = join(begin, join(rows, commit)).await;
        begun?;
        let rows = rows?;
        committed?;
        let ms = started.elapsed().as_secs_f64() * 1_000.0;
        let keys: Result<Vec<String>, _> = rows.iter().take(self.k as usize).map(|row| row.try_get(1)).collect();
        Ok(Found { keys: keys?, ms, inside_ms: ms })
    }
}

/// pgvector's binary form: uint16 dimensions, uint16 zero, then the numbers, all big-endian.
#[derive(Debug)]
struct BinaryVector<'a>(&'a [f32]);

impl ToSql for BinaryVector<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_u16(u16::try_from(self.0.len())?);
        out.put_u16(0);
        for number in self.0 {
            out.put_f32(*number);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
