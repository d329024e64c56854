//! `bootstrap`: the configuration's Vault, reached with the rights of whoever types.

use std::{io, path::Path, process::ExitCode, sync::Arc};

use super::{compose, hush, load, read};
use crate::{
    app::{
        StartError, complain,
        stores::{Server, Surroundings},
    },
    cli::{Console, failure},
    commands::{
        args::BootstrapVault,
        bootstrap::{vault, write_policies},
    },
    config::{
        self, AuthMethod, Credential, Mistakes, VaultAuth,
        operator::{Keeper, OperatorConfig, pods::Pods},
    },
    domain::secret::SecretValue,
    store::VersionKey,
    telemetry::Metrics,
};

/// The variable of an administrator's token.
const TOKEN: &str = "VAULT_TOKEN";

pub(super) async fn bootstrap(path: &Path, args: BootstrapVault, json: bool) -> ExitCode {
    let mut config = match load(path) {
        Ok(config) => config,
        Err(error) => return complain(&error, failure::USAGE),
    };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut console = Console::of_process(&mut out, &mut err).of("secret-operator");
    if let Err(error) = hush(&config) {
        return complain(&error, failure::USAGE);
    }
    if let Some(path) = &args.inject {
        match pods(path, &config) {
            Ok((pods, left)) => {
                config.bootstrap.pods = pods;
                for left in left {
                    console.complain(&format!("{}: {left}", path.display()));
                }
            }
            Err(error) => return complain(&error, failure::USAGE),
        }
    }
    let ended = if let Some(directory) = &args.policies {
        write_policies(&config, directory, &mut console)
    } else {
        let server = match connect(&mut config, &args) {
            Ok(server) => server,
            Err(error) => return complain(&error, failure::OTHER),
        };
        vault(&config, server.store.as_ref(), &args, json, &mut console).await
    };
    ExitCode::from(console.end(ended))
}

/// What the webhook's configuration says of Vault, and what no role can be made of.
fn pods(path: &Path, config: &OperatorConfig) -> Result<(Pods, Vec<config::Mistake>), StartError> {
    let text = read(path, "")?;
    let environment = |name: &str| config::environment(name);
    let origin = path.display().to_string();
    let (pods, left) =
        Pods::parse(&text, &origin, &environment).map_err(StartError::Configuration)?;
    let all = pods.clashes(&config.bootstrap);
    if all.is_empty() {
        return Ok((pods, left));
    }
    Err(StartError::Configuration(Mistakes { origin, all }))
}

fn connect(config: &mut OperatorConfig, args: &BootstrapVault) -> Result<Server, StartError> {
    let Keeper::Vault { vault, .. } = &mut config.keeper else {
        return Err(StartError::OperatorVault);
    };
    if let Some(address) = &args.address {
        vault.address.clone_from(address);
        vault.server_name = None;
    }
    if args.ca.is_some() {
        vault.ca.clone_from(&args.ca);
    }
    if let Some(token) = config::environment(TOKEN) {
        let token = Credential::Value(SecretValue::new(token));
        vault.auth = VaultAuth { mount: "token".to_owned(), method: AuthMethod::Token { token } };
        vault.client_cert = None;
    }
    let key = VersionKey::generate().map_err(StartError::Randomness)?;
    let around = Surroundings {
        clock: compose::clock(),
        metrics: Arc::new(Metrics::new()),
        versions: Arc::new(key),
        seed: 1,
    };
    let auth = VaultAuth { mount: String::new(), method: AuthMethod::Cert { name: None } };
    let settings = config::Vault {
        address: vault.address.clone(),
        namespace: vault.namespace.clone(),
        ca: vault.ca.clone(),
        client_cert: vault.client_cert.clone(),
        server_name: vault.server_name.clone(),
        auth: std::mem::replace(&mut vault.auth, auth),
        ..**vault
    };
    Ok(Server::connect(settings, &around, 0)?)
}
