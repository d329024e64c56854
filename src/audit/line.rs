//! One audit record as a JSON line, written without building a tree first.

use std::io::Write;

use jiff::Timestamp;

use super::{Access, Outcome};

/// Bytes of a text that a caller controls; longer ones are cut.
const TEXT_BYTES: usize = 2048;

/// Appends the line of one access.
pub(super) fn write(line: &mut Vec<u8>, time: Timestamp, id: (u64, u64), access: &Access<'_>) {
    // Writing to memory does not fail.
    let _ = write!(line, r#"{{"time":"{time:.3}","request_id":"{:x}-{:x}","caller":"#, id.0, id.1);
    text(line, access.caller);
    let _ = write!(line, r#","verb":"{}","secret":"#, access.verb.name());
    text(line, access.secret);
    if let Some((version, generation)) = access.version {
        if !version.is_empty() {
            line.extend_from_slice(br#","version":"#);
            text(line, version);
        }
        let _ = write!(line, r#","generation":{}"#, generation.0);
    }
    #[cfg(feature = "operator")]
    for (key, value) in [("about", access.about), ("why", access.why)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = write!(line, r#","{key}":"#);
            text(line, value);
        }
    }
    let (outcome, reason) = match access.outcome {
        Outcome::Allowed => ("allowed", None),
        Outcome::Denied(reason) => ("denied", Some(reason)),
        Outcome::Failed(reason) => ("failed", Some(reason)),
        Outcome::Reported(report) => ("reported", Some(report)),
    };
    let _ = write!(line, r#","outcome":"{outcome}""#);
    if let Some(reason) = reason {
        let _ = write!(line, r#","reason":"{reason}""#);
    }
    if access.monitored {
        line.extend_from_slice(br#","monitored":true"#);
    }
    line.extend_from_slice(b"}\n");
}

/// Appends a JSON string.
fn text(line: &mut Vec<u8>, text: &str) {
    let text = &text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or(text);
    let plain = text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\' && b != 0x7f);
    if plain {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        // Writing a string to memory does not fail.
        let _ = serde_json::to_writer(line, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::Verb;

    #[test]
    fn hostile_text_stays_inside_its_string() -> Result<(), Box<dyn std::error::Error>> {
        let secret = "x\",\"outcome\":\"allowed\"}\n{\u{1b}[31m";
        let access = Access {
            caller: &"ü".repeat(3000),
            verb: Verb::Get,
            secret,
            version: None,
            #[cfg(feature = "operator")]
            about: None,
            #[cfg(feature = "operator")]
            why: None,
            outcome: Outcome::Denied("DENIED"),
            monitored: false,
        };
        let mut line = Vec::new();
        write(&mut line, Timestamp::UNIX_EPOCH, (1, 2), &access);
        assert_eq!(line.split(|&b| b == b'\n').count(), 2);
        let record: serde_json::Value = serde_json::from_slice(&line)?;
        assert_eq!(record["secret"], secret);
        assert_eq!(record["outcome"], "denied");
        assert_eq!(record["caller"].as_str().map(str::len), Some(TEXT_BYTES));
        assert_eq!(record["time"], "1970-01-01T00:00:00.000Z");
        Ok(())
    }
}
