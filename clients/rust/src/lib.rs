//! Client of the secret broker that runs beside an application.
//!
//! - A value is wiped from memory when its [`Secret`] is dropped, and `Debug` never shows it. What the HTTP/2 and
//!   TLS layers buffered on the way is theirs; a zeroising allocator covers that as well.
//! - Certificates are read again at each new connection when their files changed.
//! - Every call ends by its deadline; a [`Watch`] has none and resumes by itself.
//!
//! ```no_run
//! # async fn example() -> Result<(), secret_broker_client::Error> {
//! use secret_broker_client::{Client, Event, Outcome};
//!
//! // SECRET_BROKER_ADDRESS and SECRET_BROKER_CERT_DIR say where and as whom.
//! let client = Client::from_env()?;
//! let secret = client.get("POSTGRES_PASSWORD").await?;
//! let password = secret.text("password").unwrap_or_default();
//! // … log in with it, then let the broker revoke the version before.
//! # let _ = password;
//! client.report(&secret, Outcome::Worked).await?;
//!
//! let mut watch = client.watch(["POSTGRES_PASSWORD"]).holding([&secret]);
//! while let Some(event) = watch.next().await {
//!     if let Event::Rotated(secret) = event? {
//!         // … log in with the new version.
//!         client.report(&secret, Outcome::Applied).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod address;
mod backoff;
mod builder;
mod client;
mod connect;
#[cfg(feature = "deadpool-postgres")]
pub mod deadpool_postgres;
mod error;
mod hooks;
#[cfg(feature = "jwt")]
pub mod jwt;
mod live;
#[cfg(any(feature = "sqlx", feature = "deadpool-postgres"))]
mod login;
pub mod proto;
mod secret;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod tls;
mod watch;
mod watched;

pub use address::Address;
pub use builder::{ADDRESS_VARIABLE, Builder, CERT_DIR_VARIABLE};
pub use client::{Client, Outcome};
pub use error::Error;
pub use hooks::{BoxError, Hook};
pub use live::{Live, Opening, Standing};
pub use proto::{ErrorReason as Reason, SecretState as State};
pub use secret::{Freshness, Metadata, Previous, Secret};
pub use watch::Watch;
pub use watched::Event;
