package magnetar.pulsar;

import java.util.ArrayList;
import java.util.Collections;
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
                producer.newMessage().key("a").deliverAfter(5, TimeUnit.SECONDS).value(Texts.bytes("5000")).send();
                producer.newMessage().key("b").deliverAt(start + 2_500).value(Texts.bytes("2500")).send();
                producer.newMessage().key("c").value(Texts.bytes("0")).send();
            }
            boolean quick = System.currentTimeMillis() - start < 1_500;
            List<String> came = new ArrayList<>();
            receive(consumer, start, came);
            Check.that(type + ": " + came + " came first, although one was due", !quick || came.equals(List.of("0")));
            Broker.kill();
            // Where both are due by now, either may come first.
            receive(consumer, start, came);
            receive(consumer, start, came);
            Collections.sort(came);
            Check.equal(type.toString(), List.of("0", "2500", "5000"), came);
            Texts.nothingComes(consumer);
            consumer.close();
        }
    }

    /** Receives and acknowledges one, which says when it may come. */
    private static void receive(Consumer<byte[]> consumer, long start, List<String> came) throws Exception {
        Message<byte[]> message = Texts.next(consumer);
        long late = System.currentTimeMillis() - start - Long.parseLong(Texts.text(message));
        Check.that(Texts.text(message) + " came " + -late + " ms early", late >= 0);
        consumer.acknowledge(message);
        came.add(Texts.text(message));
    }
}
