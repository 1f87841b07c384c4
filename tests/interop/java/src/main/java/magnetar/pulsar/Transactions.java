package magnetar.pulsar;

import magnetar.Check;
import org.apache.pulsar.client.api.PulsarClientException;

/** The broker has no transactions: a client that wants them is told so when it starts, and the others go on. */
final class Transactions {
    private Transactions() {
    }

    static void run(Broker broker) throws Exception {
        PulsarClientException refused = Check.fails("a client with transactions", PulsarClientException.class,
                () -> broker.builder().enableTransaction(true).build());
        Check.that("says why: " + refused.getMessage(), refused.getMessage().toLowerCase().contains("transaction"));
        broker.client.newProducer().topic(Broker.topic("no-transactions")).create().close();
    }
}
