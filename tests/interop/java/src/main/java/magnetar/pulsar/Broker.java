package magnetar.pulsar;

import io.netty.channel.EventLoopGroup;
import io.netty.util.concurrent.DefaultThreadFactory;
import io.opentelemetry.api.OpenTelemetry;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import magnetar.Check;
import org.apache.pulsar.client.api.ClientBuilder;
import org.apache.pulsar.client.api.PulsarClient;
import org.apache.pulsar.client.impl.ClientBuilderImpl;
import org.apache.pulsar.client.impl.PulsarClientImpl;
import org.apache.pulsar.common.util.netty.EventLoopUtil;

/** The broker under test: a client of it, its admin REST, and the harness that can restart it. */
final class Broker implements AutoCloseable {
    /** Bounds what should take milliseconds, on a busy machine. */
    static final int PATIENCE_SECONDS = 30;

    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    private static final EventLoopGroup THREADS =
            EventLoopUtil.newEventLoopGroup(1, false, new DefaultThreadFactory("droppable", true));

    private final String serviceUrl;
    private final String httpUrl;
    private final HttpClient http = HttpClient.newHttpClient();
    final PulsarClient client;

    Broker(String serviceUrl, String httpUrl) throws Exception {
        this.serviceUrl = serviceUrl;
        this.httpUrl = httpUrl;
        client = builder().build();
    }

    /** For a client of a subject's own. */
    ClientBuilder builder() {
        return PulsarClient.builder()
                .serviceUrl(serviceUrl)
                .operationTimeout(PATIENCE_SECONDS, TimeUnit.SECONDS)
                // The client doubles its wait for a broker that restarts; a minute of it would be a minute of this test.
                .maxBackoffInterval(500, TimeUnit.MILLISECONDS)
                // Else it looks for one on the class path and logs that it leaves it alone.
                .openTelemetry(OpenTelemetry.noop())
                .ioThreads(1)
                .listenerThreads(1);
    }

    /** A client that can be dropped: it ends at once, without a word to the broker. */
    PulsarClient droppable() throws Exception {
        // Threads of its own would take two seconds to end.
        return new PulsarClientImpl(((ClientBuilderImpl) builder()).getClientConfigurationData(), THREADS);
    }

    /** Returns once a droppable client that was shut down has closed its connections. */
    static void dropped() throws Exception {
        // It leaves that to its one thread, which does one thing after the other.
        THREADS.submit(() -> { }).get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    }

    /** A topic nobody else uses. */
    static String topic(String name) {
        return "persistent://public/default/" + name + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    /** Calls the admin REST below {@code /admin/v2/} with a JSON body, or none, and gives the answer's. */
    String admin(String method, String path, String body) throws Exception {
        HttpRequest.BodyPublisher publisher =
                body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body);
        HttpRequest request = HttpRequest.newBuilder(URI.create(httpUrl + "/admin/v2/" + path))
                .header("Content-Type", "application/json")
                .method(method, publisher)
                .build();
        HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        Check.that(method + " " + path + ": " + answer.statusCode() + " " + answer.body(), answer.statusCode() < 300);
        return answer.body();
    }

    /** A topic's path in the admin REST. */
    static String path(String topic) {
        return topic.replace("://", "/");
    }

    /** SIGTERM, and a start over the same data. */
    static void restart() throws Exception {
        ask("RESTART-TERM");
    }

    /** SIGKILL, and a start over the same data. */
    static void kill() throws Exception {
        ask("RESTART-KILL");
    }

    /** The broker's own counters say what the topic's log does, with everything acknowledged on its only subscription. */
    static void nothingIsLeft(String topic, String subscription) throws Exception {
        ask("DONE " + topic + " " + subscription);
    }

    private static void ask(String what) throws Exception {
        System.out.println(what);
        System.out.flush();
        Check.equal("the harness's answer", "done", ANSWERS.readLine());
    }

    @Override
    public void close() throws Exception {
        client.close();
    }
}
