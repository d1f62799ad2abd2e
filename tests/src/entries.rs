//! Where entries are, and what became of them.

use serde_json::Value;

/// Path of one entry, its key percent-encoded whatever it is made of.
pub fn entry_path(collection: &str, namespace: &str, key: &str) -> String {
    let key: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/v1/collections/{collection}/namespaces/{namespace}/entries/{key}")
}

/// The status of each entry in the answer of a write.
pub fn statuses(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().unwrap_or_else(|| panic!("no results: {answer}"));
    results.iter().map(|result| result["status"].as_str().expect("each has a status")).collect()
}
