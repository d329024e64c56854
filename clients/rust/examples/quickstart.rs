//! The example of the README, word for word.
use secret_broker_client::Client;
use secret_broker_client::sqlx::{PgConnectOptions, PgPoolOptions, pool};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_env()?; // SECRET_BROKER_ADDRESS and SECRET_BROKER_CERT_DIR
    let login = client.live("DB").await?; // always the current version
    let database = PgConnectOptions::new(); // PGHOST, PGPORT and PGDATABASE
    let pool = pool(&login, database, PgPoolOptions::new())?; // follows each rotation
    sqlx::query("SELECT 1").execute(&pool).await?;
    pool.close().await;
    Ok(())
}
