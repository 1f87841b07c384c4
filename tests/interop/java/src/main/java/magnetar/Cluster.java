package magnetar;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.List;
import java.util.function.Consumer;
import org.apache.bookkeeper.client.BookKeeper;
import org.apache.bookkeeper.conf.ClientConfiguration;
import org.apache.bookkeeper.meta.MetadataDrivers;
import org.apache.bookkeeper.net.BookieId;

/** The bookies that the harness runs, and clients for them that speak one version of the protocol. */
final class Cluster {
    /** The client's own limit of a frame, its default: no entry with all its headers may be longer. */
    static final int FRAME_BYTES = 5 << 20;

    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    private final String metadata;
    private final boolean v2;

    static {
        MetadataDrivers.registerClientDriver(FileMetadata.SCHEME, FileMetadata.class);
    }

    /** {@code metadata} is the URI of {@link FileMetadata}. */
    Cluster(String metadata, boolean v2) {
        this.metadata = metadata;
        this.v2 = v2;
    }

    String metadata() {
        return metadata;
    }

    boolean isV2() {
        return v2;
    }

    BookKeeper client() throws Exception {
        return client(conf -> { });
    }

    /** A client of its own, with its own connections, as another process would have. */
    BookKeeper client(Consumer<ClientConfiguration> change) throws Exception {
        ClientConfiguration conf = new ClientConfiguration();
        conf.setMetadataServiceUri(metadata);
        conf.setUseV2WireProtocol(v2);
        conf.setNettyMaxFrameSizeBytes(FRAME_BYTES);
        conf.setNumWorkerThreads(1);
        conf.setNumIOThreads(1);
        // A bookie that is slow on a busy machine is not a failed one.
        conf.setAddEntryTimeout(30);
        conf.setReadEntryTimeout(30);
        conf.setGetBookieInfoTimeout(30);
        conf.setEnableDigestTypeAutodetection(false);
        change.accept(conf);
        return BookKeeper.forConfig(conf).build();
    }

    /** Bookies that are gone without a goodbye when this returns. */
    void kill(List<BookieId> bookies) throws IOException {
        ask("KILL", bookies);
    }

    /** Bookies that serve again, over the same directories and at the same addresses, when this returns. */
    void restart(List<BookieId> bookies) throws IOException {
        ask("RESTART", bookies);
    }

    /** The harness has taken its first readings when this returns. */
    void measure() throws IOException {
        ask("MEASURE");
    }

    private void ask(String what, List<BookieId> bookies) throws IOException {
        for (BookieId bookie : bookies) {
            ask(what + " " + bookie);
        }
    }

    private void ask(String line) throws IOException {
        System.out.println(line);
        System.out.flush();
        Check.equal("the harness's answer", "done", ANSWERS.readLine());
    }
}
