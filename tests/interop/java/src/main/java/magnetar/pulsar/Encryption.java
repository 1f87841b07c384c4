package magnetar.pulsar;

import java.security.Key;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.util.Arrays;
import java.util.Base64;
import java.util.Map;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.ConsumerCryptoFailureAction;
import org.apache.pulsar.client.api.CryptoKeyReader;
import org.apache.pulsar.client.api.EncryptionKeyInfo;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClientException;

/** What a producer encrypts, the broker carries untouched and only the holder of the key reads; a namespace can demand it. */
final class Encryption {
    private Encryption() {
    }

    static void run(Broker broker) throws Exception {
        Keys keys = new Keys();
        for (boolean batching : new boolean[] {false, true}) {
            onlyTheHolderOfTheKeyReads(broker, keys, batching);
        }
        aNamespaceDemandsIt(broker, keys);
    }

    private static void onlyTheHolderOfTheKeyReads(Broker broker, Keys keys, boolean batching) throws Exception {
        String topic = Broker.topic("encrypted");
        Consumer<byte[]> holder = broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("holder")
                .cryptoKeyReader(keys)
                .subscribe();
        Consumer<byte[]> other = broker.client.newConsumer()
                .topic(topic)
                .subscriptionName("other")
                .cryptoFailureAction(ConsumerCryptoFailureAction.CONSUME)
                .subscribe();
        try (Producer<byte[]> producer = broker.client.newProducer()
                .topic(topic)
                .enableBatching(batching)
                .addEncryptionKey("mine")
                .cryptoKeyReader(keys)
                .create()) {
            producer.newMessage().property("p", "q").value(Texts.bytes("secret")).send();
        }
        Message<byte[]> read = Texts.next(holder);
        Check.equal("what its holder reads", "secret", Texts.text(read));
        Check.equal("its property", "q", read.getProperty("p"));
        holder.acknowledge(read);
        Message<byte[]> raw = Texts.next(other);
        Check.that("others get it encrypted", !Arrays.equals(raw.getData(), Texts.bytes("secret")));
        Check.that("and how", raw.getEncryptionCtx().orElseThrow().getKeys().containsKey("mine"));
        holder.close();
        other.close();
    }

    private static void aNamespaceDemandsIt(Broker broker, Keys keys) throws Exception {
        broker.admin("PUT", "namespaces/public/encrypted", null);
        broker.admin("POST", "namespaces/public/encrypted/encryptionRequired", "true");
        String topic = Broker.topic("required").replace("/default/", "/encrypted/");
        Check.fails("a producer that does not encrypt", PulsarClientException.class,
                () -> broker.client.newProducer().topic(topic).create());
        broker.client.newProducer().topic(topic).addEncryptionKey("mine").cryptoKeyReader(keys).create().close();
    }

    /** One pair of keys, as PEM. */
    private static final class Keys implements CryptoKeyReader {
        private static final long serialVersionUID = 1;
        private final byte[] publicKey;
        private final byte[] privateKey;

        Keys() throws Exception {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
            generator.initialize(2048);
            KeyPair pair = generator.generateKeyPair();
            publicKey = pem("PUBLIC KEY", pair.getPublic());
            privateKey = pem("PRIVATE KEY", pair.getPrivate());
        }

        private static byte[] pem(String title, Key key) {
            String body = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(key.getEncoded());
            return Texts.bytes("-----BEGIN " + title + "-----\n" + body + "\n-----END " + title + "-----\n");
        }

        @Override
        public EncryptionKeyInfo getPublicKey(String name, Map<String, String> metadata) {
            return new EncryptionKeyInfo(publicKey, metadata);
        }

        @Override
        public EncryptionKeyInfo getPrivateKey(String name, Map<String, String> metadata) {
            return new EncryptionKeyInfo(privateKey, metadata);
        }
    }
}
