package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
)

const (
	consumers = 12
	keys      = 48
	// Published before each restart.
	burst = 60
)

// What came of messages numbered from 0, of which number n has key n % keys.
type deliveries struct {
	sync.Mutex
	ordered  bool
	seen     map[int]bool
	next     [keys]int
	repeated int
	wrong    string
}

func (d *deliveries) note(number int) {
	d.Lock()
	defer d.Unlock()
	if d.seen[number] {
		d.repeated++
		return
	}
	d.seen[number] = true
	key := number % keys
	if d.ordered && d.next[key] != number && d.wrong == "" {
		d.wrong = fmt.Sprintf("key %d: %d came before %d", key, number, d.next[key])
	}
	d.next[key] = number + keys
}

func (d *deliveries) wait(count int) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		d.Lock()
		done, wrong := len(d.seen) >= count, d.wrong
		d.Unlock()
		if wrong != "" {
			fail("%s", wrong)
		}
		if done {
			return true
		}
	}
	return false
}

// A consumer with a goroutine that acknowledges what comes; some have a connection of their own, which is dropped.
type member struct {
	consumer pulsar.Consumer
	client   pulsar.Client
	done     chan struct{}
}

func (b *broker) join(name string, kind pulsar.SubscriptionType, d *deliveries, number, round int) *member {
	m := &member{done: make(chan struct{})}
	client := b.client
	if (number+round)%6 == 0 {
		m.client = b.connect()
		client = m.client
	}
	m.consumer = must(client.Subscribe(pulsar.ConsumerOptions{
		Topic: name, SubscriptionName: "s", Type: kind, Name: fmt.Sprint("c", number), ReceiverQueueSize: 100,
	}))
	go func() {
		defer close(m.done)
		for message := range m.consumer.Chan() {
			number := must(strconv.Atoi(string(message.Payload())))
			d.note(number)
			_ = m.consumer.Ack(message) // one that is being closed gets it again
		}
	}()
	return m
}

func (m *member) leave() {
	if m.client != nil {
		m.client.Close()
	} else {
		m.consumer.Close()
	}
}

// Twelve consumers on one subscription, each restarted in every round, one after the other: everything published comes, and
// the first deliveries of a key come in order.
func churn(b *broker) {
	rounds := 3
	if wanted := os.Getenv("MAGNETAR_CHAOS_ROUNDS"); wanted != "" {
		rounds = must(strconv.Atoi(wanted))
	}
	kinds := map[string]pulsar.SubscriptionType{
		"Exclusive": pulsar.Exclusive, "Shared": pulsar.Shared, "Failover": pulsar.Failover, "KeyShared": pulsar.KeyShared,
	}
	for label, kind := range kinds {
		churnOne(b, label, kind, rounds)
	}
}

func churnOne(b *broker, label string, kind pulsar.SubscriptionType, rounds int) {
	name := topic("churn")
	d := &deliveries{ordered: kind != pulsar.Shared, seen: map[int]bool{}}
	for key := range keys {
		d.next[key] = key
	}
	var members [consumers]*member
	for i := range consumers {
		if i == 0 || kind != pulsar.Exclusive {
			members[i] = b.join(name, kind, d, i, -1)
		}
	}
	producer := must(b.client.CreateProducer(pulsar.ProducerOptions{
		Topic: name, BatcherBuilderType: pulsar.KeyBasedBatchBuilder,
	}))
	start, sent := time.Now(), 0
	for round := range rounds {
		for i := range consumers {
			for end := sent + burst; sent < end; sent++ {
				message := &pulsar.ProducerMessage{Payload: []byte(fmt.Sprint(sent)), Key: fmt.Sprint(sent % keys)}
				producer.SendAsync(context.Background(), message, func(_ pulsar.MessageID, _ *pulsar.ProducerMessage, err error) {
					check(err)
				})
			}
			members[i].leave()
			following := i
			if kind == pulsar.Exclusive {
				following = (i + 1) % consumers
			}
			members[following] = b.join(name, kind, d, following, round)
		}
		check(producer.Flush())
		if !d.wait(sent) {
			fail("%s, round %d: %d of %d came", label, round, len(d.seen), sent)
		}
	}
	nothingIsLeft(name, "s")
	for _, m := range members {
		if m != nil {
			m.leave()
		}
	}
	producer.Close()
	reordered := ""
	if d.ordered {
		reordered = ", 0 reordered"
	}
	fmt.Printf("churn %s: %d rounds of %d restarts, %d messages, %d came again, 0 lost, 0 stuck%s, %.1f s\n",
		label, rounds, consumers, sent, d.repeated, reordered, time.Since(start).Seconds())
}
