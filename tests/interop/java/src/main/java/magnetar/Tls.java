package magnetar;

import java.nio.file.Path;
import java.util.function.Consumer;
import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.client.LedgerHandle;
import org.apache.bookkeeper.conf.ClientConfiguration;

/** Bookies that take requests over mutual TLS only. The files of both sides lie where {@code magnetar.tls} says. */
final class Tls {
    private static final Path FILES = Path.of(System.getProperty("magnetar.tls", "."));

    private Tls() {
    }

    static void run(Cluster cluster) throws Exception {
        roundTrip(cluster);
        recovery(cluster);
        // Versions differ only in what comes after the handshake.
        if (!cluster.isV2()) {
            refusals(cluster);
        }
    }

    private static void roundTrip(Cluster cluster) throws Exception {
        BookKeeper writer = cluster.client(known());
        LedgerHandle ledger = Ledgers.create(writer);
        Ledgers.write(ledger, 0, 500);
        // Many records of TLS, in both directions.
        ledger.addEntry(Ledgers.payload(ledger.getId(), 500, RoundTrip.LONG + 1));
        ledger.close();
        LedgerHandle again = Ledgers.recover(cluster.client(known()), ledger.getId());
        Check.equal("last entry", 500L, again.getLastAddConfirmed());
        Ledgers.read(again, 0, 500);
    }

    private static void recovery(Cluster cluster) throws Exception {
        BookKeeper writer = cluster.client(known());
        LedgerHandle ledger = Ledgers.create(writer);
        Ledgers.write(ledger, 0, 20);
        LedgerHandle owner = Ledgers.recover(cluster.client(known()), ledger.getId());
        Check.equal("last entry of a recovered ledger", 19L, owner.getLastAddConfirmed());
        Ledgers.read(owner, 0, 19);
        Check.fails("an add after recovery", BKException.class, () -> ledger.addEntry("late".getBytes()));
    }

    /** Without TLS, and without a certificate of the bookies' authority, nothing is stored and nothing read. */
    private static void refusals(Cluster cluster) throws Exception {
        LedgerHandle ledger = Ledgers.create(cluster.client(known()));
        Ledgers.write(ledger, 0, 3);
        ledger.close();
        refused(cluster, "a client without TLS", conf -> { }, ledger.getId());
        refused(cluster, "a client without a certificate", encrypted(), ledger.getId());
        Consumer<ClientConfiguration> stranger = encrypted().andThen(certificate("stranger"));
        refused(cluster, "a client with a stranger's certificate", stranger, ledger.getId());
    }

    private static void refused(Cluster cluster, String who, Consumer<ClientConfiguration> change, long ledger)
            throws Exception {
        BookKeeper client = cluster.client(change.andThen(conf -> {
            conf.setAddEntryTimeout(2);
            conf.setReadEntryTimeout(2);
        }));
        // Over all bookies: none is left to take the place of one that refuses.
        LedgerHandle all = client.createLedger(4, 4, 4, Ledgers.DIGEST, Ledgers.PASSWORD);
        Check.fails(who + " adds", BKException.class, () -> all.addEntry("x".getBytes()));
        LedgerHandle look = Ledgers.look(client, ledger);
        Check.fails(who + " reads", BKException.class, () -> look.readEntries(0, 0));
    }

    private static Consumer<ClientConfiguration> known() {
        return encrypted().andThen(certificate("client"));
    }

    private static Consumer<ClientConfiguration> encrypted() {
        return conf -> {
            conf.setTLSProviderFactoryClass("org.apache.bookkeeper.tls.TLSContextFactory");
            conf.setTLSProvider("JDK");
            conf.setTLSTrustStoreType("PEM");
            conf.setTLSTrustStore(file("ca.pem"));
        };
    }

    private static Consumer<ClientConfiguration> certificate(String name) {
        return conf -> {
            conf.setTLSClientAuthentication(true);
            conf.setTLSKeyStoreType("PEM");
            conf.setTLSKeyStore(file(name + ".key"));
            conf.setTLSCertificatePath(file(name + ".pem"));
        };
    }

    private static String file(String name) {
        return FILES.resolve(name).toString();
    }
}
