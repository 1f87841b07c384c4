package magnetar;

import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import org.apache.bookkeeper.client.BKException;
import org.apache.bookkeeper.client.api.LedgerMetadata;
import org.apache.bookkeeper.meta.LedgerIdGenerator;
import org.apache.bookkeeper.meta.LedgerManager;
import org.apache.bookkeeper.meta.LedgerMetadataSerDe;
import org.apache.bookkeeper.proto.BookkeeperInternalCallbacks.GenericCallback;
import org.apache.bookkeeper.proto.BookkeeperInternalCallbacks.LedgerMetadataListener;
import org.apache.bookkeeper.proto.BookkeeperInternalCallbacks.Processor;
import org.apache.bookkeeper.versioning.LongVersion;
import org.apache.bookkeeper.versioning.Version;
import org.apache.bookkeeper.versioning.Versioned;
import org.apache.zookeeper.AsyncCallback;

/**
 * One file a version of a ledger's metadata, {@code <ledger>.<version>}. A version is linked into place whole and only
 * if it is not there yet: that is the compare-and-set, between threads and between processes.
 */
final class LedgerFiles implements LedgerManager, LedgerIdGenerator {
    private final Path directory;
    private final LedgerMetadataSerDe format = new LedgerMetadataSerDe();

    LedgerFiles(Path directory) {
        this.directory = directory;
    }

    private interface Step<T> {
        T run() throws Exception;
    }

    private static <T> CompletableFuture<T> done(Step<T> step) {
        try {
            return CompletableFuture.completedFuture(step.run());
        } catch (Exception error) {
            return CompletableFuture.failedFuture(error);
        }
    }

    private Path file(long ledger, long version) {
        return directory.resolve(ledger + "." + version);
    }

    private Versioned<LedgerMetadata> read(long ledger) throws Exception {
        long version = 0;
        while (Files.exists(file(ledger, version))) {
            version++;
        }
        if (version == 0) {
            throw new BKException.BKNoSuchLedgerExistsOnMetadataServerException();
        }
        byte[] bytes = Files.readAllBytes(file(ledger, version - 1));
        return new Versioned<>(format.parseConfig(bytes, ledger, Optional.empty()), new LongVersion(version - 1));
    }

    /** False when that version exists already. */
    private boolean create(Path file, byte[] bytes) throws IOException {
        Path whole = Files.createTempFile(directory, "new", null);
        try {
            Files.write(whole, bytes);
            Files.createLink(file, whole);
            return true;
        } catch (FileAlreadyExistsException exists) {
            return false;
        } finally {
            Files.delete(whole);
        }
    }

    @Override
    public CompletableFuture<Versioned<LedgerMetadata>> createLedgerMetadata(long ledger, LedgerMetadata metadata) {
        return done(() -> {
            if (!create(file(ledger, 0), format.serialize(metadata))) {
                throw new BKException.BKLedgerExistException();
            }
            return new Versioned<>(metadata, new LongVersion(0));
        });
    }

    @Override
    public CompletableFuture<Versioned<LedgerMetadata>> readLedgerMetadata(long ledger) {
        return done(() -> read(ledger));
    }

    @Override
    public CompletableFuture<Versioned<LedgerMetadata>> writeLedgerMetadata(
            long ledger, LedgerMetadata metadata, Version expected) {
        return done(() -> {
            long next = ((LongVersion) expected).getLongVersion() + 1;
            if (!create(file(ledger, next), format.serialize(metadata))) {
                throw new BKException.BKMetadataVersionException();
            }
            return new Versioned<>(metadata, new LongVersion(next));
        });
    }

    @Override
    public CompletableFuture<Void> removeLedgerMetadata(long ledger, Version version) {
        return done(() -> {
            try {
                for (long each = 0; ; each++) {
                    Files.delete(file(ledger, each));
                }
            } catch (NoSuchFileException end) {
                return null;
            }
        });
    }

    @Override
    public void generateLedgerId(GenericCallback<Long> callback) {
        try {
            long id = 0;
            while (!create(directory.resolve("id-" + id), new byte[0])) {
                id++;
            }
            callback.operationComplete(BKException.Code.OK, id);
        } catch (IOException error) {
            callback.operationComplete(BKException.Code.MetaStoreException, null);
        }
    }

    @Override
    public void registerLedgerMetadataListener(long ledger, LedgerMetadataListener listener) {
        // Readers here open a ledger again rather than follow its ensembles.
    }

    @Override
    public void unregisterLedgerMetadataListener(long ledger, LedgerMetadataListener listener) {
        // None is registered.
    }

    @Override
    public void asyncProcessLedgers(
            Processor<Long> processor, AsyncCallback.VoidCallback last, Object context, int success, int failure) {
        throw new UnsupportedOperationException("nobody walks all ledgers here");
    }

    @Override
    public LedgerRangeIterator getLedgerRanges(long timeout) {
        throw new UnsupportedOperationException("nobody walks all ledgers here");
    }

    @Override
    public void close() {
        // Nothing is held open.
    }
}
