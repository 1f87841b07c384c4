package magnetar.pulsar;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.SubscriptionType;

/** A message with a time is not delivered before it, holds up no other, and keeps its time over a restart. */
final class Delays {
    private Delays() {
    }

    static void run(Broker broker) throws Exception {
        for (SubscriptionType type : List.of(SubscriptionType.Shared, SubscriptionType.Key_Shared)) {
            String topic = Broker.topic("delays");
            Consumer<byte[]> consumer = broker.client.newConsumer()
                    .topic(topic)
                    .subscriptionName("s")
                    .subscriptionType(type)
                    .isAckReceiptEnabled(true)
                    .subscribe();
            long start = System.currentTimeMillis();
            try (Producer<byte[]> producer =
                    broker.client.newProducer().topic(topic).enableBatching(false).create()) {
                producer.newMessage().key("a").deliverAfter(3, TimeUnit.SECONDS).value(Texts.bytes("3000")).send();
                producer.newMessage().key("b").deliverAt(start + 1_500).value(Texts.bytes("1500")).send();
                producer.newMessage().key("c").value(Texts.bytes("0")).send();
            }
            List<String> order = new ArrayList<>();
            receive(consumer, start, order);
            Broker.kill();
            receive(consumer, start, order);
            receive(consumer, start, order);
            Check.equal(type + ": order", List.of("0", "1500", "3000"), order);
            Texts.nothingComes(consumer);
            consumer.close();
        }
    }

    /** Receives and acknowledges one, which says when it may come. */
    private static void receive(Consumer<byte[]> consumer, long start, List<String> order) throws Exception {
        Message<byte[]> message = Texts.next(consumer);
        long late = System.currentTimeMillis() - start - Long.parseLong(Texts.text(message));
        Check.that(Texts.text(message) + " came " + -late + " ms early", late >= 0);
        consumer.acknowledge(message);
        order.add(Texts.text(message));
    }
}
