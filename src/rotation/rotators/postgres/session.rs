//! A session at a `PostgreSQL` server, and what its errors mean.
//!
//! Nothing that the server says goes into an error but the five characters of its error code.

use std::{future, pin::Pin};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_postgres::{
    Client, Config, Error, NoTls, Row,
    config::SslMode,
    error::SqlState,
    tls::{ChannelBinding, TlsConnect, TlsStream},
    types::ToSql,
};
use tokio_rustls::{TlsConnector, client};

use super::super::{
    login::Login,
    wire::{self, Checked},
};
use crate::{
    config::operator::targets::endpoint::{HostPort, Tls},
    domain::fault::{Fault, Reason},
    rotation::ports::TargetError,
};

/// What sessions are called in the server's list of them.
const APPLICATION: &str = "secret-operator";

/// A failure, with the server's code if it gave one.
#[derive(Debug)]
pub(super) struct Trouble {
    code: Option<SqlState>,
    fault: Fault,
}

type Ends = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// A session that was logged in. Its connection is driven while it is asked something.
pub(super) struct Session {
    address: HostPort,
    client: Client,
    /// Taken once the connection ended.
    connection: Option<Ends>,
}

impl Session {
    /// Logs in.
    pub(super) async fn open(
        address: &HostPort,
        tls: &Tls,
        database: &str,
        login: Login<'_>,
    ) -> Result<Self, Trouble> {
        let checked = wire::checked(tls, address)?;
        let mut config = Config::new();
        config
            .user(login.user)
            .password(login.password.expose())
            .dbname(database)
            .application_name(APPLICATION)
            .ssl_mode(if checked.is_some() { SslMode::Require } else { SslMode::Disable });
        let stream = wire::dial(address).await?;
        let trouble = |error: Error| Trouble::new(address, &error);
        let (client, connection): (_, Ends) = if let Some(Checked { config: tls, name }) = checked {
            let tls = Handshake { connector: tls.into(), name };
            let (client, connection) = config.connect_raw(stream, tls).await.map_err(trouble)?;
            (client, Box::pin(connection))
        } else {
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(trouble)?;
            (client, Box::pin(connection))
        };
        Ok(Self { address: address.clone(), client, connection: Some(connection) })
    }

    /// The rows of a statement with parameters.
    pub(super) async fn rows(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Trouble> {
        let Self { address, client, connection } = self;
        drive(connection, client.query(sql, parameters))
            .await
            .map_err(|error| Trouble::new(address, &error))
    }

    /// The first column of the first row, where there is one.
    pub(super) async fn value<T>(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<T>, Trouble>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let rows = self.rows(sql, parameters).await?;
        let first = rows.first().map(|row| row.try_get(0)).transpose();
        first.map_err(|error| Trouble::new(&self.address, &error))
    }

    /// Runs statements.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Trouble> {
        let Self { address, client, connection } = self;
        drive(connection, client.batch_execute(sql))
            .await
            .map_err(|error| Trouble::new(address, &error))
    }

    /// Says goodbye, so that the server logs no broken connection.
    pub(super) async fn close(self) {
        let Self { client, connection, .. } = self;
        drop(client);
        if let Some(connection) = connection {
            let _ = connection.await;
        }
    }
}

/// Waits for an answer while the connection works. If that ends first, it knows why.
async fn drive<T>(
    connection: &mut Option<Ends>,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut answer = std::pin::pin!(answer);
    let ended = async {
        match connection {
            Some(connection) => connection.await,
            None => future::pending().await,
        }
    };
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        end = ended => end?,
    }
    *connection = None;
    answer.await
}

impl Trouble {
    fn new(address: &HostPort, error: &Error) -> Self {
        let Some(code) = error.code() else {
            let detail = if error.is_closed() {
                format!("the connection to {address} broke off")
            } else {
                format!(
                    "{address} gave no `PostgreSQL` session: check its address, `tls`, `ca` and \
                     `server_name`"
                )
            };
            return Self { code: None, fault: Fault::new(Reason::Unavailable, detail) };
        };
        let (reason, what) = meaning(code);
        let shown: String = code.code().chars().filter(char::is_ascii_alphanumeric).collect();
        let detail = format!("{address}: {what} (SQLSTATE {shown})");
        Self { code: Some(code.clone()), fault: Fault::new(reason, detail) }
    }

    fn is_of(&self, class: &str) -> bool {
        self.code.as_ref().is_some_and(|code| code.code().starts_with(class))
    }

    /// Whether the server refuses the login.
    pub(super) fn is_refused_login(&self) -> bool {
        self.is_of("28")
    }

    /// What it means for the value that the session was opened with.
    pub(super) fn of_consumer(self) -> TargetError {
        let of_value = self.is_refused_login() || self.is_of("42501");
        if of_value { TargetError::refused(self.fault.detail) } else { self.fault.into() }
    }

    /// What it means when the operator did it; `sets` says that it set a password.
    pub(super) fn of_operator(self, sets: bool) -> TargetError {
        if sets && self.is_of("22023") {
            let detail = self.fault.detail;
            return TargetError::refused(format!("{detail}: a rule of the server on passwords"));
        }
        self.fault.into()
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self { code: None, fault }
    }
}

fn meaning(code: &SqlState) -> (Reason, &'static str) {
    let code = code.code();
    let class = code.get(..2).unwrap_or_default();
    match (code, class) {
        ("42501", _) => (Reason::Forbidden, "the user lacks the right to do this"),
        ("3D000" | "42704", _) => (Reason::NotFound, "there is no such role or database"),
        ("25006", _) => (Reason::Unavailable, "the server is read-only: is it a standby?"),
        ("57014", _) => (Reason::Timeout, "the server cut the statement short"),
        (_, "28") => (Reason::Unauthenticated, "the server refuses the login"),
        (_, "08" | "57") => (Reason::Unavailable, "the server is starting, stopping or lost"),
        (_, "53") => (Reason::Throttled, "the server has no room for this now"),
        (_, "40" | "55" | "58" | "XX") => (Reason::Failed, "the server failed at this"),
        _ => (Reason::Invalid, "the server does not accept the statement"),
    }
}

/// One handshake of TLS on a connection that asked for it.
struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<TcpStream> for Handshake {
    type Stream = Encrypted;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        let handshake = self.connector.connect(self.name, stream);
        Box::pin(async move { handshake.await.map(|stream| Encrypted(Box::new(stream))) })
    }
}

struct Encrypted(Box<client::TlsStream<TcpStream>>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate is always checked, so there is nobody in between to bind against.
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
