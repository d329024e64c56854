//! The broker as a client of its own: it renders the templates of `serve --render`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use secret_broker_client::Client;

use super::StartError;
use crate::{
    cli::{
        Failure, failure,
        render::{serving, spec::Template},
    },
    config::{Server, Tls},
    telemetry::Blocker,
};

/// The way in that the broker takes: its Unix socket, where it is known by its own user, else its TCP listener with the
/// certificate that its authority made for the application.
pub(super) fn client(
    server: &Server,
    tls: Option<&Tls>,
    address: Option<SocketAddr>,
) -> Result<Client, StartError> {
    let builder = match (&server.socket, tls, address) {
        (Some(socket), _, _) => {
            Client::builder().address(format!("unix://{}", socket.path.display()))
        }
        (None, Some(Tls::Authority { directory, .. }), Some(address)) => {
            Client::builder().address(format!("https://{}", nearest(address))).cert_dir(directory)
        }
        _ => {
            let what = "--render needs a way in of the broker's own: set server.socket, or tls.source = \"authority\"";
            return Err(StartError::Render { exit: failure::USAGE, what: what.to_owned() });
        }
    };
    builder.build().map_err(|error| refused(error.into()))
}

/// Renders for as long as it is polled. `startup` falls when every template was written.
pub(super) async fn keep(client: Client, templates: Vec<Template>, startup: Blocker) {
    serving::keep(client, templates, startup, tell).await;
}

/// Renders once.
pub(super) async fn once(client: Client, templates: Vec<Template>) -> Result<(), StartError> {
    serving::once(client, templates, tell).await.map_err(refused)
}

fn tell(problem: &str) {
    tracing::warn!(problem, "templates are not rendered");
}

fn refused(failure: Failure) -> StartError {
    StartError::Render { exit: failure.exit, what: failure.message.unwrap_or_default() }
}

/// Where this machine reaches an address that is listened on.
fn nearest(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
