package magnetar.pulsar;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.DeadLetterPolicy;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.SubscriptionType;

/** What an application cannot process goes to a dead letter topic, at once refused or retried from a retry letter topic. */
final class DeadLetters {
    private static final int REDELIVERIES = 2;

    private DeadLetters() {
    }

    static void run(Broker broker) throws Exception {
        for (SubscriptionType type : List.of(SubscriptionType.Shared, SubscriptionType.Key_Shared)) {
            refused(broker, type);
            retried(broker, type);
        }
    }

    private static DeadLetterPolicy policy() {
        return DeadLetterPolicy.builder().maxRedeliverCount(REDELIVERIES).initialSubscriptionName("kept").build();
    }

    private static Consumer<byte[]> dead(Broker broker, String topic) throws Exception {
        return broker.client.newConsumer().topic(topic + "-s-DLQ").subscriptionName("kept").subscribe();
    }

    private static void publish(Broker broker, String topic) throws Exception {
        try (Producer<byte[]> producer = broker.client.newProducer().topic(topic).enableBatching(false).create()) {
            producer.newMessage().key("bad").property("trace", "7").value(Texts.bytes("bad")).send();
            producer.newMessage().key("good").value(Texts.bytes("good")).send();
        }
    }

    private static void refused(Broker broker, SubscriptionType type) throws Exception {
        String topic = Broker.topic("dead-letter");
        Consumer<byte[]> consumer = broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionType(type)
                .negativeAckRedeliveryDelay(100, TimeUnit.MILLISECONDS)
                .deadLetterPolicy(policy())
                .subscribe();
        publish(broker, topic);
        List<Integer> deliveries = new ArrayList<>();
        while (deliveries.size() < REDELIVERIES + 1) {
            Message<byte[]> message = Texts.next(consumer);
            if (Texts.text(message).equals("good")) {
                consumer.acknowledge(message);
            } else {
                deliveries.add(message.getRedeliveryCount());
                consumer.negativeAcknowledge(message);
            }
        }
        Check.equal("redelivery counts", List.of(0, 1, 2), deliveries);
        // The client sends the message on when it comes once more, which the application does not see.
        Message<byte[]> last = consumer.receive(1, TimeUnit.SECONDS);
        Check.that("no further delivery", last == null || Texts.text(last).equals("good"));
        Consumer<byte[]> dead = dead(broker, topic);
        Message<byte[]> letter = Texts.next(dead);
        Check.equal("dead letter", "bad", Texts.text(letter));
        Check.equal("its key", "bad", letter.getKey());
        Check.equal("its property", "7", letter.getProperty("trace"));
        Check.that("tells its topic", letter.getProperty("REAL_TOPIC").equals(topic));
        dead.acknowledge(letter);
        Texts.nothingComes(dead);
        dead.close();
        consumer.close();
    }

    private static void retried(Broker broker, SubscriptionType type) throws Exception {
        String topic = Broker.topic("retry-letter");
        Consumer<byte[]> consumer = broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionType(type)
                .enableRetry(true)
                .deadLetterPolicy(policy())
                .subscribe();
        publish(broker, topic);
        List<String> attempts = new ArrayList<>();
        boolean good = false;
        while (!good || attempts.size() < REDELIVERIES + 1) {
            Message<byte[]> message = Texts.next(consumer);
            if (Texts.text(message).equals("good")) {
                good = true;
                consumer.acknowledge(message);
            } else {
                attempts.add(message.getProperties().getOrDefault("RECONSUMETIMES", "0"));
                consumer.reconsumeLater(message, Map.of("why", "test"), 200, TimeUnit.MILLISECONDS);
            }
        }
        Check.equal("attempts", List.of("0", "1", "2"), attempts);
        Consumer<byte[]> dead = dead(broker, topic);
        Message<byte[]> letter = Texts.next(dead);
        Check.equal("dead letter", "bad", Texts.text(letter));
        Check.equal("its property", "7", letter.getProperty("trace"));
        Check.equal("the reason", "test", letter.getProperty("why"));
        dead.acknowledge(letter);
        Texts.nothingComes(dead);
        Texts.nothingComes(consumer);
        dead.close();
        consumer.close();
    }
}
