//! A search, checked: what the wire's types alone can't say.

use crate::error::RequestError;
use crate::targets::Target;
use crate::vectors;
use crate::workers::knn::Scope;
use atoll_core::filter::{self, Expr};
use atoll_core::search::merge::MergeLimits;
use atoll_core::search::plan::Wish;
use atoll_proto::entry::{EntryId, Include};
use atoll_proto::problem::FieldError;
use atoll_proto::search::{CachePolicy, Consistency, Partial, Profile, SearchRequest};
use atoll_proto::{Durability, Metric, Namespace, Vector, limits};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A search that makes sense for its collection.
#[derive(Debug, Clone)]
pub(super) struct CheckedSearch {
    pub(super) vector: Option<Vector>,
    pub(super) like: Option<EntryId>,
    pub(super) k: usize,
    pub(super) scope: Scope,
    /// In their order.
    pub(super) exclude: Arc<[Namespace]>,
    pub(super) filter: Option<Arc<Expr>>,
    pub(super) min_score: Option<f64>,
    pub(super) profile: Profile,
    pub(super) target_recall: Option<f64>,
    pub(super) ef: Option<u32>,
    pub(super) exact: bool,
    pub(super) overfetch: f64,
    pub(super) include: BTreeSet<Include>,
    pub(super) per_namespace: Option<u32>,
    /// As far as it makes a difference: where there is none to the primary, it is that.
    pub(super) consistency: Consistency,
    pub(super) partial: Partial,
    pub(super) cache: CachePolicy,
    pub(super) explain: bool,
}

/// Checks everything and names all that is wrong; refuses what the request may not touch.
pub(super) fn check(request: &SearchRequest, target: &Target) -> Result<CheckedSearch, RequestError> {
    let settings = &target.collection.settings;
    let mut errors = Vec::new();
    let mut wrong = |pointer: &str, detail: String| errors.push(FieldError { pointer: pointer.to_owned(), detail });

    let Some(dimensions) = settings.dimensions else {
        return Err(RequestError::invalid("", "this collection has no vectors to search"));
    };
    match (&request.vector, &request.like) {
        (Some(vector), None) => {
            if let Err(detail) = vectors::check(vector, dimensions, settings) {
                wrong("/vector", detail);
            }
        }
        (None, Some(_)) => {}
        (Some(_), Some(_)) => wrong("/like", "give vector or like, not both".to_owned()),
        (None, None) => wrong("/vector", "give vector or like".to_owned()),
    }
    in_range(&mut wrong, "/k", request.k, 1, limits::K);
    if let Some(ef) = request.ef {
        in_range(&mut wrong, "/ef", ef, 1, limits::EF);
    }
    if let Some(most) = request.group_by_namespace {
        in_range(&mut wrong, "/group_by_namespace", most, 1, limits::K);
    }
    if !(1.0..=10.0).contains(&request.overfetch) {
        wrong("/overfetch", "overfetch must be 1 to 10".to_owned());
    }
    if request.target_recall.is_some_and(|recall| !(0.0..=1.0).contains(&recall)) {
        wrong("/target_recall", "target_recall must be 0 to 1".to_owned());
    }
    if request.partial.min_coverage.is_some_and(|least| !(0.0..=1.0).contains(&least)) {
        wrong("/partial/min_coverage", "min_coverage must be 0 to 1".to_owned());
    }
    let scope = match scope(request) {
        Ok(scope) => scope,
        Err((pointer, detail)) => {
            wrong(pointer, detail);
            Scope::All
        }
    };
    if request.exclude.is_some() && request.namespaces.is_some() {
        wrong("/exclude", "exclude goes with prefix or all; leave namespaces out of the list instead".to_owned());
    }
    if request.exclude.as_ref().is_some_and(|exclude| exclude.len() > limits::SEARCH_NAMESPACES) {
        wrong("/exclude", format!("at most {} namespaces can be excluded", limits::SEARCH_NAMESPACES));
    }
    let filter = match request.filter.as_ref().map(|filter| filter::check(filter, "/filter")) {
        None => None,
        Some(Ok(expr)) => Some(Arc::new(expr)),
        Some(Err(found)) => {
            errors.extend(found);
            None
        }
    };
    if !errors.is_empty() {
        return Err(RequestError::Invalid(errors));
    }
    target.permit_scope(&scope)?;
    let others = request.like.iter().map(|entry| &entry.namespace).chain(request.exclude.iter().flatten());
    target.permit_each(others)?;
    let mut exclude = request.exclude.clone().unwrap_or_default();
    exclude.sort_unstable();
    Ok(CheckedSearch {
        vector: request.vector.clone(),
        like: request.like.clone(),
        k: request.k as usize,
        scope,
        exclude: exclude.into(),
        filter,
        min_score: request.min_score,
        profile: request.profile,
        target_recall: request.target_recall,
        ef: request.ef,
        exact: request.exact,
        overfetch: request.overfetch,
        include: request.include.iter().copied().collect(),
        per_namespace: request.group_by_namespace,
        consistency: consistency(request, target),
        partial: request.partial,
        cache: request.cache,
        explain: request.explain,
    })
}

/// Groups of one worker have none but the primary, and tables that no log is kept of are nowhere else.
fn consistency(request: &SearchRequest, target: &Target) -> Consistency {
    let has_copies = target.collection.settings.durability != Durability::Ephemeral;
    match has_copies && target.view.catalog.replicas() > 1 {
        true => request.consistency,
        false => Consistency::Primary,
    }
}

fn in_range(wrong: &mut impl FnMut(&str, String), pointer: &str, given: u32, min: u32, max: u32) {
    if !(min..=max).contains(&given) {
        let name = pointer.trim_start_matches('/');
        wrong(pointer, format!("{name} must be {min} to {max}, {given} given"));
    }
}

fn scope(request: &SearchRequest) -> Result<Scope, (&'static str, String)> {
    match (&request.namespaces, &request.prefix, request.all) {
        (Some(namespaces), None, None) => {
            if namespaces.is_empty() || namespaces.len() > limits::SEARCH_NAMESPACES {
                let detail = format!("1 to {} namespaces, {} given", limits::SEARCH_NAMESPACES, namespaces.len());
                return Err(("/namespaces", detail));
            }
            let distinct: BTreeSet<Namespace> = namespaces.iter().cloned().collect();
            Ok(Scope::Namespaces(distinct.into_iter().collect()))
        }
        (None, Some(prefix), None) => {
            if Namespace::parse(prefix).is_err() {
                return Err(("/prefix", "a prefix is 1 to 128 of A-Z a-z 0-9 _ . : -".to_owned()));
            }
            Ok(Scope::Prefix(prefix.clone()))
        }
        (None, None, Some(true)) => Ok(Scope::All),
        _ => Err(("/namespaces", "give exactly one of namespaces, prefix and \"all\": true".to_owned())),
    }
}

impl CheckedSearch {
    /// The search for the neighbours of a stored entry, itself left out, whose vector is at hand.
    pub(super) fn for_stored(entry: EntryId, scope: Scope, k: usize) -> Self {
        Self {
            vector: None,
            like: Some(entry),
            k,
            scope,
            exclude: Arc::default(),
            filter: None,
            min_score: None,
            profile: Profile::default(),
            target_recall: None,
            ef: None,
            exact: false,
            overfetch: 2.0,
            include: BTreeSet::new(),
            per_namespace: None,
            consistency: Consistency::Primary,
            partial: Partial::default(),
            cache: CachePolicy::Bypass,
            explain: false,
        }
    }

    /// What of it bears on the plan of a shard.
    pub(super) fn wish(&self) -> Wish {
        Wish {
            k: self.k as u32,
            overfetch: self.overfetch,
            profile: self.profile,
            target_recall: self.target_recall,
            ef: self.ef,
            exact: self.exact,
            filtered: self.filter.is_some(),
            per_namespace: self.per_namespace,
        }
    }

    pub(super) fn merge_limits(&self, metric: Metric) -> MergeLimits {
        let per_namespace = self.per_namespace.map(|most| most as usize);
        MergeLimits { k: self.k, metric, min_score: self.min_score, per_namespace }
    }

    /// The profile that decided; none if something stronger did.
    pub(super) fn profile_used(&self) -> Option<Profile> {
        let overruled = self.exact || self.ef.is_some() || self.target_recall.is_some();
        match (overruled, self.profile) {
            (true, _) => None,
            (false, Profile::Auto) => Some(Profile::Balanced),
            (false, profile) => Some(profile),
        }
    }

    /// Columns that hits need and candidates don't carry by themselves.
    pub(super) fn wide_columns(&self) -> Vec<Include> {
        self.include.iter().copied().filter(|include| *include != Include::Vector).collect()
    }
}
