//! A new database for a test: a `SQLite` file always, and one in a private PostgreSQL where that is installed.
//!
//! Tests that run at the same time share the server; it ends with the last of them. The surprising thing: PostgreSQL
//! refuses to run as root, so then it runs as `postgres` or `nobody`.

use klaviyod::store::{Database, Store};
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

const SERVER_START_MAX: Duration = Duration::from_mins(1);
/// Where Debian keeps the programs that are not on the path.
const FOLDERS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// A new, empty database.
pub(crate) struct NewDatabase {
    pub(crate) url: String,
    _folder: Option<TempDir>,
    _server: Option<Arc<PrivatePostgres>>,
}

impl NewDatabase {
    /// One of each kind that this machine has.
    pub(crate) async fn of_each_kind() -> Vec<Self> {
        let mut found = vec![Self::sqlite()];
        match PrivatePostgres::shared().await {
            Some(server) => found.push(Self::postgres(server)),
            None => say_skipped(),
        }
        found
    }

    pub(crate) fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            url: format!("sqlite://{}", folder.path().join("test.db").display()),
            _folder: Some(folder),
            _server: None,
        }
    }

    fn postgres(server: Arc<PrivatePostgres>) -> Self {
        let name = format!("test_{:016x}", rand::random::<u64>());
        let created = server.psql("postgres", &format!("CREATE DATABASE {name}"));
        assert!(created, "PostgreSQL refused to create a database");
        Self {
            url: server.url(&name),
            _folder: None,
            _server: Some(server),
        }
    }

    /// Connects and migrates.
    pub(crate) async fn store(&self) -> Store {
        let database = Database::connect(&self.url).await.unwrap();
        database.migrate().await.unwrap();
        Store::open(database, None).await.unwrap()
    }
}

/// A running server that ends with its last user.
pub(crate) struct PrivatePostgres {
    folder: TempDir,
    programs: PathBuf,
    server: Child,
}

impl PrivatePostgres {
    async fn shared() -> Option<Arc<Self>> {
        static RUNNING: Mutex<Weak<PrivatePostgres>> = Mutex::const_new(Weak::new());
        let mut running = RUNNING.lock().await;
        if let Some(server) = running.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start().await?);
        *running = Arc::downgrade(&server);
        Some(server)
    }

    /// Starts one that nobody shares; `None` where it is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let programs = programs()?;
        let folder = TempDir::new().unwrap();
        let user = user();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let data = folder.path().join("data");
        let mut initdb = as_user(&programs.join("initdb"), user);
        initdb
            .current_dir(folder.path())
            .arg("-D")
            .arg(&data)
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale",
                "C",
            ]);
        let made = initdb.stdout(Stdio::null()).output().unwrap();
        assert!(
            made.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let server = Self {
            server: spawn(&programs, folder.path(), user),
            folder,
            programs,
        };
        server.answers().await;
        Some(server)
    }

    /// Ends it at once, as a crash would; its files stay.
    pub(crate) fn kill(&mut self) {
        // SIGQUIT reaches its children too, which SIGKILL would leave behind.
        let pid = self.server.id().to_string();
        Command::new("kill").args(["-QUIT", &pid]).status().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it again on its files.
    pub(crate) async fn restart(&mut self) {
        self.server = spawn(&self.programs, self.folder.path(), user());
        self.answers().await;
    }

    async fn answers(&self) {
        let deadline = Instant::now() + SERVER_START_MAX;
        while !self.psql("postgres", "SELECT 1") {
            assert!(Instant::now() < deadline, "PostgreSQL did not start");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@localhost/{database}?host={}",
            self.folder.path().display()
        )
    }

    fn psql(&self, database: &str, sql: &str) -> bool {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args([
            "-X", "-q", "-U", "postgres", "-d", database, "-c", sql, "-h",
        ])
        .arg(self.folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
        psql.status().unwrap().success()
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if self.server.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
    }
}

fn spawn(programs: &Path, folder: &Path, user: Option<(u32, u32)>) -> Child {
    let mut server = as_user(&programs.join("postgres"), user);
    server
        .current_dir(folder)
        .arg("-D")
        .arg(folder.join("data"))
        // A socket and no port: no two servers can meet.
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    server.spawn().unwrap()
}

/// Straight to the terminal: the test runner would keep a print to itself.
pub(crate) fn say_skipped() {
    let text = b"skipped: PostgreSQL, for `initdb` and `postgres` are not installed\n";
    std::io::stderr().write_all(text).unwrap();
}

/// The folder that holds all programs we need.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).collect::<Vec<_>>();
    let of_debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let of_debian = of_debian
        .flatten()
        .map(|version| version.path().join("bin"));
    on_path
        .into_iter()
        .chain(FOLDERS.map(PathBuf::from))
        .chain(of_debian)
        .find(|folder| {
            ["initdb", "postgres", "psql"]
                .iter()
                .all(|program| folder.join(program).exists())
        })
}

/// Whom to run as, when we are root.
fn user() -> Option<(u32, u32)> {
    if id(&["-u"]) != Some(0) {
        return None;
    }
    let known = |name| Some((id(&["-u", name])?, id(&["-g", name])?));
    known("postgres").or_else(|| known("nobody"))
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}
