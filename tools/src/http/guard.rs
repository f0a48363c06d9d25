//! Who may enter the HTTP door, and what they may do inside.
//!
//! ```text
//!   request ─► Host ─► Origin ─┬─► preflight: answered here
//!                              └─► token ─► the routes, with a Principal ─► role, by call
//! ```
//! * **Host** keeps out pages whose name was rebound to this machine's address: the browser takes
//!   them for its own site and sends no Origin, but it does send the page's name as the host.
//! * **Origin** keeps out pages of other sites. What is no browser sends none and passes. A page
//!   that asks without one, for an image or a frame, is told by `Sec-Fetch-Site`.
//! * **Token**: where there are tokens, every route needs one but [`HEALTH`] and the preflights,
//!   which are asked and sent without. A browser never adds it by itself, as it would a cookie.
//!   Where there are none, what a proxy forwards is refused.
//! * **Role**: what a token is for. What a role may do is asked for each call ([`may_call`]), since
//!   the door alone reads what a body asks for.
//!
//! Foreign names are answered with 403 and not 421, which invites a client to ask again over
//! another connection. A Host that is missing, doubled or unreadable is 400, as RFC 9112 wants it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    AUTHORIZATION, HOST, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rmcp::model::ErrorCode;

use super::answer::{self, Refused};
use super::incoming::read_past;
use super::names::{Host, Origin, authority};
use super::tokens::Tokens;
use crate::tools;

/// The route that says that the process runs, and nothing else: monitors have no token.
pub const HEALTH: &str = "/healthz";

/// The methods for people's commands begin with this.
const COMMANDS: &str = "ipfs-accelerate/";
/// A JSON-RPC error of the server's own: the message says what it is.
const REFUSED: ErrorCode = ErrorCode(-32000);
/// Whoever enters without a token where none is needed.
const LOCAL: &str = "local";
/// What a proxy or a tunnel says of whom it forwards for.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];
/// How long a browser may go by a preflight's answer: the most that any of them takes.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("7200");
/// What pages may send: the headers of the protocol, and what carries a token.
const HEADERS: [&str; 8] = [
    "authorization",
    "content-type",
    "accept",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "last-event-id",
];
/// The protocol's headers to come begin with this, and those named by a tool's parameters.
const HEADERS_PREFIX: &str = "mcp-";
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

/// What a token is for. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look: the tools that change nothing, resources, prompts.
    Read,
    /// Take tasks and hand them in: all tools.
    Work,
    /// Steer the node: people's commands as well.
    Admin,
}

impl Role {
    /// The least that may ask for this; `None` where nobody may, over HTTP.
    fn needed(method: &str, tool: Option<&str>) -> Option<Self> {
        match method.strip_prefix(COMMANDS) {
            Some("requeue" | "reprioritize" | "stop") => return Some(Role::Admin),
            Some(_) => return None,
            None => {}
        }
        // A tool that there is not may be one that this does not know.
        match method == "tools/call" && !tool.is_some_and(is_read_only) {
            true => Some(Role::Work),
            false => Some(Role::Read),
        }
    }

    /// The role of this name.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Role::Read, Role::Work, Role::Admin].into_iter().find(|role| role.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Work => "work",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Who entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's name; `local` where none is needed.
    pub name: Arc<str>,
    /// What the token is for.
    pub role: Role,
}

/// What the door asks of every request.
pub struct Guard {
    /// Listens on a loopback address, where only this machine's names are right.
    loopback: bool,
    hosts: Vec<Host>,
    origins: Vec<Origin>,
    tokens: Option<Tokens>,
}

impl Guard {
    /// The guard of a door that listens on `address`; `hosts` and `origins` are let in beside
    /// this machine's own. Without tokens whoever reaches the door may do the work.
    #[must_use]
    pub fn new(
        address: IpAddr,
        hosts: Vec<Host>,
        origins: Vec<Origin>,
        tokens: Option<Tokens>,
    ) -> Self {
        Guard { loopback: address.is_loopback(), hosts, origins, tokens }
    }

    /// Middleware over every route: refuses, answers preflights, lets pages of allowed origins
    /// read the answers, and puts the [`Principal`] into the request's extensions.
    pub async fn admit(
        State(guard): State<Arc<Guard>>,
        mut request: Request,
        next: Next,
    ) -> Response {
        let host = guard.check_host(&request);
        let origin = match host.and_then(|()| guard.check_origin(request.headers())) {
            Ok(origin) => origin,
            Err(refusal) => return refusal.answer(request).await,
        };
        let mut response = if origin.is_some() && request.method() == Method::OPTIONS {
            preflight(request.headers())
        } else {
            match guard.check_token(&request) {
                Ok(principal) => {
                    if let Some(principal) = principal {
                        request.extensions_mut().insert(principal);
                    }
                    next.run(request).await
                }
                Err(refusal) => refusal.answer(request).await,
            }
        };
        share(response.headers_mut(), origin);
        response
    }

    fn check_host(&self, request: &Request) -> Result<(), Refusal> {
        let header = only(request.headers(), &HOST).ok_or(Refusal::NoHost)?;
        // A request line may name a host as well, and what serves it may go by either.
        let target = request.uri().authority().map(|authority| authority.as_str());
        for text in [Some(header), target].into_iter().flatten() {
            let (host, _port) = authority(text).ok_or(Refusal::NoHost)?;
            // Beyond this machine, an address is as good as a name that nobody can rebind.
            let is_address = !self.loopback && matches!(host, Host::Address(_));
            if !host.is_loopback() && !is_address && !self.hosts.contains(&host) {
                return Err(Refusal::Host(host));
            }
        }
        Ok(())
    }

    /// The origin of the page that asks, if one does.
    fn check_origin(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Refusal> {
        if !headers.contains_key(ORIGIN) {
            let mut sites = headers.get_all("sec-fetch-site").iter();
            return match sites.any(|site| site == "cross-site") {
                true => Err(Refusal::HiddenOrigin),
                false => Ok(None),
            };
        }
        let text = only(headers, &ORIGIN).ok_or(Refusal::NoOrigin)?;
        let origin = Origin::parse(text).ok_or(Refusal::NoOrigin)?;
        if !origin.is_loopback() && !self.origins.contains(&origin) {
            return Err(Refusal::Origin(text.to_owned()));
        }
        Ok(headers.get(ORIGIN).cloned())
    }

    /// Whose request this is; `None` where that is not asked.
    fn check_token(&self, request: &Request) -> Result<Option<Principal>, Refusal> {
        let headers = request.headers();
        let Some(tokens) = &self.tokens else {
            // It comes from this machine, but for somebody who may be anywhere.
            return match FORWARDED.iter().any(|name| headers.contains_key(*name)) {
                true => Err(Refusal::Forwarded),
                false => Ok(Some(Principal { name: LOCAL.into(), role: Role::Work })),
            };
        };
        if request.uri().path() == HEALTH {
            return Ok(None);
        }
        if !headers.contains_key(AUTHORIZATION) {
            return Err(Refusal::NoToken);
        }
        let text = only(headers, &AUTHORIZATION).ok_or(Refusal::UnclearToken)?;
        let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case("Bearer") {
            return Err(Refusal::NoToken);
        }
        tokens.find(token.trim()).map(Some).ok_or(Refusal::WrongToken)
    }
}

/// Whether this role may ask for this. `tool`: the one that `tools/call` names.
#[must_use]
pub fn may_call(role: Role, method: &str, tool: Option<&str>) -> bool {
    Role::needed(method, tool).is_some_and(|needed| role >= needed)
}

/// The answer to a request that [`may_call`] turned down, under the request's id.
pub(super) fn role_refusal(
    principal: &Principal,
    method: &str,
    tool: Option<&str>,
    id: Option<&str>,
) -> Refused {
    let what = match tool {
        Some(tool) => format!("{method} of {tool:?}"),
        None => format!("{method:?}"),
    };
    let Some(needed) = Role::needed(method, tool) else {
        return answer::error(
            StatusCode::FORBIDDEN,
            id,
            REFUSED,
            &format!("{what} is not for HTTP."),
        );
    };
    let Principal { name, role } = principal;
    let text = format!(
        "{what} needs the role {needed}, and the token {name:?} has the role {role}. \
         Use a token whose line in the token file says {needed}."
    );
    let mut response = answer::error(StatusCode::FORBIDDEN, id, REFUSED, &text);
    let challenge = challenge(&format!(r#", error="insufficient_scope", scope="{needed}""#));
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn is_read_only(tool: &str) -> bool {
    tools::definitions().iter().any(|definition| {
        let hints = definition.annotations.as_ref();
        definition.name == tool && hints.and_then(|hints| hints.read_only_hint) == Some(true)
    })
}

/// Why a request is not let in.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("a request needs one Host header with the host and port that it is for")]
    NoHost,
    #[error(
        "the host {0} is not let in: a page whose name points here could be asking. \
         If it is a name of this server, start it with --allow-host {0}"
    )]
    Host(Host),
    #[error("a request has at most one Origin header, with scheme, host and port")]
    NoOrigin,
    #[error(
        "pages of {0} are not let in. If they should be, start the server with --allow-origin {0}"
    )]
    Origin(String),
    #[error(
        "a page of another site asks without an Origin. If it should be let in, start the server \
         with --allow-origin and its site, and let the page send a CORS request"
    )]
    HiddenOrigin,
    #[error(
        "a token is needed: send the header `Authorization: Bearer TOKEN`, with a token of the \
         server's token file. A token in the URL is not looked at"
    )]
    NoToken,
    #[error(
        "a proxy forwards this request, and whoever reaches the proxy would be let in. Start the \
         server with --token-file"
    )]
    Forwarded,
    #[error("a request has one Authorization header: `Bearer TOKEN`")]
    UnclearToken,
    #[error(
        "the token is not one of this server's token file. The server reads that file when it \
         starts"
    )]
    WrongToken,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::NoHost | Refusal::UnclearToken => StatusCode::BAD_REQUEST,
            Refusal::NoToken | Refusal::WrongToken => StatusCode::UNAUTHORIZED,
            Refusal::Host(_)
            | Refusal::NoOrigin
            | Refusal::Origin(_)
            | Refusal::HiddenOrigin
            | Refusal::Forwarded => StatusCode::FORBIDDEN,
        }
    }

    /// What goes with it into the `WWW-Authenticate` header.
    fn challenge(&self) -> Option<HeaderValue> {
        match self {
            Refusal::NoToken => Some(challenge("")),
            Refusal::UnclearToken => Some(challenge(r#", error="invalid_request""#)),
            Refusal::WrongToken => Some(challenge(r#", error="invalid_token""#)),
            _ => None,
        }
    }

    async fn answer(self, request: Request) -> Response {
        tracing::debug!("refused a request: {self}");
        read_past(request.into_body()).await;
        let mut response = answer::error(self.status(), None, REFUSED, &format!("{self}."));
        if let Some(challenge) = self.challenge() {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response.into_response()
    }
}

/// What a client is asked for (RFC 6750), and what was wrong with what it sent.
fn challenge(error: &str) -> HeaderValue {
    let text = format!(r#"Bearer realm="ipfs-accelerate"{error}"#);
    HeaderValue::try_from(text).expect("it is all ASCII")
}

/// Says what a page of an allowed origin may send. The origin itself is added by [`share`].
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, DELETE, OPTIONS");
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(asked));
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    headers.append(VARY, ACCESS_CONTROL_REQUEST_HEADERS.into());
    if asked.contains_key(REQUEST_PRIVATE_NETWORK) {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    response
}

/// The headers asked for, if a client of the protocol may send them all; otherwise those that one
/// may, and the browser sees which is missing.
fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let known = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        HEADERS.contains(&name.as_str())
            || name.starts_with(HEADERS_PREFIX) && HeaderName::try_from(name).is_ok()
    };
    match only(asked, &ACCESS_CONTROL_REQUEST_HEADERS) {
        Some(text) if text.split(',').all(known) => asked[ACCESS_CONTROL_REQUEST_HEADERS].clone(),
        _ => HeaderValue::try_from(HEADERS.join(", ")).expect("names of headers are ASCII"),
    }
}

/// Lets the page that asked read the answer. Caches learn that the answer depends on the page.
fn share(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.append(VARY, ORIGIN.into());
    if let Some(origin) = origin {
        let exposed = HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate");
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// The text of a header that stands there once.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests;
