use super::*;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

/// Runs a command whose standard output is chosen already.
async fn written(command: &mut tokio::process::Command) -> Output {
    let command = command.stdin(Stdio::null()).stderr(Stdio::piped());
    let process = command.spawn().unwrap();
    process.wait_with_output().await.unwrap()
}

/// Runs a command whose output goes to a full disk.
async fn to_a_full_disk(shop: &Shop, arguments: &[&str]) -> (Option<i32>, String) {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = shop.klaviyod(arguments);
    let output = written(command.stdout(full)).await;
    let complaint = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), complaint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_a_failure_of_every_command_that_writes() {
    let mut shop = Shop::open().await;
    add_dead(&mut shop, &order("dead")).await;
    for arguments in [
        &["queue", "list", "--output", "json"][..],
        &["queue", "list", "--output", "table"],
        &["dlq", "list", "--output", "json"],
        &["dlq", "list", "--output", "table"],
        &["dlq", "export"],
        &["job", "explain", "dead", "--output", "table"],
        &["schema"],
        &["completions", "bash"],
    ] {
        let (code, complaint) = to_a_full_disk(&shop, arguments).await;
        assert_eq!(code, Some(1), "{arguments:?}: {complaint}");
        assert!(complaint.contains("failed to write"), "{complaint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_ends_a_command_quietly() {
    let mut shop = Shop::open().await;
    add_dead(&mut shop, &order("dead")).await;
    for arguments in [
        &["dlq", "list", "--output", "json"][..],
        &["schema"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = shop.klaviyod(arguments);
        let output = written(command.stdout(writer)).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), complaint.as_str()), (Some(0), ""));
    }
}

#[test]
fn a_variable_that_is_not_utf_8_is_a_mistake_only_if_it_is_ours() {
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9");
    for (variable, code) in [("SOMEBODY_ELSES", 0), ("KLAVIYOD_LEASE", 2)] {
        let output = Command::new(env!("CARGO_BIN_EXE_klaviyod"))
            .args(["--config", "/dev/null", "config", "check"])
            .env_clear()
            .env("KLAVIYO_PRIVATE_KEY", "pk_1")
            .env(variable, latin)
            .output()
            .unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{complaint}");
        if code == 2 {
            assert_eq!(complaint.lines().count(), 1, "{complaint}");
            assert!(complaint.contains("KLAVIYOD_LEASE"), "{complaint}");
        }
    }
}
