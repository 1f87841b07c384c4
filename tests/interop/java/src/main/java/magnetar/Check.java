package magnetar;

import java.util.Objects;
import java.util.concurrent.Callable;

/** What a subject states about the bookies. A statement that does not hold ends the program with a failure. */
public final class Check {
    private Check() {
    }

    public static void that(String what, boolean holds) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    public static void equal(String what, Object expected, Object actual) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + actual);
        }
    }

    public static <E extends Exception> E fails(String what, Class<E> with, Callable<?> call) {
        Object result;
        try {
            result = call.call();
        } catch (Exception error) {
            if (with.isInstance(error)) {
                return with.cast(error);
            }
            throw new AssertionError(what + ": expected " + with.getSimpleName(), error);
        }
        throw new AssertionError(what + ": expected " + with.getSimpleName() + ", got " + result);
    }
}
