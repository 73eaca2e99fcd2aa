use super::*;

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
    let mistakes = given.config("default", Need::Key).unwrap_err().0;
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
    assert!(with(&[]).config("default", Need::Redis).is_ok());
    let config = with(&[("KLAVIYO_PRIVATE_KEY", "pk_secret")])
        .config("default", Need::Key)
        .unwrap();
    assert_eq!(config.worker.lease, Duration::from_secs(30));
    assert!(!format!("{config:?}").contains("pk_secret"));
}

#[test]
fn limits_may_be_lifted_for_a_klaviyo_on_this_machine_only() {
    let lifted = ("KLAVIYOD_KLAVIYO__LIMITS", "off");
    assert!(with(&[lifted]).config("default", Need::Redis).is_err());
    let local = ("KLAVIYOD_KLAVIYO_BASE_URL", "http://127.0.0.1:9");
    assert!(
        with(&[lifted, local])
            .config("default", Need::Redis)
            .is_ok()
    );
}

#[test]
fn passwords_and_keys_are_never_shown() {
    let given = with(&[
        ("KLAVIYOD_REDIS_URL", "redis://u:hush@h:1"),
        ("KLAVIYO_PRIVATE_KEY", "pk_hush"),
    ]);
    assert!(given.shown().iter().all(|(_, text)| !text.contains("hush")));
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
    assert!(with(&names).config("default", Need::Redis).is_ok());
}
