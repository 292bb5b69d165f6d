//! `hookswitch user` and `token`: through the API of a running daemon with `--token`, else straight into the database
//! of a stopped one. The lock on the data folder keeps the second from happening behind a running daemon's back.

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use hookswitch::clock::Clock;
use hookswitch::config::Config;
use hookswitch::data_dir::DataDir;
use hookswitch::http::secret::Secret;
use hookswitch::lifecycle::open_store;
use hookswitch::model::{PopOn, QueueLogin, Scope, Token, TokenId, User, UserId};
use hookswitch::registry::{Limits, Registry};

use super::{Access, say};

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user, disabled for popups unless --enabled.
    Create {
        /// What colleagues call them.
        name: String,
        /// Their address, unique in the account.
        #[arg(long)]
        email: Option<String>,
        /// Popups on.
        #[arg(long)]
        enabled: bool,
        #[command(flatten)]
        access: Access,
    },
    /// List users.
    List {
        #[command(flatten)]
        access: Access,
    },
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print its secret. With --token through a running daemon; without, the daemon must be stopped.
    Create {
        /// What it may do.
        #[arg(long, value_enum, default_value = "admin")]
        scope: ScopeArgument,
        /// Id of the user it speaks for; an agent token needs one. Default for an admin token made offline: the first admin.
        #[arg(long)]
        user: Option<UserId>,
        /// What it is for.
        #[arg(long, default_value = "command line")]
        label: String,
        #[command(flatten)]
        access: Access,
    },
}

/// Scopes that can be given on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScopeArgument {
    /// Everything in its account.
    Admin,
    /// What concerns its own user.
    Agent,
}

/// Runs `user …`.
pub async fn user(config: &Config, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Create { name, email, enabled, access } => {
            if access.token.is_some() {
                let body = json!({ "name": name, "email": email, "enabled": enabled });
                let user = access.open(config)?.post("/v1/users", &body).await?;
                say(format_args!("{}", user["id"].as_str().unwrap_or_default()))?;
                return Ok(());
            }
            let offline = Offline::open(config).await?;
            let id = offline.create_user(name, email, enabled).await?;
            say(format_args!("{id}"))?;
        }
        UserCommand::List { access } => {
            let api = access.open(config)?;
            let mut path = "/v1/users?limit=500".to_owned();
            loop {
                let page = api.get(&path).await?;
                for user in page["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
                    say(format_args!("{}", user_line(user)))?;
                }
                let Some(next) = page["next"].as_str() else { return Ok(()) };
                path = format!("/v1/users?limit=500&after={next}");
            }
        }
    }
    Ok(())
}

/// Runs `token …`.
pub async fn token(config: &Config, command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::Create { scope, user, label, access } = command;
    if scope == ScopeArgument::Agent && user.is_none() {
        bail!("an agent token speaks for a user: --user says for whom");
    }
    if access.token.is_some() {
        let scope = if scope == ScopeArgument::Admin { "admin" } else { "agent" };
        let body = json!({ "scope": scope, "user": user, "label": label });
        let token = access.open(config)?.post("/v1/tokens", &body).await?;
        say(format_args!("{}", token["secret"].as_str().context("the API gave no secret")?))?;
        return Ok(());
    }
    let offline = Offline::open(config).await?;
    say(format_args!("{}", offline.create_token(scope, user, label).await?.reveal()))?;
    Ok(())
}

/// The database of a daemon that does not run.
struct Offline {
    registry: std::sync::Arc<Registry>,
    _data_dir: DataDir,
}

impl Offline {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let data_dir = DataDir::open(&config.data_dir).context("give --token to ask the running daemon instead")?;
        let shown = || format!("database.url: {}", config.database.shown());
        // Standard output is for what was made.
        eprintln!("no --token: writing to {} itself", config.database.shown());
        let store = open_store(config, &data_dir).await?;
        let registry = Registry::open(store, Clock::system(), Limits::default()).await.with_context(shown)?;
        Ok(Self { registry, _data_dir: data_dir })
    }

    async fn create_user(&self, name: String, email: Option<String>, enabled: bool) -> anyhow::Result<UserId> {
        let defaults = self.registry.ensure_defaults()?;
        let user = User {
            id: UserId(self.registry.clock().uuid()),
            account: defaults.account,
            email,
            name,
            enabled,
            dnd: false,
            pop_on: PopOn::default(),
            queues: Vec::new(),
            queue_login: QueueLogin::default(),
            parked: Vec::new(),
            created_at: self.registry.clock().now().unix,
        };
        let stored = self.registry.create_user(user)?;
        self.registry.committed_patiently(stored.seq.max(defaults.seq)).await?;
        Ok(stored.value.id)
    }

    async fn create_token(&self, scope: ScopeArgument, user: Option<UserId>, label: String) -> anyhow::Result<Secret> {
        let defaults = self.registry.ensure_defaults()?;
        let secret = Secret::generate().context("the system gives no random bytes")?;
        let (scope, user) = match scope {
            ScopeArgument::Admin => (Scope::Admin, user.or(defaults.admin)),
            ScopeArgument::Agent => (Scope::Agent, user),
        };
        let account = match user {
            Some(id) => self.registry.users.get(id).with_context(|| format!("there is no user {id}"))?.value.account,
            None => defaults.account,
        };
        let token = Token {
            id: TokenId(self.registry.clock().uuid()),
            account,
            scope,
            user,
            pbx: None,
            label,
            hash: secret.hash(),
            created_at: self.registry.clock().now().unix,
            expires_at: None,
        };
        let stored = self.registry.create_token(token)?;
        self.registry.committed_patiently(stored.seq.max(defaults.seq)).await?;
        Ok(secret)
    }
}

fn user_line(user: &Value) -> String {
    let text = |key: &str| user[key].as_str().unwrap_or("-").to_owned();
    let state = if user["enabled"] == true { "enabled" } else { "disabled" };
    format!("{}  {state:<8}  {}  {}", text("id"), text("name"), text("email"))
}
