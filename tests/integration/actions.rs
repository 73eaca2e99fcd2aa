use crate::harness::Shop;
use klaviyo_jobs::Keys;
use klaviyod::queue::{forget_actions, recorded_actions};
use klaviyod::services::operations::Operations;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_did_waits_in_redis_with_who_and_when_until_it_is_taken() {
    let mut shop = Shop::open().await;
    let keys = Keys::default();
    let mut operations = Operations::new(shop.redis.clone(), keys.clone());
    let detail = json!({"rate": 5});
    operations
        .record("dlq.replay", "event-tracking", 7, detail.clone())
        .await
        .unwrap();
    let recorded = recorded_actions(&mut shop.redis, &keys, 10).await.unwrap();
    assert_eq!(recorded.len(), 1);
    let (id, action) = &recorded[0];
    assert_eq!(
        (action.account.as_str(), action.action.as_str()),
        ("default", "dlq.replay")
    );
    assert_eq!(
        (action.target.as_str(), action.touched, &action.detail),
        ("event-tracking", 7, &detail)
    );
    assert!(action.actor.contains('@') && !action.actor.starts_with("unknown@"));
    forget_actions(&mut shop.redis, &keys, std::slice::from_ref(id))
        .await
        .unwrap();
    let rest = recorded_actions(&mut shop.redis, &keys, 10).await.unwrap();
    assert_eq!(rest, []);
}
