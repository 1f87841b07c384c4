package magnetar;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ScheduledExecutorService;
import org.apache.bookkeeper.conf.AbstractConfiguration;
import org.apache.bookkeeper.conf.ClientConfiguration;
import org.apache.bookkeeper.discover.RegistrationClient;
import org.apache.bookkeeper.meta.LayoutManager;
import org.apache.bookkeeper.meta.LedgerAuditorManager;
import org.apache.bookkeeper.meta.LedgerIdGenerator;
import org.apache.bookkeeper.meta.LedgerManager;
import org.apache.bookkeeper.meta.LedgerManagerFactory;
import org.apache.bookkeeper.meta.LedgerUnderreplicationManager;
import org.apache.bookkeeper.meta.MetadataClientDriver;
import org.apache.bookkeeper.net.BookieId;
import org.apache.bookkeeper.stats.StatsLogger;
import org.apache.bookkeeper.versioning.LongVersion;
import org.apache.bookkeeper.versioning.Versioned;

/**
 * Metadata of the client under test: ledgers in a directory that several processes may share, and a fixed list of
 * bookies. The URI is {@code files:/directory?bookies=host:port+host:port} (the client's settings split at a comma).
 * What speaks to the bookies, decides quorums and recovers stays Apache's.
 */
public final class FileMetadata implements MetadataClientDriver, LedgerManagerFactory {
    static final String SCHEME = "files";

    private Path directory;
    private Set<BookieId> bookies;

    @Override
    public MetadataClientDriver initialize(
            ClientConfiguration conf, ScheduledExecutorService scheduler, StatsLogger stats, Optional<Object> context) {
        URI uri = URI.create(conf.getMetadataServiceUriUnchecked());
        directory = Path.of(uri.getPath());
        bookies = new LinkedHashSet<>();
        String list = uri.getQuery().substring("bookies=".length());
        Arrays.stream(list.split("\\+")).map(BookieId::parse).forEach(bookies::add);
        return this;
    }

    @Override
    public String getScheme() {
        return SCHEME;
    }

    @Override
    public RegistrationClient getRegistrationClient() {
        return new FixedBookies();
    }

    @Override
    public LedgerManagerFactory getLedgerManagerFactory() {
        return this;
    }

    @Override
    public LedgerIdGenerator newLedgerIdGenerator() {
        return new LedgerFiles(directory);
    }

    @Override
    public LedgerManager newLedgerManager() {
        return new LedgerFiles(directory);
    }

    @Override
    public int getCurrentVersion() {
        return 1;
    }

    @Override
    @SuppressWarnings("rawtypes")
    public LedgerManagerFactory initialize(AbstractConfiguration conf, LayoutManager layout, int version) {
        return this;
    }

    @Override
    public void setSessionStateListener(SessionStateListener listener) {
        // There is no session that could end.
    }

    @Override
    public void close() {
        // Nothing is held open.
    }

    @Override
    public LayoutManager getLayoutManager() {
        throw new UnsupportedOperationException("the layout is fixed");
    }

    @Override
    public LedgerUnderreplicationManager newLedgerUnderreplicationManager() {
        throw new UnsupportedOperationException("no re-replication here");
    }

    @Override
    public LedgerAuditorManager newLedgerAuditorManager() throws IOException {
        throw new UnsupportedOperationException("no auditor here");
    }

    @Override
    public void format(AbstractConfiguration<?> conf, LayoutManager layout) {
        throw new UnsupportedOperationException("a new directory is an empty cluster");
    }

    @Override
    public boolean validateAndNukeExistingCluster(AbstractConfiguration<?> conf, LayoutManager layout) {
        throw new UnsupportedOperationException("a new directory is an empty cluster");
    }

    /** Lists every bookie as writable for ever, so that the client itself has to find out who is gone. */
    private final class FixedBookies implements RegistrationClient {
        private CompletableFuture<Versioned<Set<BookieId>>> listed(Set<BookieId> set) {
            return CompletableFuture.completedFuture(new Versioned<>(set, new LongVersion(0)));
        }

        @Override
        public CompletableFuture<Versioned<Set<BookieId>>> getWritableBookies() {
            return listed(bookies);
        }

        @Override
        public CompletableFuture<Versioned<Set<BookieId>>> getAllBookies() {
            return listed(bookies);
        }

        @Override
        public CompletableFuture<Versioned<Set<BookieId>>> getReadOnlyBookies() {
            return listed(Set.of());
        }

        @Override
        public CompletableFuture<Void> watchWritableBookies(RegistrationListener listener) {
            return getWritableBookies().thenAccept(listener::onBookiesChanged);
        }

        @Override
        public CompletableFuture<Void> watchReadOnlyBookies(RegistrationListener listener) {
            return getReadOnlyBookies().thenAccept(listener::onBookiesChanged);
        }

        @Override
        public void unwatchWritableBookies(RegistrationListener listener) {
            // The list never changes.
        }

        @Override
        public void unwatchReadOnlyBookies(RegistrationListener listener) {
            // The list never changes.
        }

        @Override
        public void close() {
            // Nothing is held open.
        }
    }
}
