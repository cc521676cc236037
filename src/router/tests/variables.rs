//! Routes that are looked up by what their conditions demand.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::oracle::{HOSTS, drawn, oracle, toggle};
use super::*;
use crate::expr::{Datum, Expr, Variable};

/// What a request says.
#[derive(Debug, Clone)]
struct Said {
    argument: Option<Datum<'static>>,
    field: Option<&'static str>,
    cookie: Option<&'static str>,
}

impl Variables for Said {
    fn get(&self, _: &Variable) -> Option<Cow<'_, str>> {
        unreachable!("conditions ask for data")
    }

    fn datum(&self, name: &Variable) -> Option<Datum<'_>> {
        let text = |text: &'static str| Datum::Text(text.into());
        match name {
            Variable::Arg(_) => self.argument.clone(),
            Variable::Cookie(_) => self.cookie.map(text),
            // `http_v0` to `http_v11`, more than are looked up: every second one is there.
            Variable::Header(name) => match name.as_str().strip_prefix('v') {
                Some(number) => (number.parse::<u8>().unwrap() % 2 == 0).then(|| text("1")),
                None => self.field.map(text),
            },
            _ => Some(text("1")),
        }
    }
}

fn said() -> impl Strategy<Value = Said> {
    let text = |text: &'static str| Datum::Text(text.into());
    let argument = prop::sample::select(vec![
        None,
        Some(text("1")),
        Some(text("1.0")),
        Some(text(" 0x1")),
        Some(text("2")),
        Some(text("x")),
        Some(text("")),
        Some(Datum::Number(1.0)),
        Some(Datum::Bool(true)),
        Some(Datum::Null),
        Some(Datum::List(vec![text("1")])),
    ]);
    let field = prop::sample::select(vec![None, Some("x"), Some("y"), Some("z")]);
    let cookie = prop::sample::select(vec![None, Some("0"), Some("-0"), Some("x")]);
    let said = (argument, field, cookie);
    said.prop_map(|(argument, field, cookie)| Said { argument, field, cookie })
}

fn condition() -> impl Strategy<Value = Value> {
    let plain = prop::sample::select(vec![
        json!(["arg_a", "==", "1"]),
        json!(["arg_a", "==", 1]),
        json!(["arg_a", "==", "2"]),
        json!(["arg_a", "==", true]),
        json!(["arg_a", "==", null]),
        json!(["arg_a", "==", ["1"]]),
        json!(["arg_a", "in", ["1", "2", "2"]]),
        json!(["arg_a", "in", ["x", 1, "1"]]),
        json!(["arg_a", "in", [null, "2"]]),
        json!(["arg_a", "in", []]),
        json!(["arg_a", "!", "in", ["1"]]),
        json!(["arg_a", "~=", "1"]),
        json!(["arg_a", ">", 1]),
        json!(["http_b", "==", "x"]),
        json!(["http_b", "in", ["x", "y"]]),
        json!(["http_b", "!", "==", "x"]),
        json!(["cookie_c", "==", 0]),
        json!(["cookie_c", "==", -0.0]),
        json!(["cookie_c", "==", "x"]),
        json!(["post_arg_d", "==", "1"]),
        json!(["AND", ["arg_a", "==", "1"], ["http_b", "==", "x"]]),
        json!(["OR", ["arg_a", "==", "1"], ["http_b", "==", "x"]]),
        json!(["!OR", ["arg_a", "==", "1"], ["http_b", "==", "x"]]),
    ]);
    let many = (0..12).prop_map(|n| json!([format!("http_v{n}"), "==", "1"]));
    prop_oneof![4 => plain, 1 => many]
}

proptest! {
    #[test]
    fn looks_up_by_variables_what_a_scan_finds(
        kind in prop::sample::select(KINDS.to_vec()),
        all in prop::collection::vec((drawn(), prop::collection::vec(condition(), 0..4)), 1..64),
        toggled in prop::collection::vec(any::<prop::sample::Index>(), 0..64),
        requests in prop::collection::vec(said(), 4),
    ) {
        let mut matchers = Vec::new();
        let mut conditions = Vec::new();
        for (number, ((hosts, _, methods, priority), vars)) in all.iter().enumerate() {
            let expr = Expr::compile(vars).unwrap();
            let written = (&*format!("{number:02}"), &**hosts, &["/*"][..], &**methods, *priority);
            matchers.push((pinning(kind, written, expr.pins()), true));
            conditions.push(expr);
        }
        let mut router = router(kind, matchers.iter().map(|(matcher, _)| matcher));
        let (before, was) = (router.clone(), matchers.clone());
        toggle(&mut router, &mut matchers, &toggled);
        for (router, matchers) in [(&before, &was), (&router, &matchers)] {
            for (said, host) in requests.iter().flat_map(|said| HOSTS.map(|host| (said, host))) {
                let present = matchers.iter().filter(|(_, is_in)| *is_in);
                let present: Vec<_> = present.map(|(matcher, _)| matcher).collect();
                let scan = oracle(kind, &present, host, "/x");
                let number = |id: &str| id.parse::<usize>().unwrap();
                let agrees = |id: &str| conditions[number(id)].matches(said);
                let mut scan = scan.into_iter().map(|(id, ..)| id);
                let expected = scan.find(|id| {
                    matchers[number(id)].0.methods.has(&Method::GET) && agrees(id)
                });
                let target = Target { variables: Some(said), ..target(host, "/x") };
                let found = router.find(target, &Method::GET, |id| agrees(id));
                prop_assert_eq!(found.map(|found| found.value().to_string()), expected);
            }
        }
    }
}

#[test]
fn asks_only_those_that_the_values_of_variables_may_fit() {
    let mut router = Router::new(Kind::HostUri);
    for number in 0..1_000 {
        let tells = json!(["arg_a", "in", [number.to_string(), (number + 1).to_string()]]);
        // What they have in common tells none from the other, and is not what they stand under.
        let expr = Expr::compile(&[json!(["http_b", "==", "x"]), tells]).unwrap();
        let id = format!("{number:04}");
        let matcher = pinning(Kind::HostUri, (&id, &[], &["/*"], &[], 0), expr.pins());
        router.insert(&matcher, &Arc::new(number));
    }
    let argument = Some(Datum::Text("500".into()));
    let said = Said { argument, field: Some("x"), cookie: None };
    let target = Target { variables: Some(&said), ..target("a.com", "/x") };
    let asked = RefCell::new(Vec::new());
    let found = router.find(target, &Method::GET, |number| {
        asked.borrow_mut().push(*number);
        *number == 500
    });
    assert_eq!(found.map(|found| **found.value()), Some(500));
    // Two stand under what they have in common: they came when few did.
    assert_eq!(asked.take(), [0, 2, 499, 500]);
    // Explanations are told of all of them, in order.
    let all = Cell::new(0);
    let walk: ControlFlow<()> = router.candidates(target, |found| {
        assert_eq!(**found.value(), all.replace(all.get() + 1));
        ControlFlow::Continue(())
    });
    assert!(walk.is_continue());
    assert_eq!(all.get(), 1_000);
}

#[test]
fn takes_out_a_route_that_demands_two_things_of_one_variable() {
    let mut router = Router::new(Kind::HostUri);
    let pinned = |id: &str, vars: &[Value]| {
        pinning(Kind::HostUri, (id, &[], &["/*"], &[], 0), Expr::compile(vars).unwrap().pins())
    };
    for number in 0..20 {
        let matcher = pinned(&format!("{number:02}"), &[json!(["arg_a", "==", "2"])]);
        router.insert(&matcher, &Arc::new(number));
    }
    // Fewer stand under the values of the second, which is what it is put under.
    let first = json!(["arg_a", "in", ["1", "2"]]);
    let matcher = pinned("50", &[first, json!(["arg_a", "in", ["x", "1"]])]);
    router.insert(&matcher, &Arc::new(50));
    router.remove(&matcher);
    for value in ["1", "2", "x"] {
        let argument = Some(Datum::Text(value.into()));
        let said = Said { argument, field: None, cookie: None };
        let target = Target { variables: Some(&said), ..target("a.com", "/x") };
        let found = router.find(target, &Method::GET, |number| *number == 50);
        assert!(found.is_none(), "{value}");
    }
}
