//! Parts of paths.

use std::ops::Deref;

/// Bytes, in place when they are few.
#[derive(Clone)]
pub(super) enum Label {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

/// What fits beside the length and the tag in the room that a long label needs anyway.
const SHORT: usize = 22;

/// How many bytes two keys begin alike with.
pub(super) fn same(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

// === impl Label ===

impl From<&[u8]> for Label {
    fn from(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }
}

impl Label {
    /// With `label` before it.
    pub(super) fn behind(&self, label: &[u8]) -> Self {
        Self::from([label, self].concat().as_slice())
    }
}

impl Deref for Label {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..*len as usize],
            Self::Long(bytes) => bytes,
        }
    }
}
