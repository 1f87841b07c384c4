package magnetar.pulsar;

import java.util.List;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.Schema;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;
import org.apache.pulsar.client.api.schema.GenericRecord;

/** A topic's schema evolves as far as old and new readers and writers understand each other, and no further. */
final class Schemas {
    private Schemas() {
    }

    static final class Old {
        public static class Person {
            public String name;
            public int age;
        }
    }

    /** With a field that may be missing. */
    static final class New {
        public static class Person {
            public String name;
            public int age;
            public String city;
        }
    }

    /** A field of another type. */
    static final class Other {
        public static class Person {
            public String name;
            public List<String> age;
        }
    }

    static void run(Broker broker) throws Exception {
        evolves(broker, "avro", Schema.AVRO(Old.Person.class), Schema.AVRO(New.Person.class),
                Schema.AVRO(Other.Person.class));
        evolves(broker, "json", Schema.JSON(Old.Person.class), Schema.JSON(New.Person.class),
                Schema.JSON(Other.Person.class));
        bytesAreCheckedAgainstTheSchema(broker);
    }

    private static void evolves(Broker broker, String name, Schema<Old.Person> old, Schema<New.Person> next,
            Schema<Other.Person> other) throws Exception {
        String topic = Broker.topic("schema-" + name);
        Old.Person before = new Old.Person();
        before.name = "Ada";
        before.age = 36;
        New.Person after = new New.Person();
        after.name = "Grace";
        after.age = 85;
        after.city = "Arlington";
        try (Producer<Old.Person> first = broker.client.newProducer(old).topic(topic).create();
                Producer<New.Person> second = broker.client.newProducer(next).topic(topic).create()) {
            first.send(before);
            second.send(after);
        }
        newReaderReadsBoth(broker, topic, next);
        oldReaderReadsBoth(broker, topic, old);
        anyReaderReadsBoth(broker, topic);

        Check.fails(name + ": an incompatible writer", PulsarClientException.IncompatibleSchemaException.class,
                () -> broker.client.newProducer(other).topic(topic).create());
        Check.fails(name + ": an incompatible reader", PulsarClientException.IncompatibleSchemaException.class,
                () -> broker.client.newConsumer(other).topic(topic).subscriptionName("other").subscribe());
        Check.fails(name + ": another kind of schema", PulsarClientException.IncompatibleSchemaException.class,
                () -> broker.client.newProducer(Schema.INT64).topic(topic).create());
        String path = "schemas/" + topic.replace("persistent://", "") + "/schema";
        String latest = broker.admin("GET", path, null);
        Check.that("two versions: " + latest, latest.replace(" ", "").contains("\"version\":1"));

        // A schema survives its broker, and the one that is known is found again.
        Broker.restart();
        Check.equal("after a restart", latest, broker.admin("GET", path, null));
        try (Producer<Old.Person> again = broker.client.newProducer(old).topic(topic).create()) {
            again.send(before);
        }
        Check.equal("no new version", latest, broker.admin("GET", path, null));
    }

    private static <T> Consumer<T> consumer(Broker broker, String topic, String subscription, Schema<T> schema)
            throws Exception {
        return broker.client.newConsumer(schema)
                .topic(topic)
                .subscriptionName(subscription)
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest)
                .subscribe();
    }

    private static void newReaderReadsBoth(Broker broker, String topic, Schema<New.Person> schema) throws Exception {
        try (Consumer<New.Person> consumer = consumer(broker, topic, "new", schema)) {
            New.Person ada = Texts.next(consumer).getValue();
            Check.equal("an old message", "Ada 36 null", ada.name + " " + ada.age + " " + ada.city);
            New.Person grace = Texts.next(consumer).getValue();
            Check.equal("a new message", "Grace 85 Arlington", grace.name + " " + grace.age + " " + grace.city);
        }
    }

    private static void oldReaderReadsBoth(Broker broker, String topic, Schema<Old.Person> schema) throws Exception {
        try (Consumer<Old.Person> consumer = consumer(broker, topic, "old", schema)) {
            for (String expected : List.of("Ada 36", "Grace 85")) {
                Old.Person person = Texts.next(consumer).getValue();
                Check.equal("with the old schema", expected, person.name + " " + person.age);
            }
        }
    }

    private static void anyReaderReadsBoth(Broker broker, String topic) throws Exception {
        try (Consumer<GenericRecord> consumer = consumer(broker, topic, "any", Schema.AUTO_CONSUME())) {
            GenericRecord ada = Texts.next(consumer).getValue();
            Check.equal("fields of an old one", "Ada 36", ada.getField("name") + " " + ada.getField("age"));
            Check.equal("number of fields", 2, ada.getFields().size());
            GenericRecord grace = Texts.next(consumer).getValue();
            Check.equal("a field of a new one", "Arlington", grace.getField("city"));
        }
    }

    private static void bytesAreCheckedAgainstTheSchema(Broker broker) throws Exception {
        String topic = Broker.topic("schema-bytes");
        Schema<Old.Person> schema = Schema.JSON(Old.Person.class);
        Consumer<Old.Person> consumer = consumer(broker, topic, "s", schema);
        Old.Person person = new Old.Person();
        person.name = "Alan";
        try (Producer<byte[]> producer =
                broker.client.newProducer(Schema.AUTO_PRODUCE_BYTES()).topic(topic).create()) {
            producer.send(schema.encode(person));
            Check.fails("what is no such record", Exception.class, () -> producer.send(new byte[] {0, 1}));
        }
        Message<Old.Person> message = Texts.next(consumer);
        Check.equal("what was sent as bytes", "Alan", message.getValue().name);
        consumer.close();
    }
}
