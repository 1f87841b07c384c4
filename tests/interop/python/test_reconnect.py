"""Producers and consumers come back by themselves: after an unload of the topic, and after a restart of the broker.

The harness restarts the process when this script writes RESTART on its standard output, and answers with a line.
"""

import urllib.request

import pulsar
from common import Case, HTTP_URL, ask_for, drain, send_all, topic


class Reconnect(Case):
    def test_an_unload_moves_nobody_for_long(self):
        name = topic("unload")
        consumer = self.client.subscribe(name, "s", pulsar.ConsumerType.Shared)
        producer = self.client.create_producer(name)
        send_all(producer, ["before"])
        self.assertEqual(drain(consumer, 1), ["before"])
        path = name.replace("persistent://", "/admin/v2/persistent/")
        urllib.request.urlopen(urllib.request.Request(f"{HTTP_URL}{path}/unload", method="PUT")).close()
        send_all(producer, ["after"])
        # The client groups acknowledgements for 100 ms: that of "before" may not have been sent when the topic went.
        texts = drain(consumer, 1)
        while texts[-1] != "after":
            texts += drain(consumer, 1)
        self.assertIn(texts, (["after"], ["before", "after"]))

    def test_a_restart_loses_nothing_and_brings_back_what_was_not_acknowledged(self):
        for how in ("RESTART-TERM", "RESTART-KILL"):
            with self.subTest(how=how):
                name = topic("restart")
                consumer = self.client.subscribe(name, "s")
                producer = self.client.create_producer(name, batching_enabled=False)
                texts = [str(i) for i in range(50)]
                send_all(producer, texts)
                drain(consumer, 50, ack=False)
                ask_for(how)
                self.assertEqual(drain(consumer, 50), texts)
                send_all(producer, ["after"])
                self.assertEqual(drain(consumer, 1), ["after"])
