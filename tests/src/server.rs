//! A real server as a child process.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use rustix::fs::statvfs;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::{Raw, RawReply, eventually, free_port};

/// How long a server may take to answer, to stop or to end. Long, for machines that do much else.
const LIMIT: Duration = Duration::from_secs(30);
/// How many ports to try before it must be something else that is wrong.
const ATTEMPTS: usize = 5;
/// A file system in memory, and how many bytes have to be free in it for servers to use it. They write before
/// they answer, so a disk that is busy would hold them up, and their tests with them.
const MEMORY: (&str, u64) = ("/dev/shm", 4 << 30);
/// The environment variable that names another server to test with, such as `valkey-server`.
const PROGRAM: &str = "UNFAZED_TEST_SERVER";

/// A server of its own for a test, on a port of 127.0.0.1 and a Unix socket, with its data in a
/// folder of its own. Dropping it kills it and removes the folder. Should the test process itself
/// be killed, a watchdog does both.
///
/// Without other arguments it writes each command to its append-only file before it answers, so
/// [`Server::restart`] finds every acknowledged write again, whatever ended the server; and it
/// makes no snapshots.
#[derive(Debug)]
pub struct Server {
    port: u16,
    /// Where it talks to other nodes, if it is one of a cluster.
    bus_port: Option<u16>,
    folder: PathBuf,
    args: Vec<OsString>,
    process: Option<Process>,
}

impl Server {
    /// Whether this machine has the program at all.
    #[must_use]
    pub fn is_installed() -> bool {
        let mut version = Command::new(program());
        version.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    }

    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not; the message has the server's log.
    #[track_caller]
    pub fn start() -> Self {
        Self::with_args(&[])
    }

    /// Starts a server with further command line arguments, which come last and so win:
    /// `&["--maxclients", "10"]`.
    ///
    /// # Panics
    ///
    /// Like [`Server::start`].
    #[track_caller]
    pub fn with_args(args: &[&str]) -> Self {
        Self::launch(args, || None)
    }

    /// Starts a server that can be a node of a cluster: it knows no other node yet and has no slots.
    ///
    /// # Panics
    ///
    /// Like [`Server::start`].
    #[track_caller]
    pub fn cluster_node(args: &[&str]) -> Self {
        Self::launch(args, || Some(free_port()))
    }

    /// The TCP port, the same for the whole life of this value.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of the cluster bus, where it is one of [`Server::cluster_node`].
    pub fn bus_port(&self) -> Option<u16> {
        self.bus_port
    }

    /// `redis://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `unix:///…/server.sock`
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The path of the Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("server.sock")
    }

    /// The folder with the data and the log.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The id of the server process, `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.server.id())
    }

    /// All that the server has logged, over all its restarts.
    pub fn log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Kills the server with SIGKILL and waits until it is gone. Nothing if it is down.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Lets the server end in order (SIGTERM, also from a pause), and waits until it has.
    ///
    /// # Panics
    ///
    /// When it takes too long.
    #[track_caller]
    pub fn shutdown(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.signal(Signal::TERM);
        process.signal(Signal::CONT);
        eventually("the server to shut down", LIMIT, || process.has_ended().then_some(()));
        self.process = None;
    }

    /// Pauses the server with SIGSTOP. When this returns it answers nothing more; the system still
    /// accepts connections and bytes for it.
    ///
    /// # Panics
    ///
    /// When the server is down.
    #[track_caller]
    pub fn stop(&self) {
        let process = self.process.as_ref().expect("a server that is up can be stopped");
        process.signal(Signal::STOP);
        // The signal returns before it has worked. To ask is not to reap: the child stays.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        eventually("the server to be stopped", LIMIT, || {
            waitid(WaitId::Pid(process.pid()), options).expect("our own child").map(drop)
        });
    }

    /// Lets a paused server go on.
    ///
    /// # Panics
    ///
    /// When the server is down.
    #[track_caller]
    pub fn cont(&self) {
        let process = self.process.as_ref().expect("a server that is up can go on");
        process.signal(Signal::CONT);
    }

    /// Starts the server again on the same port with the data it had, and waits until it answers.
    /// If it is still up it is killed first.
    ///
    /// # Panics
    ///
    /// Like [`Server::start`].
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let start = Instant::now();
        // Somebody may be on the port for a moment; only `start` may choose another one.
        while self.run().is_err() {
            let log = self.log();
            assert!(start.elapsed() < LIMIT, "the server does not start again; its log:\n{log}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Like [`Server::restart`], but everything the server had stored is lost: data, cluster
    /// state, whatever it wrote to its folder.
    ///
    /// # Panics
    ///
    /// Like [`Server::start`].
    #[track_caller]
    pub fn restart_empty(&mut self) {
        self.kill();
        for entry in fs::read_dir(&self.folder).expect("our own folder").flatten() {
            let path = entry.path();
            if path == self.log_path() {
                continue;
            }
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        self.restart();
    }

    #[track_caller]
    fn launch(args: &[&str], bus_port: fn() -> Option<u16>) -> Self {
        let args = args.iter().map(OsString::from).collect();
        let mut server =
            Self { port: 0, bus_port: None, folder: new_folder(), args, process: None };
        for _ in 0..ATTEMPTS {
            (server.port, server.bus_port) = (free_port(), bus_port());
            if server.run().is_ok() {
                return server;
            }
        }
        panic!("the server does not start; its log:\n{}", server.log());
    }

    /// Starts the process and waits until it answers.
    fn run(&mut self) -> Result<(), Ended> {
        let mut process = Process::start(&mut self.command(), &self.folder);
        let start = Instant::now();
        // The Unix socket is in our own folder, so nobody else can answer there; and it comes
        // after the TCP port, so that one is ours too.
        while !self.is_ready() {
            if process.has_ended() {
                return Err(Ended);
            }
            let log = self.log();
            assert!(start.elapsed() < LIMIT, "the server does not answer; its log:\n{log}");
            thread::sleep(Duration::from_millis(5));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Whether the server answers commands; that a password is wanted is an answer.
    fn is_ready(&self) -> bool {
        let pong = Raw::try_connect_unix(&self.socket(), LIMIT).and_then(|mut raw| {
            let pong = raw.try_cmd(&["PING"])?;
            // Closing it here is not enough: a process that another thread starts at this moment has
            // a copy until it runs its own program, and a test would count one connection too many.
            raw.try_cmd(&["QUIT"]).map(|_| pong)
        });
        match pong {
            Ok(RawReply::Error(text)) => text.starts_with("NOAUTH") || text.starts_with("NOPERM"),
            Ok(_) => true,
            Err(_) => false,
        }
    }

    fn command(&self) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.expect("a log file in our own folder");
        let mut command = Command::new(program());
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--unixsocket".as_ref(), self.socket().as_os_str()])
            .args(["--dir".as_ref(), self.folder.as_os_str()])
            .args(["--save", ""])
            // Written before each answer; to be safe from a dead server, not from a dead machine,
            // needs no sync.
            .args(["--appendonly", "yes", "--appendfsync", "no"])
            .args(["--auto-aof-rewrite-percentage", "0"]);
        if let Some(port) = self.bus_port {
            // Not 10,000 higher, where another test's server may be.
            command.args(["--cluster-enabled", "yes", "--cluster-port", &port.to_string()]);
        }
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log file"))
            .stderr(log);
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            // Shown with the failed test's output.
            println!("log of the server on port {}:\n{}", self.port, self.log());
        }
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// The process ended before it answered: most likely, its port was taken.
struct Ended;

/// One run of a server. Dropping it kills it, paused or not.
#[derive(Debug)]
struct Process {
    server: Child,
    /// A shell that reads from a pipe which only this process holds. When this process dies, in
    /// whatever way, the read ends, and the shell kills the server and removes its folder.
    watchdog: Child,
}

impl Process {
    fn start(command: &mut Command, folder: &Path) -> Self {
        let server = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run {:?}: {error}; is it installed?", command.get_program())
        });
        // Ctrl-C in a terminal reaches the watchdog too, which must outlive it.
        let script = r#"trap "" HUP INT TERM; read -r _; kill -9 "$1"; rm -rf "$2""#;
        let watchdog = Command::new("sh")
            .args(["-c", script, "watchdog", &server.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        Self { server, watchdog }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.server)
    }

    fn signal(&self, signal: Signal) {
        // It stays our child until it is waited for, so the id cannot be another process's.
        kill_process(self.pid(), signal).expect("a signal to our own child");
    }

    fn has_ended(&mut self) -> bool {
        self.server.try_wait().expect("our own child").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The server at once: callers measure from here. Then the watchdog, before the server is waited
        // for: it must not act on a process id that is somebody else's by then.
        _ = self.server.kill();
        for child in [&mut self.watchdog, &mut self.server] {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

fn program() -> OsString {
    env::var_os(PROGRAM).unwrap_or_else(|| "redis-server".into())
}

fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a Unix socket has room for about a hundred bytes.
        let path = root().join(format!("unfazed-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return path,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("cannot create {}: {error}", path.display()),
        }
    }
}

/// Where servers have their folders.
fn root() -> PathBuf {
    let (memory, needed) = MEMORY;
    let is_roomy =
        statvfs(memory).is_ok_and(|it| it.f_bavail.saturating_mul(it.f_frsize) >= needed);
    if is_roomy { memory.into() } else { env::temp_dir() }
}
