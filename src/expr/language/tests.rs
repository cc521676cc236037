//! Cases of every operator, by type; what lua-resty-expr says of each.

use std::borrow::Cow;

use serde_json::json;

use super::*;
use crate::expr::{BodyVariable, Datum};

struct Request;

impl Variables for Request {
    fn get(&self, name: &Variable) -> Option<Cow<'_, str>> {
        match name {
            Variable::Arg(name) => match &**name {
                "name" => Some("json".into()),
                "age" => Some("18".into()),
                "hex" => Some(" 0x10 ".into()),
                "empty" => Some("".into()),
                _ => None,
            },
            Variable::RemoteAddr => Some("10.1.2.3".into()),
            Variable::ServerAddr => Some("::ffff:10.1.2.3".into()),
            _ => None,
        }
    }

    fn datum(&self, name: &Variable) -> Option<Datum<'_>> {
        match name {
            Variable::Arg(name) if &**name == "flag" => Some(Datum::Bool(true)),
            Variable::Body(BodyVariable::GraphqlRootFields) => {
                Some(Datum::List(vec![Datum::Text("owner".into()), Datum::Text("repo".into())]))
            }
            Variable::Body(BodyVariable::Field(name)) => match &**name {
                "number" => Some(Datum::Number(18.0)),
                "no" => Some(Datum::Bool(false)),
                "null" => Some(Datum::Null),
                "object" => Some(Datum::Object),
                "mixed" => Some(Datum::List(vec![
                    Datum::Number(1.0),
                    Datum::Text("2".into()),
                    Datum::Bool(true),
                    Datum::Null,
                ])),
                _ => None,
            },
            _ => self.get(name).map(Datum::Text),
        }
    }
}

fn check(vars: &Value, expected: bool) {
    let compiled = Expr::compile(vars.as_array().unwrap());
    let compiled = compiled.unwrap_or_else(|refused| panic!("{vars}: {refused}"));
    assert_eq!(compiled.matches(&Request), expected, "{vars}");
    // Whatever a condition says, its negation says the opposite.
    if let [Value::Array(condition)] = vars.as_array().unwrap().as_slice()
        && condition.len() == 3
        && condition[1].is_string()
        && condition[0].as_str().and_then(Join::of).is_none()
    {
        let negated = json!([[condition[0], "!", condition[1], condition[2]]]);
        let compiled = Expr::compile(negated.as_array().unwrap()).unwrap();
        assert_eq!(compiled.matches(&Request), !expected, "{negated}");
    }
}

#[test]
fn equality_goes_by_type_and_reads_numbers_for_numbers_only() {
    for (vars, expected) in [
        (json!([]), true),
        (json!([["arg_name", "==", "json"]]), true),
        (json!([["arg_name", "==", "JSON"]]), false),
        (json!([["arg_name", "~=", "json"]]), false),
        (json!([["arg_name", "json"]]), true),
        (json!([["arg_age", 18]]), true),
        (json!([["arg_absent", "~=", "json"]]), true),
        (json!([["arg_age", "==", 18]]), true),
        (json!([["arg_age", "~=", 18]]), false),
        (json!([["arg_age", "==", "18.0"]]), false),
        (json!([["arg_age", "==", 18.0]]), true),
        (json!([["arg_hex", "==", 16]]), true),
        (json!([["arg_name", "==", 18]]), false),
        (json!([["arg_name", "~=", 18]]), true),
        (json!([["arg_empty", "==", ""]]), true),
        (json!([["arg_empty", "==", 0]]), false),
        (json!([["arg_flag", "==", true]]), true),
        (json!([["arg_flag", "==", "true"]]), false),
        (json!([["post_arg_number", "==", 18]]), true),
        (json!([["post_arg_number", "==", "18"]]), false),
        (json!([["post_arg_no", "==", false]]), true),
        (json!([["post_arg_object", "==", {}]]), false),
        (json!([["graphql_root_fields", "==", ["owner", "repo"]]]), false),
    ] {
        check(&vars, expected);
    }
}

#[test]
fn null_is_a_variable_without_a_value() {
    for (vars, expected) in [
        (json!([["arg_absent", "==", null]]), true),
        (json!([["arg_absent", "=="]]), true),
        (json!([["arg_absent", null]]), true),
        (json!([["arg_absent", "~=", null]]), false),
        (json!([["arg_name", "==", null]]), false),
        (json!([["arg_name", "~=", null]]), true),
        (json!([["arg_empty", "==", null]]), false),
        (json!([["arg_absent", "==", ""]]), false),
        (json!([["post_arg_null", "==", null]]), false),
        (json!([["unheard_of", "==", null]]), true),
        (json!([["arg_absent", "in", [null]]]), false),
        (json!([["post_arg_null", "in", [null]]]), true),
        (json!([["post_arg_mixed", "has", null]]), false),
    ] {
        check(&vars, expected);
    }
}

#[test]
fn order_is_of_numbers() {
    for (vars, expected) in [
        (json!([["arg_age", ">", 9]]), true),
        (json!([["arg_age", ">", "9"]]), true),
        (json!([["arg_age", "<", "9"]]), false),
        (json!([["arg_age", ">=", 18], ["arg_age", "<=", 18]]), true),
        (json!([["arg_age", ">", 18]]), false),
        (json!([["arg_age", "<", 18.5]]), true),
        (json!([["arg_absent", "<", 9]]), false),
        (json!([["arg_name", ">", "a"]]), false),
        (json!([["arg_name", "<", "z"]]), false),
        (json!([["arg_age", ">", null]]), false),
        (json!([["post_arg_number", ">", 17]]), true),
        (json!([["post_arg_no", "<=", 0]]), false),
        (json!([["graphql_root_fields", ">=", 0]]), false),
    ] {
        check(&vars, expected);
    }
}

#[test]
fn patterns_are_searched_for_in_text() {
    for (vars, expected) in [
        (json!([["arg_name", "~~", "^j"]]), true),
        (json!([["arg_name", "~~", "so"]]), true),
        (json!([["arg_name", "~~", "JSON"]]), false),
        (json!([["arg_name", "~*", "JSON"]]), true),
        (json!([["arg_name", "~~", "^(?!xml)"]]), true),
        (json!([["arg_name", "~~", "^(?!json)"]]), false),
        (json!([["arg_age", "~~", 18]]), true),
        (json!([["arg_absent", "~~", ".*"]]), false),
        (json!([["arg_empty", "~~", "^$"]]), true),
        (json!([["post_arg_number", "~~", "^18$"]]), true),
        (json!([["post_arg_no", "~~", "false"]]), false),
        (json!([["graphql_root_fields", "~~", "owner"]]), false),
    ] {
        check(&vars, expected);
    }
}

#[test]
fn lists_hold_values_of_the_same_type() {
    for (vars, expected) in [
        (json!([["arg_name", "in", ["xml", "json"]]]), true),
        (json!([["arg_name", "IN", ["xml"]]]), false),
        (json!([["arg_name", "in", []]]), false),
        (json!([["arg_age", "in", ["18"]]]), true),
        (json!([["arg_age", "in", [18]]]), false),
        (json!([["post_arg_number", "in", [18]]]), true),
        (json!([["arg_absent", "in", ["x"]]]), false),
        (json!([["graphql_root_fields", "in", ["owner"]]]), false),
        (json!([["graphql_root_fields", "has", "owner"]]), true),
        (json!([["graphql_root_fields", "HAS", "owne"]]), false),
        (json!([["post_arg_mixed", "has", 1]]), true),
        (json!([["post_arg_mixed", "has", "1"]]), false),
        (json!([["post_arg_mixed", "has", "2"]]), true),
        (json!([["post_arg_mixed", "has", 2]]), false),
        (json!([["post_arg_mixed", "has", true]]), true),
        (json!([["arg_name", "has", "json"]]), false),
        (json!([["arg_absent", "has", "json"]]), false),
    ] {
        check(&vars, expected);
    }
}

#[test]
fn addresses_are_matched_by_networks() {
    for (vars, expected) in [
        (json!([["remote_addr", "ipmatch", ["10.0.0.0/8", "::1"]]]), true),
        (json!([["remote_addr", "ipmatch", "10.1.2.3"]]), true),
        (json!([["remote_addr", "ipmatch", "10.1.2.9/24"]]), true),
        (json!([["remote_addr", "ipmatch", ["10.1.2.4", "fe80::/10"]]]), false),
        (json!([["remote_addr", "ipmatch", "0.0.0.0/0"]]), true),
        (json!([["server_addr", "ipmatch", "10.1.2.3"]]), true),
        (json!([["arg_name", "ipmatch", "0.0.0.0/0"]]), false),
        (json!([["arg_absent", "ipmatch", "0.0.0.0/0"]]), false),
    ] {
        check(&vars, expected);
    }
}

#[test]
fn lists_are_joined_by_their_first_word() {
    let (no, yes) = (json!(["arg_name", "==", "x"]), json!(["arg_age", "==", "18"]));
    for (vars, expected) in [
        (json!([yes, no]), false),
        (json!([yes, yes]), true),
        (json!([[yes, yes], yes]), true),
        (json!([[yes, no], yes]), false),
        (json!(["AND", yes, yes]), true),
        (json!(["and", yes, no]), false),
        (json!(["OR", no, yes]), true),
        (json!(["or", no, no]), false),
        (json!(["!OR", no, yes]), false),
        (json!(["!or", no, no]), true),
        (json!(["!AND", no, yes]), true),
        (json!(["!AND", yes, yes]), false),
        (json!([["AND", yes, ["OR", no, yes]]]), true),
        (json!(["OR", ["!AND", yes, yes], ["!OR", no, no], no]), true),
        (json!([yes, ["OR", no, ["AND", yes, no]]]), false),
    ] {
        check(&vars, expected);
    }
}

#[test]
fn names_the_item_that_is_no_condition() {
    for (vars, path, expected) in [
        (json!(["x"]), "", "brackets of its own"),
        (json!(["arg_a", "==", "b"]), "", "brackets of its own"),
        (json!([7]), "", "brackets of its own"),
        (json!([[]]), "/0", "a list of conditions"),
        (json!([["arg_a"]]), "/0", "a condition"),
        (json!([["arg_a", "===", 1]]), "/0/1", "one of =="),
        (json!([["arg_a", 5, 1]]), "/0/1", "one of =="),
        (json!([["arg_a", "!", "==", 1, 2]]), "/0", "a condition"),
        (json!([["!", "arg_a", "==", 1]]), "/0", "a condition"),
        (json!([["arg_a", "!", "=="]]), "/0/1", "one of =="),
        (json!([[5, "==", 1]]), "/0/0", "a list of conditions"),
        (json!([["arg_a", "~~", "("]]), "/0/2", "a regular expression"),
        (json!([["arg_a", "~~", null]]), "/0/2", "a regular expression"),
        (json!([["arg_a", "!", "~*", ["x"]]]), "/0/3", "a regular expression"),
        (json!([["arg_b", "==", 1], ["OR", ["arg_a", "in", 5], []]]), "/1/1/2", "a list of values"),
        (json!([["arg_a", "ipmatch", ["x"]]]), "/0/2", "an IP address"),
        (json!([["arg_a", "ipmatch", []]]), "/0/2", "an IP address"),
        (json!([["arg_a", "ipmatch", ""]]), "/0/2", "an IP address"),
        (json!([["arg_a", "ipmatch"]]), "/0/2", "an IP address"),
        (json!(["OR", ["arg_a", "==", 1]]), "", "two conditions or more"),
        (json!([["arg_a", "==", 1], ["AND"]]), "/1", "two conditions or more"),
        (json!([["arg_a", "==", 1], "AND", ["arg_b", "==", 1]]), "/1", "a condition"),
        (json!([["post_arg.a[.b", "==", 1]]), "/0/0", "a JSONPath"),
        (json!([["post_arg.", "==", 1]]), "/0/0", "post_arg.NAME"),
    ] {
        let refused = Expr::compile(vars.as_array().unwrap()).unwrap_err();
        assert_eq!(refused.path, path, "{vars}: {refused}");
        assert!(refused.expected.contains(expected), "{vars}: {refused}");
    }
}

#[test]
fn does_not_ask_for_what_makes_no_difference() {
    struct Untouchable;

    impl Variables for Untouchable {
        fn get(&self, name: &Variable) -> Option<Cow<'_, str>> {
            assert!(!matches!(name, Variable::Body(_)), "the body was asked for");
            Some("x".into())
        }
    }

    let vars = json!([["arg_a", "==", "y"], ["post_arg_b", "==", "z"]]);
    assert!(!Expr::compile(vars.as_array().unwrap()).unwrap().matches(&Untouchable));
}
