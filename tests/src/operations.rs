//! Every operation of the API, and what a key must allow for it: what it needs, and which namespaces it touches.

use serde_json::{Value, json};

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// No key at all.
    Nothing,
    /// Access `read`.
    Read,
    /// Access `write`.
    Write,
    /// Access `admin`.
    Admin,
}

/// Which namespaces an operation touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touches {
    /// None: a key for some namespaces is enough.
    None,
    /// The one that the path or the body names.
    One,
    /// All: a key for some namespaces is never enough.
    All,
}

/// An operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Its method.
    pub method: &'static str,
    /// Its path, with parameters as the API's description has them.
    pub path: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Which namespaces it touches.
    pub touches: Touches,
    /// A body that is right, for a namespace.
    pub body: fn(&str) -> Value,
}

const fn of(
    method: &'static str,
    path: &'static str,
    needs: Needs,
    touches: Touches,
    body: fn(&str) -> Value,
) -> Operation {
    Operation { method, path, needs, touches, body }
}

fn none(_: &str) -> Value {
    Value::Null
}

fn entry(namespace: &str) -> Value {
    json!({"namespace": namespace, "key": "k", "value": "v", "vector": [1, 0, 0]})
}

fn id(namespace: &str) -> Value {
    json!({"namespace": namespace, "key": "k"})
}

fn search(namespace: &str) -> Value {
    json!({"vector": [1, 0, 0], "namespaces": [namespace]})
}

const ENTRY: &str = "/v1/collections/{c}/namespaces/{ns}/entries/{key}";

use Needs::{Admin, Nothing, Read, Write};
use Touches::{All, None as No, One};

/// Every operation. One that is not here fails the stories that go through all of them: say what it needs and touches.
pub const OPERATIONS: &[Operation] = &[
    of("get", "/v1/collections", Read, No, none),
    of("get", "/v1/collections/{c}", Read, No, none),
    of("put", "/v1/collections/{c}", Admin, No, |_| json!({"dimensions": 3})),
    of("delete", "/v1/collections/{c}", Admin, No, none),
    of("post", "/v1/collections/{c}/entries", Write, One, |ns| json!({"entries": [entry(ns)]})),
    of("put", ENTRY, Write, One, |_| json!({"value": "v", "vector": [1, 0, 0]})),
    of("patch", ENTRY, Write, One, |_| json!({"value": "w"})),
    of("get", ENTRY, Read, One, none),
    of("post", "/v1/collections/{c}/entries/get", Read, One, |ns| json!({"ids": [id(ns)]})),
    of("post", "/v1/collections/{c}/entries/list", Read, One, |ns| json!({"namespace": ns})),
    of("post", "/v1/collections/{c}/entries/count", Read, One, |ns| json!({"namespace": ns})),
    of("post", "/v1/collections/{c}/search", Read, One, search),
    of("post", "/v1/collections/{c}/search/explain", Read, One, search),
    // Each search has an answer or a problem of its own.
    of("post", "/v1/collections/{c}/search/batch", Read, No, |ns| json!({"searches": [search(ns)]})),
    of("get", "/v1/collections/{c}/recall", Read, All, none),
    of("post", "/v1/collections/{c}/recall", Read, One, |ns| json!({"namespaces": [ns], "sample": 1, "k": 1})),
    of("get", "/v1/collections/{c}/namespaces", Read, No, none),
    of("get", "/v1/collections/{c}/namespaces/{ns}", Read, One, none),
    // Its namespace is in the query, which the description of a path does not show.
    of("get", "/v1/collections/{c}/export", Read, All, none),
    // Each line is taken or refused by itself.
    of("post", "/v1/collections/{c}/import", Write, No, entry),
    of("delete", ENTRY, Write, One, none),
    of("post", "/v1/collections/{c}/entries/delete", Write, One, |ns| json!({"ids": [id(ns)]})),
    of("delete", "/v1/collections/{c}/namespaces/{ns}", Write, One, none),
    of("get", "/healthz", Nothing, No, none),
    of("get", "/readyz", Nothing, No, none),
    of("get", "/version", Nothing, No, none),
    of("get", "/v1/admin/cluster", Admin, No, none),
    of("post", "/v1/admin/coordinators", Admin, No, none),
    of("delete", "/v1/admin/coordinators/{id}", Admin, No, none),
    of("get", "/v1/admin/workers", Admin, No, none),
    of("get", "/v1/admin/groups", Admin, No, none),
    of("post", "/v1/admin/groups/{group}/drain", Admin, No, none),
    of("post", "/v1/admin/groups/{group}/activate", Admin, No, none),
    of("post", "/v1/admin/groups/{group}/failover", Admin, No, none),
    of("post", "/v1/admin/groups/{group}/accept-loss", Admin, No, none),
    of("delete", "/v1/admin/groups/{group}", Admin, No, none),
    of("get", "/v1/admin/shards", Admin, No, none),
    of("get", "/v1/admin/findings", Admin, No, none),
    of("get", "/v1/admin/moves", Admin, No, none),
    of("post", "/v1/admin/moves", Admin, No, none),
    of("get", "/v1/admin/moves/{id}", Admin, No, none),
    of("post", "/v1/admin/moves/{id}/cancel", Admin, No, none),
    of("get", "/v1/admin/builds", Admin, No, none),
    of("post", "/v1/admin/rebalance/plan", Admin, No, none),
    of("get", "/v1/admin/rebalance/plan/{id}", Admin, No, none),
    of("post", "/v1/admin/rebalance/apply", Admin, No, none),
    of("post", "/v1/admin/rebalance/pause", Admin, No, none),
    of("post", "/v1/admin/rebalance/resume", Admin, No, none),
    of("post", "/v1/admin/rebalance/cancel", Admin, No, none),
    of("get", "/v1/admin/rebalance/status", Admin, No, none),
    of("get", "/v1/admin/rebalance/policy", Admin, No, none),
    of("put", "/v1/admin/rebalance/policy", Admin, No, none),
    of("get", "/v1/admin/keys", Admin, No, none),
    of("post", "/v1/admin/keys", Admin, No, none),
    of("delete", "/v1/admin/keys/{id}", Admin, No, none),
];

impl Operation {
    /// Its path on a collection, with a namespace in it.
    pub fn path_of(&self, namespace: &str) -> String {
        // What manages the cluster finds nothing to manage.
        let collection = if self.needs == Admin { "nothing" } else { "notes" };
        let path = self.path.replace("{c}", collection).replace("{ns}", namespace);
        path.replace("{key}", "k").replace(['{', '}'], "")
    }

    /// What it is known by.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The names of all operations that an API's description has.
pub fn described(api: &Value) -> Vec<String> {
    let paths = api["paths"].as_object().expect("a description has paths");
    let methods = ["get", "put", "post", "patch", "delete"];
    let of_path = |(path, item): (&String, &Value)| {
        methods.iter().filter(|method| item.get(**method).is_some()).map(|method| format!("{method} {path}")).collect()
    };
    let mut names: Vec<String> = paths.iter().flat_map::<Vec<String>, _>(of_path).collect();
    names.sort();
    names
}
