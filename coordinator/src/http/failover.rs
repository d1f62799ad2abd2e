//! Failover by hand: a planned switchover, and going on without what nobody can bring back. What is decided is
//! [`atoll_core::failover`]'s to say, by what this coordinator last heard; the catalog takes it if the group has not changed since.

use super::extract::{Body, InPath, Json, Terms};
use super::groups::{info, unknown};
use super::problem::{Answer, ApiError};
use super::record::proposed;
use super::state::App;
use atoll_core::catalog::{Catalog, Command, Group, Outcome};
use atoll_core::failover::{BEHIND_BYTES_MAX, Change, NotByHand, acceptance, switchover};
use atoll_proto::admin::{AcceptLoss, GroupInfo, SwitchOver};
use atoll_proto::group::GroupRecord;
use atoll_proto::problem::{Problem, ProblemCode};
use atoll_proto::{GroupId, WorkerId};
use axum::extract::State;
use std::sync::Arc;

/// Make another worker the primary of a group, while both are well. It is under way when this answers: `phase` is `steady` again when it
/// is over. A primary that is lost is replaced without being asked.
#[utoipa::path(post, path = "/v1/admin/groups/{group}/failover", tag = "admin", params(("group" = String, Path)),
    request_body = SwitchOver, responses((status = 200, description = "It is recorded and will be carried out", body = GroupInfo)))]
pub(super) async fn failover(
    State(app): State<App>,
    InPath(name): InPath<String>,
    terms: Terms,
    body: Body<SwitchOver>,
) -> Answer<Json<GroupInfo>> {
    let of = Replicated::named(&app, &name)?;
    let to = body.value.to.map(|to| of.worker(&to, "/to")).transpose()?;
    let lately = app.board.lately(&of.record.workers);
    let change = switchover(&of.record, &lately, to).map_err(|refused| of.refused(refused, "/to"))?;
    of.carry_out(&app, change, terms).await
}

/// Go on with what one worker of a group has, for good, where the others that are needed never come back. Acknowledged writes that it lacks
/// are lost. Refused while the group can go on by itself.
#[utoipa::path(post, path = "/v1/admin/groups/{group}/accept-loss", tag = "admin", params(("group" = String, Path)),
    request_body = AcceptLoss, responses((status = 200, description = "It is recorded and will be carried out", body = GroupInfo)))]
pub(super) async fn accept_loss(
    State(app): State<App>,
    InPath(name): InPath<String>,
    terms: Terms,
    body: Body<AcceptLoss>,
) -> Answer<Json<GroupInfo>> {
    let of = Replicated::named(&app, &name)?;
    let survivor = of.worker(&body.value.survivor, "/survivor")?;
    if !app.node.is_confirmed_leader() {
        return Err(of.for_the_leader(&app));
    }
    let lately = app.board.lately(&of.record.workers);
    let change = acceptance(&of.record, &lately, survivor).map_err(|refused| of.refused(refused, "/survivor"))?;
    of.carry_out(&app, change, terms).await
}

/// A group with standbys, as it was when the request came.
struct Replicated {
    catalog: Arc<Catalog>,
    id: GroupId,
    name: String,
    record: GroupRecord,
}

impl Replicated {
    fn named(app: &App, name: &str) -> Result<Self, ApiError> {
        let catalog = app.node.view().catalog.clone();
        let is_it = |(_, group): &(&GroupId, &Group)| group.name.as_str() == name;
        let (id, group) = catalog.groups.iter().find(is_it).ok_or_else(|| unknown(name))?;
        let Some(record) = group.record.clone() else {
            let detail = format!(
                "group {name} has one worker, and nobody could take over. Groups have standbys in a cluster that begins with \
                 cluster.replicas = 3"
            );
            return Err(Problem::new(ProblemCode::ValidationFailed, detail).into());
        };
        Ok(Self { id: *id, name: name.to_owned(), record, catalog })
    }

    /// The worker of that name, if it is one of the group's.
    fn worker(&self, name: &str, pointer: &str) -> Result<WorkerId, ApiError> {
        let named = |id: &&WorkerId| self.catalog.workers.get(id).is_some_and(|worker| worker.name.as_str() == name);
        let found = self.record.workers.iter().find(named);
        found.copied().ok_or_else(|| {
            let mut workers: Vec<String> = self.record.workers.iter().map(|id| self.name_of(*id)).collect();
            workers.sort();
            let detail = format!("group {} has no worker {name}; it has {}", self.name, workers.join(", "));
            Problem::invalid(pointer, detail).into()
        })
    }

    fn name_of(&self, worker: WorkerId) -> String {
        self.catalog.workers.get(&worker).map_or_else(|| worker.to_string(), |worker| worker.name.to_string())
    }

    /// One that is cut off from workers would take them for lost: whoever decides about them anyway is to say so.
    fn for_the_leader(&self, app: &App) -> ApiError {
        let info = app.node.cluster_info();
        let leader = info.coordinators.into_iter().find(|one| Some(one.id) == info.leader);
        let leader = leader.map_or_else(
            || "and there is none just now".to_owned(),
            |leader| format!("coordinator {} at {}", leader.id, leader.http),
        );
        let detail = format!(
            "only the coordinator that leads can tell that workers of group {} are lost: ask that one, {leader}",
            self.name
        );
        Problem::new(ProblemCode::NoLeader, detail).into()
    }

    async fn carry_out(self, app: &App, change: Change, terms: Terms) -> Answer<Json<GroupInfo>> {
        let Self { id, name, record, .. } = self;
        let command = Command::ChangeGroup { id, decided_at: record.changed_at, change: change.clone() };
        if proposed(app, command, &terms).await? != Outcome::Done {
            let detail = format!("group {name} has changed meanwhile; look at it (atoll group list) and ask again");
            return Err(Problem::new(ProblemCode::StalePlan, detail).into());
        }
        tracing::info!(group = name, ?change, "group changed by hand");
        let view = app.node.view();
        match view.catalog.groups.get(&id) {
            Some(group) => Ok(Json(info(app, &view, id, group))),
            None => Err(unknown(&name)),
        }
    }

    /// What the operator is told, and what to do.
    fn refused(&self, refused: NotByHand, pointer: &str) -> ApiError {
        let (group, primary) = (&self.name, self.name_of(self.record.primary.worker));
        let later = |detail: String| Problem::new(ProblemCode::NotEnoughReplicas, detail);
        let needless = |detail: String| Problem::new(ProblemCode::GroupInUse, detail);
        let problem = match refused {
            NotByHand::Changing(phase) => later(format!(
                "group {group} is {} already; wait until atoll group list shows it as steady",
                phase.name()
            )),
            NotByHand::NoMember(worker) => {
                Problem::invalid(pointer, format!("{} is no worker of group {group}", self.name_of(worker)))
            }
            NotByHand::IsPrimary(worker) => Problem::invalid(
                pointer,
                format!("{} is the primary of group {group} already; there is nothing to do", self.name_of(worker)),
            ),
            NotByHand::NotInSync(worker) => later(format!(
                "{} is not in sync and may lack acknowledged writes; wait until atoll group list shows it as in sync, or choose another",
                self.name_of(worker)
            )),
            NotByHand::NotFollowing(worker) => later(format!(
                "{} does not follow {primary} just now; start it if it is down, or choose another (atoll group list)",
                self.name_of(worker)
            )),
            NotByHand::Behind(worker, bytes) => later(format!(
                "{} has {bytes} bytes of the log to replay, and writers would wait for that; wait until it is less than {BEHIND_BYTES_MAX} \
                 (atoll group list), or choose another",
                self.name_of(worker)
            )),
            NotByHand::NobodyFollows => later(format!(
                "no standby of group {group} is in sync and follows {primary}; wait until atoll group list shows one"
            )),
            NotByHand::PrimaryLost(_) => later(format!(
                "{primary} does not serve. There is nothing to do by hand: another takes over by itself within seconds, if enough \
                 of the others are up (atoll group list, atoll doctor)"
            )),
            NotByHand::PrimaryThere(_) => needless(format!(
                "{primary} is there and has every acknowledged write, so nothing needs to be lost; bring another of group {group} back, or, \
                 if none ever comes back, choose {primary}"
            )),
            NotByHand::EnoughAnswer => needless(format!(
                "enough workers of group {group} answer, so nothing needs to be lost: it goes on by itself within seconds (atoll group list). \
                 If it does not because a worker's server can't start, stop that worker's agent and ask again"
            )),
            NotByHand::NotUsable(worker) => later(format!(
                "{} does not answer, or its data is not whole; start it, or choose another",
                self.name_of(worker)
            )),
            NotByHand::HasLess(better) => Problem::invalid(
                pointer,
                format!("{} has more of the log, so less would be lost; choose that", self.name_of(better)),
            ),
        };
        problem.into()
    }
}
