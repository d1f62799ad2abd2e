//! API keys, as stories make and use them.

use crate::client::Client;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where keys are made and listed.
pub const KEYS: &str = "/v1/admin/keys";

/// Makes a key for these namespaces, or for all if there are none; gives its text.
pub async fn create(admin: &Client, access: &str, namespaces: &[&str]) -> String {
    create_until(admin, access, namespaces, None).await
}

/// The same of one that ends after so many seconds.
pub async fn create_until(admin: &Client, access: &str, namespaces: &[&str], seconds: Option<u64>) -> String {
    let name = format!("{access}er");
    let body = json!({"name": name, "access": access, "namespaces": namespaces, "expires_in_seconds": seconds});
    let created = admin.post(KEYS, &body).await.expect(200);
    assert_eq!(created.header("cache-control"), "no-store");
    let created: Value = created.json();
    created["key"].as_str().expect("a made key is told").to_owned()
}

/// What may stand anywhere.
pub fn id(key: &str) -> &str {
    key.split('_').nth(1).expect("an id is in the middle")
}

/// What nobody but the owner may have. It may have underscores in it.
pub fn secret(key: &str) -> &str {
    key.splitn(3, '_').nth(2).expect("a secret is at the end")
}

/// Where a key is removed.
pub fn path_of(key: &str) -> String {
    format!("{KEYS}/{}", id(key))
}

/// Files below a folder that hold one of these texts.
pub fn files_with(folder: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_with(&path, texts));
        } else if let Ok(bytes) = std::fs::read(&path)
            && texts.iter().any(|text| holds(&bytes, text))
        {
            found.push(path);
        }
    }
    found
}

/// Whether a text stands there.
pub fn holds(bytes: &[u8], text: &str) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
