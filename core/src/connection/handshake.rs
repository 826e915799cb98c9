//! What is said before the first user command: HELLO or AUTH, the client's name and library, the
//! database.
//!
//! ```text
//!   Auto:  HELLO 3 [AUTH user password] [SETNAME name], CLIENT SETINFO ×2, [SELECT db]
//!             | unknown command, NOPROTO, end of stream without a reply
//!             v
//!   RESP2: [AUTH [user] password], [CLIENT SETNAME name], CLIENT SETINFO ×2, [SELECT db]
//! ```
//!
//! All of it leaves in one piece, so it costs one round trip. No user command leaves before the last
//! reply has come, and so none before authentication is confirmed.

use std::collections::VecDeque;

use crate::{
    config::{Config, ProtocolChoice, Secret},
    failure::Cause,
    reply::ServerError,
    resp::{Kind, Protocol, Reply, encode},
};

/// The name and version a server shows for this client in CLIENT LIST.
const LIB_NAME: &str = "unfazed";
const LIB_VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug)]
pub(crate) struct Handshake {
    /// What the coming replies answer, in order.
    owed: VecDeque<Step>,
    /// HELLO was refused as unknown: when all replies are in, speak RESP2.
    fall_back: bool,
    /// What is spoken, as far as it is known.
    protocol: Protocol,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Auth,
    /// A courtesy; an error reply is ignored.
    Courtesy,
    Select,
    Ping,
}

pub(crate) enum Progress {
    /// More replies are owed.
    Going,
    /// Done: user commands may go out.
    Done,
    /// The server does not know HELLO; the handshake goes on in RESP2 with these bytes.
    Again(Vec<u8>),
    /// The connection can't be used.
    Failed(Rejection),
}

/// A handshake that the server refused.
pub(crate) struct Rejection {
    pub(crate) cause: Cause,
    /// Whether trying again can't help: wrong credentials or configuration.
    pub(crate) lasting: bool,
}

impl Handshake {
    /// Begins; gives the bytes to send. Nothing may be owed at all: then user commands may go out at
    /// once.
    pub(crate) fn begin(config: &Config, resp2_only: bool) -> (Self, Vec<u8>) {
        let hello = config.protocol != ProtocolChoice::Resp2 && !resp2_only;
        let mut handshake =
            Handshake { owed: VecDeque::new(), fall_back: false, protocol: Protocol::Resp2 };
        let mut out = Vec::new();
        handshake.write(config, hello, &mut out);
        (handshake, out)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.owed.is_empty()
    }

    pub(crate) fn replies_owed(&self) -> usize {
        self.owed.len()
    }

    /// What is spoken once it is done.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the peer has answered nothing to HELLO so far; some proxies end the stream instead.
    pub(crate) fn awaits_hello(&self) -> bool {
        self.owed.front() == Some(&Step::Hello)
    }

    pub(crate) fn on_reply(&mut self, reply: &Reply, config: &Config) -> Progress {
        let Some(step) = self.owed.pop_front() else {
            return Progress::Failed(Rejection { cause: Cause::UnexpectedReply, lasting: false });
        };
        if let Some(error) = reply.view().error() {
            if step == Step::Hello && speaks_only_resp2(&error) {
                if config.protocol == ProtocolChoice::Resp3 {
                    return Progress::Failed(Rejection {
                        cause: Cause::Handshake(without_secret(error, config)),
                        lasting: true,
                    });
                }
                self.fall_back = true;
            } else if !self.fall_back && is_fatal(step, &error) {
                let lasting = is_lasting(step, &error);
                let cause = cause_of(step, without_secret(error, config), config);
                return Progress::Failed(Rejection { cause, lasting });
            }
        } else if step == Step::Hello {
            if !matches!(reply.kind(), Kind::Map | Kind::Array) {
                let cause = Cause::UnexpectedReply;
                return Progress::Failed(Rejection { cause, lasting: false });
            }
            self.protocol = Protocol::Resp3;
        }
        if !self.owed.is_empty() {
            return Progress::Going;
        }
        if std::mem::take(&mut self.fall_back) {
            let mut out = Vec::new();
            self.write(config, false, &mut out);
            if !self.owed.is_empty() {
                return Progress::Again(out);
            }
        }
        Progress::Done
    }

    fn write(&mut self, config: &Config, hello: bool, out: &mut Vec<u8>) {
        let user = config.username.as_deref();
        let password = config.password.as_ref().map(Secret::expose);
        let name = config.client_name.as_deref();
        let mut send = |step, words: &[&str]| {
            encode::array_header(out, words.len());
            words.iter().for_each(|word| encode::bulk(out, word.as_bytes()));
            self.owed.push_back(step);
        };
        if hello {
            let mut words = vec!["HELLO", "3"];
            if let Some(password) = password {
                words.extend(["AUTH", user.unwrap_or("default"), password]);
            }
            words.extend(name.into_iter().flat_map(|name| ["SETNAME", name]));
            send(Step::Hello, &words);
        } else {
            match (user, password) {
                (Some(user), Some(password)) => send(Step::Auth, &["AUTH", user, password]),
                // Before 6.0 AUTH knew no user names.
                (None, Some(password)) => send(Step::Auth, &["AUTH", password]),
                (_, None) => {}
            }
            if let Some(name) = name {
                send(Step::Courtesy, &["CLIENT", "SETNAME", name]);
            }
        }
        if config.client_info {
            send(Step::Courtesy, &["CLIENT", "SETINFO", "LIB-NAME", LIB_NAME]);
            send(Step::Courtesy, &["CLIENT", "SETINFO", "LIB-VER", LIB_VERSION]);
        }
        if config.database != 0 {
            send(Step::Select, &["SELECT", &config.database.to_string()]);
        }
        if !hello && password.is_none() && config.ping_every().is_some() {
            // Perhaps nothing else was sent, and nobody would know whether the server is there at all;
            // and what a server does not know (CLIENT SETINFO, before 7.2) it refuses as unknown even
            // where it should first ask for a password.
            self.owed.push_back(Step::Ping);
            encode::array_header(out, 1);
            encode::bulk(out, b"PING");
        }
    }
}

/// What a server says before it was asked anything: why it does not want this client. It has too
/// many, or is in protected mode.
pub(crate) fn refused_unasked(error: ServerError) -> Rejection {
    let lasting = is_lasting(Step::Hello, &error);
    Rejection { cause: Cause::Handshake(error), lasting }
}

/// Why the server refuses the handshake, with what its words leave out: who wanted in, or which database.
fn cause_of(step: Step, error: ServerError, config: &Config) -> Cause {
    match (step, error.code()) {
        (Step::Hello | Step::Auth, "WRONGPASS") => {
            let user = config.username.as_deref().unwrap_or("default");
            Cause::SignIn { user: user.into(), error }
        }
        (Step::Select, "ERR") if error.message().contains("DB index") => {
            Cause::NoDatabase { number: config.database, error }
        }
        _ => Cause::Handshake(error),
    }
}

/// What a server says of HELLO or AUTH, without the password: many quote the arguments of a command
/// that they do not know, cut off after so many bytes, so that a part of it may stand at the end.
fn without_secret(error: ServerError, config: &Config) -> ServerError {
    let Some(password) = config.password.as_ref().map(Secret::expose) else { return error };
    let line = error.line();
    let told = line.find(", with args").map_or(line, |quoted| &line[..quoted]);
    if !password.is_empty() && told.contains(password) {
        // Not even masked: in a text that is known, a mask shows what it stands for.
        let code = error.code();
        return ServerError::new(format!("{code} (the rest may hold the password)").as_bytes());
    }
    ServerError::new(told.as_bytes())
}

/// Whether the error says that the server does not know HELLO or RESP3, rather than that it does not
/// want us.
fn speaks_only_resp2(error: &ServerError) -> bool {
    let message = error.message().to_ascii_lowercase();
    match error.code() {
        "NOPROTO" => true,
        "ERR" => message.contains("unknown command") || message.contains("unsupported command"),
        _ => false,
    }
}

fn is_fatal(step: Step, error: &ServerError) -> bool {
    match step {
        Step::Hello | Step::Auth | Step::Select => true,
        // A server that wants authentication and got none says so to the first command.
        Step::Courtesy | Step::Ping => matches!(error.code(), "NOAUTH"),
    }
}

/// Whether the same handshake would be refused again: not so while the server is loading, or has too
/// many clients.
fn is_lasting(step: Step, error: &ServerError) -> bool {
    match error.code() {
        "WRONGPASS" | "NOAUTH" | "NOPERM" | "DENIED" => true,
        "ERR" => {
            let message = error.message().to_ascii_lowercase();
            !message.contains("max number of clients")
                && (matches!(step, Step::Select | Step::Auth) || message.contains("auth"))
        }
        _ => false,
    }
}
