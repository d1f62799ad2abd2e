//! Watches the server: connects, judges it, makes it ready, then asks once a second whether it still answers.

use crate::pg::admission::{Refusal, admit};
use crate::pg::connect::{PgError, chain};
use crate::pg::endpoints::{self, Endpoints, NoPrimary};
use crate::pg::facts::ServerFacts;
use crate::pg::session::Session;
use crate::pg::{applied, bootstrap, position};
use crate::secret::{Secret, SecretError};
use crate::stop::Stop;
use crate::worker::{ServerState, Worker};
use atoll_proto::agent::WorkerMode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ASK_EVERY: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// A server that is starting is asked often, so that it serves soon.
const DOWN_ASK_EVERY: Duration = Duration::from_millis(200);
const REFUSED_ASK_EVERY: Duration = Duration::from_secs(5);
/// While the agent is this young its server may still be starting, and takes no connection yet: nothing to warn of.
const STARTING: Duration = Duration::from_secs(10);
/// The server's settings are judged again after this many answers: they can be changed while it runs.
const JUDGE_AFTER_ANSWERS: u32 = 10;

#[derive(Debug, thiserror::Error)]
enum NotReady {
    #[error("the server may not be a worker")]
    Refused(#[from] Refusal),
    #[error("the server does not serve")]
    Postgres(#[from] PgError),
    #[error("the coordinators' password is missing")]
    Password(#[from] SecretError),
    #[error("the server is not its group's primary")]
    Standby,
    #[error("there is no server to work with")]
    NoPrimary(#[from] NoPrimary),
    #[error("another server takes writes now, or shall")]
    Overtaken,
}

/// Watches until `stop`.
pub async fn watch(worker: Arc<Worker>, mut stop: Stop) {
    let mut told = String::new();
    let mut endpoints = match worker.config.mode {
        WorkerMode::External => Some(Endpoints::new(worker.config.postgres.places())),
        WorkerMode::Managed => None,
    };
    let began = Instant::now();
    loop {
        if worker.is_still() {
            worker.server.set(ServerState::Standby);
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => continue,
                () = stop.told() => return,
            }
        }
        let outcome = tokio::select! {
            outcome = serve_as_long_as_it_can(&worker, &mut endpoints, &mut told) => outcome,
            () = stop.told() => return,
        };
        let text = chain(&outcome);
        let wait = match &outcome {
            NotReady::Refused(refusal) => {
                log_once(&mut told, &text, || tracing::error!(reason = %refusal, "this server is refused as a worker"));
                worker.server.set(ServerState::Refused { reason: refusal.to_string() });
                REFUSED_ASK_EVERY
            }
            NotReady::NoPrimary(NoPrimary::Strangers { said }) => {
                log_once(&mut told, &text, || tracing::error!(reason = said, "no server can be worked with"));
                worker.status.answered(false);
                worker.status.refused(text.clone());
                worker.server.set(ServerState::Refused { reason: text.clone() });
                DOWN_ASK_EVERY
            }
            NotReady::Postgres(_) | NotReady::NoPrimary(NoPrimary::Nobody { .. }) | NotReady::Overtaken => {
                if outcome.is_without_answer() {
                    worker.status.answered(false);
                }
                if began.elapsed() < STARTING {
                    tracing::debug!(error = text, "PostgreSQL does not serve yet");
                } else {
                    log_once(&mut told, &text, || tracing::warn!(error = text, "PostgreSQL does not serve"));
                }
                worker.server.set(ServerState::Down { reason: text.clone() });
                DOWN_ASK_EVERY
            }
            NotReady::Standby => LOOK_EVERY,
            NotReady::Password(_) => {
                log_once(&mut told, &text, || tracing::error!(error = text, "PostgreSQL cannot be made ready"));
                worker.server.set(ServerState::Down { reason: text.clone() });
                REFUSED_ASK_EVERY
            }
        };
        tokio::select! {
            _ = tokio::time::sleep(wait) => {}
            () = stop.told() => return,
        }
    }
}

/// Returns only with the reason why the server serves no longer.
async fn serve_as_long_as_it_can(worker: &Worker, endpoints: &mut Option<Endpoints>, told: &mut String) -> NotReady {
    if let Some(endpoints) = endpoints
        && let Err(reason) = endpoints.find(worker).await
    {
        return reason.into();
    }
    match make_ready(worker).await {
        Ok((session, facts)) => {
            tracing::info!(
                version = facts.version,
                pgvector = facts.pgvector().unwrap_or_default(),
                port = worker.target().port,
                "PostgreSQL serves"
            );
            told.clear();
            worker.server.set(ServerState::Ready(Box::new(facts)));
            let several = endpoints.as_mut().filter(|endpoints| endpoints.are_several());
            match ask_always(worker, &session, several).await {
                Ok(never) => match never {},
                Err(reason) => reason,
            }
        }
        Err(reason) => reason,
    }
}

async fn make_ready(worker: &Worker) -> Result<(Session, ServerFacts), NotReady> {
    let target = &worker.target();
    let first = target.first_database.as_deref().unwrap_or(&target.database);
    // An old extension is no reason yet: it is updated below, if it can be.
    judge(worker, &target.connect_to(first, ANSWER_LIMIT).await?, ServerFacts::pgvector_to_come).await?;
    bootstrap::make_database(target).await?;
    bootstrap::make_ready(target, &Secret::read(&worker.config.postgres_password_file)?).await?;
    let session = target.connect(ANSWER_LIMIT).await?;
    // Again, because now it is known which pgvector is installed.
    let facts = judge(worker, &session, ServerFacts::pgvector).await?;
    if let (WorkerMode::Managed, Some(settings)) = (worker.config.mode, &facts.pending_restart) {
        tracing::warn!(settings, "PostgreSQL runs with older settings until it is started anew");
    }
    worker.status.found_applied(applied::read(&session).await?.and_then(|row| row.applied));
    Ok((session, facts))
}

async fn judge(
    worker: &Worker,
    session: &Session,
    pgvector: impl FnOnce(&ServerFacts) -> Option<&str>,
) -> Result<ServerFacts, NotReady> {
    let facts = ServerFacts::read(session, &worker.identity()).await?;
    worker.status.answered(true);
    let judgement = admit(&facts, pgvector(&facts), worker.config.allow_old_pgvector);
    worker.status.described(facts.for_coordinators(), judgement.as_ref().err().map(ToString::to_string));
    judgement?;
    Ok(facts)
}

async fn ask_always(
    worker: &Worker,
    session: &Session,
    mut several: Option<&mut Endpoints>,
) -> Result<std::convert::Infallible, NotReady> {
    loop {
        for _ in 0..JUDGE_AFTER_ANSWERS {
            let asked_at = Instant::now();
            // A server that dies closes the connection, which is seen without asking.
            while !session.is_closed() && asked_at.elapsed() < ASK_EVERY {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if worker.is_still() {
                return Err(NotReady::Standby);
            }
            if several.is_some() && !endpoints::takes_writes(session).await? {
                return Err(NotReady::Overtaken);
            }
            let settled = position::settled(session).await?;
            worker.status.answered(true);
            worker.status.settled(settled);
        }
        judge(worker, session, ServerFacts::pgvector).await?;
        // The one before may not know, and take writes still.
        if let Some(endpoints) = &mut several
            && endpoints.is_overtaken(worker).await
        {
            return Err(NotReady::Overtaken);
        }
    }
}

impl NotReady {
    /// Whether the server gave no answer, or is not to be asked any more.
    fn is_without_answer(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_lost() || error.is_cancelled(),
            Self::NoPrimary(_) | Self::Overtaken => true,
            Self::Refused(_) | Self::Password(_) | Self::Standby => false,
        }
    }
}

/// Logs what is new; the same text again is not worth a line.
fn log_once(told: &mut String, text: &str, log: impl FnOnce()) {
    if told != text {
        text.clone_into(told);
        log();
    }
}
