package magnetar.pulsar;

import java.time.Instant;
import magnetar.Check;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.Schema;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;
import org.apache.pulsar.client.api.schema.GenericRecord;
import org.apache.pulsar.common.schema.KeyValue;
import org.apache.pulsar.common.schema.KeyValueEncodingType;
import org.apache.pulsar.common.schema.SchemaType;

/** Values of simple schemas, and of two in one, as they are read with the schema and without. */
final class Values {
    private Values() {
    }

    static void run(Broker broker) throws Exception {
        simple(broker, Schema.STRING, "text", SchemaType.STRING);
        simple(broker, Schema.INT32, 7, SchemaType.INT32);
        simple(broker, Schema.INT64, -7L, SchemaType.INT64);
        simple(broker, Schema.DOUBLE, 0.5, SchemaType.DOUBLE);
        simple(broker, Schema.BOOL, true, SchemaType.BOOLEAN);
        simple(broker, Schema.INSTANT, Instant.ofEpochSecond(7, 9), SchemaType.INSTANT);
        for (KeyValueEncodingType encoding : KeyValueEncodingType.values()) {
            keysAndValues(broker, encoding);
        }
    }

    private static <T> Consumer<T> consumer(Broker broker, String topic, String subscription, Schema<T> schema)
            throws Exception {
        return broker.client.newConsumer(schema)
                .topic(topic)
                .subscriptionName(subscription)
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest)
                .subscribe();
    }

    private static <T> void simple(Broker broker, Schema<T> schema, T value, SchemaType type) throws Exception {
        String topic = Broker.topic("value");
        try (Producer<T> producer = broker.client.newProducer(schema).topic(topic).create()) {
            producer.send(value);
            producer.newMessage().value(null).send();
        }
        try (Consumer<T> consumer = consumer(broker, topic, "s", schema)) {
            Check.equal(type + " comes back", value, Texts.next(consumer).getValue());
            Check.equal(type + ": nothing comes back", null, Texts.next(consumer).getValue());
        }
        try (Consumer<GenericRecord> consumer = consumer(broker, topic, "any", Schema.AUTO_CONSUME())) {
            GenericRecord record = Texts.next(consumer).getValue();
            Check.equal("its type", type, record.getSchemaType());
            Check.equal(type + " read without its schema", value, record.getNativeObject());
        }
    }

    private static void keysAndValues(Broker broker, KeyValueEncodingType encoding) throws Exception {
        String topic = Broker.topic("key-value");
        Schema<KeyValue<String, Schemas.Old.Person>> schema =
                Schema.KeyValue(Schema.STRING, Schema.AVRO(Schemas.Old.Person.class), encoding);
        Schemas.Old.Person person = new Schemas.Old.Person();
        person.name = "Ada";
        try (Producer<KeyValue<String, Schemas.Old.Person>> producer =
                broker.client.newProducer(schema).topic(topic).create()) {
            producer.send(new KeyValue<>("k", person));
        }
        try (Consumer<KeyValue<String, Schemas.Old.Person>> consumer = consumer(broker, topic, "s", schema)) {
            Message<KeyValue<String, Schemas.Old.Person>> message = Texts.next(consumer);
            Check.equal("the key", "k", message.getValue().getKey());
            Check.equal("the value", "Ada", message.getValue().getValue().name);
            Check.equal("the message's key", encoding == KeyValueEncodingType.SEPARATED, message.hasKey());
        }
        try (Consumer<GenericRecord> consumer = consumer(broker, topic, "any", Schema.AUTO_CONSUME())) {
            KeyValue<?, ?> read = (KeyValue<?, ?>) Texts.next(consumer).getValue().getNativeObject();
            Check.equal("the key", "k", read.getKey());
            Check.equal("the value", "Ada", ((GenericRecord) read.getValue()).getField("name"));
        }
    }
}
