// Fetch URLs by HttpClient or URLConnection: Fetch client|url in-turn|at-once URL...
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

public class Fetch {
    interface Get {
        void fetch(String url) throws Exception;
    }

    static void byConnection(String url) throws Exception {
        try (InputStream body = URI.create(url).toURL().openConnection().getInputStream()) {
            body.readAllBytes();
        }
    }

    public static void main(String[] words) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        Get get = words[0].equals("url")
            ? Fetch::byConnection
            : url -> client.send(HttpRequest.newBuilder(URI.create(url)).build(), BodyHandlers.discarding());
        List<String> urls = new ArrayList<>(Arrays.asList(words).subList(2, words.length));
        ExecutorService pool = Executors.newFixedThreadPool(words[1].equals("in-turn") ? 1 : urls.size());
        for (String url : urls) {
            pool.submit(() -> {
                try {
                    get.fetch(url);
                } catch (Exception error) {
                    System.err.println(error);
                }
            });
        }
        pool.shutdown();
        pool.awaitTermination(20, TimeUnit.SECONDS);
        System.exit(0);
    }
}
