//! What a key must allow for a route. A route that is not named here needs full access: one that is added and forgotten is closed, not
//! open.

use atoll_proto::key::KeyAccess;
use axum::http::Method;

/// Everything below asks for a key, once there are keys.
const API: &str = "/v1/";

/// Access that a request needs; none if it needs no key. `route` is as the router names it, with its parameters; none if there is none
/// for the path.
pub(super) fn needed(method: &Method, route: Option<&str>, path: &str) -> Option<KeyAccess> {
    let Some(route) = route else {
        // What there is not is told to those alone who may ask for something that there is.
        return path.starts_with(API).then_some(KeyAccess::Read);
    };
    if !route.starts_with(API) {
        // Service endpoints.
        return None;
    }
    let Some(within) = route.strip_prefix("/v1/collections") else { return Some(KeyAccess::Admin) };
    Some(match (method.as_str(), within) {
        ("GET" | "HEAD", "" | "/{c}" | "/{c}/namespaces" | "/{c}/namespaces/{ns}" | "/{c}/recall" | "/{c}/export")
        | ("GET" | "HEAD", "/{c}/namespaces/{ns}/entries/{key}")
        | ("POST", "/{c}/entries/get" | "/{c}/entries/list" | "/{c}/entries/count")
        | ("POST", "/{c}/search" | "/{c}/search/explain" | "/{c}/search/batch" | "/{c}/recall") => KeyAccess::Read,
        ("POST", "/{c}/entries" | "/{c}/entries/delete" | "/{c}/import")
        | ("PUT" | "PATCH" | "DELETE", "/{c}/namespaces/{ns}/entries/{key}")
        | ("DELETE", "/{c}/namespaces/{ns}") => KeyAccess::Write,
        (_, _) => KeyAccess::Admin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use utoipa::openapi::path::{Operation, PathItem};

    /// Everything that is not plain reading or writing of entries.
    const ADMIN: [(&str, &str); 2] = [("PUT", "/v1/collections/{c}"), ("DELETE", "/v1/collections/{c}")];
    const READS_BY_POST: [&str; 8] = [
        "/entries/get",
        "/entries/list",
        "/entries/count",
        "/search",
        "/search/explain",
        "/search/batch",
        "/recall",
        "/export",
    ];

    fn operations(item: &PathItem) -> impl Iterator<Item = (&'static str, &Operation)> {
        let all = [
            ("GET", &item.get),
            ("PUT", &item.put),
            ("POST", &item.post),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)))
    }

    #[test]
    fn every_described_route_needs_what_it_does() {
        let api = super::super::openapi();
        let mut seen = 0;
        for (path, item) in &api.paths.paths {
            for (method, _) in operations(item) {
                let wanted = match path.strip_prefix("/v1/collections") {
                    None if path.starts_with("/v1/") => Some(KeyAccess::Admin),
                    None => None,
                    Some(_) if ADMIN.contains(&(method, path.as_str())) => Some(KeyAccess::Admin),
                    Some(_) if method == "GET" => Some(KeyAccess::Read),
                    Some(rest) if READS_BY_POST.iter().any(|end| rest.ends_with(end)) => Some(KeyAccess::Read),
                    Some(_) => Some(KeyAccess::Write),
                };
                assert_eq!(
                    needed(&Method::try_from(method).unwrap_or_default(), Some(path), path),
                    wanted,
                    "{method} {path}"
                );
                seen += 1;
            }
        }
        assert!(seen > 40, "{seen} operations");
    }

    #[test]
    fn what_is_new_is_closed() {
        let of = |route: &str| needed(&Method::GET, Some(route), route);
        assert_eq!(of("/v1/collections/{c}/secrets"), Some(KeyAccess::Admin));
        assert_eq!(of("/healthz"), None);
        let nowhere = |path: &str| needed(&Method::GET, None, path);
        assert_eq!(nowhere("/v1/nothing"), Some(KeyAccess::Read));
        assert_eq!(["/v2/collections", "/", "/V1/collections", "//v1/collections"].map(nowhere), [None; 4]);
        assert_eq!(needed(&Method::OPTIONS, Some("/v1/collections"), "/v1/collections"), Some(KeyAccess::Admin));
    }
}
