//! The official clients, unchanged, against the simulator with its real limits.
//!
//! Each is installed once into the target folder. Where the interpreter or the package cannot be had, the test says
//! so and passes: it proves something only where it ran.

#![allow(
    clippy::allow_attributes,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "helpers of tests, which say aloud what they skip"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use klaviyo_simulator::{Config, Simulator, Stats};

const NODE_PACKAGE: &str = "klaviyo-api@23.0.0";
const PYTHON_PACKAGE: &str = "klaviyo-api==25.0.0";

#[tokio::test(flavor = "multi_thread")]
async fn the_official_node_client_works_unchanged() {
    let folder = install_folder("node-client");
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"])
        .arg(&folder)
        .arg(NODE_PACKAGE);
    if let Err(reason) = install(&folder, "node_modules/klaviyo-api", npm) {
        return skip("node", &reason);
    }
    let script = |base_url: String| {
        let mut node = Command::new("node");
        node.arg(script_path("node.mjs")).arg(base_url).arg(&folder);
        node
    };
    let stats = run(script).await;
    assert_eq!(
        (stats.profiles, stats.distinct_events, stats.value),
        (1, 3, 11.99)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client_works_unchanged() {
    let folder = install_folder("python-client");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--target"])
        .arg(&folder)
        .arg(PYTHON_PACKAGE);
    if let Err(reason) = install(&folder, "klaviyo_api", pip) {
        return skip("python", &reason);
    }
    let script = |base_url: String| {
        let mut python = Command::new("python3");
        python
            .env("PYTHONPATH", &folder)
            .arg(script_path("python.py"))
            .arg(base_url);
        python
    };
    let stats = run(script).await;
    assert_eq!(
        (stats.profiles, stats.distinct_events, stats.value),
        (4, 3, 29.97)
    );
}

async fn run(script: impl FnOnce(String) -> Command) -> Stats {
    let simulator = Simulator::start(Config::default()).await.unwrap();
    let mut command = script(simulator.base_url());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let stats = simulator.stats();
    simulator.stop().await;
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stats
}

fn install(folder: &Path, marker: &str, mut command: Command) -> Result<(), String> {
    if folder.join(marker).exists() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn skip(client: &str, reason: &str) {
    eprintln!("skipped: the {client} client could not be installed: {reason}");
}

fn install_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}
