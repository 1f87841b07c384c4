package magnetar.pulsar;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClient;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;
import org.apache.pulsar.client.api.SubscriptionType;

/**
 * {@code magnetar.pulsar.Exchange}: publishes and consumes through whichever broker it is told to. Does what standard input
 * says, a line {@code COMMAND SERVICE-URL TOPIC FROM TO} each, and answers {@code ok}; whatever does not hold ends it.
 * Messages are numbered; on a topic with {@code batch} in its name they go in batches.
 * <ul>
 * <li>{@code write}: publishes from FROM to before TO
 * <li>{@code half}: all of them come to the one subscription; every other one is acknowledged
 * <li>{@code rest}: those that {@code half} left come, and no others; they are acknowledged
 * <li>{@code all}: all of them come, and are acknowledged
 * </ul>
 */
public final class Exchange {
    private Exchange() {
    }

    public static void main(String[] args) throws Exception {
        try (BufferedReader commands = new BufferedReader(new InputStreamReader(System.in))) {
            String line;
            while ((line = commands.readLine()) != null) {
                String[] words = line.split(" ");
                try (Broker broker = new Broker(words[1], null)) {
                    run(broker.client, words[0], words[2], Integer.parseInt(words[3]), Integer.parseInt(words[4]));
                }
                System.out.println("ok");
                System.out.flush();
            }
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        Runtime.getRuntime().halt(0);
    }

    private static void run(PulsarClient client, String command, String topic, int from, int to) throws Exception {
        if (command.equals("write")) {
            write(client, topic, from, to);
            return;
        }
        try (Consumer<byte[]> consumer = client.newConsumer()
                .topic(topic)
                .subscriptionName("s")
                .subscriptionType(SubscriptionType.Shared)
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest)
                .enableBatchIndexAcknowledgment(true)
                .isAckReceiptEnabled(true)
                .subscribe()) {
            int step = command.equals("rest") ? 2 : 1;
            List<String> expected = IntStream.range(from, to)
                    .filter(number -> step == 1 || number % 2 == 1)
                    .mapToObj(number -> "m" + number)
                    .toList();
            List<Message<byte[]>> got = new ArrayList<>();
            while (got.size() < expected.size()) {
                got.add(Texts.next(consumer));
            }
            Check.equal(command + " of " + topic, expected, got.stream().map(Texts::text).toList());
            Texts.nothingComes(consumer);
            for (int i = 0; i < got.size(); i += command.equals("half") ? 2 : 1) {
                consumer.acknowledge(got.get(i));
            }
        }
    }

    private static void write(PulsarClient client, String topic, int from, int to) throws Exception {
        try (Producer<byte[]> producer = client.newProducer()
                .topic(topic)
                .enableBatching(topic.contains("batch"))
                .batchingMaxMessages(10)
                .batchingMaxPublishDelay(1, TimeUnit.SECONDS)
                .create()) {
            Texts.send(producer, Texts.numbered(from, to));
        }
    }
}
