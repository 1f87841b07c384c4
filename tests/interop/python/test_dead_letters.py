"""Dead letters that the broker keeps for clients that have no policy of their own."""

import urllib.error

import pulsar
from common import Case, TIMEOUT_MS, admin, backlog, drain, send_all, topic, wait_for


class DeadLetters(Case):
    def check(self, kind, **producing):
        name = topic("dead")
        letters = f"{name}-s-DLQ"
        admin("PUT", name, "/subscription/s/deadLetterPolicy", {"maxRedeliverCount": 2})
        self.assertEqual(admin("GET", name, "/subscription/s/deadLetterPolicy"), {"maxRedeliverCount": 2})
        consumer = self.client.subscribe(name, "s", kind, negative_ack_redelivery_delay_ms=100)
        producer = self.client.create_producer(name, **producing)
        send_all(producer, ["bad"], properties={"own": "x"}, partition_key="k")
        for _ in range(3):
            message = consumer.receive(timeout_millis=TIMEOUT_MS)
            self.assertEqual(message.data(), b"bad")
            consumer.negative_acknowledge(message)
        origin = message.message_id()
        wait_for("it is acknowledged", lambda: backlog(name, "s") == 0)
        self.nothing_comes(consumer)

        # It was kept although nobody had subscribed to the dead letters.
        self.assertEqual(backlog(letters, "dead-letters"), 1)
        dead = self.client.subscribe(letters, "dead-letters")
        message = dead.receive(timeout_millis=TIMEOUT_MS)
        self.assertEqual((message.data(), message.partition_key()), (b"bad", "k"))
        properties = message.properties()
        self.assertEqual((properties["own"], properties["REAL_TOPIC"]), ("x", name))
        self.assertEqual(properties["REAL_SUBSCRIPTION"], "s")
        self.assertTrue(properties["ORIGIN_MESSAGE_ID"].startswith(f"{origin.ledger_id()}:{origin.entry_id()}:"))
        self.assertIn("given back 3 times", properties["DEAD_LETTER_REASON"])
        dead.close()

        # Mended, and sent back.
        self.assertEqual(admin("POST", letters, "/subscription/dead-letters/replayDeadLetters"), {"entries": 1, "left": 0})
        self.assertEqual(backlog(letters, "dead-letters"), 0)
        message = consumer.receive(timeout_millis=TIMEOUT_MS)
        self.assertEqual((message.data(), message.properties()), (b"bad", {"own": "x"}))
        consumer.acknowledge(message)
        self.nothing_comes(consumer)

    def test_shared(self):
        self.check(pulsar.ConsumerType.Shared, batching_enabled=False)

    def test_key_shared(self):
        self.check(pulsar.ConsumerType.KeyShared, batching_enabled=False)

    def test_exclusive(self):
        self.check(pulsar.ConsumerType.Exclusive, batching_enabled=False)

    def test_failover(self):
        self.check(pulsar.ConsumerType.Failover, batching_enabled=False)

    def test_compressed_batches(self):
        self.check(pulsar.ConsumerType.Shared, batching_enabled=True, compression_type=pulsar.CompressionType.LZ4)

    def test_a_policy_of_the_namespace_and_one_dead_letter_topic_for_all(self):
        # Of the topic here: other suites use the namespace.
        name, letters = topic("many"), topic("letters")
        admin("POST", name, "/deadLetterPolicy", {"maxRedeliverCount": 0, "deadLetterTopic": letters})
        consumers = [self.client.subscribe(name, s, pulsar.ConsumerType.Shared) for s in ("a", "b")]
        for consumer in consumers:
            self.assertIsNotNone(consumer)
        producer = self.client.create_producer(name, batching_enabled=False)
        send_all(producer, ["0", "1"])
        for consumer in consumers:
            drain(consumer, 2, ack=False)
            consumer.redeliver_unacknowledged_messages()
        wait_for("all are acknowledged", lambda: backlog(name, "a") + backlog(name, "b") == 0)
        dead = self.client.subscribe(letters, "dead-letters")
        found = []
        for _ in range(4):
            message = dead.receive(timeout_millis=TIMEOUT_MS)
            found.append((message.properties()["REAL_SUBSCRIPTION"], message.data().decode()))
        self.assertEqual(sorted(found), [("a", "0"), ("a", "1"), ("b", "0"), ("b", "1")])

    def test_what_is_no_policy_is_refused(self):
        name = topic("refused")
        for body in ({"maxRedeliverCount": -1}, {"maxRedeliver": 3}, {"maxRedeliverCount": 1, "deadLetterTopic": "a/b"}):
            for path in ("/deadLetterPolicy", "/subscription/s/deadLetterPolicy"):
                with self.assertRaises(urllib.error.HTTPError) as refused:
                    admin("PUT", name, path, body)
                self.assertIn(refused.exception.code, (400, 412))
