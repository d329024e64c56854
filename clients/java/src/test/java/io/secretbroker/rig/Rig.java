package io.secretbroker.rig;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** The real sidecar, Vault and PostgreSQL, which the environment names. */
public final class Rig {
  private static final HttpClient HTTP = HttpClient.newHttpClient();

  private Rig() {}

  public static String jdbcUrl() {
    return "jdbc:" + System.getenv("RIG_PG");
  }

  public static long rotate(String name) throws Exception {
    return control("rotate", "{\"name\":\"" + name + "\"}").get("generation").getAsLong();
  }

  public static JsonObject control(String verb, String body) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(URI.create(System.getenv("RIG_CONTROL") + "/" + verb))
        .POST(HttpRequest.BodyPublishers.ofString(body)).build();
    HttpResponse<String> reply = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
    if (reply.statusCode() != 200) {
      throw new IllegalStateException(verb + ": " + reply.statusCode() + " " + reply.body());
    }
    return JsonParser.parseString(reply.body()).getAsJsonObject();
  }
}
