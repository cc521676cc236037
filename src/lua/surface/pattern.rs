//! Lua's patterns: `string.find`, `match`, `gmatch` and `gsub`.
//!
//! C's own matcher backtracks for as long as it likes, unseen by the clock, and goes as deep as the
//! pattern is long. This one asks the clock and bounds its depth; for the rest it is Lua's.
//!
//! Source: Lua 5.1 reference manual, section 5.4.1, and what LuaJIT adds of 5.2.

use std::rc::Rc;

use mlua::Error;

use crate::lua::watch::Watch;

/// Captures of one pattern, and how deep matches nest.
const MOST: usize = 32;
const DEEPEST: usize = 200;
/// Steps between two looks at the clock.
const PACE: u32 = 4096;

/// One pattern on one subject.
pub(super) struct Matcher<'m> {
    pub(super) subject: &'m [u8],
    pattern: &'m [u8],
    watch: Rc<Watch>,
    captures: Vec<Capture>,
    depth: usize,
    steps: u32,
}

#[derive(Clone, Copy)]
struct Capture {
    start: usize,
    length: Length,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    /// Its end is yet to come.
    Open,
    /// `()`: where it is, not what.
    Position,
    Closed(usize),
}

/// What a capture gives.
pub(super) enum Captured<'m> {
    Text(&'m [u8]),
    /// From 1.
    Position(usize),
}

type Found = Result<Option<usize>, Error>;

// === impl Matcher ===

impl<'m> Matcher<'m> {
    /// `pattern` without the `^` that it may begin with.
    pub(super) fn new(subject: &'m [u8], pattern: &'m [u8], watch: &Rc<Watch>) -> Self {
        let captures = Vec::new();
        Self { subject, pattern, watch: watch.clone(), captures, depth: 0, steps: 0 }
    }

    /// The first match from `start` on, or at `start` alone: where it begins and ends.
    pub(super) fn find(
        &mut self,
        start: usize,
        is_anchored: bool,
    ) -> Result<Option<(usize, usize)>, Error> {
        let last = if is_anchored { start } else { self.subject.len() };
        for at in start..=last {
            if let Some(end) = self.at(at)? {
                return Ok(Some((at, end)));
            }
        }
        Ok(None)
    }

    /// The end of the match at `start`.
    pub(super) fn at(&mut self, start: usize) -> Found {
        self.captures.clear();
        self.depth = 0;
        self.run(start, 0)
    }

    /// What the last match captured.
    pub(super) fn captured(&self) -> Result<Vec<Captured<'m>>, Error> {
        let captures = self.captures.iter().map(|capture| match capture.length {
            Length::Closed(length) => {
                Ok(Captured::Text(&self.subject[capture.start..capture.start + length]))
            }
            Length::Position => Ok(Captured::Position(capture.start + 1)),
            Length::Open => Err(Error::runtime("unfinished capture")),
        });
        captures.collect()
    }

    fn step(&mut self) -> Result<(), Error> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(PACE) && self.watch.is_late() {
            return Err(Error::runtime("out of time"));
        }
        Ok(())
    }

    fn run(&mut self, at: usize, from: usize) -> Found {
        if self.depth >= DEEPEST {
            return Err(Error::runtime("pattern too complex"));
        }
        self.depth += 1;
        let found = self.walk(at, from);
        self.depth -= 1;
        found
    }

    /// Matches what is left of the pattern from `p` on at `s`.
    fn walk(&mut self, mut s: usize, mut p: usize) -> Found {
        loop {
            self.step()?;
            let Some(&item) = self.pattern.get(p) else {
                return Ok(Some(s));
            };
            let next = self.pattern.get(p + 1).copied();
            match (item, next) {
                (b'(', Some(b')')) => return self.open(s, p + 2, Length::Position),
                (b'(', _) => return self.open(s, p + 1, Length::Open),
                (b')', _) => return self.close(s, p + 1),
                (b'$', None) => return Ok((s == self.subject.len()).then_some(s)),
                (b'%', Some(b'b')) => match self.balanced(s, p + 2)? {
                    Some(end) => (s, p) = (end, p + 4),
                    None => return Ok(None),
                },
                (b'%', Some(b'f')) => {
                    if self.pattern.get(p + 2) != Some(&b'[') {
                        return Err(Error::runtime("missing '[' after '%f' in pattern"));
                    }
                    let end = self.item_end(p + 2)?;
                    let before = s.checked_sub(1).map_or(0, |before| self.subject[before]);
                    let here = self.subject.get(s).copied().unwrap_or(0);
                    if self.in_set(before, p + 2, end - 1) || !self.in_set(here, p + 2, end - 1) {
                        return Ok(None);
                    }
                    p = end;
                }
                (b'%', Some(digit @ b'0'..=b'9')) => match self.again(s, digit)? {
                    Some(end) => (s, p) = (end, p + 2),
                    None => return Ok(None),
                },
                _ => {
                    let end = self.item_end(p)?;
                    match self.pattern.get(end) {
                        Some(b'?') => {
                            if self.is_one(s, p, end)
                                && let Some(found) = self.run(s + 1, end + 1)?
                            {
                                return Ok(Some(found));
                            }
                            p = end + 1;
                        }
                        Some(b'*') => return self.longest(s, p, end),
                        Some(b'+') if self.is_one(s, p, end) => {
                            return self.longest(s + 1, p, end);
                        }
                        Some(b'+') => return Ok(None),
                        Some(b'-') => return self.shortest(s, p, end),
                        _ if self.is_one(s, p, end) => (s, p) = (s + 1, end),
                        _ => return Ok(None),
                    }
                }
            }
        }
    }

    fn open(&mut self, s: usize, p: usize, length: Length) -> Found {
        if self.captures.len() >= MOST {
            return Err(Error::runtime("too many captures"));
        }
        let before = self.captures.len();
        self.captures.push(Capture { start: s, length });
        let found = self.run(s, p)?;
        if found.is_none() {
            self.captures.truncate(before);
        }
        Ok(found)
    }

    fn close(&mut self, s: usize, p: usize) -> Found {
        let is_open = |capture: &Capture| capture.length == Length::Open;
        let Some(index) = self.captures.iter().rposition(is_open) else {
            return Err(Error::runtime("invalid pattern capture"));
        };
        self.captures[index].length = Length::Closed(s - self.captures[index].start);
        let found = self.run(s, p)?;
        if found.is_none() {
            self.captures[index].length = Length::Open;
        }
        Ok(found)
    }

    fn longest(&mut self, s: usize, p: usize, end: usize) -> Found {
        let mut count = 0;
        while self.is_one(s + count, p, end) {
            self.step()?;
            count += 1;
        }
        for taken in (0..=count).rev() {
            if let Some(found) = self.run(s + taken, end + 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn shortest(&mut self, mut s: usize, p: usize, end: usize) -> Found {
        loop {
            if let Some(found) = self.run(s, end + 1)? {
                return Ok(Some(found));
            }
            if !self.is_one(s, p, end) {
                return Ok(None);
            }
            s += 1;
        }
    }

    /// `%bxy`: from an `x` to the `y` that balances it.
    fn balanced(&mut self, s: usize, p: usize) -> Found {
        let (Some(&opens), Some(&closes)) = (self.pattern.get(p), self.pattern.get(p + 1)) else {
            return Err(Error::runtime("unbalanced pattern"));
        };
        if self.subject.get(s) != Some(&opens) {
            return Ok(None);
        }
        let mut depth = 1_usize;
        for at in s + 1..self.subject.len() {
            self.step()?;
            let byte = self.subject[at];
            if byte == closes {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some(at + 1));
                }
            } else if byte == opens {
                depth += 1;
            }
        }
        Ok(None)
    }

    /// `%1`: what a capture has found, once more.
    fn again(&mut self, s: usize, digit: u8) -> Found {
        let capture = usize::from(digit - b'0').checked_sub(1);
        let capture = capture.and_then(|index| self.captures.get(index)).copied();
        let Some(Capture { start, length: Length::Closed(length) }) = capture else {
            return Err(Error::runtime("invalid capture index"));
        };
        // As long as the subject, so it counts as more than a step.
        self.steps = self.steps.wrapping_add(PACE / 2);
        self.step()?;
        let text = &self.subject[start..start + length];
        Ok(self.subject[s..].starts_with(text).then_some(s + length))
    }

    /// Where the item at `p` ends: a character, a class or a set.
    fn item_end(&self, p: usize) -> Result<usize, Error> {
        match self.pattern[p] {
            b'%' if p + 1 >= self.pattern.len() => {
                Err(Error::runtime("malformed pattern (ends with '%')"))
            }
            b'%' => Ok(p + 2),
            b'[' => {
                let mut at = p + 1 + usize::from(self.pattern.get(p + 1) == Some(&b'^'));
                loop {
                    let Some(&byte) = self.pattern.get(at) else {
                        return Err(Error::runtime("malformed pattern (missing ']')"));
                    };
                    at += 1 + usize::from(byte == b'%');
                    if self.pattern.get(at) == Some(&b']') {
                        return Ok(at + 1);
                    }
                }
            }
            _ => Ok(p + 1),
        }
    }

    fn is_one(&self, s: usize, p: usize, end: usize) -> bool {
        let Some(&byte) = self.subject.get(s) else {
            return false;
        };
        match self.pattern[p] {
            b'.' => true,
            b'%' => in_class(byte, self.pattern[p + 1]),
            b'[' => self.in_set(byte, p, end - 1),
            other => other == byte,
        }
    }

    /// Whether `byte` is in the set from the `[` at `p` to the `]` at `end`.
    fn in_set(&self, byte: u8, p: usize, end: usize) -> bool {
        let is_negative = self.pattern[p + 1] == b'^';
        let mut at = p + 1 + usize::from(is_negative);
        while at < end {
            let item = self.pattern[at];
            let is_in = if item == b'%' {
                at += 1;
                in_class(byte, self.pattern[at])
            } else if self.pattern[at + 1] == b'-' && at + 2 < end {
                at += 2;
                (item..=self.pattern[at]).contains(&byte)
            } else {
                item == byte
            };
            if is_in {
                return !is_negative;
            }
            at += 1;
        }
        is_negative
    }
}

/// Whether `byte` is of the class that stands after a `%`.
fn in_class(byte: u8, class: u8) -> bool {
    let is_in = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        b'z' => byte == 0,
        _ => return class == byte,
    };
    is_in != class.is_ascii_uppercase()
}
