//! HTTP: lists, watches, and what `kubectl get` asks for before.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::access::{Access, Authority, Peer, Stream};
use crate::control;
use crate::faults::Faults;
use crate::resource::Resource;
use crate::selector::Selector;
use crate::store::{Gone, Page, Store};
use crate::watch::{Watch, gone_event, with_type};

/// In bytes, as kube-apiserver has it.
const PATCH_LIMIT: usize = 3 << 20;

/// What requests and control share.
pub struct Shared {
    store: Mutex<Store>,
    faults: Mutex<Faults>,
    /// Something was told.
    pub changed: watch::Sender<()>,
    /// Connections are to be cut.
    pub cut: watch::Sender<()>,
    requests: Mutex<Vec<String>>,
    /// `None`: everybody may ask.
    access: Option<Access>,
    users: Mutex<Vec<String>>,
}

impl Shared {
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, Vec<String>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running server. It ends with its runtime.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Server {
    /// Serves at an address; port 0 takes a free one.
    pub async fn start(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self::serve(TcpListener::bind(address).await?))
    }

    /// Serves on a listener, which may be of another network namespace.
    pub fn serve(listener: TcpListener) -> Self {
        Self::open(listener, None)
    }

    /// Serves by TLS, with a certificate for 127.0.0.1, those who have a certificate of the authority or one of the tokens
    /// ([`Server::set_tokens`]); others are answered 401.
    pub fn serve_to(listener: TcpListener, authority: &Authority) -> Self {
        Self::open(listener, Some(Access::of(authority)))
    }

    fn open(listener: TcpListener, access: Option<Access>) -> Self {
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            faults: Mutex::default(),
            changed: watch::Sender::new(()),
            cut: watch::Sender::new(()),
            requests: Mutex::default(),
            access,
            users: Mutex::default(),
        });
        let address = listener.local_addr().expect("a listener has an address");
        let server = Self { shared: shared.clone(), address };
        let api = Router::new()
            .fallback(api)
            .layer(middleware::from_fn_with_state(shared.clone(), ask_who))
            .layer(middleware::from_fn_with_state(shared.clone(), misbehave))
            .with_state(shared.clone());
        let router = Router::new().nest("/control", control::router(server.clone())).merge(api);
        let listener = Doorkeeper { listener, shared };
        let service = router.into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        let address = self.address;
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }

    /// Adds or replaces an object with its `kind`, or each of a `List`; the last version.
    pub fn put(&self, object: Value) -> u64 {
        let version = self.put_quietly(object);
        self.shared.changed.send_replace(());
        version
    }

    fn put_quietly(&self, object: Value) -> u64 {
        if let Some(items) = object["items"].as_array() {
            return items.iter().map(|item| self.put_quietly(item.clone())).max().unwrap_or(0);
        }
        let resource = Resource::of(&object).expect("the object is of a known kind");
        self.shared.store().put(resource, object)
    }

    /// Adds or replaces many objects, told as they come.
    pub fn put_all(&self, objects: impl IntoIterator<Item = Value>) {
        for object in objects {
            self.put_quietly(object);
        }
        self.shared.changed.send_replace(());
    }

    /// An object as it is; `None`: it is not there.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        let text = self.shared.store().get(resource, namespace, name)?.text.clone();
        serde_json::from_str(&text).ok()
    }

    /// Removes an object; whether it was there.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> bool {
        let was_there = self.shared.store().delete(resource, namespace, name).is_some();
        self.shared.changed.send_replace(());
        was_there
    }

    /// Has watches of a kind tell an event as it is: again, late, or nonsense.
    pub fn tell(&self, resource: Resource, event: &str) {
        self.shared.store().raw(resource, event.to_owned());
        self.shared.changed.send_replace(());
    }

    /// Forgets history: who asks for what was before gets 410.
    pub fn compact(&self) {
        self.shared.store().compact();
    }

    /// Cuts every watch, as if the network had.
    pub fn cut(&self) {
        self.shared.cut.send_replace(());
    }

    /// Goes away (and cuts every watch), or comes back.
    pub fn set_away(&self, away: bool) {
        self.shared.faults().away = away;
        if away {
            self.cut();
        }
    }

    /// Answers every request with this status, or properly again.
    pub fn set_status(&self, status: Option<u16>) {
        self.shared.faults().status = status;
    }

    /// Whether changes of objects' status are not permitted.
    pub fn set_status_refused(&self, refused: bool) {
        self.shared.faults().no_status = refused;
    }

    /// Waits so long before each answer.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.faults().delay = delay;
    }

    /// Whether a watch that is too old is answered with the status 410 rather than with an event that says so.
    pub fn set_gone_as_status(&self, as_status: bool) {
        self.shared.faults().gone_as_status = as_status;
    }

    /// Whether watches end as soon as they have begun, without an error.
    pub fn set_short_watches(&self, short: bool) {
        self.shared.faults().short_watches = short;
        if short {
            self.cut();
        }
    }

    /// The bearer tokens of those who may ask from now on. Of no meaning where everybody may.
    pub fn set_tokens(&self, tokens: &[&str]) {
        if let Some(access) = &self.shared.access {
            access.set_tokens(tokens);
        }
    }

    /// Who asked since the last call: `certificate NAME` or `token TOKEN`, each request.
    pub fn take_users(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.users.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The requests since the last call, each a path with its query; before it the method, unless it is GET.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.requests())
    }
}

/// Takes connections; while the server is away it closes them at once.
pub struct Doorkeeper {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Doorkeeper {
    /// `None`: it is not let in.
    async fn let_in(&self, stream: TcpStream) -> Option<(Box<dyn Stream>, Peer)> {
        if self.shared.faults().away {
            return None;
        }
        let Some(access) = &self.shared.access else {
            return Some((Box::new(stream), Peer::default()));
        };
        let (stream, user) = access.handshake(stream).await?;
        Some((stream, Peer { user }))
    }
}

impl axum::serve::Listener for Doorkeeper {
    type Io = Box<dyn Stream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Peer) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Some(connection) = self.let_in(stream).await {
                        return connection;
                    }
                }
                // out of file descriptors, most likely
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Peer> {
        self.listener.local_addr().map(|_| Peer::default())
    }
}

/// Notes who asks, where that matters.
async fn ask_who(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let Some(access) = &shared.access else { return next.run(request).await };
    let Some(user) = access.user(&peer, request.headers()) else {
        return failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    };
    shared.users.lock().unwrap_or_else(PoisonError::into_inner).push(user);
    next.run(request).await
}

async fn misbehave(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let uri = request.uri();
    let asked = if request.method() == Method::GET {
        uri.to_string()
    } else {
        format!("{} {uri}", request.method())
    };
    shared.requests().push(asked);
    let faults = *shared.faults();
    tokio::time::sleep(faults.delay).await;
    if faults.away {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "away");
    }
    match faults.status.and_then(|code| StatusCode::from_u16(code).ok()) {
        Some(code @ StatusCode::FORBIDDEN) => failure(code, "Forbidden", "as the test wants it"),
        Some(code) => failure(code, "InternalError", "as the test wants it"),
        None => next.run(request).await,
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Parameters {
    watch: String,
    resource_version: String,
    label_selector: String,
    field_selector: String,
    limit: usize,
    #[serde(rename = "continue")]
    next: String,
    allow_watch_bookmarks: String,
    timeout_seconds: Option<u64>,
}

async fn api(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Response {
    let path = request.uri().path();
    let (path, part) = Part::of_path(path);
    let Some((resource, namespace, name)) = Resource::of_path(path) else { return discovery(path) };
    if let Some(name) = name {
        let namespace = namespace.unwrap_or_default().to_owned();
        if request.method() == Method::PATCH {
            let name = name.to_owned();
            return patch(&shared, resource, (&namespace, &name), part, request).await;
        }
        return one(&shared, resource, &namespace, name);
    }
    let selector = Selector::new(namespace, &parameters.label_selector, &parameters.field_selector);
    if matches!(parameters.watch.as_str(), "1" | "true") {
        return watch(shared, resource, selector, &parameters);
    }
    let next = Some(parameters.next.as_str()).filter(|next| !next.is_empty());
    let page =
        shared.store().list(resource, |object| selector.matches(object), parameters.limit, next);
    match page {
        Ok(page) => json_text(list(resource, &page)),
        Err(Gone) => failure(StatusCode::GONE, "Expired", "the list has expired; begin again"),
    }
}

fn one(shared: &Shared, resource: Resource, namespace: &str, name: &str) -> Response {
    match shared.store().get(resource, namespace, name) {
        Some(object) => json_text(with_type(resource, &object.text)),
        None => failure(StatusCode::NOT_FOUND, "NotFound", &format!("{name} not found")),
    }
}

/// What of an object is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// The subresource `status`.
    Status,
}

impl Part {
    /// With the path of the object itself.
    fn of_path(path: &str) -> (&str, Self) {
        let of_object =
            |path: &&str| Resource::of_path(path).is_some_and(|(_, _, name)| name.is_some());
        match path.strip_suffix("/status").filter(of_object) {
            Some(object) => (object, Self::Status),
            None => (path, Self::Whole),
        }
    }

    /// Each changes what is its own and nothing else.
    fn restrict(self, patch: &mut Value) {
        if let Some(fields) = patch.as_object_mut() {
            fields.retain(|key, _| (key == "status") == (self == Self::Status));
        }
    }
}

/// A merge patch (RFC 7386) of an object, or a strategic one of its status.
async fn patch(
    shared: &Shared,
    resource: Resource,
    (namespace, name): (&str, &str),
    part: Part,
    request: Request,
) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let (known, refused) = match part {
        Part::Whole => ("application/merge-patch+json", false),
        Part::Status => ("application/strategic-merge-patch+json", shared.faults().no_status),
    };
    if refused {
        return failure(StatusCode::FORBIDDEN, "Forbidden", "as the test wants it");
    }
    if kind != Some(known) {
        let code = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return failure(code, "UnsupportedMediaType", &format!("only {known} is known here"));
    }
    let body = axum::body::to_bytes(request.into_body(), PATCH_LIMIT).await.unwrap_or_default();
    let Ok(mut patch) = serde_json::from_slice::<Value>(&body) else {
        return failure(StatusCode::BAD_REQUEST, "BadRequest", "the patch is no JSON");
    };
    part.restrict(&mut patch);
    let patched = shared.store().patch(resource, namespace, name, &patch);
    match patched {
        Some(object) => {
            shared.changed.send_replace(());
            json_text(with_type(resource, &object.text))
        }
        None => failure(StatusCode::NOT_FOUND, "NotFound", &format!("{name} not found")),
    }
}

fn list(resource: Resource, page: &Page) -> String {
    let meta = json!({"resourceVersion": page.version.to_string(), "continue": page.next.clone().unwrap_or_default()});
    let items: Vec<_> = page.objects.iter().map(|object| object.text.as_str()).collect();
    let (kind, version, items) = (resource.kind(), resource.api_version(), items.join(","));
    format!(
        "{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":{meta},\"items\":[{items}]}}"
    )
}

fn watch(
    shared: Arc<Shared>,
    resource: Resource,
    selector: Selector,
    parameters: &Parameters,
) -> Response {
    let current = shared.store().version();
    let version = parameters.resource_version.parse().ok().filter(|version| *version > 0);
    let place = shared.store().place(resource, version.unwrap_or(current));
    let place = match place {
        Ok(place) => place,
        Err(Gone) if shared.faults().gone_as_status => {
            return failure(StatusCode::GONE, "Expired", "too old resource version");
        }
        Err(Gone) => return json_text(gone_event()),
    };
    let (sender, pieces) = mpsc::channel(16);
    let short = shared.faults().short_watches;
    let watch = Watch {
        shared,
        resource,
        selector,
        place,
        bookmarks: matches!(parameters.allow_watch_bookmarks.as_str(), "1" | "true"),
        limit: Duration::from_secs(if short {
            0
        } else {
            parameters.timeout_seconds.unwrap_or(1800)
        }),
    };
    tokio::spawn(watch.run(sender));
    let body = Body::from_stream(ReceiverStream::new(pieces));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16()
    });
    (code, json_text(status.to_string())).into_response()
}

/// What a client asks for to learn what there is.
fn discovery(path: &str) -> Response {
    let group = json!({"groupVersion": "discovery.k8s.io/v1", "version": "v1"});
    let answer = match path.trim_end_matches('/') {
        "/version" => json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0-test"}),
        "/api" => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": "discovery.k8s.io", "versions": [group], "preferredVersion": group}
        ]}),
        "/api/v1" => resources("v1"),
        "/apis/discovery.k8s.io/v1" => resources("discovery.k8s.io/v1"),
        "/healthz" | "/livez" | "/readyz" => return "ok".into_response(),
        _ => return failure(StatusCode::NOT_FOUND, "NotFound", "there is nothing here"),
    };
    json_text(answer.to_string())
}

fn resources(version: &str) -> Value {
    let listed = Resource::ALL.into_iter().filter(|resource| resource.api_version() == version);
    let listed = listed.map(|resource| {
        let short: &[&str] = if resource == Resource::Services { &["svc"] } else { &[] };
        json!({
            "name": resource.plural(), "singularName": resource.kind().to_lowercase(), "kind": resource.kind(),
            "namespaced": resource.is_namespaced(), "verbs": ["get", "list", "patch", "watch"], "shortNames": short,
        })
    });
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed.collect::<Vec<_>>()})
}
