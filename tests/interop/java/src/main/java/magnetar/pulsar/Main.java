package magnetar.pulsar;

/**
 * {@code magnetar.pulsar.Main SERVICE-URL HTTP-URL SUBJECT...}: exits with 0 when everything that the subjects state of the
 * broker holds. Lines {@code RESTART-TERM}, {@code RESTART-KILL} and {@code DONE} on standard output ask the harness, which
 * answers {@code done} on standard input.
 */
public final class Main {
    private Main() {
    }

    private interface Subject {
        void run(Broker broker) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        try {
            for (int i = 2; i < args.length; i++) {
                Broker broker = new Broker(args[0], args[1]);
                subject(args[i]).run(broker);
                broker.close();
                System.out.println("ok pulsar " + args[i]);
            }
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        System.out.flush();
        // The client's threads wind down for seconds, and nothing of them is under test.
        Runtime.getRuntime().halt(0);
    }

    private static Subject subject(String name) {
        return switch (name) {
            case "key_shared" -> KeyShared::run;
            case "batch_index" -> BatchIndex::run;
            case "dead_letters" -> DeadLetters::run;
            case "redelivery" -> Redelivery::run;
            case "access_modes" -> AccessModes::run;
            case "patterns" -> Patterns::run;
            case "partitions" -> Partitions::run;
            case "chunks" -> Chunks::run;
            case "encryption" -> Encryption::run;
            case "schemas" -> Schemas::run;
            case "values" -> Values::run;
            case "transactions" -> Transactions::run;
            case "delays" -> Delays::run;
            case "positions" -> Positions::run;
            case "compaction" -> Compaction::run;
            case "churn" -> Churn::run;
            default -> throw new IllegalArgumentException("no subject " + name);
        };
    }
}
