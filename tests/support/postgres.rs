//! A real Postgres for tests: from the installed binaries, on loopback, in a temporary folder, gone with the last test
//! that holds it, or with the test process however that ends.
#![allow(dead_code, reason = "each test program uses the part it needs")]

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// One throw-away server.
pub struct Server {
    binaries: PathBuf,
    folder: TempDir,
    port: u16,
    fsync: &'static str,
    running: Mutex<Option<Child>>,
    databases: AtomicU32,
}

impl Server {
    /// The server that the tests of this process share; started by the first, stopped by the last.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::start_new());
        *shared = Arc::downgrade(&server);
        server
    }

    /// A server of one's own, to stop and to stall.
    pub fn start_new() -> Self {
        Self::start_with("off")
    }

    /// A server of one's own that writes to the disk before it says so, as real ones do; to measure against.
    pub fn durable() -> Self {
        Self::start_with("on")
    }

    fn start_with(fsync: &'static str) -> Self {
        let binaries = binaries();
        let folder = TempDir::with_prefix("hookswitch-pg-").expect("a temporary folder");
        if let Some(owner) = owner() {
            run(Command::new("chown").arg(owner).arg(folder.path()));
        }
        fill(&folder.path().join("data"), &binaries);
        let server = Self {
            binaries,
            folder,
            port: free_port(),
            fsync,
            running: Mutex::new(None),
            databases: AtomicU32::new(0),
        };
        server.start();
        server
    }

    /// Starts it (again), on the port it had.
    pub fn start(&self) {
        // The shell waits on its standard input and takes the server down when that closes: when we say so, or when this
        // process is gone, which may have frozen it. SIGINT is Postgres's fast shutdown, SIGQUIT waits for nobody.
        let script = r#""$@" >>log 2>&1 & main=$!; echo $main >pid; read -r _
            kill -CONT $main $(cat /proc/$main/task/$main/children) 2>/dev/null; kill -INT $main 2>/dev/null
            runs() { [ -e /proc/$main/status ] && ! grep -q '^State:.Z' /proc/$main/status; }
            for _ in $(seq 200); do runs && sleep 0.05; done
            runs && kill -QUIT $main; wait $main"#;
        let postgres = self.binaries.join("postgres");
        let server = as_owner(&postgres);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg("sh").arg(server.get_program()).args(server.get_args());
        shell.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path());
        shell.args(["-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
        // The server must survive us only as far as these tests need: fsync is for real sites.
        shell.args(["-c", &format!("fsync={}", self.fsync), "-c", "max_connections=100"]);
        shell.current_dir(self.folder.path()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // What ends a test's group at a timeout must leave the shell to do its work.
        let child = shell.process_group(0).spawn().expect("sh starts");
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.answers() {
            assert!(Instant::now() < deadline, "postgres does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process id of its main process.
    pub fn id(&self) -> u32 {
        let pid = fs::read_to_string(self.folder.path().join("pid")).expect("it runs");
        pid.trim().parse().expect("a process id")
    }

    /// Stops it at once, as a reboot would.
    pub fn stop(&self) {
        let child = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    /// Ends every process of it at once, as the kernel does when memory runs out. [`Server::start`] has it recover.
    pub fn kill(&self) {
        self.signal("KILL");
        self.stop();
    }

    /// Freezes every process of it: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Undoes [`Server::freeze`].
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// An empty database of its own.
    pub fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    /// Runs SQL from the side and answers what it prints, columns parted by `|`.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(self.url(database));
        run(&mut psql)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://test@127.0.0.1:{}/{database}", self.port)
    }

    /// The folder with everything it writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn answers(&self) -> bool {
        let mut ready = Command::new(self.binaries.join("pg_isready"));
        let ready = ready.args(["-q", "-h", "127.0.0.1", "-p"]).arg(self.port.to_string()).status();
        ready.is_ok_and(|status| status.success())
    }

    /// Signals the server and its children; each child is a session of its own, so there is no group to signal.
    fn signal(&self, signal: &str) {
        let Ok(main) = std::fs::read_to_string(self.folder.path().join("pid")) else { return };
        let main = main.trim();
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        for pid in std::iter::once(main).chain(children.split_whitespace()) {
            let _ = Command::new("kill").arg(format!("-{signal}")).arg(pid).stderr(Stdio::null()).status();
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where Debian, or else the PATH, has the server.
fn binaries() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = installed.map(|version| version.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.splice(0..0, std::env::split_paths(&path));
    let found = folders.into_iter().rev().find(|folder| folder.join("initdb").exists());
    found.expect("these tests run a real Postgres: install it (Debian: apt-get install postgresql), or use `make test`")
}

/// Whom the server runs as: Postgres refuses root, so root hands it to another.
fn owner() -> Option<&'static str> {
    let me = Command::new("id").arg("-u").output().expect("id runs").stdout;
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let postgres = known.lines().any(|line| line.starts_with("postgres:"));
    (me.trim_ascii() == b"0").then_some(if postgres { "postgres" } else { "nobody" })
}

/// Makes a new server's data folder. `initdb` takes seconds, and a runner may give each test a process of its own: the
/// first leaves a copy for the others.
fn fill(data: &Path, binaries: &Path) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = format!("postgres{}-{}", binaries.display(), owner().unwrap_or_default()).replace('/', "-");
    let (made, making) = (kept.join(&name), kept.join(format!("{name}.new")));
    let lock = File::create(kept.join(format!("{name}.lock"))).expect("the target folder can be written");
    lock.lock().expect("files can be locked");
    if !made.exists() {
        let initdb = binaries.join("initdb");
        run(as_owner(&initdb).arg("-D").arg(data).args(["-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync"]));
        let _ = fs::remove_dir_all(&making);
        run(Command::new("cp").arg("-a").arg(data).arg(&making));
        fs::rename(&making, &made).expect("the target folder can be written");
        return;
    }
    drop(lock);
    run(Command::new("cp").arg("-a").arg(&made).arg(data));
}

fn as_owner(program: &Path) -> Command {
    let Some(owner) = owner() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", owner, "--regid", owner, "--clear-groups", "--"]).arg(program);
    // The folder this was called from may be closed to that user.
    command.current_dir("/");
    command
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _ = std::io::stderr().write_all(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
