package main

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
)

const count = 100

func numbered(from, to int) []string {
	var texts []string
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprint("m", i))
	}
	return texts
}

func equal(what string, expected, actual any) {
	if !reflect.DeepEqual(expected, actual) {
		fail("%s: expected %v, got %v", what, expected, actual)
	}
}

func (b *broker) producer(topic string, batching bool) pulsar.Producer {
	return must(b.client.CreateProducer(pulsar.ProducerOptions{Topic: topic, DisableBatching: !batching}))
}

func (b *broker) consumer(topic string, kind pulsar.SubscriptionType) pulsar.Consumer {
	return must(b.client.Subscribe(pulsar.ConsumerOptions{
		Topic:                       topic,
		SubscriptionName:            "s",
		Type:                        kind,
		SubscriptionInitialPosition: pulsar.SubscriptionPositionEarliest,
		NackRedeliveryDelay:         100 * time.Millisecond,
		AckWithResponse:             true,
	}))
}

func send(producer pulsar.Producer, texts []string) []pulsar.MessageID {
	var ids []pulsar.MessageID
	for _, text := range texts {
		message := &pulsar.ProducerMessage{Payload: []byte(text), Key: text}
		ids = append(ids, must(producer.Send(context.Background(), message)))
	}
	return ids
}

func next(consumer pulsar.Consumer) pulsar.Message {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return must(consumer.Receive(ctx))
}

func drain(consumer pulsar.Consumer, count int) []string {
	var texts []string
	for len(texts) < count {
		message := next(consumer)
		texts = append(texts, string(message.Payload()))
		check(consumer.Ack(message))
	}
	return texts
}

func nothingComes(consumer pulsar.Consumer) {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if message, err := consumer.Receive(ctx); err == nil {
		fail("nothing should come, but %s did", message.Payload())
	}
}

// Every type delivers what is published, batched and not, and hands what is unacknowledged to the next consumer.
func subscriptions(b *broker) {
	for _, kind := range []pulsar.SubscriptionType{pulsar.Exclusive, pulsar.Shared, pulsar.Failover, pulsar.KeyShared} {
		for _, batching := range []bool{false, true} {
			name := topic("subscriptions")
			producer, consumer := b.producer(name, batching), b.consumer(name, kind)
			send(producer, numbered(0, count))
			equal("half", numbered(0, count/2), drain(consumer, count/2))
			consumer.Close()
			consumer = b.consumer(name, kind)
			equal("the other half", numbered(count/2, count), drain(consumer, count/2))
			nothingComes(consumer)
			consumer.Close()
			producer.Close()
		}
	}
	name := topic("busy")
	consumer := b.consumer(name, pulsar.Exclusive)
	_, err := b.client.Subscribe(pulsar.ConsumerOptions{Topic: name, SubscriptionName: "s"})
	if err == nil || !strings.Contains(err.Error(), "ConsumerBusy") {
		fail("a second consumer of an exclusive subscription: %v", err)
	}
	consumer.Close()
}

// What is refused comes again, what is acknowledged does not, also after a crash; a delayed message comes in time.
func delivery(b *broker) {
	name := topic("delivery")
	producer, consumer := b.producer(name, false), b.consumer(name, pulsar.Shared)
	send(producer, numbered(0, count))
	var refused pulsar.Message
	for i := range count {
		message := next(consumer)
		if i%2 == 0 {
			check(consumer.Ack(message))
		} else if i == 1 {
			refused = message
		}
	}
	// It may come again at any time from now on.
	consumer.Nack(refused)
	again := next(consumer)
	equal("the refused one", "m1", string(again.Payload()))
	equal("its redelivery count", uint32(1), again.RedeliveryCount())
	check(consumer.Ack(again))
	kill()
	for i := 3; i < count; i += 2 {
		equal("after a crash", []string{fmt.Sprint("m", i)}, drain(consumer, 1))
	}
	nothingComes(consumer)
	sent := time.Now()
	delayed := &pulsar.ProducerMessage{Payload: []byte("later"), DeliverAfter: time.Second}
	must(producer.Send(context.Background(), delayed))
	equal("the delayed one", []string{"later"}, drain(consumer, 1))
	if passed := time.Since(sent); passed < time.Second-10*time.Millisecond {
		fail("a message delayed by a second came after %v", passed)
	}
	consumer.Close()
	producer.Close()
}

// Readers start where they are told, and consumers are sent back.
func positions(b *broker) {
	for _, batching := range []bool{false, true} {
		name := topic("positions")
		producer := b.producer(name, batching)
		ids := send(producer, numbered(0, count))
		consumer := b.consumer(name, pulsar.Exclusive)
		equal("all", numbered(0, count), drain(consumer, count))
		check(consumer.Seek(ids[count/2]))
		equal("behind its id", fmt.Sprint("m", count/2+1), drain(consumer, 1)[0])
		for i, inclusive := range []bool{true, false} {
			reader := must(b.client.CreateReader(pulsar.ReaderOptions{
				Topic: name, StartMessageID: ids[10], StartMessageIDInclusive: inclusive,
			}))
			var texts []string
			for reader.HasNext() {
				texts = append(texts, string(must(reader.Next(context.Background())).Payload()))
			}
			equal("read from its id on", numbered(10+i, count), texts)
			reader.Close()
		}
		consumer.Close()
		producer.Close()
	}
}
