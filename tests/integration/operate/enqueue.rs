use super::*;
use std::io::Write;
use tempfile::NamedTempFile;

/// Redis refuses `profile-sync`, as it does when the login may not write there.
async fn shop_that_refuses_profiles() -> Shop {
    let mut shop = Shop::open().await;
    let rights = [
        "SETUSER",
        "shop",
        "on",
        ">hush",
        "+@all",
        "~klaviyod:{default}:event-tracking*",
        "~klaviyod:{default}:claim:*",
    ];
    let mut acl = redis::cmd("ACL");
    acl.arg(&rights[..]);
    acl.query_async::<()>(&mut shop.redis).await.unwrap();
    let url = shop.redis_url().replace("redis://", "redis://shop:hush@");
    shop.set("KLAVIYOD_REDIS_URL", &url);
    shop
}

fn file(jobs: &[Value]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    for job in jobs {
        writeln!(file, "{job}").unwrap();
    }
    file
}

async fn enqueue_file(shop: &Shop, file: &NamedTempFile) -> (Option<i32>, Value, String) {
    let path = file.path().to_str().unwrap();
    let (code, said, complaint) = shop.command(&["enqueue", "--ndjson", path]).await;
    let said = serde_json::from_str(&said).unwrap_or(Value::Null);
    (code, said, complaint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_short_says_what_was_accepted_where_to_go_on_and_what_would_repeat() {
    let shop = shop_that_refuses_profiles().await;
    let nonsense = json!({"kind": "event.trak", "data": {}});
    let jobs = [
        nonsense,
        order_without_id(),
        profile("c-1"),
        order_without_id(),
        profile("c-2"),
        order_without_id(),
    ];
    let (code, said, complaint) = enqueue_file(&shop, &file(&jobs)).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        (&said["accepted"], &said["rejected_count"]),
        (&json!(3), &json!(1)),
        "{said}{complaint}"
    );
    for part in [
        "stopped at line 3",
        "3 accepted",
        "go on from line 3",
        "2 of the lines 3 to 6",
    ] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
    assert!(!complaint.contains("duplicates"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_which_nothing_was_written_begins_again_without_a_warning() {
    let shop = shop_that_refuses_profiles().await;
    let mut later = profile("c-1");
    later["id"] = json!("c-1");
    let jobs = [order("o-1"), order("o-2"), later];
    let (code, said, complaint) = enqueue_file(&shop, &file(&jobs)).await;
    assert_eq!((code, &said["accepted"]), (Some(1), &json!(0)));
    assert!(
        complaint.contains("go on from line 1") && !complaint.contains("twice"),
        "{complaint}"
    );
    let (code, said, _) = enqueue_file(&shop, &file(&jobs[..2])).await;
    assert_eq!((code, &said["accepted"]), (Some(0), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_job_that_redis_refuses_is_no_file() {
    let shop = shop_that_refuses_profiles().await;
    let data = profile("c-1")["data"].to_string();
    let (code, _, complaint) = shop
        .command(&["enqueue", "profile.upsert", "--data", &data])
        .await;
    assert_eq!(code, Some(1));
    assert!(
        !complaint.contains("line") && !complaint.contains("file"),
        "{complaint}"
    );
}
