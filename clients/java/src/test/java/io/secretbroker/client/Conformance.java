package io.secretbroker.client;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.nimbusds.jose.JOSEException;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.BadJWTException;
import io.secretbroker.client.jwt.Tokens;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.text.ParseException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.stream.Collectors;

/** The adapter that the conformance runner drives: one JSON request a line in, one JSON answer a line out. */
public final class Conformance {
  private static final Gson JSON = new GsonBuilder().serializeNulls().create();

  private final PrintStream out =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
  private final Map<String, Secret> last = new HashMap<>();
  private final Map<String, Watch> watches = new HashMap<>();
  private final Map<String, Live> lives = new HashMap<>();
  private Client client;

  public static void main(String[] arguments) throws IOException {
    Conformance adapter = new Conformance();
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JsonObject request = JsonParser.parseString(line).getAsJsonObject();
      Map<String, Object> answer = new LinkedHashMap<>();
      answer.put("id", request.get("id"));
      try {
        answer.put("ok", adapter.answer(request));
      } catch (SecretBrokerException | BadJWTException | JOSEException | ParseException error) {
        answer.put("error", told(error));
      }
      adapter.print(answer);
    }
    System.exit(0);
  }

  private synchronized void print(Map<String, Object> line) {
    out.println(JSON.toJson(line));
  }

  private Object answer(JsonObject r) throws BadJWTException, JOSEException, ParseException {
    String op = text(r, "op");
    if (client == null && !op.equals("connect")) {
      throw new ConfigurationException("not connected");
    }
    return switch (op) {
      case "connect" -> connect(r);
      case "get" -> {
        Secret secret = within(r).get(text(r, "name"));
        last.put(secret.name(), secret);
        yield shown(secret);
      }
      case "get_many" -> within(r).getMany(names(r)).stream().map(result -> result.secret().isPresent()
          ? Map.of("name", result.name(), "ok", shown(result.get()))
          : Map.of("name", result.name(), "error", told(result.error().orElseThrow()))).toList();
      case "list" -> within(r).list(Optional.ofNullable(text(r, "category")).orElse("")).stream().map(m -> Map.of(
          "name", m.name(), "category", m.category(), "state", m.state(), "generation", m.generation())).toList();
      case "watch" -> watch(r);
      case "unwatch" -> {
        watches.remove(text(r, "watch")).close();
        yield Map.of();
      }
      case "report" -> report(r);
      case "print" -> Map.of("text", printed(text(r, "name")));
      case "live" -> live(r);
      default -> answerLive(op, r, Optional.ofNullable(lives.get(text(r, "live")))
          .orElseThrow(() -> new ConfigurationException("no such operation or handle: " + op)));
    };
  }

  private Client within(JsonObject r) {
    return has(r, "deadline_ms") ? client.withDeadline(Duration.ofMillis(r.get("deadline_ms").getAsLong())) : client;
  }

  private Object connect(JsonObject r) {
    Client.Builder builder = Client.builder().address(text(r, "address"));
    if (has(r, "cert_dir")) {
      builder.certDir(Path.of(text(r, "cert_dir")));
    }
    if (has(r, "server_name")) {
      builder.serverName(text(r, "server_name"));
    }
    if (has(r, "deadline_ms")) {
      builder.deadline(Duration.ofMillis(r.get("deadline_ms").getAsLong()));
    }
    Client fresh = builder.build();
    if (client != null) {
      lives.values().forEach(Live::close);
      lives.clear();
      watches.values().forEach(Watch::close);
      watches.clear();
      client.close();
    }
    client = fresh;
    return Map.of();
  }

  private Object watch(JsonObject r) {
    String id = text(r, "watch");
    Watch watch = client.watch(names(r).toArray(String[]::new));
    watches.put(id, watch);
    Thread thread = new Thread(() -> follow(id, watch));
    thread.setDaemon(true);
    thread.start();
    return Map.of();
  }

  private void follow(String id, Watch watch) {
    try {
      while (watch.hasNext()) {
        Event event = watch.next();
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("watch", id);
        line.put("event", event.type());
        line.put("name", event.name());
        line.put("generation", event.secret().map(Secret::generation).orElse(null));
        line.put("reason", event.reason().or(() -> event.error().map(RefusedException::reason)).orElse(null));
        print(line);
      }
    } catch (SecretBrokerException error) {
      print(Map.of("watch", id, "error", told(error)));
    }
  }

  private Object report(JsonObject r) {
    Secret secret = Optional.ofNullable(last.get(text(r, "name")))
        .orElseThrow(() -> new ConfigurationException("get the secret first"));
    Outcome outcome = switch (text(r, "outcome")) {
      case "APPLIED" -> Outcome.APPLIED;
      case "WORKED" -> Outcome.WORKED;
      default -> Outcome.refused(Optional.ofNullable(text(r, "detail")).orElse(""));
    };
    return Map.of("current_generation", client.report(secret, outcome));
  }

  private Object live(JsonObject r) {
    String id = text(r, "live");
    Live live = within(r).live(text(r, "name"));
    lives.put(id, live);
    live.onChange(secret -> print(Map.of("live", id, "changed", secret.generation())));
    return Map.of("generation", live.current().generation());
  }

  private Object answerLive(String op, JsonObject r, Live live) throws BadJWTException, JOSEException, ParseException {
    switch (op) {
      case "live_value":
        Map<String, Object> value = new LinkedHashMap<>();
        value.put("generation", live.current().generation());
        value.put("fields", fields(live.current().fieldNames(), live.current()::field));
        value.put("previous_generation", live.previous().map(Secret.Previous::generation).orElse(null));
        value.put("standing", live.standing().map(Conformance::told).orElse(null));
        return value;
      case "unlive":
        live.close();
        lives.remove(text(r, "live"));
        return Map.of();
      case "jwt_sign":
        return Map.of("token", new Tokens(live).sign(JWTClaimsSet.parse(r.get("claims").toString())));
      case "jwt_verify":
        return Map.of("claims", new Tokens(live).verify(text(r, "token")).toJSONObject());
      default:
        throw new ConfigurationException("no such operation: " + op);
    }
  }

  /** Every way in which the language prints a secret, a live handle and what they hold. */
  private String printed(String name) {
    Secret secret = client.get(name);
    try (Live live = client.live(name)) {
      List<Object> values = new ArrayList<>(List.of(
          secret, secret.freshness(), secret.previous(), live, live.current(), live.previous(),
          Event.of(Event.Type.CURRENT, secret), new Result(name, Optional.of(secret), Optional.empty())));
      values.add(List.copyOf(values));
      return values.stream().map(value -> value + "\n" + String.format("%s %S", value, value))
          .collect(Collectors.joining("\n"));
    }
  }

  private static Map<String, String> fields(Iterable<String> names, Function<String, Optional<byte[]>> field) {
    Map<String, String> all = new LinkedHashMap<>();
    names.forEach(name -> all.put(name, Base64.getEncoder().encodeToString(field.apply(name).orElseThrow())));
    return all;
  }

  private static Map<String, Object> shown(Secret secret) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("name", secret.name());
    line.put("version", secret.version());
    line.put("generation", secret.generation());
    line.put("fields", fields(secret.fieldNames(), secret::field));
    line.put("freshness", secret.freshness().isStale() ? "STALE" : "FRESH");
    line.put("time_left_ms", secret.timeLeft().map(Duration::toMillis).orElse(null));
    line.put("previous", secret.previous().map(previous -> Map.of(
        "version", previous.version(), "generation", previous.generation(),
        "fields", fields(previous.fieldNames(), previous::field))).orElse(null));
    return line;
  }

  private static Map<String, Object> told(Exception error) {
    Map<String, Object> line = new LinkedHashMap<>();
    line.put("kind", kind(error));
    line.put("reason", error instanceof RefusedException refused ? refused.reason() : null);
    line.put("transient", error instanceof SecretBrokerException failure && failure.isTransient());
    line.put("retry_after_ms",
        error instanceof RefusedException refused ? refused.retryAfter().map(Duration::toMillis).orElse(null) : null);
    line.put("message", String.valueOf(error.getMessage()));
    return line;
  }

  private static String kind(Exception error) {
    if (error instanceof ConfigurationException) {
      return "configuration";
    } else if (error instanceof TlsException) {
      return "tls";
    } else if (error instanceof UnreachableException) {
      return "unreachable";
    }
    return error instanceof DeadlineException ? "deadline" : "refused";
  }

  private static boolean has(JsonObject r, String key) {
    JsonElement found = r.get(key);
    return found != null && !(found instanceof JsonNull);
  }

  private static String text(JsonObject r, String key) {
    return has(r, key) ? r.get(key).getAsString() : null;
  }

  private static List<String> names(JsonObject r) {
    return r.getAsJsonArray("names").asList().stream().map(JsonElement::getAsString).toList();
  }
}
