//! What a GraphQL document asks for.
//!
//! Source: the GraphQL specification, October 2021, section 2; APISIX `core/ctx.lua`.

use graphql_parser::query::{Definition, Document, OperationDefinition, Selection, SelectionSet};

/// The first definition of a document: APISIX looks at no other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Graphql {
    /// `query`, `mutation` or `subscription`; empty for a fragment.
    pub(super) operation: &'static str,
    /// Empty where it has none.
    pub(super) name: String,
    /// Names of the fields and fragments at the top.
    pub(super) root_fields: Vec<String>,
}

// === impl Graphql ===

impl Graphql {
    /// Parses a document; `None` where it is none, or is nested more than 50 deep.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let document: Document<'_, &str> = match graphql_parser::parse_query(text) {
            Ok(document) => document,
            Err(error) => {
                tracing::debug!(%error, "the body is no GraphQL");
                return None;
            }
        };
        let (operation, name, selected) = match document.definitions.first()? {
            Definition::Fragment(fragment) => ("", fragment.name, &fragment.selection_set),
            Definition::Operation(operation) => match operation {
                OperationDefinition::SelectionSet(set) => ("query", "", set),
                OperationDefinition::Query(query) => {
                    ("query", query.name.unwrap_or_default(), &query.selection_set)
                }
                OperationDefinition::Mutation(mutation) => {
                    ("mutation", mutation.name.unwrap_or_default(), &mutation.selection_set)
                }
                OperationDefinition::Subscription(subscription) => (
                    "subscription",
                    subscription.name.unwrap_or_default(),
                    &subscription.selection_set,
                ),
            },
        };
        Some(Self { operation, name: name.to_owned(), root_fields: names(selected) })
    }
}

fn names<'t>(selected: &SelectionSet<'t, &'t str>) -> Vec<String> {
    let names = selected.items.iter().filter_map(|selection| match selection {
        Selection::Field(field) => Some(field.name),
        Selection::FragmentSpread(spread) => Some(spread.fragment_name),
        Selection::InlineFragment(_) => None,
    });
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, operation: &str, name: &str, root_fields: &[&str]) {
        let parsed = Graphql::parse(text).unwrap();
        assert_eq!((parsed.operation, &*parsed.name), (operation, name), "{text}");
        assert_eq!(parsed.root_fields, root_fields, "{text}");
    }

    #[test]
    fn reads_the_first_operation() {
        check("query repo { owner { name } }", "query", "repo", &["owner"]);
        check("{ owner { name } repo { created } }", "query", "", &["owner", "repo"]);
        check("query{owner{name}}", "query", "", &["owner"]);
        check(
            "mutation repo($ep: Episode!) { createReview(episode: $ep) { stars } } query x { y }",
            "mutation",
            "repo",
            &["createReview"],
        );
        check(
            "subscription s { a: news(first: 3) @live ...More }",
            "subscription",
            "s",
            &["news", "More"],
        );
        check("{ ... on User { id } b }", "query", "", &["b"]);
        check("fragment F on User { id } query q { b }", "", "F", &["id"]);
    }

    #[test]
    fn takes_nothing_of_what_is_none() {
        for text in ["", "AA", "query {", "{}", "query repo { owner } }", "type Query { a: Int }"] {
            assert_eq!(Graphql::parse(text), None, "{text}");
        }
    }

    /// A parser that follows every bracket down would run off its stack here.
    #[test]
    fn gives_up_on_what_is_nested_too_deep() {
        let nested = |depth: usize| format!("{}{}", "{a".repeat(depth), "}".repeat(depth));
        assert!(Graphql::parse(&nested(40)).is_some());
        assert!(Graphql::parse(&nested(100_000)).is_none());
        assert!(Graphql::parse(&format!("{{a(x:{}", "[".repeat(100_000))).is_none());
    }
}
