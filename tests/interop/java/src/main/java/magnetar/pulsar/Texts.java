package magnetar.pulsar;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.Producer;

/** Sending and receiving texts. */
final class Texts {
    /** How long a consumer is watched that should get nothing. */
    private static final int QUIET_MILLIS = 300;

    private Texts() {
    }

    static List<String> numbered(int from, int to) {
        return IntStream.range(from, to).mapToObj(i -> "m" + i).toList();
    }

    /** Sends without waiting in between; gives the ids in the same order. */
    static List<MessageId> send(Producer<byte[]> producer, List<String> texts) throws Exception {
        List<CompletableFuture<MessageId>> sent = new ArrayList<>();
        for (String text : texts) {
            sent.add(producer.sendAsync(bytes(text)));
        }
        producer.flush();
        List<MessageId> ids = new ArrayList<>();
        for (CompletableFuture<MessageId> one : sent) {
            ids.add(one.get(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS));
        }
        return ids;
    }

    /** The next message, which must come. */
    static <T> Message<T> next(Consumer<T> consumer) throws Exception {
        Message<T> message = consumer.receive(Broker.PATIENCE_SECONDS, TimeUnit.SECONDS);
        Check.that("a message came to " + consumer.getTopic() + " " + consumer.getSubscription(), message != null);
        return message;
    }

    /** Receives and acknowledges so many messages; gives their texts in order of arrival. */
    static List<String> drain(Consumer<byte[]> consumer, int count) throws Exception {
        List<String> texts = new ArrayList<>();
        while (texts.size() < count) {
            Message<byte[]> message = next(consumer);
            texts.add(text(message));
            consumer.acknowledge(message);
        }
        return texts;
    }

    static void nothingComes(Consumer<?> consumer) throws Exception {
        Message<?> message = consumer.receive(QUIET_MILLIS, TimeUnit.MILLISECONDS);
        if (message != null) {
            throw new AssertionError("nothing should come, but " + message.getMessageId() + " of "
                    + message.getTopicName() + " did: " + new String(message.getData(), StandardCharsets.UTF_8));
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(Message<byte[]> message) {
        return new String(message.getValue(), StandardCharsets.UTF_8);
    }
}
