use super::*;
use std::path::Path;

fn with(variables: &[(&str, &str)]) -> Given {
    let owned = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Given::read(Some(Path::new("/dev/null")), owned)
}

#[test]
fn all_mistakes_are_reported_at_once_and_say_what_to_do() {
    let given = with(&[
        ("KLAVIYOD_KLAVIYO_BASE_URL", "http://shop.io"),
        ("KLAVIYOD_LEASSE", "5s"),
        ("KLAVIYOD_DRAIN_TIMEOUT", "soon"),
    ]);
    let mistakes = given.config(Need::Key).unwrap_err().0;
    assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    for word in [
        "did you mean `KLAVIYOD_LEASE`?",
        "must be https://",
        "such as 30s",
        "set KLAVIYO_PRIVATE_KEY",
    ] {
        assert!(
            mistakes.iter().any(|mistake| mistake.contains(word)),
            "{word}: {mistakes:?}"
        );
    }
}

#[test]
fn defaults_need_nothing_but_a_key() {
    assert!(with(&[]).config(Need::Redis).is_ok());
    let config = with(&[("KLAVIYO_PRIVATE_KEY", "pk_secret")])
        .config(Need::Key)
        .unwrap();
    assert_eq!(config.worker.lease, Duration::from_secs(30));
    assert!(!format!("{config:?}").contains("pk_secret"));
}

#[test]
fn limits_may_be_lifted_for_a_klaviyo_on_this_machine_only() {
    let lifted = ("KLAVIYOD_KLAVIYO__LIMITS", "off");
    assert!(with(&[lifted]).config(Need::Redis).is_err());
    let local = ("KLAVIYOD_KLAVIYO_BASE_URL", "http://127.0.0.1:9");
    assert!(with(&[lifted, local]).config(Need::Redis).is_ok());
}

#[test]
fn passwords_and_keys_are_never_shown() {
    let given = with(&[
        ("KLAVIYOD_REDIS_URL", "redis://u:hush@h:1"),
        ("KLAVIYO_PRIVATE_KEY", "pk_hush"),
    ]);
    assert!(
        given
            .shown()
            .iter()
            .all(|(_, text, _)| !text.contains("hush"))
    );
}

#[test]
fn a_password_in_any_address_is_neither_shown_nor_printed() {
    for (name, address, shown) in [
        (
            "KLAVIYOD_KLAVIYO_BASE_URL",
            "https://u:hush@a.klaviyo.com",
            "https://u:hidden@a.klaviyo.com",
        ),
        (
            "KLAVIYOD_KLAVIYO_BASE_URL",
            "https:/u:hush@h://x",
            "(not an address)",
        ),
        (
            "KLAVIYOD_DATABASE_URL",
            "postgres://u@h/db?sslmode=require&password=hush",
            "postgres://u@h/db?hidden",
        ),
        (
            "KLAVIYOD_DATABASE_URL",
            "postgres://u@h/db?password=hush@",
            "postgres://hidden@",
        ),
        (
            "KLAVIYOD_DATABASE_URL",
            "postgres:u:hush@h/db",
            "(not an address)",
        ),
        ("KLAVIYOD_REDIS_URL", "redis://:hush@h", "redis://:hidden@h"),
        ("KLAVIYOD_REDIS_URL", "redis://u:hush", "(not an address)"),
        (
            "KLAVIYOD_REDIS_URL",
            "redis+sentinel://hush@h1:1,h2:2/main",
            "redis+sentinel://hidden@h1:1,h2:2/main",
        ),
    ] {
        let given = with(&[(name, address)]);
        let texts: Vec<String> = given.shown().into_iter().map(|(_, text, _)| text).collect();
        assert!(
            texts.iter().any(|text| text == shown),
            "{address}: {texts:?}"
        );
        let printed = format!("{texts:?} {:?}", given.config(Need::Redis));
        assert!(!printed.contains("hush"), "{address}: {printed}");
    }
}

#[test]
fn an_address_without_a_password_is_shown_as_it_is() {
    for (name, address) in [
        ("KLAVIYOD_DATABASE_URL", "sqlite:klaviyod.db"),
        ("KLAVIYOD_DATABASE_URL", "postgres://u@h/db?sslmode=require"),
        ("KLAVIYOD_REDIS_URL", "redis+sentinel://h1:1,h2:2/main"),
    ] {
        let shown = with(&[(name, address)]).shown();
        assert!(
            shown.iter().any(|(_, text, _)| text == address),
            "{address}"
        );
    }
}

#[test]
fn every_short_name_of_the_interface_is_known() {
    let names = [
        ("KLAVIYOD_DATABASE_URL", "sqlite://klaviyod.db"),
        ("KLAVIYOD_HTTP_LISTEN", "127.0.0.1:8686"),
        ("KLAVIYOD_ADMIN_TOKEN", "0123456789abcdef"),
        ("KLAVIYOD_EXPORT_DIR", "./exports"),
        ("KLAVIYO_WEBHOOK_SIGNING_SECRET", "0123456789abcdef"),
    ];
    assert!(with(&names).config(Need::Redis).is_ok());
}

#[test]
fn every_account_has_its_own_key_and_shares_what_it_does_not_set() {
    let given = with(&[
        ("KLAVIYOD_ACCOUNTS__EU__PRIVATE_KEY", "pk_eu"),
        ("KLAVIYOD_ACCOUNTS__US__LIMITS", "0.5"),
        ("KLAVIYOD_KLAVIYO_BASE_URL", "http://127.0.0.1:9"),
    ]);
    let mistakes = given.config(Need::Key).unwrap_err().0;
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("accounts.us.private_key"));
    let config = with(&[
        ("KLAVIYO_PRIVATE_KEY", "pk_default"),
        ("KLAVIYOD_ACCOUNTS__EU__PRIVATE_KEY", "pk_eu"),
    ])
    .config(Need::Key)
    .unwrap();
    let names: Vec<&str> = config.accounts.iter().map(|it| it.keys.account()).collect();
    assert_eq!(names, ["default", "eu"]);
    assert!(config.account("eu").is_ok() && config.account("ue").is_err());
}

#[test]
fn an_account_whose_name_another_begins_with_is_there_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text =
        "[accounts.shop]\nprivate_key = \"pk_1\"\n[accounts.shop-eu]\nprivate_key = \"pk_2\"\n";
    std::fs::write(file.path(), text).unwrap();
    let none = std::iter::empty::<(String, String)>();
    let config = Given::read(Some(file.path()), none).config(Need::Key);
    let accounts = config.unwrap().accounts;
    let names: Vec<&str> = accounts.iter().map(|it| it.keys.account()).collect();
    assert_eq!(names, ["shop", "shop-eu"]);
}

#[test]
fn a_filter_that_cannot_be_understood_is_a_mistake() {
    let wrong = with(&[("KLAVIYOD_LOG", "info,,=[x")]);
    let mistakes = wrong.config(Need::Redis).unwrap_err().0;
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("`log.filter`"), "{mistakes:?}");
    let misspelt = with(&[("KLAVIYOD_LOG", "klaviyod=debug, infoo")]);
    let mistakes = misspelt.config(Need::Redis).unwrap_err().0;
    assert!(
        mistakes.len() == 1 && mistakes[0].contains("`infoo` is no level"),
        "{mistakes:?}"
    );
    for right in ["info", "off", "klaviyod=debug,warn", ""] {
        let right = with(&[("KLAVIYOD_LOG", right)]);
        assert!(right.config(Need::Redis).is_ok());
    }
}

#[test]
fn retries_are_configured_by_queue() {
    let config = with(&[
        ("KLAVIYOD_QUEUES__EVENT_TRACKING__ATTEMPTS_MAX", "3"),
        ("KLAVIYOD_QUEUES__EVENT_TRACKING__AGE_MAX", "1h"),
    ])
    .config(Need::Redis)
    .unwrap();
    let retries = config.worker.retries["event-tracking"];
    assert_eq!(
        (retries.attempts_max, retries.age_max),
        (3, Duration::from_hours(1))
    );
    assert_eq!(config.worker.retries["profile-sync"].attempts_max, 20);
    let wrong = ("KLAVIYOD_QUEUES__EVENTS__ATTEMPTS_MAX", "3");
    assert!(with(&[wrong]).config(Need::Redis).is_err());
}

#[test]
fn listening_to_others_needs_a_token() {
    let listen = ("KLAVIYOD_HTTP_LISTEN", "0.0.0.0:8686");
    assert!(with(&[listen]).config(Need::Redis).is_err());
    let short = ("KLAVIYOD_READ_TOKEN", "short");
    assert!(with(&[listen, short]).config(Need::Redis).is_err());
    let token = ("KLAVIYOD_READ_TOKEN", "0123456789abcdef");
    assert!(with(&[listen, token]).config(Need::Redis).is_ok());
}

#[test]
fn what_the_audit_keeps_is_a_time_and_a_size() {
    let config = with(&[("KLAVIYOD_AUDIT__BYTES_MAX", "500 MB")]);
    let audit = config.config(Need::Redis).unwrap().audit;
    assert_eq!(audit.bytes_max, 500_000_000);
    assert_eq!(audit.retention, Duration::from_hours(7 * 24));
    for wrong in ["", "much", "0GB", "99999999999TB"] {
        let config = with(&[("KLAVIYOD_AUDIT__BYTES_MAX", wrong)]);
        let mistakes = config.config(Need::Redis).unwrap_err().0;
        assert!(
            mistakes[0].contains("such as 500MB"),
            "{wrong}: {mistakes:?}"
        );
    }
}
