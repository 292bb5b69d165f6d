//! An event socket that says what a real one said: it asks for the password, answers from recordings, and plays events
//! byte for byte.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::recorded::answers;
use crate::support::wait::until;

/// See the module.
pub struct EventSocket {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// How it treats who comes.
#[derive(Clone, Debug)]
pub struct Manners {
    /// What `auth` or `userauth` must say.
    pub login: &'static str,
    /// Which formats of events it has.
    pub formats: &'static [&'static str],
}

struct Shared {
    manners: Manners,
    answers: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<String>>,
    writer: tokio::sync::Mutex<Option<OwnedWriteHalf>>,
    subscribed: AtomicUsize,
}

impl Default for Manners {
    fn default() -> Self {
        Self { login: "auth ClueCon", formats: &["json", "plain"] }
    }
}

impl EventSocket {
    /// Starts it as the PBX of the recordings at rest: two phones registered, two queues, nobody calls.
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            manners,
            answers: Mutex::new(at_rest()),
            asked: Mutex::default(),
            writer: tokio::sync::Mutex::default(),
            subscribed: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serving.clone()));
            }
        });
        Self { address, shared, task }
    }

    /// From now on this command is answered so.
    pub fn answer(&self, command: &str, answer: &str) {
        self.shared.answers.lock().unwrap().insert(command.to_owned(), answer.to_owned());
    }

    /// All commands so far, without logins.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// How many connections have subscribed so far.
    pub fn subscribed(&self) -> usize {
        self.shared.subscribed.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have subscribed.
    pub async fn is_subscribed(&self, times: usize) {
        until("the daemon subscribes", async || (self.subscribed() >= times).then_some(())).await;
    }

    /// Sends bytes to whoever is connected.
    pub async fn send(&self, bytes: &[u8]) {
        if let Some(writer) = self.shared.writer.lock().await.as_mut() {
            // Whoever is connected may have had enough.
            let _ = writer.write_all(bytes).await;
        }
    }

    /// Cuts the connection.
    pub async fn cut(&self) {
        *self.shared.writer.lock().await = None;
    }
}

impl Drop for EventSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let (reader, mut writer) = stream.into_split();
    writer.write_all(b"Content-Type: auth/request\n\n").await.unwrap();
    *shared.writer.lock().await = Some(writer);
    let mut lines = BufReader::new(reader.take(10_000_000)).lines();
    let mut known = false;
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = |text: &str| format!("Content-Type: command/reply\nReply-Text: {text}\n\n");
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[0] {
            "" => continue,
            "auth" | "userauth" if line == shared.manners.login => {
                known = true;
                reply("+OK accepted")
            }
            "auth" | "userauth" => {
                reply("-ERR invalid")
                    + "Content-Type: text/disconnect-notice\nContent-Length: 67\n\n\
                       Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
            }
            _ if !known => reply("-ERR command not found"),
            "event" if shared.manners.formats.contains(&words[1]) => {
                shared.subscribed.fetch_add(1, Ordering::SeqCst);
                reply(&format!("+OK event listener enabled {}", words[1]))
            }
            "event" => reply("-ERR no keywords supplied"),
            "api" => {
                let answers = shared.answers.lock().unwrap();
                let unknown = format!("-ERR {} Command not found!\n", words.get(1).unwrap_or(&""));
                let body = answers.get(&line).unwrap_or(&unknown);
                format!("Content-Type: api/response\nContent-Length: {}\n\n{body}", body.len())
            }
            _ => reply("-ERR command not found"),
        };
        if !line.starts_with("auth") && !line.starts_with("userauth") {
            shared.asked.lock().unwrap().push(line);
        }
        let mut writer = shared.writer.lock().await;
        let Some(writer) = writer.as_mut() else { return };
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The answers of a PBX where nobody calls, as they were recorded.
fn at_rest() -> HashMap<String, String> {
    let (register, queues, agents) = (answers("register"), answers("queue-ringall"), answers("agent-tiers"));
    let first = |from: &HashMap<String, Vec<String>>, command: &str| (command.to_owned(), from[command][0].clone());
    let mut given: HashMap<String, String> = HashMap::from([
        first(&register, "api status"),
        first(&register, "api sofia status"),
        first(&register, "api sofia status profile internal reg"),
        first(&queues, "api callcenter_config queue list"),
        first(&agents, "api callcenter_config agent list"),
        first(&agents, "api callcenter_config tier list"),
    ]);
    // The lists were made while an agent was put in and taken out again.
    if let Some(tiers) = agents["api callcenter_config tier list"].last() {
        given.insert("api callcenter_config tier list".into(), tiers.clone());
    }
    given.insert("api show channels as json".into(), "{\"row_count\": 0}".into());
    for queue in ["sales@default", "support@default", "652@127.0.0.1"] {
        given.insert(format!("api callcenter_config queue list members {queue}"), "+OK\n".into());
    }
    given
}
