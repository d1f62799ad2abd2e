//! The statement that walks namespaces' own graphs: each graph gives its nearest, the rows of all other namespaces asked for are
//! looked at one by one, and the nearest of all that stay.
//!
//! A partial index is taken only where the statement itself says which namespace it is about, so the names stand in the text.
//! They are no syntax: a [`Namespace`] has no quotes in it. The text of one table is the same from search to search, and so is
//! its plan, which is made once: planning anew costs as much as a walk where a table has many indexes.

use super::knn::{Bring, KnnQuery, Scope, push_liveness};
use super::statement::Statement;
use super::{ShardTable, filter_sql};
use atoll_core::search::filtered::RowPath;
use atoll_proto::Namespace;

/// Appends to `sql`, whose first value is the vector: columns from … order by … limit. Rows that bring their distance have it last.
pub(super) fn push_rest(sql: &mut Statement, table: &ShardTable, query: &KnnQuery, columns: &str) {
    let limit = query.plan.candidates;
    let distance = format!("embedding {} $1", table.operator());
    let from = format!("from {}", table.quoted());
    let rest = rest(&query.scope, &query.graphs);
    let brings_distance = matches!(query.bring, Bring::Distance);
    if let ([only], None) = (query.graphs.as_slice(), &rest) {
        let last = if brings_distance { format!(", {distance} as distance") } else { String::new() };
        sql.push(&format!("{columns}{last} {from} where namespace = '{only}' and "));
        push_conditions(sql, query);
        sql.push(&format!(" order by {distance} limit {limit}"));
        return;
    }
    let last = if brings_distance { ", distance" } else { "" };
    sql.push(&format!("{columns}{last} from ("));
    for (i, namespace) in query.graphs.iter().enumerate() {
        let union = if i == 0 { "" } else { " union all " };
        sql.push(&format!(
            "{union}(select {columns}, {distance} as distance {from} where namespace = '{namespace}' and "
        ));
        push_conditions(sql, query);
        sql.push(&format!(" order by {distance} limit {limit})"));
    }
    if let Some(rest) = rest {
        sql.push(&format!(" union all (select {columns}, {distance} as distance {from} where {rest} and "));
        push_conditions(sql, query);
        sql.push(&format!(" order by ({distance}) + 0, namespace, key limit {limit})"));
    }
    sql.push(&format!(") as candidates order by distance, namespace, key limit {limit}"));
}

/// The namespaces asked for that have no graph, as a condition that the primary key answers; none if there are no others.
fn rest(scope: &Scope, graphs: &[Namespace]) -> Option<String> {
    match scope {
        Scope::Namespaces(namespaces) => {
            let others: Vec<String> = namespaces
                .iter()
                .filter(|namespace| !graphs.contains(namespace))
                .map(|name| format!("'{name}'"))
                .collect();
            (!others.is_empty()).then(|| format!("namespace in ({})", others.join(", ")))
        }
        Scope::Prefix(prefix) => {
            Some(format!("(namespace >= '{prefix}' and namespace < '{prefix}\u{7f}') and {}", between(graphs)))
        }
        Scope::All => Some(between(graphs)),
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
            rest(&Scope::All, &names(&["m", "b"])).unwrap(),
            "(namespace < 'b' or (namespace > 'b' and namespace < 'm') or namespace > 'm')"
        );
        assert_eq!(rest(&Scope::All, &[]).unwrap(), "true");
        assert_eq!(
            rest(&Scope::Prefix("no".to_owned()), &names(&["noun"])).unwrap(),
            "(namespace >= 'no' and namespace < 'no\u{7f}') and (namespace < 'noun' or namespace > 'noun')"
        );
    }

    #[test]
    fn a_list_leaves_those_without_a_graph() {
        let list = Scope::Namespaces(names(&["a", "b", "c"]));
        assert_eq!(rest(&list, &names(&["b"])).unwrap(), "namespace in ('a', 'c')");
        assert_eq!(rest(&list, &names(&["a", "b", "c"])), None);
    }
}
