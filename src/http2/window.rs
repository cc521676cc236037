//! Windows: how much one side lets the other send.
//!
//! Source: RFC 9113, section 6.9.

/// No window is larger.
const LARGEST: i64 = 0x7fff_ffff;

/// A window would be larger than it may be.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// How much may still be sent. Below zero where the peer has made it smaller than what is under way.
#[derive(Debug, Clone, Copy)]
pub struct Sending(i64);

/// How much may still come, and what has come of which the sender was not told yet that there is
/// room for as much again.
#[derive(Debug, Clone, Copy)]
pub struct Receiving {
    size: u32,
    left: u32,
    untold: u32,
}

// === impl Sending ===

impl Sending {
    pub fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may be sent now.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or_default()
    }

    /// So many are sent.
    pub fn take(&mut self, bytes: usize) {
        // What is sent is never more than a frame.
        self.0 -= bytes as i64;
    }

    /// Widens it, or narrows it.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn shift(&mut self, by: i64) -> Result<(), Overflow> {
        self.0 += by;
        if self.0 > LARGEST { Err(Overflow) } else { Ok(()) }
    }
}

// === impl Receiving ===

impl Receiving {
    pub fn new(size: u32) -> Self {
        Self { size, left: size, untold: 0 }
    }

    /// Bytes that may still come.
    pub fn left(self) -> u32 {
        self.left
    }

    /// So many have come.
    ///
    /// # Errors
    /// [`Overflow`]: more than were let.
    pub fn take(&mut self, bytes: u32) -> Result<(), Overflow> {
        self.left = self.left.checked_sub(bytes).ok_or(Overflow)?;
        Ok(())
    }

    /// There is room for so many that had come. Gives what the sender is to be told: half of the
    /// window at a time, so that not every piece is answered.
    pub fn release(&mut self, bytes: u32) -> Option<u32> {
        self.untold += bytes;
        if self.untold < self.size / 2 {
            return None;
        }
        let told = std::mem::take(&mut self.untold);
        self.left += told;
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_be_made_narrower_than_what_is_under_way() {
        let mut window = Sending::new(100);
        window.take(80);
        assert_eq!(window.bytes(), 20);
        assert_eq!(window.shift(-50), Ok(()));
        assert_eq!(window.bytes(), 0);
        assert_eq!(window.shift(31), Ok(()));
        assert_eq!(window.bytes(), 1);
        assert_eq!(window.shift(LARGEST - 1), Ok(()));
        assert_eq!(window.shift(1), Err(Overflow));
    }

    #[test]
    fn room_is_told_of_by_halves_and_never_exceeded() {
        let mut window = Receiving::new(100);
        assert_eq!(window.take(60), Ok(()));
        assert_eq!(window.release(49), None);
        assert_eq!(window.take(41), Err(Overflow));
        assert_eq!(window.release(11), Some(60));
        assert_eq!(window.left(), 100);
    }
}
