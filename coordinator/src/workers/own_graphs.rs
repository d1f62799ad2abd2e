//! The statement that walks namespaces' own graphs: each graph gives its nearest, the rows of all other namespaces asked for are
//! looked at one by one, and the nearest of all that stay.
//!
//! A partial index is taken only where the statement itself says which namespace it is about, so the names of graphs stand in the
//! text. They are no syntax: a [`Namespace`] has no quotes in it. All else is bound. The text of one table is the same from search
//! to search, and so is its plan, which is made once: planning anew costs as much as a walk where a table has many indexes.
//!
//! A graph that gave too few would not be missed among the rows of others. So the statement also says how many the graph gave that
//! gave the fewest.

use super::knn::{Bring, KnnQuery, Scope, push_liveness, push_scope};
use super::statement::Statement;
use super::{ShardTable, filter_sql};
use atoll_core::search::filtered::RowPath;
use atoll_core::search::plan::Strategy;
use atoll_proto::Namespace;

/// Where the statement says how many rows the graph gave that gave the fewest.
pub(super) const FEWEST: &str = "fewest";

/// Whether it says so: where all rows are of one graph they are counted by themselves.
pub(super) fn tells_fewest(query: &KnnQuery) -> bool {
    query.plan.strategy == Strategy::OwnGraphs && (query.graphs.len() > 1 || has_rest(query))
}

/// Appends the statement to `sql`, whose first value is the vector. Rows that bring their distance have it after their `columns`.
pub(super) fn push(sql: &mut Statement, table: &ShardTable, query: &KnnQuery, columns: &str) {
    let (distance, from) = (format!("embedding {} $1", table.operator()), format!("from {}", table.quoted()));
    if let ([only], false) = (query.graphs.as_slice(), has_rest(query)) {
        let distance_too = if brings_distance(query) { format!(", {distance} as distance") } else { String::new() };
        sql.push(&format!("select {columns}{distance_too} {from}"));
        push_walk(sql, query, only, &distance);
        return;
    }
    let select = format!("select {columns}, {distance} as distance {from}");
    for (i, namespace) in query.graphs.iter().enumerate() {
        sql.push(&format!("{} graph_{i} as materialized ({select}", if i == 0 { "with" } else { "," }));
        push_walk(sql, query, namespace, &distance);
        sql.push(")");
    }
    let each = |what: fn(usize) -> String, with: &str| (0..query.graphs.len()).map(what).collect::<Vec<_>>().join(with);
    let fewest = each(|i| format!("(select count(*) from graph_{i})"), ", ");
    let graphs = each(|i| format!("select * from graph_{i}"), " union all ");
    let distance_too = if brings_distance(query) { ", distance" } else { "" };
    sql.push(&format!(" select {columns}{distance_too}, least({fewest}) as {FEWEST} from ({graphs}"));
    if has_rest(query) {
        sql.push(&format!(" union all ({select} where "));
        push_rest(sql, query);
        sql.push(" and ");
        push_conditions(sql, query);
        sql.push(&format!(" order by ({distance}) + 0, namespace, key"));
        push_limit(sql, query);
        sql.push(")");
    }
    sql.push(") as candidates order by distance, namespace, key");
    push_limit(sql, query);
}

fn brings_distance(query: &KnnQuery) -> bool {
    matches!(query.bring, Bring::Distance)
}

fn push_walk(sql: &mut Statement, query: &KnnQuery, namespace: &Namespace, distance: &str) {
    sql.push(&format!(" where namespace = '{namespace}' and "));
    push_conditions(sql, query);
    sql.push(&format!(" order by {distance}"));
    push_limit(sql, query);
}

fn push_limit(sql: &mut Statement, query: &KnnQuery) {
    sql.push(" limit ").bind(i64::from(query.plan.candidates));
}

/// Whether there may be namespaces asked for whose graphs are not walked.
fn has_rest(query: &KnnQuery) -> bool {
    match &query.scope {
        Scope::Namespaces(namespaces) => namespaces.len() > query.graphs.len(),
        Scope::Prefix(_) | Scope::All => true,
    }
}

/// Those namespaces, as a condition that the primary key answers.
fn push_rest(sql: &mut Statement, query: &KnnQuery) {
    match &query.scope {
        Scope::Namespaces(namespaces) => {
            let others = namespaces.iter().filter(|namespace| !query.graphs.contains(namespace));
            sql.push("namespace = any(").bind(others.map(ToString::to_string).collect::<Vec<_>>()).push(")");
        }
        Scope::Prefix(_) => {
            push_scope(sql, &query.scope);
            sql.push(" and ").push(&between(&query.graphs));
        }
        Scope::All => {
            sql.push(&between(&query.graphs));
        }
    }
}

/// All namespaces but these: as ranges, because the primary key can't be asked for what is unequal.
fn between(graphs: &[Namespace]) -> String {
    let mut names: Vec<&str> = graphs.iter().map(Namespace::as_str).collect();
    names.sort_unstable();
    let first = names.first().map(|name| format!("namespace < '{name}'"));
    let gaps = names.windows(2).map(|pair| format!("(namespace > '{}' and namespace < '{}')", pair[0], pair[1]));
    let last = names.last().map(|name| format!("namespace > '{name}'"));
    let ranges: Vec<String> = first.into_iter().chain(gaps).chain(last).collect();
    if ranges.is_empty() { "true".to_owned() } else { format!("({})", ranges.join(" or ")) }
}

fn push_conditions(sql: &mut Statement, query: &KnnQuery) {
    push_liveness(sql, query);
    if let Some(filter) = &query.filter {
        sql.push(" and ");
        // The namespaces are the way, in the walks as in what is scanned beside them.
        filter_sql::push_on_path(sql, filter, RowPath::Namespaces);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(names: &[&str]) -> Vec<Namespace> {
        names.iter().map(|name| Namespace::parse(name).unwrap()).collect()
    }

    #[test]
    fn the_rest_is_everything_between_the_graphs() {
        assert_eq!(
            between(&names(&["m", "b"])),
            "(namespace < 'b' or (namespace > 'b' and namespace < 'm') or namespace > 'm')"
        );
        assert_eq!(between(&[]), "true");
    }
}
