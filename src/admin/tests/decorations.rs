//! Cost decorations, which lie below services.

use serde_json::json;

use super::{Rig, upstream};

async fn rig() -> Rig {
    let rig = Rig::new().await;
    for service in ["shop", "blog"] {
        rig.put(&format!("services/{service}"), json!({"upstream": upstream()})).await.expect(201);
    }
    rig
}

#[tokio::test]
async fn lie_below_their_service_and_go_with_it() {
    let rig = rig().await;
    let at = "services/shop/graphql_cost_decorations";
    rig.get(at).await.expect(404);
    let body = json!({"field_path": "Query.products", "mul_arguments": ["first"]});
    let got = rig.put(&format!("{at}/d1"), body.clone()).await.expect(201);
    assert_eq!(got["key"], format!("/apisix/{at}/d1"));
    assert_eq!((&got["value"]["id"], &got["value"]["service_id"]), (&json!("d1"), &json!("shop")));
    let got = rig.call("POST", at, json!({"field_path": "Product.reviews"})).await.expect(201);
    assert!(got["key"].as_str().unwrap().starts_with(&format!("/apisix/{at}/0")), "{got}");
    assert_eq!(rig.get(at).await.expect(200)["total"], 2);
    assert_eq!(rig.get("services").await.expect(200)["total"], 2);
    let blog = "services/blog/graphql_cost_decorations";
    rig.put(&format!("{blog}/d1"), body).await.expect(201);
    let got = rig.patch(&format!("{at}/d1"), json!({"add_value": 7})).await.expect(200);
    assert_eq!((&got["value"]["id"], &got["value"]["add_value"]), (&json!("d1"), &json!(7)));

    rig.delete("services/shop").await.expect(200);
    assert_eq!(rig.store.list("services/shop/").await.unwrap().entries.len(), 0);
    assert_eq!(rig.get(blog).await.expect(200)["total"], 1);
    rig.delete(&format!("{blog}/d1")).await.expect(200);
}

#[tokio::test]
async fn are_refused_with_what_is_wrong() {
    let rig = rig().await;
    let at = "services/shop/graphql_cost_decorations";
    let path = |path: &str| json!({"field_path": path});
    let missing = "services/none/graphql_cost_decorations/1";
    rig.put(missing, path("Query")).await.refused(404, "service not found");
    for wrong in ["9Query", "Query.", "Query..a", ""] {
        rig.put(&format!("{at}/1"), path(wrong)).await.refused(400, "field_path");
    }
    let body = json!({"field_path": "Query", "add_value": -1});
    rig.put(&format!("{at}/1"), body).await.refused(400, "add_value");
    let body = json!({"field_path": "Query", "service_id": "blog"});
    rig.put(&format!("{at}/1"), body).await.refused(400, "it is taken from the path");

    rig.put(&format!("{at}/1"), path("Query")).await.expect(201);
    rig.put(&format!("{at}/1"), path("Query")).await.expect(200);
    rig.put(&format!("{at}/2"), path("Query"))
        .await
        .refused(400, "already decorated on this service by [1]");
    let body = json!({"service_id": "blog"});
    rig.patch(&format!("{at}/1"), body).await.refused(400, "service_id can not be patched");
}

#[tokio::test]
async fn of_a_service_that_was_not_there_are_not_those_of_the_new_one() {
    let rig = rig().await;
    let key = "services/orphan/graphql_cost_decorations/1";
    let value = json!({"id": "1", "service_id": "orphan", "field_path": "Query"}).to_string();
    rig.store.put(key, value.into(), crate::store::Expect::Any, None).await.unwrap();
    rig.put("services/orphan", json!({"upstream": 1})).await.refused(400, "upstream");
    assert!(rig.store.get(key).await.unwrap().is_some());
    rig.put("services/orphan", json!({"upstream": upstream()})).await.expect(201);
    assert!(rig.store.get(key).await.unwrap().is_none());
}

#[tokio::test]
async fn come_and_go_in_transactions() {
    let rig = rig().await;
    let key = "services/shop/graphql_cost_decorations/1";
    let put = json!([{"put": key, "value": {"field_path": "Query"}}]);
    rig.call("POST", "transactions", put).await.expect(200);
    assert_eq!(rig.stored(key).await["service_id"], "shop");
    rig.call("POST", "transactions", json!([{"delete": "services/shop"}])).await.expect(200);
    assert!(rig.store.get(key).await.unwrap().is_none());
}
