//! The grammar of `.env` files, as Docker Compose and the common libraries agree on it.
//!
//! `KEY=value`, `export KEY=value`, `# comment`. A value without quotes ends at the line's end or
//! at ` #`; in single quotes all is literal; in double quotes `\n \r \t \\ \" \$` are escapes; both
//! kinds of quotes may span lines. `$` is a plain character, but `${…}` outside single quotes is
//! refused: others substitute it, some from the environment of the reading process.
//!
//! Written here because the kept crates read the process environment while parsing, and put
//! content into their errors.

use zeroize::Zeroizing;

/// One assignment.
pub(super) struct Entry<'a> {
    /// Where it starts, from 1.
    pub(super) line: usize,
    pub(super) key: &'a [u8],
    pub(super) value: Zeroizing<Vec<u8>>,
}

/// What is wrong with a line; holds nothing of the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Where, from 1.
    pub(super) line: usize,
    pub(super) what: &'static str,
}

/// All assignments of a file, in their order.
pub(super) fn entries(content: &[u8]) -> Result<Vec<Entry<'_>>, Malformed> {
    let rest = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
    let mut cursor = Cursor { rest, line: 1 };
    let mut entries = Vec::new();
    while !cursor.rest.is_empty() {
        cursor.skip(|byte| byte.is_ascii_whitespace());
        match cursor.rest.first() {
            None => {}
            Some(b'#') => cursor.skip(|byte| byte != b'\n'),
            Some(_) => entries.push(cursor.entry()?),
        }
    }
    Ok(entries)
}

struct Cursor<'a> {
    rest: &'a [u8],
    line: usize,
}

impl<'a> Cursor<'a> {
    fn entry(&mut self) -> Result<Entry<'a>, Malformed> {
        let line = self.line;
        let mut key = self.key()?;
        if key == b"export" && self.rest.first() != Some(&b'=') {
            key = self.key()?;
        }
        if self.advance() != Some(b'=') {
            return Err(Malformed { line, what: "expected KEY=value" });
        }
        self.skip(is_blank);
        let value = match self.rest.first() {
            Some(b'\'') => self.quoted(b'\'')?,
            Some(b'"') => self.quoted(b'"')?,
            _ => return self.plain().map(|value| Entry { line, key, value }),
        };
        self.skip(is_blank);
        if self.rest.first() == Some(&b'#') {
            self.skip(|byte| byte != b'\n');
        }
        match self.rest {
            [] | [b'\n', ..] | [b'\r', b'\n', ..] => Ok(Entry { line, key, value }),
            _ => Err(self.malformed("expected the end of the line after the closing quote")),
        }
    }

    /// A key and the blanks after it.
    fn key(&mut self) -> Result<&'a [u8], Malformed> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let key = self.take(allowed);
        if !key.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
            return Err(self.malformed("expected KEY=value, the key of A-Z a-z 0-9 _ - ."));
        }
        self.skip(is_blank);
        Ok(key)
    }

    fn plain(&mut self) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        let line = self.take(|byte| byte != b'\n');
        let comment = (0..line.len()).find(|&at| {
            let before = at.checked_sub(1).and_then(|before| line.get(before));
            line.get(at) == Some(&b'#') && before.is_none_or(|&b| is_blank(b))
        });
        let value = comment.and_then(|at| line.get(..at)).unwrap_or(line).trim_ascii_end();
        if value.windows(2).any(|pair| pair == b"${") {
            return Err(self.malformed(SUBSTITUTION));
        }
        Ok(Zeroizing::new(value.to_vec()))
    }

    fn quoted(&mut self, quote: u8) -> Result<Zeroizing<Vec<u8>>, Malformed> {
        let line = self.line;
        let unclosed = Malformed { line, what: "the quote that starts here is never closed" };
        self.advance();
        // No longer than what is written: the buffer is never moved, which would leave copies.
        let length = self.quoted_length(quote).ok_or(unclosed)?;
        let mut value = Zeroizing::new(Vec::with_capacity(length));
        loop {
            match self.advance() {
                Some(byte) if byte == quote => return Ok(value),
                Some(b'\\') if quote == b'"' => value.push(self.escape()?),
                Some(b'$') if quote == b'"' && self.rest.first() == Some(&b'{') => {
                    return Err(self.malformed(SUBSTITUTION));
                }
                Some(byte) => value.push(byte),
                None => return Err(Malformed { line, what: "a quote is never closed" }),
            }
        }
    }

    fn quoted_length(&self, quote: u8) -> Option<usize> {
        let mut escaped = false;
        self.rest.iter().position(|&byte| {
            let closes = byte == quote && !escaped;
            escaped = quote == b'"' && byte == b'\\' && !escaped;
            closes
        })
    }

    fn escape(&mut self) -> Result<u8, Malformed> {
        match self.advance() {
            Some(b'n') => Ok(b'\n'),
            Some(b'r') => Ok(b'\r'),
            Some(b't') => Ok(b'\t'),
            Some(byte @ (b'\\' | b'"' | b'$')) => Ok(byte),
            _ => Err(self.malformed(r#"the escapes in double quotes are \n \r \t \\ \" \$"#)),
        }
    }

    fn advance(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&b| !wanted(b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.line += taken.split(|&byte| byte == b'\n').count() - 1;
        taken
    }

    fn skip(&mut self, unwanted: impl Fn(u8) -> bool) {
        self.take(unwanted);
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { line: self.line, what }
    }
}

const SUBSTITUTION: &str =
    "${…} is not substituted here: write the value, or put it in single quotes";

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(content: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let entries = entries(content.as_bytes()).unwrap();
        entries.iter().map(|entry| (text(entry.key), text(&entry.value))).collect()
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        for (line, value) in [
            ("K=v", "v"),
            ("K = v ", "v"),
            ("export K=v", "v"),
            ("  K=v # comment", "v"),
            ("K=v#no-comment", "v#no-comment"),
            ("K=#comment", ""),
            ("K=", ""),
            ("K=a b", "a b"),
            ("K=pa$$word$1", "pa$$word$1"),
            (r"K=C:\dir", r"C:\dir"),
            ("K=a=b==", "a=b=="),
            ("K='a # b \\n ${X}' # c", "a # b \\n ${X}"),
            (r#"K="a\n\"\\\$x""#, "a\n\"\\$x"),
            ("K=\"line one\nline two\"", "line one\nline two"),
            ("K=v\r\n", "v"),
            ("K='v'\r\n", "v"),
            ("\u{feff}K=v", "v"),
            ("K=it's", "it's"),
        ] {
            assert_eq!(pairs(line), [("K".to_owned(), value.to_owned())], "{line}");
        }
    }

    #[test]
    fn the_key_export_is_a_key() {
        assert_eq!(pairs("export=v"), [("export".to_owned(), "v".to_owned())]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_long_values() {
        let read = entries(b"# one\n\nA=1\nB=\"x\ny\"\nC=3\n").unwrap();
        let lines = read.iter().map(|entry| entry.line).collect::<Vec<_>>();
        assert_eq!(lines, [3, 4, 6]);
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        for (content, line) in [
            ("A=1\nnothing", 2),
            ("A=1\n=v", 2),
            ("A='open\nB=1\n", 1),
            ("A=\"x\" y", 1),
            (r#"A="\x""#, 1),
            ("A=1\n\nB=${HOME}", 3),
            ("B=\"${HOME}\"", 1),
            ("1A=x", 1),
        ] {
            assert_eq!(entries(content.as_bytes()).err().map(|e| e.line), Some(line), "{content}");
        }
    }

    proptest! {
        #[test]
        fn no_content_makes_it_fall(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = entries(&content);
        }

        #[test]
        fn what_is_quoted_comes_back(value in "[^'\u{0}]{0,40}") {
            let line = format!("K='{value}'");
            prop_assert_eq!(&pairs(&line)[0].1, &value);
        }
    }
}
