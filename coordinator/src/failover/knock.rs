//! Asks a PostgreSQL server whether anybody is there, without logging in: a sign of life that needs no connection of its own and no
//! password, and that a host gives or refuses whatever its agent does.

use atoll_proto::agent::PostgresAddress;
use atoll_trust::Names;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// PostgreSQL's `SSLRequest`: its length, and the code in a version's place (PostgreSQL's documentation, 54.7 "Message Formats"). It is
/// answered with one byte before anything else is looked at.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knock {
    /// A server is there. It may still start, or stop.
    Answered,
    /// The host is there, and says that nobody listens.
    Refused,
    /// Nothing was heard in time, or nobody got so far.
    Silent,
}

/// Knocks, and waits so long for an answer.
pub(super) async fn knock(names: &Names, at: &PostgresAddress, within: Duration) -> Knock {
    match timeout(within, answer(names, at)).await {
        Ok(Ok(_)) => Knock::Answered,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Knock::Refused,
        Ok(Err(_)) | Err(_) => Knock::Silent,
    }
}

async fn answer(names: &Names, at: &PostgresAddress) -> io::Result<u8> {
    let addresses = names.addresses(&at.host).await?.into_iter().map(|address| SocketAddr::new(address, at.port));
    let mut stream = TcpStream::connect(&*addresses.collect::<Vec<_>>()).await?;
    stream.write_all(&SSL_REQUEST).await?;
    stream.read_u8().await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::net::TcpListener;

    const SOON: Duration = Duration::from_secs(5);

    fn at(address: SocketAddr) -> PostgresAddress {
        PostgresAddress { host: address.ip().to_string(), port: address.port(), database: "atoll".to_owned() }
    }

    #[tokio::test]
    async fn a_server_answers_what_it_is_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = at(listener.local_addr().unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 8];
            stream.read_exact(&mut asked).await.unwrap();
            stream.write_all(b"N").await.unwrap();
            (u32::from_be_bytes(asked[..4].try_into().unwrap()), u32::from_be_bytes(asked[4..].try_into().unwrap()))
        };
        let names = Names::default();
        let (asked, knocked) = tokio::join!(server, knock(&names, &address, SOON));
        assert_eq!((asked, knocked), ((8, 80_877_103), Knock::Answered));
    }

    #[tokio::test]
    async fn a_server_that_only_takes_the_connection_is_silent() {
        // The system takes it, as it does for a process that was stopped.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = at(listener.local_addr().unwrap());
        assert_eq!(knock(&Names::default(), &address, Duration::from_millis(50)).await, Knock::Silent);
    }

    #[tokio::test]
    async fn where_nobody_listens_it_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = at(listener.local_addr().unwrap());
        drop(listener);
        assert_eq!(knock(&Names::default(), &address, SOON).await, Knock::Refused);
    }
}
