use crate::harness::Shop;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_queue_is_shown_as_paused_until_it_is_resumed() {
    let shop = Shop::open().await;
    let (code, said, _) = shop.command(&["queue", "pause", "event-tracking"]).await;
    assert_eq!(code, Some(0));
    assert!(said.contains("paused event-tracking"), "{said}");
    assert_eq!(paused(&shop).await, ["event-tracking"]);
    let (code, said, _) = shop.command(&["queue", "pause", "event-tracking"]).await;
    assert_eq!((code, said.contains("already")), (Some(0), true), "{said}");
    let (code, _, _) = shop.command(&["queue", "resume", "event-tracking"]).await;
    assert_eq!(code, Some(0));
    assert!(paused(&shop).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_exist_is_refused_with_those_that_do() {
    let shop = Shop::open().await;
    for action in ["pause", "resume"] {
        let (code, _, complaint) = shop.command(&["queue", action, "event-trackin"]).await;
        assert_eq!(code, Some(2));
        assert!(
            complaint.contains("event-tracking") && complaint.contains("profile-sync"),
            "{complaint}"
        );
    }
}

async fn queues(shop: &Shop) -> Vec<Value> {
    let (code, said, complaint) = shop.command(&["queue", "list", "--output", "json"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    serde_json::from_str(&said).unwrap()
}

async fn paused(shop: &Shop) -> Vec<String> {
    let queues = queues(shop).await.into_iter();
    let paused = queues.filter(|queue| queue["paused"] == true);
    paused
        .map(|queue| queue["queue"].as_str().unwrap().to_owned())
        .collect()
}
