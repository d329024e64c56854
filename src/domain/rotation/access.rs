//! Access to a secret in an emergency: asked for, agreed to, opened for a short time, ended.
//!
//! Invariants: it is opened once, by the one who asked; where two persons are needed, the other one
//! agreed shortly before; it ends by itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How long access that was asked for, or agreed to, can still be agreed to or opened.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);
/// Accesses that are remembered of each secret.
const MAX_REMEMBERED: usize = 50;

/// The longest time that access can be asked for.
pub const LONGEST: Duration = Duration::from_hours(4);
/// The time of access when none is stated.
pub const USUAL: Duration = Duration::from_mins(15);

/// One access, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Its name.
    pub id: String,
    /// Who asked for it, and alone may open it.
    pub holder: String,
    /// Why.
    pub reason: String,
    /// For how long, in seconds.
    pub lasts_secs: u64,
    /// Whether a second person has to agree.
    pub two_persons: bool,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Who agreed, and when.
    pub approved: Option<(String, Timestamp)>,
    /// When it was opened. Written down before that is done.
    pub opened_at: Option<Timestamp>,
    /// When it ends by itself.
    pub ends_at: Option<Timestamp>,
    /// What the secrets manager ends it by; no secret.
    pub accessor: Option<String>,
    /// Who ended it before its time, and when.
    pub ended: Option<(String, Timestamp)>,
}

/// Why an access can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessRefusal {
    /// The holder can't agree to it.
    #[error("the one who asked for access can't agree to it as well")]
    SamePerson,
    /// Somebody else asked for it.
    #[error("only the one who asked for this access can open it")]
    NotHolder,
    /// The second person did not agree yet.
    #[error("this access waits for the approval of a second person")]
    NotApproved,
    /// It needs nobody's word any more.
    #[error("this access waits for no approval")]
    NotAwaited,
    /// It was opened already, or is over.
    #[error("this access was opened or ended already; ask for it anew")]
    Used,
    /// It was asked for or agreed to too long ago.
    #[error("this access was asked for more than an hour ago; ask for it anew")]
    TooLate,
    /// It is not open.
    #[error("this access is not open")]
    NotOpen,
}

impl Access {
    /// For how long.
    pub const fn lasts(&self) -> Duration {
        Duration::from_secs(self.lasts_secs)
    }

    /// Whether a second person's word is waited for.
    pub fn awaits_approval(&self, now: Timestamp) -> bool {
        self.can_wait(now).is_ok() && self.two_persons && self.approved.is_none()
    }

    /// Whether it is open.
    pub fn is_open(&self, now: Timestamp) -> bool {
        let lasts = self.ends_at.is_none_or(|end| now < end);
        self.opened_at.is_some() && lasts && self.ended.is_none()
    }

    /// Notes that somebody agreed.
    ///
    /// # Errors
    /// When it waits for nobody, or for somebody else.
    pub fn approve(&mut self, by: &str, now: Timestamp) -> Result<(), AccessRefusal> {
        self.can_wait(now)?;
        if !self.two_persons || self.approved.is_some() {
            return Err(AccessRefusal::NotAwaited);
        }
        if by == self.holder {
            return Err(AccessRefusal::SamePerson);
        }
        self.approved = Some((by.to_owned(), now));
        Ok(())
    }

    /// Notes that it is about to be opened.
    ///
    /// # Errors
    /// When that may not be done, or not by this person.
    pub fn open(&mut self, by: &str, now: Timestamp) -> Result<(), AccessRefusal> {
        if by != self.holder {
            return Err(AccessRefusal::NotHolder);
        }
        self.can_wait(now)?;
        if self.two_persons && self.approved.is_none() {
            return Err(AccessRefusal::NotApproved);
        }
        let lasts = SignedDuration::try_from(self.lasts()).unwrap_or(SignedDuration::ZERO);
        self.opened_at = Some(now);
        self.ends_at = now.checked_add(lasts).ok();
        Ok(())
    }

    /// Notes that it was ended before its time.
    ///
    /// # Errors
    /// When it is not open.
    pub fn end(&mut self, by: &str, now: Timestamp) -> Result<(), AccessRefusal> {
        if !self.is_open(now) {
            return Err(AccessRefusal::NotOpen);
        }
        self.ended = Some((by.to_owned(), now));
        Ok(())
    }

    /// Whether it was not opened yet, and still can be.
    fn can_wait(&self, now: Timestamp) -> Result<(), AccessRefusal> {
        if self.opened_at.is_some() || self.ended.is_some() {
            return Err(AccessRefusal::Used);
        }
        let since = self.approved.as_ref().map_or(self.asked_at, |(_, at)| *at);
        if now.duration_since(since) > PATIENCE {
            return Err(AccessRefusal::TooLate);
        }
        Ok(())
    }
}

/// Puts an access to the others, newest first. The oldest ones that are over make room; returns
/// whether there was some.
pub fn remember(accesses: &mut Vec<Access>, access: Access, now: Timestamp) -> bool {
    if accesses.len() >= MAX_REMEMBERED {
        let over = |a: &Access| !a.is_open(now) && a.can_wait(now).is_err();
        match accesses.iter().rposition(over) {
            Some(at) => drop(accesses.remove(at)),
            None => return false,
        }
    }
    accesses.insert(0, access);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn access(two_persons: bool) -> Access {
        Access {
            id: "a1".into(),
            holder: "ann".into(),
            reason: "outage".into(),
            lasts_secs: 900,
            two_persons,
            asked_at: NOW,
            approved: None,
            opened_at: None,
            ends_at: None,
            accessor: None,
            ended: None,
        }
    }

    fn after(secs: i64) -> Timestamp {
        Timestamp::from_second(secs).unwrap()
    }

    #[test]
    fn a_second_person_has_to_agree_and_the_first_one_to_open() {
        let mut access = access(true);
        assert_eq!(access.open("ann", NOW), Err(AccessRefusal::NotApproved));
        assert_eq!(access.approve("ann", NOW), Err(AccessRefusal::SamePerson));
        assert_eq!(access.approve("bob", NOW), Ok(()));
        assert_eq!(access.approve("eve", NOW), Err(AccessRefusal::NotAwaited));
        assert_eq!(access.open("bob", NOW), Err(AccessRefusal::NotHolder));
        assert_eq!(access.open("ann", after(10)), Ok(()));
        assert_eq!(access.ends_at, Some(after(910)));
        assert_eq!(access.open("ann", after(11)), Err(AccessRefusal::Used));
    }

    #[test]
    fn what_was_asked_for_long_ago_is_not_opened_any_more() {
        let mut access = access(true);
        assert_eq!(access.approve("bob", after(3601)), Err(AccessRefusal::TooLate));
        assert_eq!(access.approve("bob", after(3600)), Ok(()));
        assert_eq!(access.open("ann", after(7201)), Err(AccessRefusal::TooLate));
    }

    #[test]
    fn access_ends_by_itself_and_by_hand() {
        let mut access = access(false);
        assert_eq!(access.end("bob", NOW), Err(AccessRefusal::NotOpen));
        assert_eq!(access.open("ann", NOW), Ok(()));
        assert!(access.is_open(after(899)) && !access.is_open(after(900)));
        assert_eq!(access.end("bob", after(10)), Ok(()));
        assert_eq!(access.end("bob", after(11)), Err(AccessRefusal::NotOpen));
    }

    #[test]
    fn what_is_still_open_is_never_forgotten() {
        let mut accesses = Vec::new();
        for _ in 0..MAX_REMEMBERED {
            assert!(remember(&mut accesses, access(false), NOW));
        }
        assert!(!remember(&mut accesses, access(false), NOW));
        accesses[7].open("ann", NOW).unwrap();
        accesses[7].end("ann", NOW).unwrap();
        assert!(remember(&mut accesses, access(false), NOW));
        assert_eq!(accesses.len(), MAX_REMEMBERED);
    }
}
