//! The architecture, as a test: who may call whom, and what every job must have.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use klaviyod::services::operations::remedies;
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of this crate each layer may name. Anything missing is forbidden.
const MAY_USE: &[(&str, &[&str])] = &[
    (
        "cli",
        &[
            "app",
            "config",
            "edge",
            "private_redis",
            "queue",
            "services",
            "store",
            "telemetry",
        ],
    ),
    ("config", &["klaviyo", "queue"]),
    ("http", &["config", "services", "telemetry"]),
    ("klaviyo", &[]),
    // Only the model, which is a test, starts servers.
    ("queue", &["klaviyo", "private_redis"]),
    // Only a test starts a server.
    ("services", &["klaviyo", "private_redis", "queue", "store"]),
    ("store", &[]),
    ("telemetry", &["config", "klaviyo", "queue", "services"]),
    ("worker", &["klaviyo", "queue", "services"]),
];

/// Which layers may name an outside crate. Crates not listed are free.
const HOME: &[(&str, &[&str])] = &[
    ("apalis", &["queue", "worker"]),
    ("apalis_core", &["queue", "worker"]),
    ("axum", &["http"]),
    ("clap", &["cli"]),
    ("failsafe", &["klaviyo"]),
    ("governor", &["klaviyo"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("redis", &["queue"]),
    ("reqwest", &["klaviyo"]),
    ("sqlx", &["store"]),
];

#[test]
fn layers_call_downwards_only() {
    let trespasses: Vec<String> = layers()
        .flat_map(|(layer, allowed)| {
            let named = files_of(layer).into_iter().flat_map(|file| {
                let names = modules_named(&code(&file));
                names.into_iter().map(move |name| (file.clone(), name))
            });
            named
                .filter(|(_, name)| name != layer && !allowed.contains(&name.as_str()))
                .map(|(file, name)| format!("{}: names `{name}`", file.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(
        trespasses.is_empty(),
        "a layer calls upwards:\n{}",
        trespasses.join("\n")
    );
}

#[test]
fn outside_crates_stay_in_their_home() {
    let mut strays = Vec::new();
    for (layer, _) in layers() {
        for file in files_of(layer) {
            let code = code(&file);
            for (name, homes) in HOME {
                let named = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                    !code[..at].ends_with(|before: char| {
                        before.is_alphanumeric() || before == '_' || before == ':'
                    })
                });
                if named && !homes.contains(layer) {
                    strays.push(format!("{}: names `{name}`", file.display()));
                }
            }
        }
    }
    assert!(
        strays.is_empty(),
        "a crate left its home:\n{}",
        strays.join("\n")
    );
}

#[test]
fn every_job_is_registered_and_frozen() {
    for kind in klaviyo_jobs::kinds() {
        assert!(
            klaviyod::worker::routes()
                .iter()
                .any(|route| route.kind == kind.kind),
            "{} is not registered",
            kind.kind
        );
        let frozen = root()
            .join("jobs/tests/wire")
            .join(format!("{}.v1.json", kind.kind));
        assert!(frozen.exists(), "{} has no frozen payload", kind.kind);
    }
}

#[test]
fn every_layer_is_listed() {
    for entry in fs::read_dir(src()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            !path.is_dir() || layers().any(|(layer, _)| *layer == name),
            "unlisted layer `{name}`"
        );
    }
}

#[test]
fn every_error_code_has_a_remedy_and_the_page_of_errors_shows_the_same() {
    let page = read(&root().join("docs/errors.md"));
    let shown: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let known: Vec<String> = remedies::remedies()
        .iter()
        .map(|it| {
            let acts = it.acts.as_str();
            format!(
                "| `{}` | {} | {acts} | {} |",
                it.code, it.meaning, it.remedy
            )
        })
        .collect();
    assert_eq!(shown, known, "docs/errors.md and remedies.rs differ");
    assert!(remedies::remedies().is_sorted_by_key(|it| it.code));
    let missing: Vec<String> = codes()
        .into_iter()
        .filter(|code| remedies::find(code).is_none())
        .collect();
    assert!(
        missing.is_empty(),
        "codes without a remedy, add them to remedies.rs: {missing:?}"
    );
}

/// Every text in the sources that looks like an error code.
fn codes() -> Vec<String> {
    let mut files = files_in(root().join("jobs/src"));
    for layer in ["klaviyo", "queue", "services", "worker"] {
        files.extend(files_of(layer));
    }
    let families = ["job.", "keys.", "klaviyo.", "worker."];
    let is_code = |text: &&str| {
        text == &"poison"
            || families
                .iter()
                .any(|family| text.strip_prefix(family).is_some_and(is_snake_case))
    };
    let mut found = Vec::new();
    // What operators do has names of the same form.
    let in_operations = |file: &&PathBuf| file.to_string_lossy().contains("/operations/");
    for file in files.iter().filter(|file| !in_operations(file)) {
        let code = code(file);
        let shipped = code.split("#[cfg(test)]").next().unwrap_or_default();
        found.extend(shipped.split('"').filter(is_code).map(str::to_owned));
    }
    assert!(
        found.len() > 25,
        "the search for codes is broken: {found:?}"
    );
    found
}

fn is_snake_case(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn layers() -> impl Iterator<Item = &'static (&'static str, &'static [&'static str])> {
    MAY_USE.iter()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn src() -> PathBuf {
    root().join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn files_of(layer: &str) -> Vec<PathBuf> {
    files_in(src().join(layer))
}

fn files_in(folder: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The file without its line comments.
fn code(file: &Path) -> String {
    read(file)
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every module of this crate that the code names as `crate::module`. Nested imports of the root are not used here.
fn modules_named(code: &str) -> Vec<String> {
    let segment = |rest: &str| {
        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    code.match_indices("crate::")
        .map(|(at, path)| segment(&code[at + path.len()..]))
        .collect()
}
