//! SEND, up to where it is handed to a topic.

use bytes::{Bytes, BytesMut};
use magnetar_proto::pulsar::api::{self, ServerError};
use magnetar_proto::pulsar::{Command, entry};

use super::peer::Bench;
use crate::protocol::context::Context;
use crate::protocol::outbound::{ConnectionId, Outbound, Queued};
use crate::protocol::producer::Send;
use crate::protocol::sessions::Kind;
use crate::topic::Handle;

/// A connection's context with producer 1 on a topic that nobody reads.
async fn with_producer() -> Context {
    let bench = Bench::new().await;
    let context = Context::new(bench.service, Outbound::new(ConnectionId(1), "peer"));
    let (topic, _) = Handle::of_nobody("persistent://public/default/t");
    let creation = context.sessions.begin_creation(Kind::Producer, 1).expect("a new id");
    assert!(context.sessions.created(&creation.id(), topic));
    context
}

fn message() -> BytesMut {
    let metadata = api::MessageMetadata { producer_name: "p".into(), ..Default::default() };
    BytesMut::from(entry::build(&metadata, b"payload").as_ref())
}

async fn sent(context: &Context) -> Vec<Command> {
    context.outbound.close();
    let mut frames = std::collections::VecDeque::new();
    let _ = context.outbound.take(&mut frames).await;
    let command = |queued| match queued {
        Queued::Frame { command, .. } => command,
        Queued::Part(_) => panic!("no messages are dispatched here"),
    };
    frames.into_iter().map(command).collect()
}

fn send(sequence_id: u64) -> api::CommandSend {
    api::CommandSend {
        producer_id: 1,
        sequence_id,
        highest_sequence_id: Some(sequence_id + 2),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_intact_message_goes_to_its_topic() {
    let context = with_producer().await;
    assert!(matches!(context.check_send(&send(7), &message().freeze()), Ok(Send::To(_))));
    assert_eq!(sent(&context).await, []);
}

#[tokio::test]
async fn a_wrong_checksum_refuses_that_message_only() {
    let context = with_producer().await;
    let mut damaged = message();
    *damaged.last_mut().expect("bytes") ^= 1;
    assert!(matches!(context.check_send(&send(7), &damaged.freeze()), Ok(Send::Done)));
    assert!(matches!(context.check_send(&send(8), &message().freeze()), Ok(Send::To(_))));
    let answers = sent(&context).await;
    let [Command::SendError(error)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((error.producer_id, error.sequence_id, error.error()), (1, 9, ServerError::ChecksumError));
}

#[tokio::test]
async fn a_message_in_a_transaction_is_refused() {
    let context = with_producer().await;
    let command = api::CommandSend { txnid_most_bits: Some(0), txnid_least_bits: Some(0), ..send(7) };
    assert!(matches!(context.check_send(&command, &message().freeze()), Ok(Send::Done)));
    let answers = sent(&context).await;
    let [Command::SendError(error)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(error.error(), ServerError::NotAllowedError);
}

#[tokio::test]
async fn a_send_for_an_unknown_or_pending_producer_breaks_the_protocol() {
    let context = with_producer().await;
    let _pending = context.sessions.begin_creation(Kind::Producer, 2).expect("a new id");
    for producer_id in [2, 3] {
        let command = api::CommandSend { producer_id, ..send(0) };
        assert!(context.check_send(&command, &Bytes::from_static(b"x")).is_err());
    }
}
