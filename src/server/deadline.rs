//! The time that a call has, as its caller states it.

use std::time::Duration;

use hyper::HeaderMap;

use super::errors::Refusal;

/// The time for a call: what the caller states, at most `limit`.
pub(super) fn stated(headers: &HeaderMap, limit: Duration) -> Result<Duration, Refusal> {
    let Some(stated) = headers.get("grpc-timeout") else { return Ok(limit) };
    let stated = stated.to_str().ok().and_then(grpc_timeout).ok_or_else(|| {
        Refusal::invalid("grpc-timeout is 1 to 8 digits and one of the units H M S m u n")
    })?;
    Ok(stated.min(limit))
}

/// Reads the gRPC header `grpc-timeout`: see "Requests" in the gRPC over HTTP/2 protocol.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = text.get(..text.len().checked_sub(unit.len_utf8())?)?;
    if !matches!(digits.len(), 1..=8) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_hours(count),
        'M' => Duration::from_mins(count),
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("2H"), Some(Duration::from_hours(2)));
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "1µ"] {
            assert_eq!(grpc_timeout(bad), None, "{bad}");
        }
    }
}
