//! `taskflow serve`: the dashboard and the API of any store.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use taskflow::admin::Role;
use taskflow::web::{Access, Admin, Args as Shown, Token, User};

use crate::cli::failure::{Failure, Result};
use crate::cli::options::{Acting, Global};
use crate::cli::session::Session;

/// The hint if no access is chosen.
const CHOICES: &str = "\
--loopback            everybody on this machine
--user ada:HASH:admin a person with a password; `taskflow password` prints the hash
--token-file FILE     programs; `taskflow token` prints a token and its hash
--open                everybody who reaches this port";

/// The options of `taskflow serve`.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Options {
    /// The address and port
    #[arg(long, default_value = "127.0.0.1:7411")]
    listen: SocketAddr,
    /// A person: NAME:HASH:ROLE; the role is `viewer`, `operator`, `admin` or `metrics`; may be repeated
    #[arg(long, value_name = "NAME:HASH:ROLE")]
    user: Vec<String>,
    /// People, one NAME:HASH:ROLE a line
    #[arg(long, value_name = "FILE")]
    user_file: Option<PathBuf>,
    /// Programs with bearer tokens, one NAME:SHA256:ROLE a line
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Everybody on this machine may do everything
    #[arg(long)]
    loopback: bool,
    /// Everybody who reaches the port may do everything
    #[arg(long)]
    open: bool,
    /// The title of the pages
    #[arg(long, default_value = "taskflow")]
    title: String,
    /// Hide the values of these arguments, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    redact: Vec<String>,
    /// The origin that browsers see, if a proxy changes the `Host`: https://tasks.example
    #[arg(long, value_name = "URL")]
    public_origin: Option<String>,
    /// Let people log in over plain http on other hosts than this one
    #[arg(long)]
    insecure_cookies: bool,
}

pub(in crate::cli) async fn run(global: &Global, options: &Options) -> Result<()> {
    let access = access(options)?;
    let session = Session::begin(global, &Acting::default()).await?;
    let mut admin = Admin::new(session.tasks(), access).title(options.title.as_str());
    if let Some(context) = &session.target.context {
        admin = admin.environment(context.as_str(), session.target.accent);
    }
    if !options.redact.is_empty() {
        admin = admin.args(Shown::redact(&options.redact));
    }
    if let Some(origin) = &options.public_origin {
        admin = admin.public_origin(origin.as_str());
    }
    if options.insecure_cookies {
        admin = admin.insecure_cookies();
    }
    let router = admin.router().into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(options.listen)
        .await
        .map_err(|error| Failure::failed(format!("cannot listen on {}: {error}", options.listen)))?;
    let here = listener.local_addr()?;
    session.out.line(&format!("http://{here}"))?;
    if options.open {
        eprintln!("everybody who reaches {here} may do everything");
    }
    // The streams of open pages never end by themselves, so the shutdown does not wait for them.
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served?,
        () = stopped() => {}
    }
    session.end().await;
    Ok(())
}

/// Returns on Ctrl-C, or on SIGTERM where that exists.
async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn access(options: &Options) -> Result<Access> {
    let mut users = Vec::new();
    for (at, text) in options.user.iter().enumerate() {
        let (name, hash, role) = triple(text).ok_or_else(|| wrong(&format!("`--user` number {}", at + 1)))?;
        users.push(User::new(name, hash, role));
    }
    if let Some(path) = &options.user_file {
        users.extend(lines(path)?.into_iter().map(|(name, hash, role)| User::new(name, hash, role)));
    }
    let mut kinds = Vec::new();
    if !users.is_empty() {
        kinds.push(Access::users(users)?);
    }
    if let Some(path) = &options.token_file {
        kinds.push(Access::tokens(
            lines(path)?.into_iter().map(|(name, hash, role)| Token::new(name, hash, role)),
        )?);
    }
    if options.loopback {
        if !options.listen.ip().is_loopback() {
            return Err(Failure::usage(format!(
                "`--loopback` lets everybody on this machine in, and {} is not only this machine",
                options.listen
            ))
            .hint("listen on 127.0.0.1, or choose another access"));
        }
        kinds.push(Access::loopback());
    }
    if options.open {
        kinds.push(Access::open_to_anyone());
    }
    kinds
        .into_iter()
        .reduce(Access::or)
        .ok_or_else(|| Failure::usage("choose who may use the dashboard").hint(CHOICES))
}

/// The lines of a file, without empty ones and comments.
fn lines(path: &Path) -> Result<Vec<(String, String, Role)>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(at, line)| triple(line).ok_or_else(|| wrong(&format!("{shown}, line {at}")))).collect()
}

/// What is wrong, without the text: it may be a password.
fn wrong(place: &str) -> Failure {
    Failure::usage(format!("{place} is not NAME:HASH:ROLE with the role viewer, operator, admin or metrics"))
}

fn triple(text: &str) -> Option<(String, String, Role)> {
    let (name, rest) = text.split_once(':')?;
    let (hash, role) = rest.rsplit_once(':')?;
    let role = Role::ALL.into_iter().find(|it| it.as_str() == role.trim())?;
    Some((name.trim().to_owned(), hash.trim().to_owned(), role))
}
