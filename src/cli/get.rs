//! `get`: prints one secret.

use std::fmt::Write;

use secret_broker_client::Secret;
use zeroize::Zeroizing;

use super::{
    Console, Failure,
    args::GetArgs,
    binding, failure,
    output::{Hex, SecretJson, freshness, json_line, time_left},
};

pub(super) async fn run(args: GetArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let client = args.connection.client()?;
    let secret = client.get(&args.name).await.map_err(|error| Failure::of(&args.name, &error))?;
    if let Some(field) = &args.field {
        let value = secret.field(field).ok_or_else(|| binding::missing(&secret, field))?;
        console.write(value)?;
        if console.is_terminal() {
            console.write(b"\n")?;
        }
    } else if args.json {
        console.write(&json_line(&SecretJson::with_values(&secret)))?;
    } else {
        console.write(for_people(&secret, console).as_bytes())?;
    }
    Ok(failure::OK)
}

fn for_people(secret: &Secret, console: &Console<'_>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{} {value}", console.styled("1", &format!("{label:<12}")));
    };
    line("name", secret.name());
    line("version", secret.version());
    line("generation", &secret.generation().to_string());
    line("fresh", freshness(secret));
    line("time left", &time_left(secret));
    for (field, value) in secret.fields() {
        match std::str::from_utf8(value) {
            Ok(value) => line(field, value),
            Err(_) => line(field, &format!("(hex) {}", Hex(value))),
        }
    }
    text
}
