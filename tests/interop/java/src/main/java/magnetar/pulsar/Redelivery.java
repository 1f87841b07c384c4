package magnetar.pulsar;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.BatchReceivePolicy;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.ConsumerBuilder;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Messages;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.SubscriptionType;

/** What is not acknowledged comes again: after a time-out, after a refusal, after the consumer has gone. */
final class Redelivery {
    private static final int COUNT = 20;

    private Redelivery() {
    }

    static void run(Broker broker) throws Exception {
        afterATimeout(broker);
        toTheNextConsumer(broker);
        oneByOne(broker);
        inBatches(broker);
    }

    private static void publish(Broker broker, String topic) throws Exception {
        try (Producer<byte[]> producer = broker.client.newProducer().topic(topic).create()) {
            Texts.send(producer, Texts.numbered(0, COUNT));
        }
    }

    private static void afterATimeout(Broker broker) throws Exception {
        String topic = Broker.topic("ack-timeout");
        Consumer<byte[]> consumer = broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionType(SubscriptionType.Shared)
                .ackTimeout(4, TimeUnit.SECONDS)
                .ackTimeoutTickTime(200, TimeUnit.MILLISECONDS)
                .subscribe();
        publish(broker, topic);
        List<String> expected = Texts.numbered(0, COUNT);
        List<String> first = new ArrayList<>();
        for (int i = 0; i < COUNT; i++) {
            first.add(Texts.text(Texts.next(consumer)));
        }
        Check.equal("first", expected, first);
        List<String> again = new ArrayList<>(expected);
        while (!again.isEmpty()) {
            Message<byte[]> message = Texts.next(consumer);
            Check.that("redelivery is counted", message.getRedeliveryCount() > 0);
            consumer.acknowledge(message);
            again.remove(Texts.text(message));
        }
        consumer.close();
    }

    private static void toTheNextConsumer(Broker broker) throws Exception {
        for (SubscriptionType type : SubscriptionType.values()) {
            String topic = Broker.topic("next-consumer");
            Consumer<byte[]> gone = consumer(broker, topic, type).consumerName("a").subscribe();
            publish(broker, topic);
            for (int i = 0; i < COUNT; i++) {
                Texts.next(gone);
            }
            gone.close();
            Consumer<byte[]> next = consumer(broker, topic, type).consumerName("b").subscribe();
            Check.equal(type + ": the next consumer", Texts.numbered(0, COUNT),
                    Texts.drain(next, COUNT));
            Texts.nothingComes(next);
            next.close();
        }
    }

    private static ConsumerBuilder<byte[]> consumer(
            Broker broker, String topic, SubscriptionType type) {
        return broker.client.newConsumer().topic(topic).subscriptionName("s").subscriptionType(type);
    }

    /** A consumer without a queue asks for one message at a time and leaves the others to others. */
    private static void oneByOne(Broker broker) throws Exception {
        String topic = Broker.topic("no-queue");
        Consumer<byte[]> one =
                consumer(broker, topic, SubscriptionType.Shared).receiverQueueSize(0).subscribe();
        try (Producer<byte[]> producer = broker.client.newProducer().topic(topic).enableBatching(false).create()) {
            Texts.send(producer, Texts.numbered(0, COUNT));
        }
        for (String expected : Texts.numbered(0, 5)) {
            Message<byte[]> message = one.receiveAsync().get(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
            Check.equal("one by one", expected, Texts.text(message));
            one.acknowledge(message);
        }
        Consumer<byte[]> other = consumer(broker, topic, SubscriptionType.Shared).subscribe();
        Check.equal("the others", Texts.numbered(5, COUNT),
                Texts.drain(other, COUNT - 5));
        one.close();
        other.close();
    }

    private static void inBatches(Broker broker) throws Exception {
        String topic = Broker.topic("batch-receive");
        Consumer<byte[]> consumer = consumer(broker, topic, SubscriptionType.Shared)
                .batchReceivePolicy(BatchReceivePolicy.builder()
                        .maxNumMessages(COUNT)
                        .timeout(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS)
                        .build())
                .subscribe();
        publish(broker, topic);
        Messages<byte[]> batch = consumer.batchReceive();
        Check.equal("messages in a batch", COUNT, batch.size());
        consumer.negativeAcknowledge(batch.iterator().next());
        boolean first = true;
        for (Message<byte[]> message : batch) {
            if (!first) {
                consumer.acknowledge(message);
            }
            first = false;
        }
        consumer.redeliverUnacknowledgedMessages();
        Check.equal("the refused one", List.of("m0"), Texts.drain(consumer, 1));
        consumer.close();
    }
}
