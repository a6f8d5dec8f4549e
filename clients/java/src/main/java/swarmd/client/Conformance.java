package swarmd.client;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.grpc.Status;
import io.grpc.StatusException;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Scanner;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.Collectors;
import swarm.v1.BatchOuterClass.Batch;
import swarm.v1.SchedulerServiceOuterClass.ApplyUpdateRequest;
import swarm.v1.SchedulerServiceOuterClass.ApplyUpdateResponse;
import swarm.v1.SchedulerServiceOuterClass.HasWorkRequest;
import swarm.v1.SchedulerServiceOuterClass.TickRequest;
import swarm.v1.SchedulerServiceOuterClass.TickResponse;
import swarm.v1.State.TaskStatusGroup;
import swarm.v1.SwarmServiceOuterClass.AddTasksRequest;
import swarm.v1.SwarmServiceOuterClass.CreateSwarmRequest;
import swarm.v1.SwarmServiceOuterClass.DeleteSwarmRequest;
import swarm.v1.SwarmServiceOuterClass.GetSwarmRequest;
import swarm.v1.SwarmServiceOuterClass.ListSwarmsRequest;
import swarm.v1.SwarmServiceOuterClass.WatchSwarmResponse;
import swarm.v1.TaskOuterClass.TaskStatus;

/** Carries out script.json; README.md two folders up says what each step means. */
public final class Conformance {
  private static final PrintStream OUT =
      new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

  // Without it gRPC tells on standard error that it starts.
  private static final Logger GRPC = Logger.getLogger("io.grpc");

  private final Scanner input = new Scanner(System.in);
  private final Map<String, Long> revisions = new HashMap<>();
  private final Map<String, List<String>> batches = new HashMap<>();
  private final SwarmClient client;

  private Conformance(SwarmClient client) {
    this.client = client;
  }

  /** Exits with 1 when a step failed. */
  public static void main(String[] arguments) throws IOException {
    JsonObject script =
        JsonParser.parseString(Files.readString(Path.of(arguments[0]))).getAsJsonObject();
    GRPC.setLevel(Level.WARNING);
    boolean unix = System.getenv("SWARMD_ADDRESS").startsWith("unix:");
    int failed = 0;
    try (SwarmClient client = SwarmClient.fromEnvironment()) {
      Conformance run = new Conformance(client);
      for (JsonElement each : script.getAsJsonArray("steps")) {
        JsonObject step = each.getAsJsonObject();
        if (step.has("only") && !text(step, "only").equals(unix ? "unix" : "tcp")) {
          continue;
        }
        String problem;
        try {
          problem = run.carryOut(step);
        } catch (Exception surprise) { // A step that takes us by surprise has failed.
          problem = surprise.toString();
        }
        failed += problem.isEmpty() ? 0 : 1;
        String name = text(step, "name");
        OUT.println(problem.isEmpty() ? "ok " + name : "failed " + name + ": " + problem);
      }
    }
    System.exit(failed == 0 ? 0 : 1);
  }

  /** What is wrong with what came of a step; empty when nothing is. */
  private String carryOut(JsonObject step) throws Exception {
    JsonElement wantedError = step.get("expect_error");
    JsonObject result;
    try {
      result = client.whileUnavailable(seconds(step, "retry_seconds", 0), () -> act(step));
    } catch (StatusException error) {
      SwarmClient.Failure failure = SwarmClient.Failure.of(error);
      JsonObject got = new JsonObject();
      got.addProperty("code", failure.code());
      got.addProperty("reason", failure.reason());
      got.addProperty("domain", failure.domain());
      got.addProperty("field", failure.field());
      boolean wanted = wantedError != null && ScriptJson.difference(wantedError, got, "").isEmpty();
      return wanted ? "" : "it failed with " + got + ": " + error.getStatus();
    }
    if (wantedError != null) {
      return "it went well: " + result;
    }
    JsonElement wanted = step.get("expect");
    return wanted == null ? "" : ScriptJson.difference(wanted, result, "");
  }

  private JsonObject act(JsonObject step) throws StatusException, InterruptedException {
    return switch (text(step, "do")) {
      case "create_swarm" -> createSwarm(step);
      case "get_swarm" -> getSwarm(step);
      case "list_swarms" -> listSwarms(step);
      case "delete_swarm" -> deleteSwarm(step);
      case "add_tasks" -> addTasks(step);
      case "has_work" -> hasWork(step);
      case "tick" -> tick(step);
      case "apply_updates" -> applyUpdates(step);
      case "watch" -> watch(step);
      case "restart" -> restart();
      default -> throw new IllegalArgumentException("nobody knows how to do " + step.get("do"));
    };
  }

  private JsonObject createSwarm(JsonObject step) throws StatusException, InterruptedException {
    var request =
        ScriptJson.read(step, CreateSwarmRequest.newBuilder(), "swarm", "request_id").build();
    return ScriptJson.write(client(step).swarms(deadline(step)).createSwarm(request).getSwarm());
  }

  private JsonObject getSwarm(JsonObject step) throws StatusException, InterruptedException {
    var request = ScriptJson.read(step, GetSwarmRequest.newBuilder(), "swarm_id").build();
    var swarm = client(step).swarms(deadline(step)).getSwarm(request).getSwarm();
    JsonObject result = ScriptJson.write(swarm.getTaskCounts());
    result.addProperty("outcome", ScriptJson.shortName(swarm.getOutcome()));
    return result;
  }

  private JsonObject listSwarms(JsonObject step) throws StatusException, InterruptedException {
    var request = ListSwarmsRequest.getDefaultInstance();
    JsonArray ids = new JsonArray();
    for (var swarm : client(step).swarms(deadline(step)).listSwarms(request).getSwarmsList()) {
      ids.add(swarm.getSwarmId());
    }
    JsonObject result = new JsonObject();
    result.add("swarm_ids", ids);
    return result;
  }

  private JsonObject deleteSwarm(JsonObject step) throws StatusException, InterruptedException {
    var request = ScriptJson.read(step, DeleteSwarmRequest.newBuilder(), "swarm_id").build();
    return ScriptJson.write(client(step).swarms(deadline(step)).deleteSwarm(request));
  }

  private JsonObject addTasks(JsonObject step) throws StatusException, InterruptedException {
    List<AddTasksRequest> chunks = new ArrayList<>();
    for (JsonElement chunk : step.getAsJsonArray("chunks")) {
      chunks.add(ScriptJson.read(chunk.getAsJsonObject(), AddTasksRequest.newBuilder()).build());
    }
    return ScriptJson.write(
        client(step)
            .addTasks(text(step, "swarm_id"), text(step, "request_id"), chunks, deadline(step)));
  }

  private JsonObject hasWork(JsonObject step) throws StatusException, InterruptedException {
    var request =
        ScriptJson.read(step, HasWorkRequest.newBuilder(), "swarm_id", "wait_seconds").build();
    return ScriptJson.write(client(step).scheduler(deadline(step)).hasWork(request));
  }

  private JsonObject tick(JsonObject step) throws StatusException, InterruptedException {
    TickRequest request =
        ScriptJson.read(
                step, TickRequest.newBuilder(), "swarm_id", "request_id", "view", "timeout_seconds")
            .build();
    TickResponse answer = client(step).scheduler(deadline(step)).tick(request);
    List<String> ids = answer.getBatchesList().stream().map(Batch::getBatchId).toList();
    if (step.has("save_batches")) {
      batches.put(text(step, "save_batches"), ids);
    }
    if (step.has("same_batches_as") && !ids.equals(batches.get(text(step, "same_batches_as")))) {
      throw new IllegalStateException(
          "the batches are " + ids + ", not " + batches.get(text(step, "same_batches_as")));
    }
    JsonObject result = ScriptJson.write(answer);
    for (JsonElement each : result.getAsJsonArray("batches")) {
      JsonObject batch = each.getAsJsonObject();
      JsonArray commands = new JsonArray();
      batch
          .getAsJsonArray("tasks")
          .forEach(task -> commands.add(task.getAsJsonObject().get("command")));
      batch.add("commands", commands);
    }
    JsonArray queued = new JsonArray();
    for (TaskStatusGroup group : answer.getUpdate().getTaskStatusesList()) {
      if (group.getStatus() == TaskStatus.TASK_STATUS_QUEUED) {
        group.getTaskIdsList().forEach(id -> queued.add(Long.toString(id)));
      }
    }
    result.add("queued", queued);
    return result;
  }

  private JsonObject applyUpdates(JsonObject step) throws StatusException, InterruptedException {
    List<ApplyUpdateRequest> updates = new ArrayList<>();
    for (JsonElement each : step.getAsJsonArray("messages")) {
      JsonObject message = each.getAsJsonObject();
      var update = ApplyUpdateRequest.newBuilder();
      ScriptJson.read(message, update.getUpdateBuilder(), "task_statuses");
      updates.add(ScriptJson.read(message, update, "sequence").build());
    }
    JsonArray answers = new JsonArray();
    client(step)
        .applyUpdates(
            text(step, "swarm_id"), updates, deadline(step), answer -> answers.add(told(answer)));
    JsonObject result = new JsonObject();
    result.add("answers", answers);
    return result;
  }

  private static JsonObject told(ApplyUpdateResponse answer) {
    JsonObject result = ScriptJson.write(answer);
    if (answer.hasError()) {
      String code = Status.fromCodeValue(answer.getError().getCode()).getCode().name();
      result.getAsJsonObject("error").addProperty("code", code);
    }
    return result;
  }

  private JsonObject watch(JsonObject step) throws StatusException, InterruptedException {
    OptionalLong revision =
        step.has("after")
            ? OptionalLong.of(revisions.get(text(step, "after")))
            : OptionalLong.empty();
    boolean untilFinished = step.has("until_finished") && step.get("until_finished").getAsBoolean();
    int enough = step.has("read_changes") ? step.get("read_changes").getAsInt() : -1;
    JsonArray changes = new JsonArray();
    JsonObject result = new JsonObject();
    result.add("snapshot", JsonNull.INSTANCE);
    result.add("changes", changes);
    var call = client(step).watch(text(step, "swarm_id"), revision, untilFinished, deadline(step));
    for (var message = call.read(); message != null; message = call.read()) {
      switch (message.getEventCase()) {
        case SNAPSHOT ->
            result.add(
                "snapshot", ScriptJson.write(message.getSnapshot().getSwarm().getTaskCounts()));
        case CHANGE -> {
          if (revision.isPresent() && message.getRevision() <= revision.getAsLong()) {
            throw new IllegalStateException(
                "revision " + message.getRevision() + " comes after " + revision.getAsLong());
          }
          changes.add(told(message));
        }
        case END -> {
          result.addProperty("end", ScriptJson.shortName(message.getEnd().getReason()));
          result.addProperty("outcome", ScriptJson.shortName(message.getEnd().getOutcome()));
        }
        default -> {} // A sign of life.
      }
      revision = OptionalLong.of(message.getRevision());
      if (changes.size() == enough) {
        call.cancel("enough was seen", null);
        break;
      }
    }
    if (step.has("save_revision")) {
      revisions.put(text(step, "save_revision"), revision.orElseThrow());
    }
    return result;
  }

  private static String told(WatchSwarmResponse message) {
    return message.getChange().getTaskStatusesList().stream()
        .map(
            group ->
                ScriptJson.shortName(group.getStatus())
                    + " "
                    + group.getTaskIdsList().stream()
                        .map(Object::toString)
                        .collect(Collectors.joining(",")))
        .collect(Collectors.joining("; "));
  }

  private JsonObject restart() {
    OUT.println("restart");
    input.nextLine();
    return new JsonObject();
  }

  private SwarmClient client(JsonObject step) {
    boolean without = step.has("without_token") && step.get("without_token").getAsBoolean();
    return without ? client.withToken("") : client;
  }

  private static Duration deadline(JsonObject step) {
    return seconds(step, "deadline_seconds", 30);
  }

  private static Duration seconds(JsonObject step, String name, double otherwise) {
    double value = step.has(name) ? step.get(name).getAsDouble() : otherwise;
    return Duration.ofNanos(Math.round(value * 1e9));
  }

  private static String text(JsonObject step, String name) {
    return step.get(name).getAsString();
  }
}
