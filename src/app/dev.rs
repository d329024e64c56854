//! `dev`: a broker on an embedded catalogue, and a watcher that shows what happens.
//!
//! The watcher is an ordinary client over mTLS: it is told of each change as an application would
//! be, and acknowledges it, so that replaced leases are revoked before its eyes.

use std::{
    fmt::Write as _,
    fs::DirBuilder,
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use secret_broker_client::{Client, Event, Outcome};

use super::{StartError, dev_vault, running::Running, stopped};
use crate::{
    cli::{self, Console, args::DevArgs},
    config::{self, Credential, reload::ConfigSource},
    files::replace,
    sealing::generate_key,
    store::sealed::SealedFile,
};

const COMMON: &str = include_str!("dev.toml");
const MEMORY: &str = include_str!("dev-memory.toml");

const OPERATOR: &str = include_str!("dev-operator.toml");
const SEALED: &str = r#"
[sealed]
file = "DIRECTORY/sealed/secrets.age"
key_file = "DIRECTORY/sealed.key"
"#;

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(args: DevArgs) -> Result<(), StartError> {
    let directory = directory(args.directory)?;
    let (sources, keeper) = if args.vault {
        dev_vault::prepare().await?
    } else {
        sealed(&directory)?;
        (MEMORY.to_owned(), SEALED.to_owned())
    };
    let place = directory.display().to_string();
    let filled = |text: String| text.replace("DIRECTORY", &place);
    let listen = args.listen.to_string();
    let path = directory.join("config.toml");
    std::fs::write(&path, filled(format!("{COMMON}{sources}")).replace("LISTEN", &listen))?;
    let mount = if args.vault { dev_vault::MOUNT } else { "" };
    let operator = filled(format!("{OPERATOR}{keeper}")).replace("MOUNT\n", mount);
    std::fs::write(directory.join("operator.toml"), operator)?;
    let environment = Box::new(|name: &str| config::environment(name));
    let mut source = ConfigSource::open(path, environment)?;
    let checked = source.load().await.map_err(StartError::Configuration)?;
    let running = Running::start(checked, Vec::new()).await?;
    let address = running.address().unwrap_or(args.listen);
    let narrator = tokio::spawn(narrate(address, directory, args.vault));
    running.serve(&mut source, stopped()?).await;
    narrator.abort();
    Ok(())
}

/// Makes the encrypted file of the secrets that can be rotated, and its key, unless they are there.
fn sealed(directory: &Path) -> Result<(), StartError> {
    let (key, sealed) = (directory.join("sealed.key"), directory.join("sealed"));
    if !key.exists() {
        replace(&key, generate_key().expose())?;
    }
    match DirBuilder::new().mode(0o700).create(&sealed) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    let file = SealedFile::new(sealed.join("secrets.age"), Credential::File(key));
    file.begin(&dev_vault::sealed()?).map_err(StartError::DevSealed)
}

/// A directory of this user's only.
fn directory(wanted: Option<PathBuf>) -> io::Result<PathBuf> {
    let directory = wanted.unwrap_or_else(|| {
        let runtime = config::environment("XDG_RUNTIME_DIR").map(PathBuf::from);
        let below = runtime.unwrap_or_else(std::env::temp_dir);
        below.join(format!("secret-broker-dev-{}", rustix::process::getuid().as_raw()))
    });
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let meta = std::fs::symlink_metadata(&directory)?;
    let ours = std::os::unix::fs::MetadataExt::uid(&meta) == rustix::process::getuid().as_raw();
    if !meta.is_dir() || !ours {
        let what = format!(
            "{}: must be a directory of this user; name another with --directory",
            directory.display()
        );
        return Err(io::Error::other(what));
    }
    Ok(directory)
}

/// Shows what a watching application sees.
async fn narrate(address: SocketAddr, directory: PathBuf, vault: bool) {
    say(&introduction(address, &directory, vault));
    let url = format!("https://{address}");
    let client = Client::builder().address(&url).cert_dir(&directory).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return say(&format!("the watcher can't connect: {error}\n")),
    };
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut console = Console::of_process(&mut out, &mut err);
    let mut watch = client.watch(Vec::<String>::new());
    while let Some(event) = watch.next().await {
        match event {
            Ok(event) => {
                cli::watch::show(&event, &mut console);
                if let Event::Current(secret) | Event::Rotated(secret) = &event
                    && let Err(error) = client.report(secret, Outcome::Applied).await
                {
                    say(&format!("the acknowledgement failed: {error}\n"));
                }
            }
            Err(error) => say(&format!("the watch ended: {error}\n")),
        }
    }
}

fn introduction(address: SocketAddr, directory: &Path, vault: bool) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "secret-broker".into());
    let operator = program.with_file_name("secret-operator");
    let hint = match (operator.exists(), cfg!(debug_assertions)) {
        (true, _) => "",
        (false, true) => "\n  (first: cargo build --features operator)",
        (false, false) => "\n  (first: cargo build --release --features operator)",
    };
    let (program, operator) = (program.display(), operator.display());
    let directory = directory.display();
    let how = format!("--address https://{address} --cert-dir {directory}");
    let from = if vault { "your Vault" } else { "generated values with leases of seconds" };
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "secret-broker serves mTLS gRPC on {address}, with secrets from {from}.\n\
         \n\
         In a second terminal:\n\
         \x20 {program} list {how}\n\
         \x20 {program} get POSTGRES_PASSWORD {how}\n\
         \x20 {program} watch {how}\n\
         \n\
         The same over the Unix socket: --address unix://{directory}/broker.sock\n\
         \n\
         To see a rotation, step by step there and as an application meets it here:\n\
         \x20 {operator} rotate API_KEY_MASTER --config {directory}/operator.toml{hint}\n\
         \n\
         Each access is recorded in {directory}/audit.log\n\
         \n\
         What a watching application sees, from now on (it acknowledges each new version, and the\n\
         one before is revoked then). Ctrl-C ends it.\n"
    );
    text
}

/// Prints for the person at the terminal; one who left misses nothing.
fn say(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
