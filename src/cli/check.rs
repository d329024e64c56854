//! `check`: a configuration file before it is used, or the running broker's readiness.

use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    CheckConfiguration, Console, Failure,
    args::{CheckArgs, Connection},
    failure::{OK, UNAVAILABLE, USAGE},
};

/// The name under which the broker reports its readiness; the empty name is its liveness.
const READINESS: &str = "secretbroker.v1.SecretBroker";

pub(super) async fn run(
    args: CheckArgs,
    console: &mut Console<'_>,
    check_configuration: CheckConfiguration,
) -> Result<u8, Failure> {
    if let Some(file) = &args.config {
        let summary = check_configuration(file).map_err(|told| Failure::new(USAGE, told))?;
        console.write(format!("{}\n", summary.trim_end()).as_bytes())?;
    } else {
        ready(&args.connection).await?;
        console.write(b"ready\n")?;
    }
    Ok(OK)
}

pub(super) async fn ready(connection: &Connection) -> Result<(), Failure> {
    let client = connection.client()?;
    let mut request = Request::new(HealthCheckRequest { service: READINESS.to_owned() });
    request.set_timeout(connection.timeout);
    let mut health = HealthClient::new(client.channel());
    let reply = health.check(request).await.map_err(|status| client.explain(&status))?;
    match reply.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        _ => Err(Failure::new(
            UNAVAILABLE,
            format!(
                "the broker at {} runs, but is not ready; its log says why",
                connection.address
            ),
        )),
    }
}
