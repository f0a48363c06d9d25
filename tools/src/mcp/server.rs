//! One client's side of the tools, resources and prompts: rmcp's handler over a session of the
//! node.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use futures::FutureExt;
use p2p_workflow_scheduler::node::{CallError, Session};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CustomRequest,
    CustomResult, ErrorCode, ErrorData, GetPromptRequestParams, GetPromptResponse, Implementation,
    InitializeRequestParams, InitializeResult, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion,
    ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities, ServerConfig,
    SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answers::{
    INTERNAL, not_to_be_sent, panicked, refusal, result, unknown_tool, whole_result,
};
use super::progress::Reporter;
use super::subscriptions::{self, Subscriptions};
use super::wire::{FromWire, Notices};
use super::{completion, prompts, resources};
use crate::tools::{self, Answer, Report, commands, overview, swarm};

/// The prefix of the methods in which our own clients and this server tell each other more than the
/// protocol has: who connects, and people's commands.
const OURS: &str = "ipfs-accelerate";
/// What the server tells an agent before its first call.
const INSTRUCTIONS: &str = include_str!("instructions.txt");

/// What our own clients (relays, commands, the HTTP door) say before anything else: whose
/// connection this is. A client that says nothing is a new worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The worker. Made at random by whoever connected first, unless it is shared.
    pub worker: String,
    /// The leases it knows of: task id, fence.
    #[serde(default)]
    pub leases: BTreeMap<String, u64>,
    /// Whether the worker is only a name that short connections have in common.
    #[serde(default)]
    pub shared: bool,
    /// The addresses that it watches since an earlier node.
    #[serde(default)]
    pub watched: BTreeSet<String>,
    /// Whether it is told of changes of the list since then.
    #[serde(default)]
    pub listed: bool,
}

impl Hello {
    /// The request that says this.
    pub const METHOD: &str = "ipfs-accelerate/hello";

    /// The request's line, and the id that it is answered under.
    #[must_use]
    pub fn line(&self) -> (Vec<u8>, String) {
        let request =
            json!({"jsonrpc": "2.0", "id": Self::METHOD, "method": Self::METHOD, "params": self});
        (format!("{request}\n").into_bytes(), Value::from(Self::METHOD).to_string())
    }
}

type Attach = Box<dyn FnOnce(Option<Hello>) -> Session + Send>;
type Stop = Box<dyn Fn() + Send + Sync>;

/// Serves the tools, resources and prompts to one client.
///
/// The session behind it begins with the client's first word; whoever runs the server ends it.
pub struct Server {
    attach: Mutex<Option<Attach>>,
    session: OnceLock<Session>,
    stop: Option<Stop>,
    subscriptions: Subscriptions,
}

impl Server {
    /// A server whose session is made by `attach`: at [`Hello`], at `initialize`, or at the first
    /// call of a client that follows the protocol without either.
    pub fn new(attach: impl FnOnce(Option<Hello>) -> Session + Send + 'static) -> Self {
        Server {
            attach: Mutex::new(Some(Box::new(attach))),
            session: OnceLock::new(),
            stop: None,
            subscriptions: Subscriptions::default(),
        }
    }

    /// Listens to [`Hello`], and answers people's commands as well, which are no tools:
    /// `ipfs-accelerate/requeue`, `/reprioritize` and `/stop`. For doors that only this machine's
    /// user can open.
    #[must_use]
    pub fn with_commands(mut self, stop: impl Fn() + Send + Sync + 'static) -> Self {
        self.stop = Some(Box::new(stop));
        self
    }

    fn begin(&self, hello: Option<Hello>) -> &Session {
        self.session.get_or_init(|| {
            let mut attach = self.attach.lock().expect("nothing panics while it holds this");
            let attach = attach.take().expect("a session is made once");
            attach(hello)
        })
    }

    fn hello(
        &self,
        params: Option<Value>,
        context: &RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        let hello = serde_json::from_value::<Hello>(params.unwrap_or_default());
        let mut hello =
            hello.map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
        let (watched, listed) = (std::mem::take(&mut hello.watched), hello.listed);
        let session = self.begin(Some(hello));
        for uri in watched {
            self.subscriptions.subscribe(session, notices(context)?, &uri)?;
        }
        if listed {
            self.subscriptions.has_listed(session, notices(context)?);
        }
        Ok(CustomResult::new(json!({})))
    }

    /// One of people's commands; `None` if there is no such command.
    async fn command(
        &self,
        stop: &Stop,
        request: &CustomRequest,
    ) -> Option<Result<Answer, CallError>> {
        let params = request.params.as_ref().map_or_else(|| "{}".to_owned(), Value::to_string);
        let session = || self.begin(None);
        match request.method.strip_prefix(OURS)? {
            "/requeue" => Some(commands::requeue(session, &params).await),
            "/reprioritize" => Some(commands::reprioritize(session, &params).await),
            "/backup" => Some(commands::backup(session, &params).await),
            "/history" => Some(commands::history(session, &params).await),
            "/overview" => Some(overview::overview(session, &params).await),
            "/why" => Some(commands::why(session, &params).await),
            "/swarm/init" => Some(swarm::init(session().node()).await),
            "/swarm/invite" => Some(swarm::invite(session().node()).await),
            "/swarm/join" => Some(swarm::join(session().node(), &params).await),
            "/swarm/catch-up" => Some(swarm::catch_up(session().node()).await),
            "/swarm/here" => Some(swarm::here(session().node()).await),
            "/swarm/peers" => Some(swarm::peers(session().node()).await),
            "/swarm/trust" => Some(swarm::trust(session().node(), &params).await),
            "/swarm/block" => Some(swarm::block(session().node(), &params).await),
            "/swarm/leave" => Some(swarm::leave(session().node()).await),
            "/stop" => {
                stop();
                Some(Ok(commands::stopping()))
            }
            _ => None,
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new("ipfs-accelerate", env!("CARGO_PKG_VERSION"))
            .with_title("IPFS Accelerate: peer-to-peer tasks");
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_resources_list_changed()
            .enable_prompts()
            .enable_completions();
        ServerConfig::new(capabilities.build())
            .with_server_info(name)
            .with_instructions(INSTRUCTIONS.trim_end())
    }

    async fn initialize(
        &self,
        mut request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        if context.peer.peer_info().is_some() {
            return Err(ErrorData::invalid_request("this connection is initialized already", None));
        }
        let info = self.negotiate_initialize(&request)?;
        let began = std::panic::catch_unwind(AssertUnwindSafe(|| self.begin(None)));
        if began.is_err() {
            return Err(ErrorData::internal_error(INTERNAL, None));
        }
        request.protocol_version = info.protocol_version.clone();
        context.peer.set_peer_info(request);
        Ok(info)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        introduced(&context)?;
        Ok(ListToolsResult::with_all_items(tools::definitions().to_vec()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        introduced(&context)?;
        let wire = wire(&context)?;
        let arguments = wire.arguments.as_deref().unwrap_or("{}");
        let broken_off = AtomicBool::new(false);
        let cancelled = async {
            tokio::select! {
                () = context.ct.cancelled() => broken_off.store(true, Ordering::Relaxed),
                () = wire.hangup.cancelled() => {}
            }
        };
        let reporter = Reporter::of(&context.meta, &wire.notices);
        let report = reporter.map(|reporter| move |progress| reporter.report(progress));
        let report = report.as_ref().map(|report| report as Report<'_>);
        let session = || self.begin(None);
        // On the heap: rmcp moves what it spawns several times, and this would be most of it.
        let call = Box::pin(tools::call(&request.name, session, arguments, cancelled, report));
        let result = match AssertUnwindSafe(call).catch_unwind().await {
            Ok(_) if broken_off.into_inner() => not_to_be_sent(),
            Ok(Some(Ok(answer))) => result(answer),
            Ok(Some(Err(error))) => refusal(&error),
            Ok(None) => return Err(unknown_tool(&request.name)),
            Err(_) => panicked(),
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        introduced(&context)?;
        guarded(async {
            let session = self.begin(None);
            // Before it looks, so that it hears of all that comes after.
            if context.peer.peer_info().is_some() {
                self.subscriptions.has_listed(session, notices(&context)?);
            }
            resources::list(session).await
        })
        .await
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        introduced(&context)?;
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        introduced(&context)?;
        let read = guarded(async { resources::read(self.begin(None), &request.uri).await });
        read.await.map(Into::into)
    }

    // Deprecated by 2026-07-28, which most clients do not speak yet.
    #[allow(deprecated)]
    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        introduced(&context)?;
        guarded(async {
            self.subscriptions.subscribe(self.begin(None), notices(&context)?, &request.uri)
        })
        .await
    }

    // As above.
    #[allow(deprecated)]
    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        introduced(&context)?;
        self.subscriptions.unsubscribe(&request.uri)
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(subscriptions::accepted(requested))
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let context = subscription.request_context();
        introduced(context)?;
        let wire = wire(context)?;
        let ended = async {
            tokio::select! {
                () = context.ct.cancelled() => {}
                () = wire.hangup.cancelled() => {}
            }
        };
        let filters = (&context.id, subscription.requested(), subscription.accepted());
        guarded(async {
            self.subscriptions.listen(self.begin(None), &wire.notices, filters, ended).await
        })
        .await
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        introduced(&context)?;
        guarded(async { completion::complete(self.begin(None), request).await }).await
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        introduced(&context)?;
        Ok(prompts::list())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        introduced(&context)?;
        prompts::get(&request.name, request.arguments).map(Into::into)
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        // rmcp takes a request that it knows, with params that it does not, for one of ours.
        let params = PARAMS.iter().find(|(name, _)| *name == request.method);
        if let Some((method, params)) = params.filter(|(name, _)| !is_gone(name, &context)) {
            return Err(ErrorData::invalid_params(format!("{method} takes {params}"), None));
        }
        let unknown = || ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method.clone(), None);
        let stop = self.stop.as_ref().ok_or_else(unknown)?;
        if request.method == Hello::METHOD {
            return self.hello(request.params, &context);
        }
        introduced(&context)?;
        let result = match AssertUnwindSafe(self.command(stop, &request)).catch_unwind().await {
            Ok(answer) => match answer.ok_or_else(unknown)? {
                Ok(answer) => whole_result(answer)?,
                Err(error) => refusal(&error),
            },
            Err(_) => panicked(),
        };
        let result = serde_json::to_value(result);
        result
            .map(CustomResult::new)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }
}

/// What requests take that cannot go without params.
const PARAMS: [(&str, &str); 7] = [
    ("initialize", "{protocolVersion, capabilities, clientInfo: {name, version}}"),
    ("resources/read", "{uri}"),
    ("resources/subscribe", "{uri}"),
    ("resources/unsubscribe", "{uri}"),
    ("subscriptions/listen", "{notifications: {resourceSubscriptions, resourcesListChanged}}"),
    ("prompts/get", "{name, arguments}, the arguments an object of texts"),
    ("completion/complete", "{ref: {type, uri or name}, argument: {name, value}}"),
];

/// Whether the client's version of the protocol has this method no more. rmcp says so where the
/// params are right.
fn is_gone(method: &str, context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    ["resources/subscribe", "resources/unsubscribe"].contains(&method)
        && version.is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

/// The result of serving a request; a panic is answered too.
async fn guarded<T>(serving: impl Future<Output = Result<T, ErrorData>>) -> Result<T, ErrorData> {
    let served = AssertUnwindSafe(serving).catch_unwind().await;
    served.unwrap_or_else(|_| Err(ErrorData::internal_error(INTERNAL, None)))
}

/// Requests before `initialize` are refused, unless each says itself what a handshake would have.
fn introduced(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    let introduced =
        context.meta.protocol_version().is_some() || context.peer.peer_info().is_some();
    match introduced {
        true => Ok(()),
        false => Err(ErrorData::invalid_request("send initialize first", None)),
    }
}

/// How to tell the client of changes.
fn notices(context: &RequestContext<RoleServer>) -> Result<&Notices, ErrorData> {
    wire(context).map(|wire| &wire.notices)
}

/// What our wire, which every request comes over, knows of this one.
fn wire(context: &RequestContext<RoleServer>) -> Result<&FromWire, ErrorData> {
    let wire = context.extensions.get::<FromWire>();
    wire.ok_or_else(|| ErrorData::internal_error("this transport is not the server's own", None))
}
