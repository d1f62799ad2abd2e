//! `atoll key`: API keys made, listed and taken away, also made by the cluster secret; and the key that all commands send.

use super::client::{Answer, Client, Trusted};
use super::error::CommandError;
use super::one_of;
use super::output::{Output, or_dash, table};
use atoll_proto::key::{
    CreateKey, CreatedKey, KEY_SECONDS_MAX, KeyAccess, KeyId, KeyInfo, KeyList, RECOVER_PATH, RecoverKey,
};
use atoll_proto::key_namespaces::{KeyNamespaces, NamespacePattern};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Holds the key that commands send. No flag does: other users of the machine see those.
const VARIABLE: &str = "ATOLL_KEY";
const ACCESS: &[&str] = &["read", "write", "admin"];

const AFTER_HELP: &str = "\
Examples:
  atoll key create operator --access admin                       the first one: from then on every request needs a key
  export ATOLL_KEY=atoll_…                                       the key that commands send; or --key-file
  atoll key create search-service --access read
  atoll key create importer --access write --expires-in 30d
  atoll key create team-a --access write --namespace 'team-a:*'  for namespaces that begin so, and no others
  atoll key list
  atoll key remove 3f0a91c2d47b

A key is shown once, when it is made: the cluster keeps a hash of it. To follow one by another, make the new one, give it to whoever uses
it, and remove the old one: both are valid meanwhile. Where all admin keys are lost, one who can read the cluster secret on a
coordinator's host makes another: atoll key recover --secret-file FILE.";

/// What can be done with keys.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = AFTER_HELP)]
pub(crate) enum KeyCommand {
    /// Make a key, and show it, this once.
    Create {
        /// Whose it is, for people.
        name: String,
        /// read: search and get entries; write: write and delete them too; admin: everything.
        #[arg(long, value_parser = one_of::<KeyAccess>(ACCESS))]
        access: KeyAccess,
        /// A namespace that it is for, or `beginning*` for all that begin so; may be given several times. All namespaces if not given.
        #[arg(long = "namespace", value_name = "NAMESPACE")]
        namespaces: Vec<NamespacePattern>,
        /// How long it is valid: 12h, 30d; for ever if not given.
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires_in: Option<u64>,
        /// Write the key into this new file, for its owner alone to read, in place of showing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make a key with access admin by the cluster secret, where all such keys are lost. Asks a coordinator's internal listener.
    Recover {
        /// Whose it is, for people.
        #[arg(default_value = "recovered")]
        name: String,
        /// File with the cluster secret: what `secret_file` names in the coordinator's configuration.
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// The coordinator's address for coordinators and agents.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7750")]
        internal_url: String,
        /// Certificate to show there, where the programs of the cluster show each other theirs: the coordinator's own will do.
        #[arg(long, value_name = "FILE", requires = "cert_key_file")]
        cert_file: Option<PathBuf>,
        /// The certificate's key.
        #[arg(long, value_name = "FILE", requires = "cert_file")]
        cert_key_file: Option<PathBuf>,
        /// Write the key into this new file, for its owner alone to read, in place of showing it.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List keys, the oldest first.
    List,
    /// Take a key away.
    Remove {
        /// Its id: see `atoll key list`; it also stands in the key, between the underscores.
        #[arg(value_parser = id)]
        id: KeyId,
        /// Take the last one away too: nobody is asked for a key any more.
        #[arg(long)]
        open: bool,
    },
}

impl KeyCommand {
    /// Does it. `trusted` is for a coordinator's internal address.
    pub(crate) async fn run(self, client: &Client, trusted: Trusted, output: &Output) -> Result<(), CommandError> {
        match self {
            Self::Create { name, access, namespaces, expires_in, out } => {
                let namespaces = KeyNamespaces::try_from(namespaces)
                    .map_err(|error| CommandError::Usage(format!("--namespace: {error}")))?;
                let body = CreateKey { name, access, namespaces, expires_in_seconds: expires_in };
                tell_made(client.post("/v1/admin/keys", &body), out, output).await
            }
            Self::Recover { name, secret_file, internal_url, cert_file, cert_key_file, out } => {
                // The first of several is the one to show.
                let secrets = text_of(&secret_file, "the cluster secret")?;
                let secret = secrets.lines().next().unwrap_or_default().trim();
                let trusted = Trusted { shown: cert_file.zip(cert_key_file), ..trusted };
                let client = Client::trusting(&internal_url, client.timeout_ms(), &trusted)?.with_bearer(secret)?;
                tell_made(client.post(RECOVER_PATH, &RecoverKey { name }), out, output).await
            }
            Self::List => {
                let answer = client.get("/v1/admin/keys").await?;
                output.show(&answer, |list: KeyList| keys_table(&list.keys))
            }
            Self::Remove { id, open } => {
                let open = if open { "?open=true" } else { "" };
                let answer = client.delete(&format!("/v1/admin/keys/{id}{open}")).await?;
                output.show(&answer, |left: KeyList| match left.keys.is_empty() {
                    true => format!("key {id} is gone; nobody is asked for a key any more"),
                    false => format!("key {id} is gone"),
                })
            }
        }
    }
}

/// Has a key made, and tells it: into the file `out`, if there is one.
async fn tell_made(
    made: impl Future<Output = Result<Answer, CommandError>>,
    out: Option<PathBuf>,
    output: &Output,
) -> Result<(), CommandError> {
    let Some(path) = out else { return output.show(&made.await?, |created: CreatedKey| shown(&created)) };
    // Before there is a key that nobody could be told.
    let mut file = new_file(&path)?;
    let answer = made.await.inspect_err(|_| {
        // It is empty, and in the way of the next try.
        let _ = std::fs::remove_file(&path);
    })?;
    let created: CreatedKey = answer.parse()?;
    let written = writeln!(file, "{}", created.key).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Nobody else knows it, and it may be the first one.
        eprintln!("{}", created.key);
        return Err(unwritable(&path, &error));
    }
    output.line(format_args!("key {} is in {}", created.info.id, path.display()))
}

/// The key that commands send, if there is one: out of the file, else out of the environment.
pub(crate) fn configured(file: Option<&Path>) -> Result<Option<String>, CommandError> {
    let text = match file {
        Some(path) => text_of(path, "the key")?,
        None => std::env::var(VARIABLE).unwrap_or_default().trim().to_owned(),
    };
    Ok(Some(text).filter(|key| !key.is_empty()))
}

/// What a file holds, without white space around it.
fn text_of(path: &Path, what: &str) -> Result<String, CommandError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(CommandError::Usage(format!("{}: {what} cannot be read: {error}", path.display()))),
    }
}

fn new_file(path: &Path) -> Result<std::fs::File, CommandError> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::Failed(format!("{}: {error}", path.display()))
}

/// An id. Never the whole key: it would stand in the path of the request, and so in logs.
fn id(text: &str) -> Result<KeyId, String> {
    KeyId::parse(text)
        .ok_or_else(|| "an id is twelve hexadecimal digits: those between the underscores of a key".to_owned())
}

/// Seconds, out of a number and s, m, h or d.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "a number and one of s, m, h, d, such as 30d; ten years at most".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let of_unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(of_unit).filter(|seconds| (1..=KEY_SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(wrong)
}

fn shown(created: &CreatedKey) -> String {
    format!(
        "{}\n\nkey {} of {}, access {}, namespaces {}: it is shown this once, keep it safe",
        created.key, created.info.id, created.info.name, created.info.access, created.info.namespaces
    )
}

fn keys_table(keys: &[KeyInfo]) -> String {
    if keys.is_empty() {
        return "no keys: nobody is asked for one".to_owned();
    }
    let rows = keys.iter().map(|key| {
        let expires = or_dash(key.expires_at.as_deref());
        let namespaces = key.namespaces.to_string();
        let expires = if key.expired { format!("{expires} (expired)") } else { expires };
        [key.id.to_string(), key.name.clone(), key.access.to_string(), namespaces, key.created_at.clone(), expires]
    });
    table(&["KEY", "NAME", "ACCESS", "NAMESPACES", "MADE", "EXPIRES"], rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(["90s", "5m", "12h", "30d"].map(|text| seconds(text).unwrap()), [90, 300, 43_200, 2_592_000]);
        for wrong in ["", "30", "d", "-1d", "0s", "4000d", "1\u{e9}", "99999999999999999999d"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_file_is_for_its_owner_alone_and_never_written_over() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        drop(new_file(&path).unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(new_file(&path).is_err());
        std::fs::write(&path, " atoll_x \n").unwrap();
        assert_eq!(configured(Some(&path)).unwrap().as_deref(), Some("atoll_x"));
        assert!(configured(Some(&folder.path().join("other"))).is_err());
    }
}
