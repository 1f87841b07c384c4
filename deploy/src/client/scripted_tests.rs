//! The client against a peer that follows a script, frame by frame, over a real loopback socket.

use bytes::{Bytes, BytesMut};
use magnetar_common::Environment;
use magnetar_proto::pulsar::api::{
    CommandConnected, CommandError, CommandLookupTopicResponse, CommandMessage,
    CommandPartitionedTopicMetadataResponse, CommandPing, CommandProducerSuccess, CommandSendReceipt,
    CommandSuccess, MessageIdData, ServerError, SingleMessageMetadata,
    command_lookup_topic_response::LookupType,
};
use magnetar_proto::pulsar::frame::{self, Decoder, Frame, MAX_FRAME_SIZE};
use magnetar_proto::pulsar::{Command, api::MessageMetadata, batch, entry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Batching, Client, ClientError, Message, SubType, Subscribe};

/// The broker's side of one connection.
struct Peer {
    socket: TcpStream,
    buffer: BytesMut,
    decoder: Decoder,
}

impl Peer {
    /// Accepts, and answers the handshake and the lookup of whatever topic.
    async fn accept(listener: &TcpListener) -> Self {
        let (socket, _) = listener.accept().await.unwrap();
        let mut peer = Peer { socket, buffer: BytesMut::new(), decoder: Decoder::new(MAX_FRAME_SIZE) };
        let Command::Connect(connect) = peer.receive().await.command else { panic!("no CONNECT") };
        assert!(connect.client_version.starts_with("magnetar-"));
        peer.send(Command::Connected(CommandConnected {
            server_version: "script".into(),
            max_message_size: Some(20_000),
            ..Default::default()
        }))
        .await;
        peer
    }

    async fn answer_lookup(&mut self, kind: LookupType, url: &str) {
        let Command::LookupTopic(lookup) = self.receive().await.command else { panic!("no LOOKUP") };
        self.send(Command::LookupTopicResponse(CommandLookupTopicResponse {
            broker_service_url: Some(url.to_owned()),
            response: Some(kind as i32),
            request_id: lookup.request_id,
            authoritative: Some(true),
            ..Default::default()
        }))
        .await;
    }

    async fn receive(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer).unwrap() {
                return frame;
            }
            assert_ne!(self.socket.read_buf(&mut self.buffer).await.unwrap(), 0, "the client hung up");
        }
    }

    async fn send(&mut self, command: Command) {
        let mut out = BytesMut::new();
        frame::encode(command, &mut out);
        self.socket.write_all(&out).await.unwrap();
    }

    async fn accept_producer(&mut self) -> u64 {
        let Command::Producer(producer) = self.receive().await.command else { panic!("no PRODUCER") };
        self.send(Command::ProducerSuccess(CommandProducerSuccess {
            request_id: producer.request_id,
            producer_name: "given".into(),
            last_sequence_id: Some(4),
            ..Default::default()
        }))
        .await;
        producer.producer_id
    }

    async fn receipt(&mut self, producer_id: u64, sequence_id: u64) {
        let receipt = CommandSendReceipt { producer_id, sequence_id, ..Default::default() };
        self.send(Command::SendReceipt(receipt)).await;
    }
}

async fn listen() -> (TcpListener, String, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("pulsar://{}", listener.local_addr().unwrap());
    let client = Client::new(&url, Environment::system()).unwrap();
    (listener, url, client)
}

fn text(payload: &'static str) -> Message {
    Message { payload: Bytes::from_static(payload.as_bytes()), key: None }
}

#[tokio::test]
async fn sends_are_pipelined_and_receipts_give_tokens_back_in_order() {
    let (listener, url, client) = listen().await;
    let script = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.answer_lookup(LookupType::Connect, &url).await;
        let id = peer.accept_producer().await;
        peer.send(Command::Ping(CommandPing {})).await;
        let mut sends = Vec::new();
        let mut pongs = 0;
        while sends.len() < 2 {
            match peer.receive().await {
                Frame { command: Command::Send(send), payload: Some(stored) } => {
                    entry::verify_checksum(&stored).unwrap();
                    sends.push((send.sequence_id, send.highest_sequence_id, send.num_messages));
                }
                Frame { command: Command::Pong(_), .. } => pongs += 1,
                other => panic!("unexpected {other:?}"),
            }
        }
        // Both came before any receipt. The numbers go on behind the broker's last one.
        assert_eq!(sends, [(5, Some(6), Some(2)), (7, None, Some(1))]);
        peer.receipt(id, 5).await;
        peer.receipt(id, 7).await;
        loop {
            match peer.receive().await.command {
                Command::CloseProducer(close) => {
                    let request_id = close.request_id;
                    peer.send(Command::Success(CommandSuccess { request_id, ..Default::default() })).await;
                    assert_eq!(pongs, 1);
                    return;
                }
                Command::Pong(_) => pongs += 1,
                other => panic!("unexpected {other:?}"),
            }
        }
    });
    let batching = Batching::UpTo { messages: 2, bytes: 1000 };
    let mut producer = client.producer::<char>("t", batching).await.unwrap();
    for token in ['a', 'b', 'c'] {
        producer.send(text("x"), token).unwrap();
    }
    assert_eq!((producer.outstanding(), producer.waiting()), (3, 1));
    let mut tokens = Vec::new();
    producer.close(|receipt| tokens.extend(receipt.tokens)).await.unwrap();
    assert_eq!(tokens, ['a', 'b', 'c']);
    script.await.unwrap();
}

#[tokio::test]
async fn a_message_over_the_announced_limit_is_refused_before_it_is_sent() {
    let (listener, url, client) = listen().await;
    let script = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.answer_lookup(LookupType::Connect, &url).await;
        peer.accept_producer().await;
        peer
    });
    let mut producer = client.producer::<()>("t", Batching::Off).await.unwrap();
    let message = Message { payload: Bytes::from(vec![0; 20_001]), key: None };
    assert!(matches!(producer.send(message, ()), Err(ClientError::TooLarge { size: 20_001, .. })));
    script.await.unwrap();
}

#[tokio::test]
async fn a_lost_connection_fails_what_waits_on_it() {
    let (listener, url, client) = listen().await;
    let script = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.answer_lookup(LookupType::Connect, &url).await;
        peer.accept_producer().await;
        assert!(matches!(peer.receive().await.command, Command::Send(_)));
    });
    let mut producer = client.producer::<()>("t", Batching::Off).await.unwrap();
    producer.send(text("x"), ()).unwrap();
    assert!(matches!(producer.receipt().await, Err(ClientError::Lost(_))));
    script.await.unwrap();
}

#[tokio::test]
async fn refusals_carry_the_brokers_words() {
    let (listener, _, client) = listen().await;
    let script = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        let Command::PartitionMetadata(ask) = peer.receive().await.command else { panic!("no question") };
        peer.send(Command::PartitionMetadataResponse(CommandPartitionedTopicMetadataResponse {
            partitions: Some(2),
            request_id: ask.request_id,
            ..Default::default()
        }))
        .await;
        let Command::LookupTopic(ask) = peer.receive().await.command else { panic!("no LOOKUP") };
        peer.send(Command::Error(CommandError {
            request_id: ask.request_id,
            error: ServerError::TopicNotFound as i32,
            message: "no such thing".into(),
        }))
        .await;
        peer
    });
    assert_eq!(client.partitions("t").await.unwrap(), ["t-partition-0", "t-partition-1"]);
    let Err(error) = client.producer::<()>("t-partition-0", Batching::Off).await else { panic!("accepted") };
    assert_eq!(error.to_string(), "refused by the broker: TopicNotFound (no such thing)");
    script.await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_followed_to_the_other_broker() {
    let (first, _, client) = listen().await;
    let (second, second_url, _) = listen().await;
    let script = tokio::spawn(async move {
        let mut asked = Peer::accept(&first).await;
        asked.answer_lookup(LookupType::Redirect, &second_url).await;
        let mut owner = Peer::accept(&second).await;
        owner.answer_lookup(LookupType::Connect, &second_url).await;
        owner.accept_producer().await;
        (asked, owner)
    });
    client.producer::<()>("t", Batching::Off).await.unwrap();
    script.await.unwrap();
}

#[tokio::test]
async fn a_consumer_renews_permits_skips_what_is_acknowledged_and_acks_entries() {
    let (listener, url, client) = listen().await;
    let script = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.answer_lookup(LookupType::Connect, &url).await;
        let Command::Subscribe(subscribe) = peer.receive().await.command else { panic!("no SUBSCRIBE") };
        let (request_id, consumer_id) = (subscribe.request_id, subscribe.consumer_id);
        peer.send(Command::Success(CommandSuccess { request_id, ..Default::default() })).await;
        let Command::Flow(flow) = peer.receive().await.command else { panic!("no FLOW") };
        assert_eq!(flow.message_permits, 4);

        let mut body = BytesMut::new();
        let messages = ["a", "b", "c"].map(|text| (SingleMessageMetadata::default(), text.as_bytes()));
        batch::encode(messages, &mut body);
        let metadata = MessageMetadata { num_messages_in_batch: Some(3), ..Default::default() };
        let stored = entry::build(&metadata, &body);
        let message = CommandMessage {
            consumer_id,
            message_id: MessageIdData { ledger_id: 3, entry_id: 9, ..Default::default() },
            // The second message was acknowledged before.
            ack_set: vec![0b101],
            ..Default::default()
        };
        let mut out = BytesMut::new();
        frame::encode_with_payload(Command::Message(message), stored.len(), &mut out);
        out.extend_from_slice(&stored);
        peer.socket.write_all(&out).await.unwrap();

        let Command::Flow(flow) = peer.receive().await.command else { panic!("no second FLOW") };
        assert_eq!(flow.message_permits, 2);
        let Command::Ack(ack) = peer.receive().await.command else { panic!("no ACK") };
        assert_eq!((ack.message_id[0].ledger_id, ack.message_id[0].entry_id), (3, 9));
        let Command::CloseConsumer(close) = peer.receive().await.command else { panic!("no CLOSE") };
        let request_id = close.request_id;
        peer.send(Command::Success(CommandSuccess { request_id, ..Default::default() })).await;
    });
    let subscribe = Subscribe {
        topic: "t".into(),
        subscription: "s".into(),
        kind: SubType::Exclusive,
        from_earliest: true,
        queue: 4,
    };
    let mut consumer = client.consumer(subscribe).await.unwrap();
    let received = consumer.receive().await.unwrap();
    let payloads = received.messages().unwrap().into_iter().map(|message| message.payload);
    assert_eq!(payloads.collect::<Vec<_>>(), ["a", "c"]);
    consumer.ack(&received);
    consumer.close().await.unwrap();
    script.await.unwrap();
}
