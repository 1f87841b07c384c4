"""All four subscription types, batched and not."""

import pulsar
from common import Case, TIMEOUT_MS, drain, send_all, topic

COUNT = 200
BATCHED = {"batching_enabled": True, "batching_max_messages": 10, "batching_max_publish_delay_ms": 5}
UNBATCHED = {"batching_enabled": False}


class Subscriptions(Case):
    def both(self, run):
        for options in (UNBATCHED, BATCHED):
            with self.subTest(**options):
                run(topic("subscriptions"), options)

    def test_exclusive_delivers_in_order_and_refuses_a_second_consumer(self):
        def run(name, options):
            consumer = self.client.subscribe(name, "s")
            with self.assertRaises(pulsar.ConsumerBusy):
                self.client.subscribe(name, "s")
            producer = self.client.create_producer(name, **options)
            texts = [f"m{i}" for i in range(COUNT)]
            send_all(producer, texts)
            self.assertEqual(drain(consumer, COUNT), texts)
            self.nothing_comes(consumer)

        self.both(run)

    def test_failover_hands_what_is_unacknowledged_to_the_next_consumer(self):
        def run(name, options):
            kind = pulsar.ConsumerType.Failover
            first = self.client.subscribe(name, "s", kind, consumer_name="a")
            second = self.client.subscribe(name, "s", kind, consumer_name="b")
            producer = self.client.create_producer(name, **options)
            texts = [f"m{i}" for i in range(COUNT)]
            send_all(producer, texts)
            for active, standby in ((first, second), (second, first)) * 20:
                try:
                    message = active.receive(timeout_millis=500)
                    break
                except pulsar.Timeout:
                    continue
            else:
                self.fail("neither consumer got a message")
            got = [message.data().decode()]
            active.acknowledge(message)
            got += drain(active, COUNT // 2 - 1)
            self.nothing_comes(standby)
            active.close()
            rest = []
            while not rest or rest[-1] != texts[-1]:
                message = standby.receive(timeout_millis=TIMEOUT_MS)
                rest.append(message.data().decode())
                standby.acknowledge(message)
            self.assertEqual(got, texts[: COUNT // 2])
            # A batch that was acknowledged in part may come again as a whole; order holds and nothing is missing.
            self.assertEqual(rest, texts[COUNT - len(rest) :])
            self.assertGreaterEqual(len(rest), COUNT // 2)
            self.assertLess(len(rest), COUNT // 2 + 10)

        self.both(run)

    def test_shared_spreads_messages_and_each_is_seen_once(self):
        def run(name, options):
            kind = pulsar.ConsumerType.Shared
            consumers = [self.client.subscribe(name, "s", kind, receiver_queue_size=20) for _ in range(3)]
            producer = self.client.create_producer(name, **options)
            texts = [f"m{i}" for i in range(COUNT)]
            send_all(producer, texts)
            seen = {}
            idle = 0
            while len(seen) < COUNT and idle < 50:
                idle += 1
                for index, consumer in enumerate(consumers):
                    try:
                        message = consumer.receive(timeout_millis=100)
                    except pulsar.Timeout:
                        continue
                    idle = 0
                    text = message.data().decode()
                    self.assertNotIn(text, seen)
                    seen[text] = index
                    consumer.acknowledge(message)
            self.assertEqual(sorted(seen), sorted(texts))
            self.assertEqual(set(seen.values()), {0, 1, 2})

        self.both(run)

    def test_key_shared_keeps_each_key_at_one_consumer_and_in_order(self):
        def run(name, options):
            kind = pulsar.ConsumerType.KeyShared
            consumers = [self.client.subscribe(name, "s", kind) for _ in range(3)]
            if options["batching_enabled"]:
                options = dict(options, batching_type=pulsar.BatchingType.KeyBased)
            producer = self.client.create_producer(name, **options)
            keys = [f"k{i}" for i in range(20)]
            for i in range(COUNT):
                key = keys[i % len(keys)]
                producer.send_async(f"{key}:{i}".encode(), lambda _result, _id: None, partition_key=key)
            producer.flush()
            owners, order, count, idle = {}, {}, 0, 0
            while count < COUNT and idle < 50:
                idle += 1
                for index, consumer in enumerate(consumers):
                    try:
                        message = consumer.receive(timeout_millis=100)
                    except pulsar.Timeout:
                        continue
                    idle = 0
                    key, number = message.data().decode().split(":")
                    self.assertEqual(message.partition_key(), key)
                    self.assertEqual(owners.setdefault(key, index), index)
                    order.setdefault(key, []).append(int(number))
                    consumer.acknowledge(message)
                    count += 1
            self.assertEqual(count, COUNT)
            for numbers in order.values():
                self.assertEqual(numbers, sorted(numbers))
            self.assertGreater(len(set(owners.values())), 1)

        self.both(run)
