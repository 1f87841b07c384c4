//! One client's connection, from its first byte to its last.
//!
//! The reader task decodes frames and acts on them in order. It stops reading while the broker has no room for what
//! it would read (publish budget, a topic's mailbox, requests under way); the peer is pinged meanwhile, so that it
//! does not take our silence for death, and its own silence does not count.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use magnetar_common::net::{ReadHalf, Stream};
use magnetar_proto::pulsar::api;
use magnetar_proto::pulsar::frame::{Decoder, FRAME_PADDING, Frame, FrameError};
use tokio::io::AsyncReadExt;

use super::commands::{Route, route};
use super::context::Context;
use super::handshake;
use super::keepalive::{KeepAlive, Tick};
use super::outbound::{ConnectionId, Outbound, State};
use super::producer::Send;
use super::writer::write_frames;
use crate::service::BrokerService;

/// While reading is paused the peer is pinged this often: well below the 30 s after which clients give up.
const PAUSE_PING: Duration = Duration::from_secs(10);

/// How long the last frames (an ERROR, CLOSE_*) may take to leave.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    /// The peer closed it, or it broke: nothing worth a warning.
    #[error("{0}")]
    Gone(String),
    /// We closed it; whoever did has said why.
    #[error("closed by the broker")]
    Closed,
    /// The peer is taken for dead.
    #[error("{0}")]
    Silent(&'static str),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Violation(String),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Gone(error.to_string())
    }
}

/// Serves a connection until it ends; its producers and consumers are gone from their topics when this returns.
pub async fn serve(service: Arc<BrokerService>, stream: Stream, connection: ConnectionId) {
    let outbound = Outbound::new(connection, stream.peer.clone());
    let context = Context::new(Arc::clone(&service), outbound.clone());
    let registered = service.connections.register(outbound.clone());
    let writer = {
        let sessions = Arc::clone(&context.sessions);
        let resume = move || sessions.consumed_topics().iter().for_each(|topic| topic.writable(connection));
        tokio::spawn(write_frames(outbound.clone(), stream.writer, resume))
    };
    let decoder = Decoder::new(service.config.max_message_bytes + FRAME_PADDING);
    let mut reader =
        Reader { context, reader: stream.reader, decoder, keepalive: KeepAlive::default(), connected: false };
    let end = reader.run().await;
    log_end(&outbound, &end);
    reader.context.watchers.end();
    for topic in reader.context.sessions.end() {
        topic.connection_closed(connection);
    }
    outbound.close();
    if tokio::time::timeout(FLUSH_PATIENCE, outbound.reached(State::Aborted)).await.is_err() {
        outbound.abort();
    }
    // A failed write shows up as the reader's end too, and the task cannot panic on bytes.
    let _ = writer.await;
    drop(registered);
}

fn log_end(outbound: &Outbound, end: &End) {
    let (peer, client) = (&outbound.client().address, &outbound.client().version);
    match end {
        End::Gone(reason) => tracing::debug!(peer, client, reason, "connection ended"),
        End::Closed => tracing::debug!(peer, client, "connection closed by the broker"),
        End::Silent(reason) => tracing::info!(peer, client, reason, "closing a silent connection"),
        End::Frame(_) | End::Violation(_) => {
            tracing::warn!(peer, client, reason = %end, "closing a connection that broke the protocol");
        }
    }
}

struct Reader {
    context: Context,
    reader: ReadHalf,
    decoder: Decoder,
    keepalive: KeepAlive,
    connected: bool,
}

impl Reader {
    async fn run(&mut self) -> End {
        match self.read_loop().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn read_loop(&mut self) -> Result<std::convert::Infallible, End> {
        let outbound = self.context.outbound.clone();
        let clock = Arc::clone(&self.context.service.clock);
        let interval = self.context.service.config.keep_alive;
        let closed = outbound.reached(State::Closing);
        tokio::pin!(closed);
        let mut tick = clock.sleep(interval);
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = self.decoder.decode(&mut buffer)? {
                self.on_frame(frame).await?;
                // A producer that floods leaves the thread to other connections now and then.
                tokio::task::consume_budget().await;
            }
            tokio::select! {
                biased;
                () = &mut closed => return Err(End::Closed),
                read = self.reader.read_buf(&mut buffer) => {
                    if read? == 0 {
                        return Err(at_end_of_stream(&buffer));
                    }
                    self.keepalive.on_life();
                    outbound.note_received();
                }
                () = &mut tick => {
                    tick = clock.sleep(interval);
                    match self.keepalive.on_tick() {
                        Tick::Ping => outbound.send(api::CommandPing {}.into()),
                        Tick::Close(reason) => return Err(End::Silent(reason)),
                    }
                }
            }
        }
    }

    async fn on_frame(&mut self, frame: Frame) -> Result<(), End> {
        let Frame { command, payload } = frame;
        let route = route(command);
        if !self.connected && !matches!(route, Route::Handshake(_)) {
            return Err(End::Violation("a command before CONNECT".to_owned()));
        }
        match route {
            Route::Handshake(connect) => self.on_connect(&connect),
            Route::Ping => {
                self.context.send(api::CommandPong {});
                Ok(())
            }
            Route::Pong => {
                self.context.outbound.note_pong();
                Ok(())
            }
            Route::Publish(send) => self.on_send(send, payload).await,
            Route::Consumer(command) => match self.context.on_consumer_command(command) {
                Some(topic) => self.pause(topic.ready_for_consumers()).await,
                None => Ok(()),
            },
            Route::Request(request) => {
                let room = self.pause(Context::room(self.context.requests())).await?;
                self.context.on_request(room, request);
                Ok(())
            }
            Route::Refused { request_id, refusal } => {
                self.context.refuse(request_id, refusal);
                Ok(())
            }
            Route::Violation => Err(End::Violation("a command that only a broker sends".to_owned())),
        }
    }

    fn on_connect(&mut self, connect: &api::CommandConnect) -> Result<(), End> {
        if self.connected {
            return Err(End::Violation("a second CONNECT".to_owned()));
        }
        let service = &self.context.service;
        let outbound = &self.context.outbound;
        let client = handshake::client_info(connect, &outbound.client().address, service.clock.unix_ms());
        tracing::debug!(
            peer = client.address,
            client = client.version,
            protocol = client.protocol,
            "connected"
        );
        let answer = handshake::connected(&client, service.config.max_message_bytes);
        outbound.set_client(client);
        self.context.send(answer);
        self.connected = true;
        self.keepalive.on_connected();
        Ok(())
    }

    async fn on_send(&mut self, send: api::CommandSend, message: Option<Bytes>) -> Result<(), End> {
        let message = message.ok_or_else(|| End::Violation("SEND without a message".to_owned()))?;
        let topic = match self.context.check_send(&send, &message).map_err(End::Violation)? {
            Send::To(topic) => topic,
            Send::Done => return Ok(()),
        };
        let budget = self.context.service.publish_budget.clone();
        let ticket = match budget.try_acquire(message.len()) {
            Some(ticket) => ticket,
            None => self.pause(budget.acquire(message.len())).await?,
        };
        self.context.publish(&topic, &send, message, ticket);
        self.pause(topic.ready()).await
    }

    /// Waits without reading, for as long as it takes, unless the connection is closed from our side.
    async fn pause<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, End> {
        let outbound = &self.context.outbound;
        tokio::pin!(wait);
        tokio::select! {
            biased;
            done = &mut wait => return Ok(done),
            () = std::future::ready(()) => {}
        }
        outbound.set_paused(true);
        loop {
            tokio::select! {
                biased;
                done = &mut wait => {
                    // The peer may well have spoken; we did not listen.
                    self.keepalive.on_life();
                    outbound.set_paused(false);
                    return Ok(done);
                }
                () = outbound.reached(State::Closing) => return Err(End::Closed),
                () = self.context.service.clock.sleep(PAUSE_PING) => outbound.send(api::CommandPing {}.into()),
            }
        }
    }
}

fn at_end_of_stream(unread: &BytesMut) -> End {
    if unread.is_empty() {
        End::Gone("the peer closed it".to_owned())
    } else {
        End::Gone(format!("the peer closed it inside a frame, after {} bytes", unread.len()))
    }
}
