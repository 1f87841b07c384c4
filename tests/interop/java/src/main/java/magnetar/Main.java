package magnetar;

/**
 * {@code Main SUBJECT METADATA-URI VERSION...}: exits with 0 when everything that the subject states of the bookies
 * holds over each version of the protocol, {@code v2} or {@code v3}.
 * Lines {@code KILL host:port} and {@code RESTART host:port} on standard output ask the harness, which answers
 * {@code done} on standard input.
 */
public final class Main {
    private Main() {
    }

    private interface Subject {
        void run(Cluster cluster) throws Exception;
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("load")) {
            Load.run(args);
        }
        Subject subject = switch (args[0]) {
            case "round_trip" -> RoundTrip::run;
            case "confirmed" -> Confirmed::run;
            case "waiting" -> Waiting::run;
            case "fencing" -> Fencing::run;
            case "recovery" -> Recovery::run;
            case "writer" -> Recovery::write;
            case "failures" -> Failures::run;
            case "information" -> Information::run;
            case "tls" -> Tls::run;
            case "peer" -> Peer::run;
            default -> throw new IllegalArgumentException("no subject " + args[0]);
        };
        try {
            for (int i = 2; i < args.length; i++) {
                subject.run(new Cluster(args[1], args[i].equals("v2")));
                System.out.println("ok " + args[0] + " " + args[i]);
            }
        } catch (Throwable error) {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        System.out.flush();
        // The client's threads wind down for seconds, and nothing of them is under test.
        Runtime.getRuntime().halt(0);
    }
}
