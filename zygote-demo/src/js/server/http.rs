//! HTTP: what may be asked, and what is replied.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue, ORIGIN, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::listen::Socket;
use super::{Preload, Server, run, stats};
use crate::js::answer::{Answer, End};
use crate::js::script::Script;

/// The longest script, in bytes.
const LONGEST: usize = 16 << 20;

/// How long somebody may take to send a request, and to take its reply.
const PATIENCE: Duration = Duration::from_secs(10);

type Reply = Response<Full<Bytes>>;

/// Serves until a signal says to end, and then until all that was begun is done.
pub(super) fn serve(server: Server, socket: Socket) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the server")?;
    runtime.block_on(accept(Arc::new(server), socket))
}

async fn accept(server: Arc<Server>, socket: Socket) -> Result<()> {
    let mut signals = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let address = socket.address()?;
    let graceful = GracefulShutdown::new();
    // Nobody need read it.
    let _ = writeln!(io::stdout(), "listening on {address}").and_then(|()| io::stdout().flush());
    match socket {
        Socket::Unix(socket, _file) => {
            let socket = UnixListener::from_std(socket)?;
            loop {
                tokio::select! {
                    () = either(&mut signals) => break,
                    accepted = socket.accept() => connect(&server, &graceful, accepted.map(|(stream, _)| stream)).await,
                }
            }
        }
        Socket::Tcp(socket) => {
            let socket = TcpListener::from_std(socket)?;
            loop {
                tokio::select! {
                    () = either(&mut signals) => break,
                    accepted = socket.accept() => connect(&server, &graceful, accepted.map(|(stream, _)| stream)).await,
                }
            }
        }
    }
    // Whoever does not take its reply does not keep the server.
    let longest = server.options.time.saturating_add(2 * PATIENCE);
    let drained = async {
        let _ = timeout(longest, graceful.shutdown()).await;
        server.line.until_idle().await;
    };
    tokio::select! {
        () = drained => (),
        // Somebody is in a hurry. Without this process the launcher ends, and without the launcher the children.
        () = either(&mut signals) => std::process::exit(1),
    }
    server.zygote.spawning(|zygote| zygote.spares().resize(0))
}

async fn either((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
}

/// Serves a connection, beside others.
async fn connect<I>(server: &Arc<Server>, graceful: &GracefulShutdown, accepted: io::Result<I>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(stream) = accepted else {
        // There are no descriptors left, say. Some come back as requests end.
        tokio::time::sleep(Duration::from_millis(50)).await;
        return;
    };
    let server = Arc::clone(server);
    let service = service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(reply(&server, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // Whoever breaks off knows it.
        let _ = connection.await;
    });
}

async fn reply(server: &Arc<Server>, request: Request<Incoming>) -> Reply {
    if request.headers().contains_key(ORIGIN) {
        // Any page that a browser shows can post to this machine.
        return text(StatusCode::FORBIDDEN, "requests by web pages are refused");
    }
    let json = request
        .headers()
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    let (wanted, answer) = match (request.uri().path(), request.method()) {
        ("/", &Method::POST) => (Method::POST, Some(evaluate(server, request, json).await)),
        ("/preload", &Method::POST) => (Method::POST, Some(preload(server, request, json).await)),
        ("/stats", &Method::GET) => (Method::GET, Some(show_stats(server).await)),
        ("/" | "/preload", _) => (Method::POST, None),
        ("/stats", _) => (Method::GET, None),
        _ => {
            let known = "there is POST / and POST /preload, with a script, and GET /stats";
            return text(StatusCode::NOT_FOUND, known);
        }
    };
    answer.unwrap_or_else(|| {
        let mut refusal = text(
            StatusCode::METHOD_NOT_ALLOWED,
            &format!("only {wanted} is possible here"),
        );
        let allow = HeaderValue::from_str(wanted.as_str());
        refusal
            .headers_mut()
            .extend(allow.ok().map(|allow| (ALLOW, allow)));
        refusal
    })
}

/// `POST /`: runs the script in a child of its own.
async fn evaluate(server: &Arc<Server>, request: Request<Incoming>, json: bool) -> Reply {
    let script = match script(server, request, "<script>").await {
        Ok(script) => script,
        Err(refusal) => return refusal,
    };
    let counted = server.stats.begin();
    let Some(turn) = server.line.turn().await else {
        counted.end(stats::BUSY);
        return busy("too many scripts wait already");
    };
    // Dropped with this future, when the client hangs up.
    let (wanted, wisher) = run::wanted();
    let (sender, answer) = oneshot::channel();
    let on_thread = Arc::clone(server);
    tokio::task::spawn_blocking(move || run::run(&on_thread, &script, &wisher, sender, turn));
    let answer = answer.await;
    wanted.answered();
    match answer {
        Ok(Ok(answer)) => {
            counted.end(answer.end.name());
            as_reply(&answer, json)
        }
        Ok(Err(error)) => {
            counted.end(stats::FAILED);
            text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"))
        }
        Err(_) => {
            counted.end(stats::FAILED);
            text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the script's thread has failed",
            )
        }
    }
}

/// `POST /preload`: loads the script into the zygote.
async fn preload(server: &Arc<Server>, request: Request<Incoming>, json: bool) -> Reply {
    let script = match script(server, request, "<preload>").await {
        Ok(script) => script,
        Err(refusal) => return refusal,
    };
    let (reply, answer) = oneshot::channel();
    if server.preloads.try_send(Preload { script, reply }).is_err() {
        return busy("too many scripts wait to be loaded already");
    }
    let Ok((answer, heap_bytes)) = answer.await else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the server ends");
    };
    server.stats.preloaded(answer.end.is_well(), heap_bytes);
    as_reply(&answer, json)
}

async fn show_stats(server: &Arc<Server>) -> Reply {
    let server = Arc::clone(server);
    match tokio::task::spawn_blocking(move || stats::document(&server)).await {
        Ok(document) => document_reply(StatusCode::OK, &document),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "no statistics"),
    }
}

/// Reads a request's script, or says what is wrong with it.
async fn script(server: &Server, request: Request<Incoming>, name: &str) -> Result<Script, Reply> {
    let body = Limited::new(request.into_body(), LONGEST).collect();
    let body = match timeout(PATIENCE, body).await {
        Err(_) => {
            return Err(text(
                StatusCode::REQUEST_TIMEOUT,
                "the script does not come",
            ));
        }
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let longest = format!("a script has {LONGEST} bytes at most");
            return Err(text(StatusCode::PAYLOAD_TOO_LARGE, &longest));
        }
        Ok(Err(error)) => return Err(text(StatusCode::BAD_REQUEST, &error.to_string())),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let source = String::from_utf8(body.into())
        .map_err(|_| text(StatusCode::BAD_REQUEST, "the script is not UTF-8"))?;
    Ok(Script {
        source,
        name: name.to_owned(),
        time: Some(server.options.time),
        memory: Some(server.options.memory),
    })
}

fn status(end: &End) -> StatusCode {
    match end {
        End::Value | End::Nothing | End::Exit(0) => StatusCode::OK,
        End::Exit(_) | End::Exception => StatusCode::UNPROCESSABLE_ENTITY,
        End::Timeout => StatusCode::GATEWAY_TIMEOUT,
        End::OutOfMemory | End::TooMuchOutput => StatusCode::INSUFFICIENT_STORAGE,
        End::Crash(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// As JSON all there is; as text what a person would see of the script in a terminal: its output and its value, or why there is none.
fn as_reply(answer: &Answer, json: bool) -> Reply {
    let status = status(&answer.end);
    if json {
        return document_reply(status, &answer.document());
    }
    let said = match &answer.end {
        End::Value => format!("{}{}", answer.output, answer.value),
        End::Nothing | End::Exit(0) => return plain(status, answer.output.clone()),
        End::Exit(code) => format!("{}exit code {code}", answer.errors),
        end => {
            let reason = end.reason().unwrap_or_else(|| answer.exception.clone());
            format!("{}{reason}", answer.errors)
        }
    };
    text(status, &said)
}

fn text(status: StatusCode, line: &str) -> Reply {
    plain(status, format!("{line}\n"))
}

fn plain(status: StatusCode, body: String) -> Reply {
    with_type(status, "text/plain; charset=utf-8", body)
}

fn busy(why: &str) -> Reply {
    let mut reply = text(StatusCode::SERVICE_UNAVAILABLE, why);
    reply
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    reply
}

fn document_reply(status: StatusCode, document: &impl Serialize) -> Reply {
    // There is nothing in it that JSON has not.
    let body = serde_json::to_string(document).unwrap_or_default();
    with_type(status, "application/json", body + "\n")
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}
