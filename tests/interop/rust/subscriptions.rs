//! All four subscription types, batched and not.

use super::{Fixture, RECEIVE_LIMIT, batched, drain, receive_soon, send_all, text, texts, unbatched};
use anyhow::Result;
use magnetar_common::clock::{Clock, SystemClock};
use pulsar::SubType;
use std::collections::{BTreeMap, BTreeSet};

const COUNT: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn exclusive_delivers_in_order_and_failover_hands_over() -> Result<()> {
    let fixture = Fixture::new().await?;
    for (number, options) in [batched(), unbatched()].into_iter().enumerate() {
        for kind in [SubType::Exclusive, SubType::Failover] {
            let topic = format!("ordered-{number}-{kind:?}");
            let mut first = fixture.consumer(&topic, kind, "a").await?;
            let mut producer = fixture.producer(&topic, options.clone()).await?;
            send_all(&mut producer, &texts(COUNT)).await?;
            assert_eq!(drain(&mut first, COUNT).await?, texts(COUNT));
            if kind == SubType::Failover {
                let mut second = fixture.consumer(&topic, kind, "b").await?;
                first.close().await?;
                send_all(&mut producer, &texts(COUNT)).await?;
                assert_eq!(drain(&mut second, COUNT).await?, texts(COUNT));
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_spreads_messages_and_each_is_seen_once() -> Result<()> {
    let fixture = Fixture::new().await?;
    for (number, options) in [batched(), unbatched()].into_iter().enumerate() {
        let topic = format!("shared-{number}");
        let mut consumers = Vec::new();
        for name in ["a", "b"] {
            consumers.push(fixture.consumer(&topic, SubType::Shared, name).await?);
        }
        let mut producer = fixture.producer(&topic, options).await?;
        send_all(&mut producer, &texts(COUNT)).await?;
        let mut seen = BTreeMap::new();
        let (clock, limit) = (SystemClock::default(), 3 * RECEIVE_LIMIT);
        while seen.len() < COUNT {
            for (index, consumer) in consumers.iter_mut().enumerate() {
                while let Some(message) = receive_soon(consumer).await {
                    assert_eq!(seen.insert(text(&message), index), None, "delivered twice");
                    consumer.ack(&message).await?;
                }
            }
            assert!(clock.now() < limit, "only {} of {COUNT} came", seen.len());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn key_shared_keeps_each_key_at_one_consumer_and_in_order() -> Result<()> {
    let fixture = Fixture::new().await?;
    let topic = "key-shared";
    let mut consumers = Vec::new();
    for name in ["a", "b", "c"] {
        consumers.push(fixture.consumer(topic, SubType::KeyShared, name).await?);
    }
    let mut producer = fixture.producer(topic, unbatched()).await?;
    let mut receipts = Vec::new();
    for number in 0..COUNT {
        let message = producer
            .create_message()
            .with_content(number.to_string())
            .with_partition_key(format!("k{}", number % 20));
        receipts.push(message.send_non_blocking().await?);
    }
    for receipt in receipts {
        receipt.await?;
    }
    let mut owners = BTreeMap::new();
    let mut order: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut count = 0;
    let (clock, limit) = (SystemClock::default(), 3 * RECEIVE_LIMIT);
    while count < COUNT {
        for (index, consumer) in consumers.iter_mut().enumerate() {
            while let Some(message) = receive_soon(consumer).await {
                let key = message.metadata().partition_key.clone().unwrap_or_default();
                assert_eq!(*owners.entry(key.clone()).or_insert(index), index, "{key} moved");
                order.entry(key).or_default().push(text(&message).parse()?);
                consumer.ack(&message).await?;
                count += 1;
            }
        }
        assert!(clock.now() < limit, "only {count} of {COUNT} came");
    }
    for numbers in order.values() {
        assert!(numbers.is_sorted());
    }
    assert!(owners.values().collect::<BTreeSet<_>>().len() > 1, "one consumer got everything");
    Ok(())
}
