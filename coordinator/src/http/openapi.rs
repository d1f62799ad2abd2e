//! The routes and their description, made from one list, so that neither is without the other. Only what is no JSON has its
//! routes elsewhere, undescribed ([`service::untyped_routes`]).

use super::state::App;
use super::{
    admin, builds, collections, entries, failover, groups, keys, moves, namespaces, rebalance, rebalance_policy,
    rebalance_run, recall, search, service, streams,
};
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Every described route.
pub(super) fn routes() -> OpenApiRouter<App> {
    let about = OpenApiBuilder::new().info(
        InfoBuilder::new()
            .title("Atoll")
            .version(env!("CARGO_PKG_VERSION"))
            .description(Some("Vector search and storage over many PostgreSQL servers."))
            .build(),
    );
    OpenApiRouter::with_openapi(about.build())
        .routes(routes!(collections::list))
        .routes(routes!(collections::show, collections::put, collections::delete))
        .routes(routes!(entries::write))
        .routes(routes!(entries::get_one, entries::put, entries::patch, entries::delete_one))
        .routes(routes!(entries::get_many))
        .routes(routes!(entries::delete_many))
        .routes(routes!(entries::list))
        .routes(routes!(entries::count))
        .routes(routes!(streams::import))
        .routes(routes!(streams::export))
        .routes(routes!(namespaces::list))
        .routes(routes!(namespaces::show, namespaces::delete))
        .routes(routes!(search::search))
        .routes(routes!(search::batch))
        .routes(routes!(search::explain))
        .routes(routes!(recall::show, recall::measure))
        .routes(routes!(admin::cluster))
        .routes(routes!(admin::add_coordinator))
        .routes(routes!(admin::remove_coordinator))
        .routes(routes!(admin::workers))
        .routes(routes!(groups::groups))
        .routes(routes!(groups::drain))
        .routes(routes!(groups::activate))
        .routes(routes!(groups::remove))
        .routes(routes!(failover::failover))
        .routes(routes!(failover::accept_loss))
        .routes(routes!(admin::shards))
        .routes(routes!(admin::findings))
        .routes(routes!(moves::list, moves::start))
        .routes(routes!(moves::show))
        .routes(routes!(moves::cancel))
        .routes(routes!(builds::builds))
        .routes(routes!(rebalance::plan))
        .routes(routes!(rebalance::show_plan))
        .routes(routes!(rebalance_run::apply))
        .routes(routes!(rebalance_run::pause))
        .routes(routes!(rebalance_run::resume))
        .routes(routes!(rebalance_run::cancel))
        .routes(routes!(rebalance_run::status))
        .routes(routes!(rebalance_policy::show, rebalance_policy::put))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::remove))
        .routes(routes!(service::healthz))
        .routes(routes!(service::readyz))
        .routes(routes!(service::version))
}

/// The API's description (OpenAPI 3.1).
pub fn openapi() -> OpenApi {
    let mut api = routes().into_openapi();
    for (path, item) in &mut api.paths.paths {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            name_within_tag(operation);
            if path.starts_with("/v1/") {
                operation.responses.responses.insert("default".to_owned(), problem_response().into());
            }
        }
    }
    api
}

/// How every operation fails.
fn problem_response() -> utoipa::openapi::Response {
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description("A problem document").content("application/problem+json", problem).build()
}

/// Functions of several modules share a name; names of operations must be unique, for generated clients too.
fn name_within_tag(operation: &mut Operation) {
    let tag = operation.tags.as_ref().and_then(|tags| tags.first());
    if let (Some(tag), Some(function)) = (tag, &operation.operation_id) {
        operation.operation_id = Some(format!("{tag}_{function}"));
    }
}
