package magnetar.pulsar;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.ProducerAccessMode;
import org.apache.pulsar.client.api.ProducerBuilder;
import org.apache.pulsar.client.api.PulsarClientException;

/** A topic has one producer when that one asked for it: others are refused, wait, or fence it. */
final class AccessModes {
    private AccessModes() {
    }

    static void run(Broker broker) throws Exception {
        othersAreRefused(broker);
        othersWait(broker);
        theNewOneFences(broker);
    }

    private static ProducerBuilder<byte[]> producer(Broker broker, String topic, ProducerAccessMode mode) {
        return broker.client.newProducer().topic(topic).accessMode(mode);
    }

    private static void othersAreRefused(Broker broker) throws Exception {
        String topic = Broker.topic("exclusive");
        Producer<byte[]> shared = producer(broker, topic, ProducerAccessMode.Shared).create();
        Check.fails("exclusive beside a shared one", PulsarClientException.ProducerFencedException.class,
                () -> producer(broker, topic, ProducerAccessMode.Exclusive).create());
        shared.close();
        Producer<byte[]> only = producer(broker, topic, ProducerAccessMode.Exclusive).create();
        Check.fails("exclusive beside an exclusive one", PulsarClientException.ProducerFencedException.class,
                () -> producer(broker, topic, ProducerAccessMode.Exclusive).create());
        Check.fails("shared beside an exclusive one", PulsarClientException.ProducerBusyException.class,
                () -> producer(broker, topic, ProducerAccessMode.Shared).create());
        only.send(Texts.bytes("one"));
        // It comes back as what it was after the broker has gone.
        Broker.restart();
        only.send(Texts.bytes("two"));
        Check.fails("after a restart", PulsarClientException.ProducerFencedException.class,
                () -> producer(broker, topic, ProducerAccessMode.Exclusive).create());
        only.close();
        producer(broker, topic, ProducerAccessMode.Exclusive).create().close();
    }

    private static void othersWait(Broker broker) throws Exception {
        String topic = Broker.topic("wait-for-exclusive");
        Producer<byte[]> first = producer(broker, topic, ProducerAccessMode.WaitForExclusive).create();
        CompletableFuture<Producer<byte[]>> waiting =
                producer(broker, topic, ProducerAccessMode.WaitForExclusive).createAsync();
        CompletableFuture<Producer<byte[]>> last =
                producer(broker, topic, ProducerAccessMode.WaitForExclusive).createAsync();
        first.send(Texts.bytes("first"));
        Check.that("the others wait", !waiting.isDone() && !last.isDone());
        first.close();
        Object next = CompletableFuture.anyOf(waiting, last).get(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
        Check.that("one at a time", waiting.isDone() != last.isDone());
        @SuppressWarnings("unchecked")
        Producer<byte[]> second = (Producer<byte[]>) next;
        second.send(Texts.bytes("second"));
        second.close();
        CompletableFuture<Producer<byte[]>> other = next == waiting.getNow(null) ? last : waiting;
        Producer<byte[]> third = other.get(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
        third.send(Texts.bytes("third"));
        third.close();
    }

    private static void theNewOneFences(Broker broker) throws Exception {
        String topic = Broker.topic("fencing");
        Consumer<byte[]> consumer = broker.client.newConsumer().topic(topic).subscriptionName("s").subscribe();
        Producer<byte[]> old = producer(broker, topic, ProducerAccessMode.Exclusive).create();
        old.send(Texts.bytes("old"));
        CompletableFuture<Producer<byte[]>> waiting =
                producer(broker, topic, ProducerAccessMode.WaitForExclusive).createAsync();
        while (!broker.admin("GET", Broker.path(topic) + "/stats", null).contains("\"waitingPublishers\":1")) {
            Check.that("it waits", !waiting.isDone());
        }
        Producer<byte[]> next = producer(broker, topic, ProducerAccessMode.ExclusiveWithFencing).create();
        next.send(Texts.bytes("new"));
        Check.fails("the fenced one", PulsarClientException.ProducerFencedException.class,
                () -> old.send(Texts.bytes("late")));
        ExecutionException waited = Check.fails("who waited", ExecutionException.class,
                () -> waiting.get(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS));
        Check.that("who waited is told why: " + waited.getCause(),
                waited.getCause() instanceof PulsarClientException.ProducerFencedException);
        Check.that("the new one is connected", next.isConnected());
        Check.equal("what the topic has", List.of("old", "new"), Texts.drain(consumer, 2));
        Texts.nothingComes(consumer);
        next.close();
        old.close();
        consumer.close();
    }
}
