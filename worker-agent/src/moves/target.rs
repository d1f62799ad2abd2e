//! Orders to the group that takes a shard over.

use super::mover::{Hands, MoveError, Mover};
use crate::pg::connect::Target;
use crate::pg::moving::sums::Stopper;
use crate::pg::moving::{self, copy, names};
use crate::pg::session::Session;
use atoll_proto::agent::MOVE_ROLE;
use atoll_proto::moves::{MoveOrder, MoveReport, MoveWork};
use std::time::{Duration, Instant};

/// How long one order waits for a marker; the leader asks again.
const AWAIT_FOR: Duration = Duration::from_secs(1);
/// Errors of a subscription that pass by themselves, such as while the source starts again, are fewer: it tries once a second.
const ERRORS_MAX: u64 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Does the target's part.
pub(super) async fn carry_out(
    mover: &Mover,
    hands: &mut Hands,
    session: &Session,
    order: &MoveOrder,
) -> Result<MoveReport, MoveError> {
    let subject = &order.subject;
    let target = &mover.worker.target;
    match order.work {
        MoveWork::Receive => {
            copy::make(session, subject, &mover.password()?).await?;
            Ok(MoveReport::done())
        }
        MoveWork::Copied => {
            let Some((left, errors)) = copy::tables_left(session, subject).await? else {
                return Err(MoveError::NotReady { reason: "there is no subscription".to_owned() });
            };
            mover.worker.status.move_seen(copy::progress(session, subject).await?);
            if left == 0 {
                return Ok(MoveReport::done());
            }
            let told = || format!("the subscription met {errors} errors; see the target's PostgreSQL log");
            match errors {
                0 => Ok(MoveReport::not_yet(None)),
                1..=ERRORS_MAX => Ok(MoveReport::not_yet(Some(told()))),
                _ => Err(MoveError::NotReady { reason: told() }),
            }
        }
        MoveWork::Index => {
            let source = Target {
                host: subject.source.host.clone(),
                port: subject.source.port,
                user: MOVE_ROLE.to_owned(),
                password: Some(mover.password()?),
                database: subject.source.database.clone(),
                first_database: None,
            };
            let building = moving::session(target, subject, Duration::ZERO).await?;
            let helpers = crate::pg::machine::Machine::this().cores.saturating_sub(1);
            copy::build_indexes(&building, subject, &source, helpers).await?;
            mover.worker.status.move_seen(copy::progress(session, subject).await?);
            Ok(MoveReport::done())
        }
        MoveWork::Await { marker } => {
            let began = Instant::now();
            while moving::last_marker(session, subject).await? < marker {
                if began.elapsed() >= AWAIT_FOR {
                    return Ok(MoveReport::not_yet(Some("the copy is behind".to_owned())));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(MoveReport::done())
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
