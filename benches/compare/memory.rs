//! Resident memory, idle and with many leases.

use std::{fmt::Write, time::Duration};

use secret_broker_client::proto::GetSecretRequest;

use crate::{
    contenders::{Contender, LEASES, Rig},
    load::Ask,
    process::resident,
    report::{Report, megabytes},
};

/// The time after which what was needed for the start alone has been given back.
const SETTLE: Duration = Duration::from_secs(3);
const SECRET: &str = "[secrets.DB]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"database\"\nrole = \"app\"\n";

async fn settled(contender: &Contender) -> f64 {
    tokio::time::sleep(SETTLE).await;
    resident(contender.pid())
}

/// Reads each lease once.
async fn read_all(contender: &Contender, ask: impl Fn(usize) -> Ask) {
    let mut connection = contender.target.connect().await.unwrap();
    for i in 0..LEASES {
        let target = crate::load::Target { ask: ask(i), ..contender.target.clone() };
        connection.read(&target).await.expect("a lease");
    }
}

pub async fn measure(rig: &Rig, report: &mut Report) {
    let mut idle = Vec::new();
    for start in
        [&|| rig.broker(SECRET) as Contender, &|| rig.vaults("agent"), &|| rig.vaults("proxy")]
            as [&dyn Fn() -> Contender; 3]
    {
        let contender = start().ready().await;
        idle.push(megabytes(settled(&contender).await));
    }
    report.row("resident memory, idle", spread(idle));

    rig.add_roles().await;
    let mut many = String::from(SECRET);
    for i in 0..LEASES {
        let _ = writeln!(
            many,
            "[secrets.DB{i}]\ncategory = \"database\"\nstore = \"vault\"\nengine = \"database\"\nrole = \"app{i}\""
        );
    }
    let mut full = Vec::new();
    let broker = rig.broker(&many).ready().await;
    read_all(&broker, |i| Ask::grpc("GetSecret", &GetSecretRequest { name: format!("DB{i}") }))
        .await;
    full.push(megabytes(settled(&broker).await));
    drop(broker);
    for kind in ["agent", "proxy"] {
        let contender = rig.vaults(kind).ready().await;
        read_all(&contender, |i| Ask::Http { path: format!("database/creds/app{i}") }).await;
        full.push(megabytes(settled(&contender).await));
    }
    report.row(&format!("resident memory, {LEASES} live leases"), spread(full));
}

fn spread(values: Vec<String>) -> Vec<String> {
    let [broker, agent, proxy] = values.try_into().unwrap();
    vec![broker, String::new(), String::new(), agent, proxy]
}
