//! Order, negative acknowledgement, seek, readers, codecs, reconnect.

use super::{Bytes, Fixture, batched, drain, receive, receive_soon, send_all, text, texts, unbatched};
use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use pulsar::compression::{Compression, CompressionLz4, CompressionSnappy, CompressionZlib, CompressionZstd};
use pulsar::consumer::{ConsumerOptions, InitialPosition};
use pulsar::reader::Reader;
use pulsar::{ProducerOptions, SubType, TokioExecutor};
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_in_order() -> Result<()> {
    let fixture = Fixture::new().await?;
    for (topic, options) in [("order-batched", batched()), ("order-unbatched", unbatched())] {
        let mut consumer = fixture.consumer(topic, SubType::Exclusive, "a").await?;
        let mut producer = fixture.producer(topic, options).await?;
        let sent = texts(10_000);
        let (sending, received) =
            tokio::join!(send_all(&mut producer, &sent), drain(&mut consumer, sent.len()));
        sending?;
        assert_eq!(received?, sent);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn negative_acknowledgement_brings_the_message_back() -> Result<()> {
    let fixture = Fixture::new().await?;
    let mut consumer = fixture.consumer("nack", SubType::Shared, "a").await?;
    let mut producer = fixture.producer("nack", unbatched()).await?;
    send_all(&mut producer, &texts(3)).await?;
    for _ in 0..3 {
        let message = receive(&mut consumer).await?;
        consumer.nack(&message).await?;
    }
    let again: BTreeSet<String> = drain(&mut consumer, 3).await?.into_iter().collect();
    assert_eq!(again, texts(3).into_iter().collect());
    assert!(receive_soon(&mut consumer).await.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn seek_goes_back_to_a_message() -> Result<()> {
    let fixture = Fixture::new().await?;
    // The crate makes its new consumer before it lets go of the old one, so only a shared subscription can seek.
    let mut consumer = fixture.consumer("seek", SubType::Shared, "a").await?;
    let mut producer = fixture.producer("seek", unbatched()).await?;
    send_all(&mut producer, &texts(10)).await?;
    let mut ids = Vec::new();
    for _ in 0..10 {
        let message = receive(&mut consumer).await?;
        ids.push(message.message_id().clone());
        consumer.ack(&message).await?;
    }
    let client = fixture.client.clone();
    consumer.seek(None, Some(ids[5].clone()), None, client).await?;
    // Whether the message itself comes too is the client's choice; what follows must. What the old consumer had got
    // already comes later than the rest.
    let mut got = BTreeSet::new();
    while !texts(10)[6..].iter().all(|text| got.contains(text)) {
        let message = receive(&mut consumer).await?;
        got.insert(text(&message));
        consumer.ack(&message).await?;
    }
    assert!(got.iter().all(|text| texts(10)[5..].contains(text)), "{got:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_reads_from_the_start_without_a_subscription() -> Result<()> {
    let fixture = Fixture::new().await?;
    for (topic, options) in [("reader-batched", batched()), ("reader-unbatched", unbatched())] {
        let mut producer = fixture.producer(topic, options).await?;
        send_all(&mut producer, &texts(100)).await?;
        let options =
            ConsumerOptions::default().with_initial_position(InitialPosition::Earliest).durable(false);
        let mut reader: Reader<Bytes, TokioExecutor> = fixture
            .client
            .reader()
            .with_topic(topic)
            .with_consumer_name("reader")
            .with_options(options)
            .into_reader()
            .await?;
        let mut got = Vec::new();
        while got.len() < 100 {
            let message = tokio::time::timeout(super::RECEIVE_LIMIT, reader.try_next()).await??;
            got.push(text(&message.context("the reader ended")?));
        }
        assert_eq!(got, texts(100));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_compression_codec() -> Result<()> {
    let fixture = Fixture::new().await?;
    let payload = "magnetar ".repeat(5000);
    let codecs = [
        ("none", Compression::None),
        ("lz4", Compression::Lz4(CompressionLz4::default())),
        ("zlib", Compression::Zlib(CompressionZlib::default())),
        ("zstd", Compression::Zstd(CompressionZstd::default())),
        ("snappy", Compression::Snappy(CompressionSnappy::default())),
    ];
    for (name, codec) in codecs {
        let topic = format!("codec-{name}");
        let mut consumer = fixture.consumer(&topic, SubType::Exclusive, "a").await?;
        for base in [batched(), unbatched()] {
            let options = ProducerOptions { compression: Some(codec.clone()), ..base };
            let mut producer = fixture.producer(&topic, options).await?;
            send_all(&mut producer, &vec![payload.clone(); 10]).await?;
            assert_eq!(drain(&mut consumer, 10).await?, vec![payload.clone(); 10]);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_broker_is_survived_by_producer_and_consumer() -> Result<()> {
    let mut fixture = Fixture::new().await?;
    let mut consumer = fixture.consumer("restart", SubType::Exclusive, "a").await?;
    let mut producer = fixture.producer("restart", unbatched()).await?;
    send_all(&mut producer, &texts(10)).await?;
    assert_eq!(drain(&mut consumer, 5).await?, texts(10)[..5]);
    fixture.process.kill()?;
    fixture.process.restart()?;
    // What the client had received before the kill comes first. Acknowledgements just before it carried no receipt, so
    // some of them may not have been durable: those messages come again.
    let receipt = producer.send_non_blocking("after".to_string()).await?;
    receipt.await?;
    let mut rest = BTreeSet::new();
    while !rest.contains("after") {
        let acknowledged = match receive(&mut consumer).await {
            Ok(message) => {
                rest.insert(text(&message));
                consumer.ack(&message).await.is_ok()
            }
            Err(_) => false,
        };
        if !acknowledged {
            // The crate's consumer gives up when its own retries run out before the broker is back, which may show at an
            // acknowledgement too: then it is for the application to subscribe again.
            consumer = fixture.consumer("restart", SubType::Exclusive, "a").await?;
        }
    }
    assert!(texts(10)[5..].iter().all(|text| rest.contains(text)), "{rest:?}");
    Ok(())
}
