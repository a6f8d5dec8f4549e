package swarmd.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.TlsChannelCredentials;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.BlockingClientCall;
import io.grpc.stub.MetadataUtils;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioDomainSocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import swarm.v1.SchedulerServiceGrpc;
import swarm.v1.SchedulerServiceGrpc.SchedulerServiceBlockingV2Stub;
import swarm.v1.SchedulerServiceOuterClass.ApplyUpdateRequest;
import swarm.v1.SchedulerServiceOuterClass.ApplyUpdateResponse;
import swarm.v1.SwarmServiceGrpc;
import swarm.v1.SwarmServiceGrpc.SwarmServiceBlockingV2Stub;
import swarm.v1.SwarmServiceOuterClass.AddTasksRequest;
import swarm.v1.SwarmServiceOuterClass.AddTasksResponse;
import swarm.v1.SwarmServiceOuterClass.WatchSwarmRequest;
import swarm.v1.SwarmServiceOuterClass.WatchSwarmResponse;

/**
 * A client of swarmd on one connection: the part to copy from.
 *
 * <p>Calls of one message go through {@link #swarms} and {@link #scheduler}; the streams have
 * methods here. All of it blocks, and may be used from many threads at once. The stubs are gRPC's
 * "blocking V2": unlike the older blocking ones they can stream in both directions.
 */
public final class SwarmClient implements AutoCloseable {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final String token;
  private final ManagedChannel channel;
  private final EventLoopGroup threads;

  /**
   * Connects with the first call, and again whenever the connection was lost.
   *
   * @param address {@code unix:PATH} or {@code HOST:PORT}
   * @param token sent with every call; empty: none is sent
   * @param ca a PEM file with the CA that the daemon's certificate must come from; null: no TLS
   */
  public SwarmClient(String address, String token, Path ca) throws IOException {
    this.token = token;
    // One connection needs no more than one thread; a daemon thread keeps no program from ending.
    threads = new NioEventLoopGroup(1, new DefaultThreadFactory("swarmd", true));
    ChannelCredentials credentials =
        ca == null
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(ca.toFile()).build();
    NettyChannelBuilder builder;
    if (address.startsWith("unix:")) {
      // The JDK's own unix sockets (since 16), so this runs wherever Java does, without Netty's
      // native transports. A path is no valid name of a host, so the call goes to "localhost".
      String path = address.substring("unix:".length());
      builder =
          NettyChannelBuilder.forAddress(UnixDomainSocketAddress.of(path), credentials)
              .channelType(NioDomainSocketChannel.class)
              .withOption(ChannelOption.SO_KEEPALIVE, null) // Only TCP has it: gRPC would warn.
              .overrideAuthority("localhost");
    } else {
      builder =
          NettyChannelBuilder.forTarget(address, credentials).channelType(NioSocketChannel.class);
    }
    channel =
        builder
            .eventLoopGroup(threads)
            .maxInboundMessageSize(64 << 20) // The answer of a tick may well have more than 4 MiB.
            .keepAliveTime(30, TimeUnit.SECONDS) // Below 10 s the daemon hangs up.
            .build();
  }

  private SwarmClient(SwarmClient other, String token) {
    this.token = token;
    channel = other.channel;
    threads = other.threads;
  }

  /** Connects to where SWARMD_ADDRESS, SWARMD_TOKEN_FILE and SWARMD_TLS_CA say. */
  public static SwarmClient fromEnvironment() throws IOException {
    String address = System.getenv("SWARMD_ADDRESS");
    String tokenFile = System.getenv("SWARMD_TOKEN_FILE");
    String ca = System.getenv("SWARMD_TLS_CA");
    if (address == null) {
      throw new IOException("SWARMD_ADDRESS is not set: unix:PATH or HOST:PORT of the daemon");
    }
    return new SwarmClient(
        address,
        tokenFile == null ? "" : Files.readString(Path.of(tokenFile)).strip(),
        ca == null ? null : Path.of(ca));
  }

  /** The same connection with another token; empty: none is sent. */
  public SwarmClient withToken(String otherToken) {
    return new SwarmClient(this, otherToken);
  }

  /** The calls of one message that keep swarms; each ends at the deadline at the latest. */
  public SwarmServiceBlockingV2Stub swarms(Duration deadline) {
    return authorized(SwarmServiceGrpc.newBlockingV2Stub(channel)).withDeadlineAfter(deadline);
  }

  /** The calls of one message that schedule: Tick and HasWork. */
  public SchedulerServiceBlockingV2Stub scheduler(Duration deadline) {
    return authorized(SchedulerServiceGrpc.newBlockingV2Stub(channel)).withDeadlineAfter(deadline);
  }

  /**
   * Loads chunks as one unit; each must stay below the daemon's limit for a message (4 MiB).
   *
   * <p>The request id makes it safe to send all of it again when the connection was lost before the
   * answer came.
   */
  public AddTasksResponse addTasks(
      String swarmId, String requestId, Iterable<AddTasksRequest> chunks, Duration deadline)
      throws StatusException, InterruptedException {
    BlockingClientCall<AddTasksRequest, AddTasksResponse> call = swarms(deadline).addTasks();
    boolean first = true;
    try {
      for (AddTasksRequest chunk : chunks) {
        if (first) {
          chunk = chunk.toBuilder().setSwarmId(swarmId).setRequestId(requestId).build();
          first = false;
        }
        call.write(chunk); // Waits while the daemon is behind; throws when it refuses the load.
      }
      call.halfClose();
      return call.read();
    } finally {
      call.cancel("the load was given up", null); // Does nothing to a call that is over.
    }
  }

  /**
   * Tells what happened. The updates are sent by a thread of their own, so that none waits for an
   * answer, and no number of them can fill the buffers of both sides and stop everything.
   *
   * <p>A wrong update is no exception: its answer has an error, and the others count. After an
   * exception send again what was not answered; repeating is harmless.
   */
  public void applyUpdates(
      String swarmId,
      Iterable<ApplyUpdateRequest> updates,
      Duration deadline,
      Consumer<ApplyUpdateResponse> onAnswer)
      throws StatusException, InterruptedException {
    BlockingClientCall<ApplyUpdateRequest, ApplyUpdateResponse> call =
        scheduler(deadline).applyUpdate();
    Thread sender = new Thread(() -> send(swarmId, updates, call), "swarmd-updates");
    sender.start();
    try {
      for (var answer = call.read(); answer != null; answer = call.read()) {
        onAnswer.accept(answer);
      }
    } finally {
      call.cancel("the caller reads no further", null);
      sender.join();
    }
  }

  private static void send(
      String swarmId,
      Iterable<ApplyUpdateRequest> updates,
      BlockingClientCall<ApplyUpdateRequest, ApplyUpdateResponse> call) {
    boolean first = true;
    try {
      for (ApplyUpdateRequest update : updates) {
        if (first) {
          update = update.toBuilder().setSwarmId(swarmId).build();
          first = false;
        }
        if (!call.write(update)) {
          return; // The call is over.
        }
      }
      call.halfClose();
    } catch (StatusException over) {
      // The reader of the answers is told the same.
    } catch (InterruptedException | RuntimeException problem) {
      call.cancel("the updates could not be sent", problem);
    }
  }

  /**
   * What happens from now on, or after a revision; cancel it when enough was seen, and otherwise
   * read until null.
   *
   * <p>Each message has a revision: keep the last one, and a watch that begins after it goes on
   * without a gap, also when the daemon was started again meanwhile.
   */
  public BlockingClientCall<?, WatchSwarmResponse> watch(
      String swarmId, OptionalLong afterRevision, boolean untilFinished, Duration deadline) {
    WatchSwarmRequest.Builder request =
        WatchSwarmRequest.newBuilder().setSwarmId(swarmId).setUntilFinished(untilFinished);
    afterRevision.ifPresent(request::setAfterRevision);
    return swarms(deadline).watchSwarm(request.build());
  }

  /** A call that {@link #whileUnavailable} can make. */
  @FunctionalInterface
  public interface Call<T> {
    /** Makes the call. */
    T make() throws StatusException, InterruptedException;
  }

  /**
   * Makes a call again while the daemon is not there, for so long at most.
   *
   * <p>Only for what can be done twice: calls that read, calls with a request id, and updates.
   */
  public <T> T whileUnavailable(Duration patience, Call<T> call)
      throws StatusException, InterruptedException {
    long until = System.nanoTime() + patience.toNanos();
    while (true) {
      try {
        return call.make();
      } catch (StatusException error) {
        boolean over = System.nanoTime() - until >= 0;
        if (error.getStatus().getCode() != Status.Code.UNAVAILABLE || over) {
          throw error;
        }
      }
      Thread.sleep(200);
      channel.resetConnectBackoff(); // Otherwise the channel waits longer from try to try.
    }
  }

  /** What is known of a call that failed; texts that the daemon did not give are empty. */
  public record Failure(String code, String reason, String domain, String field) {
    /** Reads the details that the daemon sends beside status and message. */
    public static Failure of(StatusException error) {
      String reason = "";
      String domain = "";
      String field = "";
      com.google.rpc.Status status = StatusProto.fromThrowable(error);
      for (Any detail : status.getDetailsList()) {
        try {
          if (detail.is(ErrorInfo.class)) {
            ErrorInfo info = detail.unpack(ErrorInfo.class);
            reason = info.getReason();
            domain = info.getDomain();
          } else if (detail.is(BadRequest.class)) {
            field = detail.unpack(BadRequest.class).getFieldViolations(0).getField();
          }
        } catch (InvalidProtocolBufferException damaged) {
          // The code is still worth something.
        }
      }
      return new Failure(error.getStatus().getCode().name(), reason, domain, field);
    }
  }

  @Override
  public void close() {
    channel.shutdownNow();
    threads.shutdownGracefully(0, 1, TimeUnit.SECONDS);
  }

  private <S extends AbstractStub<S>> S authorized(S stub) {
    if (token.isEmpty()) {
      return stub;
    }
    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + token);
    return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers));
  }
}
