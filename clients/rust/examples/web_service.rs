//! A web service that outlives the rotation of its database login and of its signing key.
//!
//! `POST /sessions {"user": …}` gives a token; `POST /notes` and `GET /notes` want it. Settings: `SECRET_BROKER_ADDRESS`
//! and `SECRET_BROKER_CERT_DIR`, `PGHOST`, `PGPORT` and `PGDATABASE`; the first argument is where to listen.

#![expect(clippy::print_stdout, reason = "tells where it listens")]

use std::error::Error;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::{get, post},
};
use secret_broker_client::{
    Client,
    jwt::Tokens,
    sqlx::{PgConnectOptions, PgPool, PgPoolOptions, pool},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Clone)]
struct Service {
    pool: PgPool,
    tokens: Tokens,
}

#[derive(Clone, Serialize, Deserialize)]
struct Session {
    user: String,
}

type Answer<T> = Result<T, (StatusCode, String)>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::from_env()?;
    let (login, key) = (client.live("DB").await?, client.live("JWT").await?);
    let service = Service {
        pool: pool(&login, PgConnectOptions::new(), PgPoolOptions::new().max_connections(8))?,
        tokens: Tokens::new(key),
    };
    let routes = Router::new()
        .route("/sessions", post(begin))
        .route("/notes", get(read).post(write))
        .with_state(service);
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(axum::serve(listener, routes).await?)
}

async fn begin(State(service): State<Service>, Json(session): Json<Session>) -> Answer<String> {
    service.tokens.sign(&session).map_err(|error| failed(&error))
}

async fn read(State(service): State<Service>, headers: HeaderMap) -> Answer<Json<Vec<String>>> {
    authenticated(&service, &headers)?;
    let notes = sqlx::query_scalar("SELECT text FROM notes ORDER BY id DESC LIMIT 10");
    Ok(Json(notes.fetch_all(&service.pool).await.map_err(|error| failed(&error))?))
}

async fn write(
    State(service): State<Service>,
    headers: HeaderMap,
    text: String,
) -> Answer<StatusCode> {
    let session = authenticated(&service, &headers)?;
    sqlx::query("INSERT INTO notes (text) VALUES ($1)")
        .bind(format!("{}: {text}", session.user))
        .execute(&service.pool)
        .await
        .map_err(|error| failed(&error))?;
    Ok(StatusCode::CREATED)
}

fn authenticated(service: &Service, headers: &HeaderMap) -> Answer<Session> {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    service.tokens.verify(token).map_err(|error| (StatusCode::UNAUTHORIZED, error.to_string()))
}

fn failed(error: &dyn Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
