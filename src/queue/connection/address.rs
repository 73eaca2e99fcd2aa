//! Where Redis is: one server, or the master that Sentinels name.
//!
//! A Sentinel address is `redis+sentinel://[user:password@]host:port[,host:port…]/<master name>[/<database>]`; the user
//! and the password are those of the servers behind, `rediss+sentinel://` speaks TLS to all of them.

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisResult, TlsMode};
use std::fmt;
use std::time::Duration;

/// A peer that is silent this long is asked whether it still lives, and how often until it is given up.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMES: u32 = 3;
/// What was sent must be acknowledged within this time.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
const SENTINEL_PORT: u16 = 26_379;

/// The address is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAddress(&'static str);

/// A checked address.
#[derive(Clone)]
pub(super) enum Address {
    Server(Client),
    Sentinels(Sentinels),
}

#[derive(Clone)]
pub(super) struct Sentinels {
    nodes: Vec<(String, u16)>,
    tls: bool,
    user: Option<String>,
    password: Option<String>,
    master: String,
    database: i64,
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Server(_) => "Server",
            Self::Sentinels(_) => "Sentinels",
        })
    }
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, BadAddress> {
        for (scheme, tls) in [("redis+sentinel://", false), ("rediss+sentinel://", true)] {
            if let Some(rest) = url.strip_prefix(scheme) {
                return Ok(Self::Sentinels(Sentinels::parse(rest, tls)?));
            }
        }
        let bad = BadAddress("it is no address of a server");
        let known = ["redis://", "rediss://"];
        if !known.iter().any(|scheme| url.starts_with(scheme)) {
            return Err(bad);
        }
        let info = url.into_connection_info().map_err(|_| bad)?;
        let client = Client::open(info.set_tcp_settings(tcp())).map_err(|_| bad)?;
        Ok(Self::Server(client))
    }

    /// Finds the server to talk to now; with Sentinels that may be another one than before.
    pub(super) async fn resolve(&self) -> RedisResult<Client> {
        match self {
            Self::Server(client) => Ok(client.clone()),
            Self::Sentinels(sentinels) => {
                let mut client = sentinels.client()?;
                let master = client.async_get_client().await?;
                Client::open(master.get_connection_info().clone().set_tcp_settings(tcp()))
            }
        }
    }

    /// The same login and the same TLS at another server.
    pub(super) async fn beside(&self, host: &str, port: u16) -> RedisResult<Self> {
        let info = self.resolve().await?.get_connection_info().clone();
        let address = match info.addr() {
            ConnectionAddr::TcpTls {
                insecure,
                tls_params,
                ..
            } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        Client::open(info.set_addr(address)).map(Self::Server)
    }
}

impl Sentinels {
    fn parse(rest: &str, tls: bool) -> Result<Self, BadAddress> {
        let (login, rest) = rest
            .rsplit_once('@')
            .map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (nodes, path) = rest.split_once('/').ok_or(BadAddress(
            "the name of the master is missing behind the Sentinels",
        ))?;
        let (master, database) = path.split_once('/').unwrap_or((path, "0"));
        if master.is_empty() {
            return Err(BadAddress("the name of the master is empty"));
        }
        let database = database
            .parse()
            .map_err(|_| BadAddress("the number of the database is no number"))?;
        let nodes: Result<Vec<_>, _> = nodes.split(',').map(node).collect();
        let (user, password) = match login.map(|it| it.split_once(':').unwrap_or(("", it))) {
            None => (None, None),
            Some((user, password)) => (text(user)?, text(password)?),
        };
        Ok(Self {
            nodes: nodes?,
            tls,
            user,
            password,
            master: master.to_owned(),
            database,
        })
    }

    fn client(&self) -> RedisResult<redis::sentinel::SentinelClient> {
        let nodes = self.nodes.iter().map(|(host, port)| {
            if self.tls {
                ConnectionAddr::TcpTls {
                    host: host.clone(),
                    port: *port,
                    insecure: false,
                    tls_params: None,
                }
            } else {
                ConnectionAddr::Tcp(host.clone(), *port)
            }
        });
        let mut builder =
            SentinelClientBuilder::new(nodes, &self.master, SentinelServerType::Master)?
                .set_client_to_redis_db(self.database)
                .set_client_to_redis_tcp_settings(tcp())
                .set_client_to_sentinel_tcp_settings(tcp());
        if self.tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(user) = &self.user {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password);
        }
        builder.build()
    }
}

fn node(text: &str) -> Result<(String, u16), BadAddress> {
    let (host, port) = match text.rsplit_once(':') {
        None => (text, SENTINEL_PORT),
        Some((host, port)) => (
            host,
            port.parse()
                .map_err(|_| BadAddress("the port of a Sentinel is no number"))?,
        ),
    };
    if host.is_empty() {
        return Err(BadAddress("the host of a Sentinel is empty"));
    }
    Ok((host.to_owned(), port))
}

/// A part of a URL without its percent signs; nothing if it is empty.
fn text(encoded: &str) -> Result<Option<String>, BadAddress> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next().unwrap_or(b'x'), rest.next().unwrap_or(b'x')];
        let code = std::str::from_utf8(&digits)
            .ok()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.ok_or(BadAddress("a percent sign in it is no code"))?);
    }
    let text = String::from_utf8(bytes).map_err(|_| BadAddress("its login is not UTF-8"))?;
    Ok((!text.is_empty()).then_some(text))
}

fn tcp() -> TcpSettings {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TIMES);
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_MAX);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentinels(url: &str) -> Sentinels {
        match Address::parse(url) {
            Ok(Address::Sentinels(sentinels)) => sentinels,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn sentinel_address_names_nodes_login_master_and_database() {
        let it = sentinels("redis+sentinel://u:p%40ss@a:1,b/shop/3");
        assert_eq!(it.nodes, [("a".to_owned(), 1), ("b".to_owned(), 26_379)]);
        assert_eq!(it.user.as_deref(), Some("u"));
        assert_eq!(it.password.as_deref(), Some("p@ss"));
        assert_eq!(
            (it.master.as_str(), it.database, it.tls),
            ("shop", 3, false)
        );
        assert!(sentinels("rediss+sentinel://a/shop").tls);
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_is_missing() {
        for bad in [
            "",
            "localhost",
            "http://a",
            "redis+sentinel://a:1",
            "redis+sentinel://a:x/m",
            "redis+sentinel://:1/m",
            "redis+sentinel://a/m/x",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        assert!(Address::parse("rediss://user:secret@a:6380/1").is_ok());
    }
}
