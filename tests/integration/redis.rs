//! Redis as it is in production: with TLS, with a login, restarted, and with its group or its scripts gone.

use crate::harness::{EVENTS, Shop, until};
use serde_json::json;

fn event(id: &str) -> String {
    json!({"kind": "event.track", "id": id, "data": {
        "metric": "M", "profile": {"external_id": "c"}}})
    .to_string()
}

async fn configure(shop: &mut Shop, settings: &[(&str, &str)]) {
    let mut command = ::redis::cmd("CONFIG");
    command.arg("SET");
    for (name, value) in settings {
        command.arg(name).arg(value);
    }
    command.query_async::<()>(&mut shop.redis).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_with_tls_a_user_and_a_password_is_served() {
    let mut shop = Shop::open().await;
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("redis.crt", &certified.cert.pem());
    let key = file("redis.key", &certified.signing_key.serialize_pem());
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
        .to_string();
    configure(
        &mut shop,
        &[
            ("tls-cert-file", &certificate),
            ("tls-key-file", &key),
            ("tls-ca-cert-file", &certificate),
            ("tls-auth-clients", "no"),
        ],
    )
    .await;
    configure(&mut shop, &[("tls-port", &port)]).await;
    ::redis::cmd("ACL")
        .arg(&["SETUSER", "shop", "on", ">p@ss", "~klaviyod:*", "+@all"])
        .query_async::<()>(&mut shop.redis)
        .await
        .unwrap();
    // The certificate is its own authority, as a private one is.
    shop.set("SSL_CERT_FILE", &certificate);
    shop.set(
        "KLAVIYOD_REDIS_URL",
        &format!("rediss://shop:p%40ss@localhost:{port}"),
    );
    let _daemon = shop.binary(&["run"]);
    shop.add(EVENTS, &event("e-1")).await;
    until("the event arrives", || {
        shop.klaviyo.stats().distinct_events == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_ends_the_start_and_says_so_without_the_password() {
    let mut shop = Shop::open().await;
    let url = shop.redis_url().replace("redis://", "redis://shop:hush@");
    shop.set("KLAVIYOD_REDIS_URL", &url);
    let (code, _, said) = shop.command(&["queue", "list"]).await;
    assert_eq!(code, Some(3));
    assert!(
        said.contains("check the user and the password") && !said.contains("hush"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_or_scripts_or_connections_that_are_gone_are_made_anew() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    shop.add(EVENTS, &event("e-0")).await;
    shop.until_delivered().await;
    let losses: [&[&str]; 4] = [
        &["SCRIPT", "FLUSH"],
        &["XGROUP", "DESTROY", EVENTS, "klaviyod"],
        &["DEL", EVENTS],
        &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
    ];
    for (number, loss) in losses.iter().enumerate() {
        ::redis::cmd(loss[0])
            .arg(&loss[1..])
            .query_async::<::redis::Value>(&mut shop.redis)
            .await
            .unwrap();
        shop.add(EVENTS, &event(&format!("e-{}", number + 1))).await;
        shop.until_delivered().await;
        assert_eq!(shop.klaviyo.stats().distinct_events, number as u64 + 2);
    }
    daemon.stop().await;
}
