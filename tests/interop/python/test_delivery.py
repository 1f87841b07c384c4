"""Order, negative acknowledgement, partly acknowledged batches, cumulative acknowledgement, several subscriptions."""

import pulsar
from common import Case, TIMEOUT_MS, backlog, drain, send_all, topic, wait_for


class Delivery(Case):
    def test_ten_thousand_messages_in_order(self):
        for batching in (True, False):
            with self.subTest(batching=batching):
                name = topic("order")
                consumer = self.client.subscribe(name, "s")
                producer = self.client.create_producer(
                    name, batching_enabled=batching, block_if_queue_full=True, max_pending_messages=1000
                )
                texts = [str(i) for i in range(10_000)]
                send_all(producer, texts)
                self.assertEqual(drain(consumer, len(texts)), texts)

    def test_backlog_is_read_from_the_start_by_a_late_subscription(self):
        name = topic("backlog")
        producer = self.client.create_producer(name, batching_enabled=False)
        texts = [str(i) for i in range(500)]
        send_all(producer, texts)
        late = self.client.subscribe(name, "late", initial_position=pulsar.InitialPosition.Earliest)
        self.assertEqual(drain(late, len(texts)), texts)

    def test_negative_acknowledgement_brings_the_message_back(self):
        name = topic("nack")
        consumer = self.client.subscribe(
            name, "s", pulsar.ConsumerType.Shared, negative_ack_redelivery_delay_ms=200
        )
        producer = self.client.create_producer(name)
        send_all(producer, ["a", "b", "c"])
        again = set()
        # All of them before the first is refused: it may come again at any time then.
        for message in [consumer.receive(timeout_millis=TIMEOUT_MS) for _ in range(3)]:
            self.assertEqual(message.redelivery_count(), 0)
            consumer.negative_acknowledge(message)
        for _ in range(3):
            message = consumer.receive(timeout_millis=TIMEOUT_MS)
            self.assertGreaterEqual(message.redelivery_count(), 1)
            again.add(message.data().decode())
            consumer.acknowledge(message)
        self.assertEqual(again, {"a", "b", "c"})
        self.nothing_comes(consumer)

    def test_redeliver_unacknowledged_on_an_exclusive_subscription_starts_after_the_acknowledged(self):
        name = topic("redeliver")
        consumer = self.client.subscribe(name, "s")
        producer = self.client.create_producer(name, batching_enabled=False)
        texts = [str(i) for i in range(10)]
        send_all(producer, texts)
        drain(consumer, 4)
        drain(consumer, 6, ack=False)
        # What the client has not sent yet would come again.
        wait_for("the four acknowledged", lambda: backlog(name, "s") == 6)
        consumer.redeliver_unacknowledged_messages()
        self.assertEqual(drain(consumer, 6), texts[4:])

    def test_cumulative_acknowledgement_survives_a_new_consumer(self):
        name = topic("cumulative")
        producer = self.client.create_producer(name, batching_enabled=False)
        consumer = self.client.subscribe(name, "s")
        texts = [str(i) for i in range(20)]
        send_all(producer, texts)
        for i in range(10):
            message = consumer.receive(timeout_millis=TIMEOUT_MS)
        consumer.acknowledge_cumulative(message)
        consumer.close()
        consumer = self.client.subscribe(name, "s")
        self.assertEqual(drain(consumer, 10), texts[10:])

    def test_batch_index_acknowledgement_brings_back_only_the_rest_of_the_batch(self):
        name = topic("batch-index")
        # Long beside the 100 ms after which the client sends what was acknowledged.
        consumer = self.client.subscribe(
            name, "s", pulsar.ConsumerType.Shared, batch_index_ack_enabled=True, negative_ack_redelivery_delay_ms=1000
        )
        producer = self.client.create_producer(
            name, batching_enabled=True, batching_max_messages=10, batching_max_publish_delay_ms=1000
        )
        send_all(producer, [str(i) for i in range(10)])
        received = [consumer.receive(timeout_millis=TIMEOUT_MS) for _ in range(10)]
        for message in received[1::2]:
            consumer.acknowledge(message)
        # One stands for its whole batch, and several could ask for it more than once.
        consumer.negative_acknowledge(received[0])
        self.assertEqual(drain(consumer, 5), [str(i) for i in range(0, 10, 2)])
        self.nothing_comes(consumer)

    def test_a_topic_that_stores_nothing_delivers_to_who_is_there(self):
        name = topic("volatile").replace("persistent://", "non-persistent://")
        producer = self.client.create_producer(name)
        send_all(producer, ["to nobody"])
        kinds = [pulsar.ConsumerType.Exclusive, pulsar.ConsumerType.Shared, pulsar.ConsumerType.KeyShared]
        consumers = [self.client.subscribe(name, f"s{kind.value}", kind) for kind in kinds]
        texts = [str(i) for i in range(100)]
        send_all(producer, texts)
        for consumer in consumers:
            self.assertEqual(drain(consumer, 100), texts)
            consumer.close()

    def test_each_subscription_gets_every_message(self):
        name = topic("fanout")
        consumers = [self.client.subscribe(name, f"s{i}") for i in range(5)]
        producer = self.client.create_producer(name, batching_enabled=True)
        texts = [str(i) for i in range(100)]
        send_all(producer, texts)
        for consumer in consumers:
            self.assertEqual(drain(consumer, 100), texts)

    def test_unsubscribe_forgets_the_position(self):
        name = topic("unsubscribe")
        consumer = self.client.subscribe(name, "s")
        producer = self.client.create_producer(name)
        send_all(producer, ["a", "b"])
        drain(consumer, 2)
        consumer.unsubscribe()
        consumer = self.client.subscribe(name, "s", initial_position=pulsar.InitialPosition.Earliest)
        self.assertEqual(drain(consumer, 2), ["a", "b"])

    def test_keys_properties_and_times_come_through_unchanged(self):
        name = topic("metadata")
        consumer = self.client.subscribe(name, "s")
        for batching in (True, False):
            producer = self.client.create_producer(name, batching_enabled=batching)
            producer.send(b"x", properties={"a": "1"}, partition_key="k", ordering_key="o", event_timestamp=1234)
            message = consumer.receive(timeout_millis=TIMEOUT_MS)
            self.assertEqual(message.properties(), {"a": "1"})
            self.assertEqual(message.partition_key(), "k")
            self.assertEqual(message.ordering_key(), "o")
            self.assertEqual(message.event_timestamp(), 1234)
            consumer.acknowledge(message)
            producer.close()

    def test_a_partitioned_topic_is_used_as_one(self):
        import urllib.request
        from common import HTTP_URL

        name = topic("partitioned")
        path = name.replace("persistent://", "/admin/v2/persistent/")
        request = urllib.request.Request(
            f"{HTTP_URL}{path}/partitions", data=b"4", method="PUT", headers={"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request).close()
        self.assertEqual(len(self.client.get_topic_partitions(name)), 4)
        consumer = self.client.subscribe(name, "s", pulsar.ConsumerType.Shared)
        producer = self.client.create_producer(name)
        texts = [str(i) for i in range(200)]
        send_all(producer, texts)
        self.assertEqual(sorted(drain(consumer, 200)), sorted(texts))

    def test_a_pattern_subscription_finds_its_topics(self):
        import re
        import uuid

        tag = uuid.uuid4().hex[:8]
        names = [f"persistent://public/default/pattern-{tag}-{i}" for i in range(3)]
        producers = [self.client.create_producer(name) for name in names]
        consumer = self.client.subscribe(re.compile(f"persistent://public/default/pattern-{tag}-.*"), "s")
        for i, producer in enumerate(producers):
            producer.send(str(i).encode())
        self.assertEqual(sorted(drain(consumer, 3)), ["0", "1", "2"])
