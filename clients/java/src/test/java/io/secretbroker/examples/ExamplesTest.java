package io.secretbroker.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.secretbroker.rig.Rig;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(120)
@Tag("rig")
class ExamplesTest {
  private final HttpClient http = HttpClient.newHttpClient();

  @Test
  void theReadmeExampleRuns() throws Exception {
    String source = Files.readString(Path.of("src/test/java/io/secretbroker/examples/Readme.java"));
    String shown = source.substring(source.indexOf("import"));
    assertTrue(Files.readString(Path.of("README.md")).contains("```java\n" + shown + "```\n"));
    String body = shown.substring(shown.indexOf("throws Exception {\n") + 19, shown.lastIndexOf("\n  }\n"));
    assertTrue(body.lines().count() <= 10);
    Readme.run(Rig.jdbcUrl());
  }

  @Test
  void theWebServiceServesThroughARotation() throws Exception {
    try (WebService service = new WebService(Rig.jdbcUrl(), 0)) {
      String base = "http://127.0.0.1:" + service.port();
      String token = ask(base + "/tokens?me", "", "");
      for (int i = 0; i < 3; i++) {
        ask(base + "/notes", token, "a note");
        Rig.rotate("DB");
      }
      Rig.rotate("JWT");
      ask(base + "/notes", token, "a note after a rotation of the key that signed the token");
      assertTrue(ask(base + "/health", "", "").startsWith("DB "));
    }
  }

  private String ask(String url, String token, String body) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(URI.create(url)).header("Authorization", "Bearer " + token)
        .POST(HttpRequest.BodyPublishers.ofString(body)).build();
    HttpResponse<String> reply = http.send(request, HttpResponse.BodyHandlers.ofString());
    assertEquals(200, reply.statusCode(), reply.body());
    return reply.body();
  }
}
