package magnetar.pulsar;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.SubscriptionType;

/** Acknowledged parts of a batch do not come again: not after a redelivery, not to the next consumer, not after a crash. */
final class BatchIndex {
    private static final int BATCH = 10;

    private BatchIndex() {
    }

    static void run(Broker broker) throws Exception {
        for (SubscriptionType type : List.of(SubscriptionType.Shared, SubscriptionType.Exclusive)) {
            individually(broker, type);
        }
        cumulatively(broker);
    }

    private static Consumer<byte[]> consumer(Broker broker, String topic, SubscriptionType type) throws Exception {
        return broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionType(type)
                .enableBatchIndexAcknowledgment(true)
                .isAckReceiptEnabled(true)
                .acknowledgmentGroupTime(0, TimeUnit.MILLISECONDS)
                .subscribe();
    }

    /** Three batches of ten. */
    private static List<String> publish(Broker broker, String topic) throws Exception {
        List<String> texts = Texts.numbered(0, 3 * BATCH);
        try (Producer<byte[]> producer = broker.client.newProducer()
                .topic(topic)
                .batchingMaxMessages(BATCH)
                .batchingMaxPublishDelay(5, TimeUnit.SECONDS)
                .create()) {
            Texts.send(producer, texts);
        }
        return texts;
    }

    private static void individually(Broker broker, SubscriptionType type) throws Exception {
        String topic = Broker.topic("batch-index-" + type.name().toLowerCase());
        Consumer<byte[]> consumer = consumer(broker, topic, type);
        List<String> left = new ArrayList<>(publish(broker, topic));
        acknowledgeEveryOther(consumer, left);
        consumer.redeliverUnacknowledgedMessages();
        acknowledgeEveryOther(consumer, left);
        consumer.close();

        consumer = consumer(broker, topic, type);
        acknowledgeEveryOther(consumer, left);
        Broker.kill();
        // What the client had not acknowledged comes again to the same consumer, and nothing else.
        Check.that("something is left", left.size() > 2);
        Check.equal("after a crash", left, Texts.drain(consumer, left.size()));
        Texts.nothingComes(consumer);
        consumer.close();
    }

    /** Receives what is left, acknowledges every other one, and takes those out of what is left. */
    private static void acknowledgeEveryOther(Consumer<byte[]> consumer, List<String> left) throws Exception {
        List<Message<byte[]>> got = new ArrayList<>();
        while (got.size() < left.size()) {
            got.add(Texts.next(consumer));
        }
        Check.equal("what comes", left, got.stream().map(Texts::text).toList());
        for (int i = 0; i < got.size(); i += 2) {
            consumer.acknowledge(got.get(i));
            left.remove(Texts.text(got.get(i)));
        }
    }

    private static void cumulatively(Broker broker) throws Exception {
        String topic = Broker.topic("batch-index-cumulative");
        Consumer<byte[]> consumer = consumer(broker, topic, SubscriptionType.Failover);
        List<String> texts = publish(broker, topic);
        for (int i = 0; i < BATCH + 4; i++) {
            Message<byte[]> message = Texts.next(consumer);
            if (i == BATCH + 3) {
                consumer.acknowledgeCumulative(message);
            }
        }
        consumer.close();
        consumer = consumer(broker, topic, SubscriptionType.Failover);
        List<String> rest = texts.subList(BATCH + 4, texts.size());
        Check.equal("after a cumulative one", rest, Texts.drain(consumer, rest.size()));
        Texts.nothingComes(consumer);
        consumer.close();
    }
}
