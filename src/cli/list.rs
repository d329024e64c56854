//! `list`: prints what may be read, without values.

use secret_broker_client::Metadata;

use super::{
    Console, Failure,
    args::ListArgs,
    failure,
    output::{MetadataJson, json_line, reason_name, rfc3339, state_name, table},
};

pub(super) async fn run(args: ListArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let found = args.connection.client()?.list(args.category.as_deref()).await?;
    if args.json {
        let found: Vec<_> = found.iter().map(MetadataJson::from).collect();
        console.write(&json_line(&found))?;
    } else {
        let rows: Vec<_> = found.iter().map(row).collect();
        let heading = ["NAME", "CATEGORY", "STATE", "VERSION", "ENDS", "REASON"];
        console.write(table(&heading, &rows).as_bytes())?;
    }
    Ok(failure::OK)
}

fn row(metadata: &Metadata) -> Vec<String> {
    vec![
        metadata.name.clone(),
        metadata.category.clone(),
        state_name(metadata.state).to_owned(),
        metadata.version.clone(),
        metadata.expires_at.map(rfc3339).unwrap_or_default(),
        metadata.reason.map(reason_name).unwrap_or_default().to_owned(),
    ]
}
