use std::process::Command;

fn klaviyod(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_klaviyod"));
    command
        .env_clear()
        .args(arguments)
        .envs(variables.iter().copied());
    let output = command.output().unwrap();
    let complaints = String::from_utf8(output.stderr)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    (output.status.code(), complaints)
}

#[test]
fn a_wrong_configuration_ends_with_all_mistakes_one_line_each_and_exit_code_2() {
    let variables = [
        ("KLAVIYOD_KLAVIYO_BASE_URL", "http://shop.io"),
        ("KLAVIYOD_LEASSE", "30s"),
    ];
    let (code, complaints) = klaviyod(&["run"], &variables);
    assert_eq!(code, Some(2));
    assert_eq!(complaints.len(), 3, "{complaints:?}");
}

#[test]
fn an_address_of_a_database_that_is_none_ends_with_exit_code_2() {
    let variables = [("KLAVIYOD_DATABASE_URL", "postgres://host:port")];
    let (code, complaints) = klaviyod(&["migrate", "--check"], &variables);
    assert_eq!(code, Some(2), "{complaints:?}");
    assert!(
        complaints[0].contains("`database.url` is not an address"),
        "{complaints:?}"
    );
}

#[test]
fn a_redis_that_cannot_be_reached_ends_with_exit_code_3() {
    let variables = [
        ("KLAVIYOD_REDIS_URL", "redis://127.0.0.1:1"),
        ("KLAVIYOD_HTTP_LISTEN", "127.0.0.1:0"),
        ("KLAVIYO_PRIVATE_KEY", "pk_test"),
    ];
    let (code, complaints) = klaviyod(&["run"], &variables);
    assert_eq!(code, Some(3));
    assert!(
        complaints
            .iter()
            .any(|it| it.contains("check KLAVIYOD_REDIS_URL")),
        "{complaints:?}"
    );
}
