//! From start to the first secret.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    contenders::{Contender, Rig},
    report::{Report, median, millis},
};

const STARTS: usize = 5;
const SECRET: &str = "[secrets.DB]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"database\"\nrole = \"app\"\n";

/// Asks again and again until there is an answer.
async fn first_secret(start: impl Fn() -> Contender) -> f64 {
    let begun = Instant::now();
    let contender = start();
    loop {
        if contender.target.once().await.is_ok() {
            return begun.elapsed().as_secs_f64();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{} does not start", contender.name);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What Vault itself takes for a login and one lease.
async fn vault_alone(rig: &Rig) -> f64 {
    let read = |name: &str| std::fs::read_to_string(rig.path(name)).unwrap();
    let login = json!({ "role_id": read("role-id"), "secret_id": read("secret-id") });
    let begun = Instant::now();
    rig.vault.write("auth/approle/login", login).await;
    rig.vault.read("database/creds/app").await;
    begun.elapsed().as_secs_f64()
}

pub async fn measure(rig: &Rig, report: &mut Report) {
    let mut times: [Vec<f64>; 3] = Default::default();
    for _ in 0..STARTS {
        let vault = vault_alone(rig).await;
        times[0].push(first_secret(|| rig.broker(SECRET)).await - vault);
        times[1].push(first_secret(|| rig.vaults("agent")).await - vault);
        times[2].push(first_secret(|| rig.vaults("proxy")).await - vault);
    }
    let [broker, agent, proxy] = times.map(|times| millis(median(times.into_iter())));
    report.row(
        "start to first secret, beyond Vault's own answers",
        vec![broker, String::new(), String::new(), agent, proxy],
    );
}
