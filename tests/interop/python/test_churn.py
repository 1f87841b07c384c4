"""Consumers that come and go under load.

Twelve consumers on one subscription, each restarted in every round, one after the other, some by dropping their connection:
everything published comes, and the first deliveries of a key come in order.
"""

import os
import threading
import time

import pulsar
from common import Case, SERVICE_URL, TIMEOUT_MS, ask_for, topic

ROUNDS = int(os.environ.get("MAGNETAR_CHAOS_ROUNDS", "3"))
CONSUMERS = 12
KEYS = 48
BURST = 24  # published before each restart
TIMEOUT = TIMEOUT_MS / 1000
LOGGER = pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)


class Deliveries:
    """What came of messages numbered from 0, of which number n has key n % KEYS."""

    def __init__(self, ordered):
        self.ordered = ordered
        self.changed = threading.Condition()
        self.seen = set()
        self.left = set()
        self.next = list(range(KEYS))
        self.repeated = 0
        self.wrong = None

    def listener(self, me):
        def receive(consumer, message):
            with self.changed:
                if me in self.left:
                    return
                self.note(int(message.data()))
                self.changed.notify_all()
            try:
                consumer.acknowledge(message)
            except pulsar.PulsarException:
                pass  # it is being closed; the message comes again

        return receive

    def note(self, number):
        if number in self.seen:
            self.repeated += 1
            return
        key = number % KEYS
        if self.ordered and self.next[key] != number:
            self.wrong = self.wrong or f"key {key}: {number} came before {self.next[key]}"
        self.next[key] = number + KEYS
        self.seen.add(number)

    def leave(self, me):
        """Nothing more counts of this consumer: while it is closed the client may hand out the last message of a batch
        whose first ones it has just thrown away."""
        with self.changed:
            self.left.add(me)

    def wait(self, count):
        """Whether so many have come in time."""
        end = time.monotonic() + TIMEOUT
        with self.changed:
            while len(self.seen) < count and not self.wrong and time.monotonic() < end:
                self.changed.wait(end - time.monotonic())
            return len(self.seen) >= count


class Churn(Case):
    def start(self, name, kind, seen, number, round_):
        me = (number, round_)
        # Another one each round has a connection of its own.
        alone = (number + round_) % 6 == 0
        client = pulsar.Client(SERVICE_URL, logger=LOGGER) if alone else self.client
        consumer = client.subscribe(
            name,
            "s",
            kind,
            consumer_name=f"c{number}",
            receiver_queue_size=100,
            message_listener=seen.listener(me),
        )
        return me, consumer, client if alone else None

    def stop(self, seen, member):
        me, consumer, client = member
        seen.leave(me)
        if client:
            client.shutdown()
        else:
            consumer.close()

    def churn(self, kind, ordered):
        name = topic("churn")
        seen = Deliveries(ordered)
        only_one = kind == pulsar.ConsumerType.Exclusive
        members = {i: self.start(name, kind, seen, i, -1) for i in range(1 if only_one else CONSUMERS)}
        producer = self.client.create_producer(
            name, batching_enabled=True, batching_type=pulsar.BatchingType.KeyBased, block_if_queue_full=True
        )
        sent = 0
        started = time.monotonic()
        for round_ in range(ROUNDS):
            for i in range(CONSUMERS):
                for number in range(sent, sent + BURST):
                    producer.send_async(str(number).encode(), None, partition_key=str(number % KEYS))
                sent += BURST
                self.stop(seen, members.pop(i))
                following = (i + 1) % CONSUMERS if only_one else i
                members[following] = self.start(name, kind, seen, following, round_)
            producer.flush()
            came = seen.wait(sent)
            self.assertIsNone(seen.wrong)
            missing = [i for i in range(sent) if i not in seen.seen][:10]
            self.assertTrue(came, f"round {round_}: {missing} do not come")
        self.nothing_is_left(name)
        for member in members.values():
            self.stop(seen, member)
        print(
            f"churn {kind.name}: {ROUNDS} rounds of {CONSUMERS} restarts, {sent} messages, {seen.repeated} came again, "
            f"0 lost, 0 stuck{', 0 reordered' if ordered else ''}, {time.monotonic() - started:.1f} s"
        )

    def nothing_is_left(self, name):
        """The broker's own counters say what the topic's log does, once the last acknowledgements have come."""
        ask_for(f"DONE {name} s")

    def test_exclusive(self):
        self.churn(pulsar.ConsumerType.Exclusive, ordered=True)

    def test_failover(self):
        self.churn(pulsar.ConsumerType.Failover, ordered=True)

    def test_shared(self):
        self.churn(pulsar.ConsumerType.Shared, ordered=False)

    def test_key_shared(self):
        self.churn(pulsar.ConsumerType.KeyShared, ordered=True)
