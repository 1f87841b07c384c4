"""What every suite of the official Python client shares: the service URL and small helpers."""

import json
import os
import queue
import sys
import time
import unittest
import urllib.request
import uuid

import pulsar

SERVICE_URL = os.environ["MAGNETAR_SERVICE_URL"]
HTTP_URL = os.environ["MAGNETAR_HTTP_URL"]
TIMEOUT_MS = 20_000


def ask_for(what):
    """Asks the harness, which restarts the broker or looks into it, and waits until that is done."""
    # In one write: the client's logger writes to the same pipe.
    sys.stdout.write(what + "\n")
    sys.stdout.flush()
    assert sys.stdin.readline().strip() == "done"


def topic(name):
    """A topic nobody else uses."""
    return f"persistent://public/default/{name}-{uuid.uuid4().hex[:8]}"


def admin(method, name, rest, body=None):
    """Asks the admin REST about a topic; `rest` comes after the topic's path."""
    url = HTTP_URL + "/admin/v2/" + name.replace("://", "/") + rest
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def wait_for(what, condition):
    """Asks again and again until it holds."""
    give_up = time.monotonic() + TIMEOUT_MS / 1000
    while not condition():
        assert time.monotonic() < give_up, f"never: {what}"


def backlog(name, subscription):
    """How much the broker knows to be not yet acknowledged: the client tells it up to 100 ms later."""
    return admin("GET", name, "/stats")["subscriptions"][subscription]["msgBacklog"]


def drain(consumer, count, ack=True):
    """Receives `count` messages and gives their texts in order of arrival."""
    texts = []
    for _ in range(count):
        message = consumer.receive(timeout_millis=TIMEOUT_MS)
        texts.append(message.data().decode())
        if ack:
            consumer.acknowledge(message)
    return texts


def send_all(producer, texts, **options):
    """Sends asynchronously, waits for every receipt, and fails on the first error."""
    answers = queue.SimpleQueue()
    for text in texts:
        producer.send_async(text.encode(), lambda result, _id: answers.put(result), **options)
    producer.flush()
    # The client tells of a flush before it has told of every message.
    results = [answers.get(timeout=TIMEOUT_MS / 1000) for _ in texts]
    bad = [result for result in results if result != pulsar.Result.Ok]
    assert not bad, f"{len(bad)} of {len(texts)} refused: {bad[:3]}"


class Case(unittest.TestCase):
    def setUp(self):
        self.client = pulsar.Client(SERVICE_URL, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Warn))

    def tearDown(self):
        self.client.close()

    def nothing_comes(self, consumer, millis=300):
        with self.assertRaises(pulsar.Timeout):
            consumer.receive(timeout_millis=millis)
