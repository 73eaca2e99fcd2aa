//! Every example runs and what it writes is accepted. Without its runtime or its registry it is skipped, aloud.

use crate::server::Server;
use jiff::Timestamp;
use klaviyo_jobs::{Envelope, kind};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

async fn assert_one_job_of_each_kind(server: &Server) {
    let mut seen = Vec::new();
    for queue in ["event-tracking", "profile-sync"] {
        for entry in server
            .entries(&format!("klaviyod:{{default}}:{queue}"))
            .await
        {
            let envelope = Envelope::parse(&entry.job).unwrap();
            let info = kind(&envelope.kind).unwrap();
            info.on_queue(queue).unwrap();
            (info.check)(&envelope, Timestamp::now()).unwrap();
            assert!(envelope.at.is_some());
            seen.push(info.kind);
        }
    }
    assert_eq!(seen, ["event.track", "order.placed", "profile.upsert"]);
}

#[tokio::test]
async fn the_shell_example_enqueues_what_is_accepted() {
    let Some(server) = Server::start().await else {
        return;
    };
    if !works(Command::new("redis-cli").arg("--version")) {
        eprintln!("skipped: redis-cli is not installed");
        return;
    }
    run(Command::new("sh")
        .arg(format!("{EXAMPLES}/enqueue.sh"))
        .arg(server.url()));
    assert_one_job_of_each_kind(&server).await;
}

#[tokio::test]
async fn the_node_example_enqueues_what_is_accepted() {
    let Some(server) = Server::start().await else {
        return;
    };
    let folder = scratch("node-example");
    for file in ["enqueue.mjs", "package.json"] {
        fs::copy(Path::new(EXAMPLES).join(file), folder.join(file)).unwrap();
    }
    let install = ["install", "--no-audit", "--no-fund", "--no-package-lock"];
    if !works(Command::new("npm").args(install).current_dir(&folder)) {
        eprintln!("skipped: npm is not installed or its registry does not answer");
        return;
    }
    run(Command::new("node")
        .arg("enqueue.mjs")
        .arg(server.url())
        .current_dir(&folder));
    assert_one_job_of_each_kind(&server).await;
}

#[tokio::test]
async fn the_python_example_enqueues_what_is_accepted() {
    let Some(server) = Server::start().await else {
        return;
    };
    let folder = scratch("python-example");
    let install = ["-m", "pip", "install", "--quiet", "--upgrade", "--target"];
    if !works(
        Command::new("python3")
            .args(install)
            .arg(&folder)
            .arg("redis"),
    ) {
        eprintln!("skipped: python3 or pip is not installed or its registry does not answer");
        return;
    }
    let script = format!("{EXAMPLES}/enqueue.py");
    run(Command::new("python3")
        .arg(script)
        .arg(server.url())
        .env("PYTHONPATH", &folder));
    assert_one_job_of_each_kind(&server).await;
}

#[tokio::test]
async fn the_rust_example_enqueues_what_is_accepted() {
    let Some(server) = Server::start().await else {
        return;
    };
    // Cargo builds the examples before it runs the tests and puts them beside the tests' folder.
    let folder = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples");
    let binary = folder.join(format!("enqueue{}", std::env::consts::EXE_SUFFIX));
    if !binary.exists() {
        eprintln!(
            "skipped: the example is not built; run all tests, or: cargo build -p klaviyo-jobs --examples"
        );
        return;
    }
    run(Command::new(binary).arg(server.url()));
    assert_one_job_of_each_kind(&server).await;
}
