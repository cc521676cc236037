use super::*;

#[test]
fn a_placeholder_is_replaced() {}
