//! What a search costs over HTTP more than the same SQL straight at the worker: one namespace, one client, interleaved.
//!
//! Both sides get the same queries in the same order. The SQL is the statement that the coordinator sends, prepared, its vector
//! in binary, in one flight with `begin` and `commit`. Each query is asked of both sides in turn, the first by turns, so that
//! neither always finds the server's caches warmed by the other.

use bytes::{BufMut, Bytes, BytesMut};
use clap::Parser;
use cluster_tests::cluster::Layout;
use futures::future::join;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, Statement};

/// Candidates that the coordinator asks for: k times its default over-fetch.
const OVERFETCH: i64 = 2;
/// What the coordinator connects with.
const OPTIONS: &str =
    "-c statement_timeout=60000 -c lock_timeout=10000 -c plan_cache_mode=force_custom_plan -c jit=off";

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures one-namespace searches over HTTP against the same SQL straight at the worker.
#[derive(Debug, Parser)]
struct Arguments {
    /// `cluster.json` of the cluster.
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// Namespace to search; must hold entries.
    #[arg(long, default_value = "noun.animal")]
    namespace: String,
    /// Collection to search; must be cosine and float32.
    #[arg(long, default_value = "memory_entries")]
    collection: String,
    /// Vectors to search by: little-endian uint32 n, uint32 d, then n x d half-precision floats.
    #[arg(long, value_name = "FILE", default_value = "sample/wordnet.f16bin")]
    vectors: PathBuf,
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let queries = read_vectors(&arguments.vectors)?;
    let cluster: Layout = serde_json::from_slice(&std::fs::read(&arguments.cluster)?)?;
    let over_http = OverHttp::connect(&arguments, &cluster)?;
    let straight = Straight::connect(&arguments, &cluster, &over_http, &queries[0]).await?;

    let (mut http_ms, mut coordinator_ms, mut sql_ms) = (Vec::new(), Vec::new(), Vec::new());
    // PostgreSQL's distances are of single precision, the coordinator's of double: near ties may fall out differently.
    let mut different = 0_u32;
    for turn in 0..arguments.warm_up + arguments.searches {
        // A stride without a common divisor with the number of queries: neighbours in the file are neighbours in meaning.
        let query = &queries[turn * 7_919 % queries.len()];
        let (found_over_http, found_straight) = if turn % 2 == 0 {
            let first = over_http.search(query).await?;
            (first, straight.search(query).await?)
        } else {
            let first = straight.search(query).await?;
            (over_http.search(query).await?, first)
        };
        different += u32::from(found_over_http.keys != found_straight.keys);
        if turn >= arguments.warm_up {
            http_ms.push(found_over_http.ms);
            coordinator_ms.push(found_over_http.inside_ms);
            sql_ms.push(found_straight.ms);
        }
    }
    println!(
        "{} searches of {} ({} entries, {}), k {}, one client",
        arguments.searches, arguments.namespace, straight.entries, straight.strategy, arguments.k
    );
    println!("{:<34}{:>10}{:>10}", "milliseconds", "p50", "p95");
    let http = percentiles(&mut http_ms);
    let sql = percentiles(&mut sql_ms);
    for (name, (p50, p95)) in [
        ("over HTTP, until the last byte", http),
        ("  of it inside the coordinator", percentiles(&mut coordinator_ms)),
        ("the same SQL, straight", sql),
    ] {
        println!("{name:<34}{p50:>10.3}{p95:>10.3}");
    }
    println!("{:<34}{:>10.2}{:>10.2}", "ratio", http.0 / sql.0, http.1 / sql.1);
    println!("{:<34}{:>10.3}{:>10.3}", "difference", http.0 - sql.0, http.1 - sql.1);
    println!("searches whose two answers differ: {different} of {}", arguments.warm_up + arguments.searches);
    Ok(())
}

/// What a search found, and how long it took.
struct Found {
    keys: Vec<String>,
    ms: f64,
    inside_ms: f64,
}

/// The coordinator.
struct OverHttp {
    client: HttpClient<HttpConnector, Full<Bytes>>,
    base: String,
    namespace: String,
    k: i64,
    base64: bool,
}

impl OverHttp {
    fn connect(arguments: &Arguments, cluster: &Layout) -> Outcome<Self> {
        let url = &cluster.coordinators.first().ok_or("cluster.json names no coordinator")?.http;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            client: HttpClient::builder(TokioExecutor::new()).build(connector),
            base: format!("{url}/v1/collections/{}", arguments.collection),
            namespace: arguments.namespace.clone(),
            k: arguments.k,
            base64: arguments.base64,
        })
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Outcome<(Bytes, f64)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let started = Instant::now();
        let answer = self.client.request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let ms = started.elapsed().as_secs_f64() * 1_000.0;
        match status.is_success() {
            true => Ok((body, ms)),
            false => Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into()),
        }
    }

    fn body(&self, query: &[f32], explain: bool) -> Bytes {
        let vector = match self.base64 {
            true => {
                let bytes: Vec<u8> = query.iter().flat_map(|x| x.to_le_bytes()).collect();
                json!({"b64": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)})
            }
            false => json!(query),
        };
        let body = json!({"vector": vector, "k": self.k, "namespaces": [self.namespace], "explain": explain});
        body.to_string().into()
    }

    async fn search(&self, query: &[f32]) -> Outcome<Found> {
        let (answer, ms) = self.ask(Method::POST, "/search", self.body(query, false)).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let hits = answer["hits"].as_array().ok_or("an answer without hits")?;
        let keys = hits.iter().map(|hit| hit["key"].as_str().unwrap_or_default().to_owned()).collect();
        Ok(Found { keys, ms, inside_ms: answer["timings"]["total_ms"].as_f64().unwrap_or_default() })
    }
}

/// The worker that holds the namespace, asked as the coordinator asks it.
struct Straight {
    client: Client,
    statement: Statement,
    namespace: String,
    settings: String,
    strategy: String,
    entries: u64,
    k: i64,
}

impl Straight {
    async fn connect(arguments: &Arguments, cluster: &Layout, over_http: &OverHttp, query: &[f32]) -> Outcome<Self> {
        let namespace = arguments.namespace.clone();
        let (place, _) = over_http.ask(Method::GET, &format!("/namespaces/{namespace}"), Bytes::new()).await?;
        let place: Value = serde_json::from_slice(&place)?;
        let (schema, group) =
            (place["schema"].as_str().ok_or("no schema")?, place["group"].as_str().ok_or("no group")?);
        let worker = cluster.workers.iter().find(|worker| worker.group == group).ok_or("the group has no worker")?;

        let mut config: tokio_postgres::Config = worker.dsn.parse()?;
        let (client, connection) = config.options(OPTIONS).connect(NoTls).await?;
        tokio::spawn(connection);

        // The strategy is the coordinator's choice; the statement follows it.
        let (explained, _) = over_http.ask(Method::POST, "/search", over_http.body(query, true)).await?;
        let explained: Value = serde_json::from_slice(&explained)?;
        let shard = &explained["explain"][0];
        let strategy = shard["strategy"].as_str().ok_or("the coordinator explains nothing")?.to_owned();
        let (settings, order) = match strategy.as_str() {
            "exact" => (String::new(), "(embedding <=> $1) + 0, namespace, key"),
            "hnsw_iterative" => (
                format!(
                    "; set local hnsw.ef_search = {}; set local hnsw.iterative_scan = 'strict_order'; \
                     set local hnsw.max_scan_tuples = 40000",
                    shard["ef"]
                ),
                "embedding <=> $1",
            ),
            other => return Err(format!("the statement of strategy {other} is not known here").into()),
        };
        let text = format!(
            "select namespace, key, version, embedding, value, metadata, tags from \"{schema}\".\"{}\" where \
             (expires_at is null or expires_at > now()) and namespace = $2 order by {order} limit $3",
            arguments.collection
        );
        Ok(Self {
            statement: client.prepare(&text).await?,
            client,
            namespace,
            settings: format!("begin read only; set local statement_timeout = 2000{settings}"),
            strategy,
            entries: place["count"].as_u64().unwrap_or_default(),
            k: arguments.k,
        })
    }

    async fn search(&self, query: &[f32]) -> Outcome<Found> {
        let (vector, limit) = (BinaryVector(query), self.k * OVERFETCH);
        let started = Instant::now();
        let begin = self.client.batch_execute(&self.settings);
        let params: [&(dyn ToSql + Sync); 3] = [&vector, &self.namespace, &limit];
        let rows = self.client.query(&self.statement, &params);
        let commit = self.client.batch_execute("commit");
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

fn read_vectors(path: &Path) -> Outcome<Vec<Vec<f32>>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (head, rows) = bytes.split_at_checked(8).ok_or("a file of vectors begins with two numbers")?;
    let dimensions = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    let row = |row: &[u8]| row.chunks_exact(2).map(|two| half::f16::from_le_bytes([two[0], two[1]]).to_f32()).collect();
    let vectors: Vec<Vec<f32>> = rows.chunks_exact(dimensions.max(1) * 2).map(row).collect();
    if vectors.is_empty() { Err("there are no vectors in the file".into()) } else { Ok(vectors) }
}

fn percentiles(values: &mut [f64]) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values.get((values.len() as f64 * share) as usize).copied().unwrap_or_default();
    (at(0.50), at(0.95))
}
