//! Orders to the group that gives a shard away.

use super::mover::{Hands, HeldFence, MoveError, Mover};
use crate::pg::moving::fence::Fence;
use crate::pg::moving::{self, copy, feed, names, sums};
use crate::pg::session::Session;
use atoll_proto::moves::{MoveOrder, MoveReport, MoveSeen, MoveWork};
use std::time::Duration;

/// Does the source's part.
pub(super) async fn carry_out(
    mover: &Mover,
    hands: &mut Hands,
    session: &Session,
    order: &MoveOrder,
) -> Result<MoveReport, MoveError> {
    let subject = &order.subject;
    match order.work {
        MoveWork::Feed => {
            feed::make(session, subject).await?;
            Ok(MoveReport::done())
        }
        MoveWork::Mark => {
            let marker = moving::mark(session, subject).await?;
            let lag_bytes = feed::lag_bytes(session, subject).await?;
            mover.worker.status.move_seen(MoveSeen {
                id: subject.id,
                rows: None,
                bytes: None,
                indexes: None,
                lag_bytes,
            });
            Ok(MoveReport { marker: Some(marker), ..MoveReport::done() })
        }
        MoveWork::Sum => {
            let (marker, sums) = sums::of_source(&mover.worker.target(), subject).await?;
            Ok(MoveReport { marker: Some(marker), sums: Some(sums), ..MoveReport::done() })
        }
        MoveWork::Fence { pause_ms } => fence(mover, hands, session, order, pause_ms).await,
        MoveWork::Retire => retire(hands, session, order).await,
        MoveWork::RemoveFeed => {
            *hands = Hands::default();
            let moves = mover.applier.current().borrow().as_ref().map_or(0, |desired| desired.moves.len());
            feed::remove(session, subject, moves <= 1).await?;
            Ok(MoveReport::done())
        }
        MoveWork::DropRetired => {
            copy::drop_retired(session, subject).await?;
            Ok(MoveReport::done())
        }
        MoveWork::Receive
        | MoveWork::Copied
        | MoveWork::Index
        | MoveWork::Warm
        | MoveWork::Await { .. }
        | MoveWork::Hold
        | MoveWork::SumAt { .. }
        | MoveWork::TakeOver { .. }
        | MoveWork::Restore
        | MoveWork::StepBack
        | MoveWork::RemoveSubscription
        | MoveWork::DropCopy => Err(MoveError::NotReady { reason: "not the source's to do".to_owned() }),
    }
}

async fn fence(
    mover: &Mover,
    hands: &mut Hands,
    session: &Session,
    order: &MoveOrder,
    pause_ms: u32,
) -> Result<MoveReport, MoveError> {
    if let Some(retired) = names::retired(session, &order.subject).await? {
        // By a leader before this one.
        return Ok(MoveReport { marker: Some(retired.marker), held_ms: Some(retired.held_ms), ..MoveReport::done() });
    }
    if let Some(held) = &hands.fence
        && held.ordered_at == order.ordered_at
        && !held.retired.is_finished()
    {
        let held_ms = u64::try_from(held.since.elapsed().as_millis()).ok();
        return Ok(MoveReport { marker: Some(held.marker), held_ms, ..MoveReport::done() });
    }
    hands.fence = None;
    let still = mover.still().await?;
    let pause = Duration::from_millis(u64::from(pause_ms));
    let fence = Fence::take(&mover.worker.target(), &order.subject, order.ordered_at, pause / 4).await?;
    let held = HeldFence::new(fence, still, order.ordered_at, pause);
    let report = MoveReport {
        marker: Some(held.marker),
        held_ms: u64::try_from(held.since.elapsed().as_millis()).ok(),
        ..MoveReport::done()
    };
    hands.fence = Some(held);
    Ok(report)
}

async fn retire(hands: &mut Hands, session: &Session, order: &MoveOrder) -> Result<MoveReport, MoveError> {
    if names::retired(session, &order.subject).await?.is_some() {
        return Ok(MoveReport::done());
    }
    let let_go = || MoveError::NotReady { reason: "the lock was let go".to_owned() };
    let held = hands.fence.take().filter(|held| held.ordered_at == order.ordered_at).ok_or_else(let_go)?;
    // An error means that it was let go at this very moment; the task tells.
    let _ = held.retire.send(());
    held.retired.await.unwrap_or_else(|_| Err(let_go()))?;
    Ok(MoveReport::done())
}
