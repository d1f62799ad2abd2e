//! Orders to the group that takes a shard over.

use super::mover::{Hands, MoveError, Mover};
use crate::pg::connect::{PgError, Target, chain};
use crate::pg::index;
use crate::pg::moving::copy::Standing;
use crate::pg::moving::indexes::Indexes;
use crate::pg::moving::sums::Stopper;
use crate::pg::moving::{self, copy, names, warm};
use crate::pg::session::Session;
use atoll_proto::agent::MOVE_ROLE;
use atoll_proto::moves::{MoveOrder, MoveReport, MoveSeen, MoveSubject, MoveWork};
use std::time::{Duration, Instant};

/// How long one order waits for a marker; the leader asks again.
const AWAIT_FOR: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Between two looks how far builds are.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Does the target's part.
pub(super) async fn carry_out(
    mover: &Mover,
    hands: &mut Hands,
    session: &Session,
    order: &MoveOrder,
) -> Result<MoveReport, MoveError> {
    let subject = &order.subject;
    let target = &mover.worker.target();
    match order.work {
        MoveWork::Receive => {
            let (password, authorities) = (mover.password()?, mover.authorities());
            let rate = mover.worker.config.moves.copy_bytes_per_second();
            let subscription = copy::make(session, subject, &password, authorities.as_deref(), rate).await?;
            Ok(MoveReport { subscription, ..MoveReport::done() })
        }
        MoveWork::Copied => {
            let standing = standing(session, subject).await?;
            mover.worker.status.move_seen(copy::progress(session, subject).await?);
            if standing.tables_left == 0 {
                return Ok(MoveReport::done());
            }
            Ok(MoveReport::not_yet(hands.troubles.judge(&standing, 0, Instant::now())?))
        }
        MoveWork::Index => {
            build_indexes(mover, session, subject).await?;
            Ok(MoveReport::done())
        }
        MoveWork::Warm => {
            warm::warm(&moving::session(target, subject, Duration::ZERO).await?, subject).await?;
            Ok(MoveReport::done())
        }
        MoveWork::Await { marker } => {
            let began = Instant::now();
            loop {
                let arrived = moving::last_marker(session, subject).await?;
                if arrived >= marker {
                    return Ok(MoveReport::done());
                }
                if began.elapsed() >= AWAIT_FOR {
                    let standing = standing(session, subject).await?;
                    let told = hands.troubles.judge(&standing, arrived, Instant::now())?;
                    return Ok(MoveReport::not_yet(Some(told.unwrap_or_else(|| "the copy is behind".to_owned()))));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        MoveWork::Hold => {
            if let Some(before) = hands.sums.take() {
                before.abort();
            }
            let stopper = Stopper::ready(target, subject).await?;
            hands.sums = Some(tokio::spawn(stopper.sums()));
            Ok(MoveReport::done())
        }
        MoveWork::SumAt { marker } => {
            let not_there = |reason: &str| MoveError::NotReady { reason: reason.to_owned() };
            let summing = hands.sums.take().ok_or_else(|| not_there("no sum was begun"))?;
            let (before, sums) = summing.await.unwrap_or_else(|_| Ok((0, Vec::new())))?;
            if before + 1 != marker {
                return Err(not_there("the copy stopped at another marker"));
            }
            Ok(MoveReport { marker: Some(marker), sums: Some(sums), ..MoveReport::done() })
        }
        MoveWork::TakeOver { marker } => match names::take_over(session, subject, order.ordered_at, marker).await? {
            true => Ok(MoveReport::done()),
            false => Ok(MoveReport::not_yet(Some("the last changes are not there".to_owned()))),
        },
        MoveWork::RemoveSubscription => {
            *hands = Hands::default();
            copy::remove_subscription(session, subject).await?;
            Ok(MoveReport::done())
        }
        MoveWork::DropCopy => {
            copy::drop(session, subject).await?;
            Ok(MoveReport::done())
        }
        MoveWork::Feed
        | MoveWork::Mark
        | MoveWork::Sum
        | MoveWork::Fence { .. }
        | MoveWork::Retire
        | MoveWork::Restore
        | MoveWork::StepBack
        | MoveWork::RemoveFeed
        | MoveWork::DropRetired => Err(MoveError::NotReady { reason: "not the target's to do".to_owned() }),
    }
}

/// Builds the copy's indexes, and tells how far that is.
async fn build_indexes(mover: &Mover, session: &Session, subject: &MoveSubject) -> Result<(), MoveError> {
    let source = Target {
        host: subject.source.host.clone(),
        address: None,
        port: subject.source.port,
        user: MOVE_ROLE.to_owned(),
        password: Some(mover.kept_password()?),
        database: subject.source.database.clone(),
        first_database: None,
        tls: mover.worker.credentials.postgres.clone(),
    };
    let building = moving::session(&mover.worker.target(), subject, Duration::ZERO).await?;
    let helpers = crate::pg::machine::Machine::this().cores.saturating_sub(1);
    index::prepare(&building, helpers).await?;
    index::share_small_builds(&building).await?;
    copy::is_complete(&building, subject).await?;
    let Some(indexes) = Indexes::as_on(&source, &building, subject).await? else { return Ok(()) };
    let look = async || {
        let progress = copy::progress(session, subject).await?;
        Ok::<_, PgError>(MoveSeen { indexes: Some(indexes.progress(session).await?), ..progress })
    };
    // What cannot be told is no reason to give up a build of hours.
    let tell = async || match look().await {
        Ok(seen) => mover.worker.status.move_seen(seen),
        Err(error) => tracing::debug!(id = %subject.id, error = chain(&error), "how far a build is cannot be told"),
    };
    let tell_on = async {
        loop {
            tell().await;
            tokio::time::sleep(TELL_EVERY).await;
        }
    };
    tokio::select! {
        built = indexes.build(&building, subject) => built?,
        () = tell_on => {}
    }
    tell().await;
    Ok(())
}

async fn standing(session: &Session, subject: &MoveSubject) -> Result<Standing, MoveError> {
    let standing = copy::standing(session, subject).await?;
    standing.ok_or_else(|| MoveError::NotReady { reason: "there is no subscription".to_owned() })
}
