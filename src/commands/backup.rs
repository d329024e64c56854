//! `backup`: compares copies with what is in force, and mends them.

use serde_json::json;

use super::{Desk, UNSUCCESSFUL, args::BackupArgs, columns};
use crate::{
    cli::{Console, Failure, failure},
    rotation::backup::{Care, Comparison},
};

pub(super) async fn backup(
    desk: &Desk,
    args: &BackupArgs,
    console: &mut Console<'_>,
) -> Result<u8, Failure> {
    let named = desk.secrets(&args.names)?;
    let secrets: Vec<_> =
        if args.names.is_empty() { desk.backups.names().cloned().collect() } else { named };
    let care = if args.mend { Care::Mend } else { Care::Look };
    let (mut rows, mut all_well) = (Vec::new(), true);
    for secret in secrets {
        let compared = desk.backups.attend(&desk.engine, &secret, care).await;
        let place = desk.backups.place(&secret).unwrap_or("—").to_owned();
        let well = matches!(
            compared,
            Ok(Comparison::Nothing | Comparison::Same(_) | Comparison::Written(_))
        );
        all_well &= well;
        let told = compared.map_or_else(|fault| fault.to_string(), |seen| seen.to_string());
        if desk.json {
            let line = json!({ "secret": secret, "place": place, "well": well, "told": told });
            console.write(format!("{line}\n").as_bytes())?;
        } else {
            rows.push(vec![secret.to_string(), place, told]);
        }
    }
    if !desk.json {
        console.write(columns(&["SECRET", "COPY", "TOLD"], &rows).as_bytes())?;
    }
    Ok(if all_well { failure::OK } else { UNSUCCESSFUL })
}
