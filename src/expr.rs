//! Variables, templates and the `vars` language, all compiled before any request.
//!
//! This room never fetches a variable: it asks [`Variables`].

mod body;
mod datum;
mod language;
mod operator;
mod pattern;
mod pin;
mod template;
mod variable;
mod wants;

use std::borrow::Cow;

pub use self::body::{BodyVariable, PostPath};
pub use self::datum::Datum;
pub use self::language::Expr;
pub use self::pattern::Pattern;
pub use self::pin::Pin;
pub use self::template::{Escape, Template};
pub use self::variable::{TlsVariable, Variable};
pub use self::wants::{Need, Wants};

/// Where the values of variables come from.
pub trait Variables {
    /// The value of `name` as text, `None` when it has none here.
    fn get(&self, name: &Variable) -> Option<Cow<'_, str>>;

    /// The value of `name` with its type; most are text.
    fn datum(&self, name: &Variable) -> Option<Datum<'_>> {
        self.get(name).map(Datum::Text)
    }

    /// Appends the value of `name` as a line of a log has it, escaped. Whether it has one that is
    /// not empty. To be written by whoever can do it without making the value up first.
    fn write(&self, name: &Variable, escape: Escape, out: &mut String) -> bool {
        let value = self.get(name).filter(|value| !value.is_empty());
        if let Some(value) = &value {
            escape.write(value.as_bytes(), out);
        }
        value.is_some()
    }
}
