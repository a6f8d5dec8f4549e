/**
 * A client of swarmd, to copy from. It needs the protos, and no generated code.
 *
 * Connects over a unix socket, or over TCP with TLS and a token; loads in chunks; ticks; sends updates ahead of their
 * answers; watches across lost connections. Messages are plain objects with the names of the protos; 64-bit integers
 * (ids, revisions) are strings, for a number of JavaScript has 53 bits; enum values are their names.
 */

import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const PROTOS = join(HERE, "../../protos");
const RETRY_PAUSE_MS = 200;

const OPTIONS = {
  "grpc.max_receive_message_length": 64 << 20, // a batch of 500 tasks brings 500 commands; gRPC's own limit is 4 MiB
  "grpc.keepalive_time_ms": 30_000, // the daemon cuts off who pings more often than every 10 s
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.initial_reconnect_backoff_ms": 200,
  "grpc.max_reconnect_backoff_ms": 2_000, // by default two minutes may pass before a daemon is found again
  "grpc.enable_http_proxy": 0, // the daemon is on this machine or next to it
};

const definitions = protoLoader.loadSync(
  [
    "error_details.proto",
    ...readdirSync(join(PROTOS, "swarm/v1"))
      .filter((name) => name.endsWith(".proto"))
      .map((name) => `swarm/v1/${name}`),
  ],
  { includeDirs: [PROTOS, HERE], keepCase: true, longs: String, enums: String, defaults: true, oneofs: true },
);
const { SwarmService, SchedulerService } = grpc.loadPackageDefinition(definitions).swarm.v1;

/** Reasons for the end of a stream of WatchSwarm after which the next one goes on. */
const PASSING_ENDS = new Set(["REASON_SLOW_WATCHER", "REASON_DRAINING"]);

/**
 * Both services on one connection. There is a method for every unary call: `await client.getSwarm({ swarm_id })`. Each
 * takes as its last argument after how many seconds it has to end: gRPC itself has no deadline.
 */
export class Client {
  #token;

  /** `address` is `unix:PATH` or `HOST:PORT`; with the certificate of a CA (PEM) the connection is TLS. */
  constructor({ address, token = "", ca = null }) {
    const credentials = ca ? grpc.credentials.createSsl(ca) : grpc.credentials.createInsecure();
    this.address = address;
    this.#token = token;
    this.swarms = new SwarmService(address, credentials, OPTIONS);
    // The same channel, so that there is one connection.
    this.scheduler = new SchedulerService(address, credentials, { channelOverride: this.swarms.getChannel() });
    for (const stub of [this.swarms, this.scheduler]) {
      for (const { originalName: name, requestStream, responseStream } of Object.values(stub.constructor.service)) {
        if (!requestStream && !responseStream) {
          this[name] = (request, seconds = 30) => this.#unary(stub, name, request, seconds);
        }
      }
    }
  }

  /** What SWARMD_ADDRESS, SWARMD_TOKEN_FILE and SWARMD_TLS_CA say, for the constructor. */
  static configuration({ SWARMD_ADDRESS, SWARMD_TOKEN_FILE, SWARMD_TLS_CA } = process.env) {
    if (!SWARMD_ADDRESS) throw new Error("SWARMD_ADDRESS: set it to unix:PATH or HOST:PORT");
    return {
      address: SWARMD_ADDRESS,
      token: SWARMD_TOKEN_FILE ? readFileSync(SWARMD_TOKEN_FILE, "utf8").trim() : "",
      ca: SWARMD_TLS_CA ? readFileSync(SWARMD_TLS_CA) : null,
    };
  }

  /** Ends the connection; until then it keeps the process alive. */
  close() {
    this.swarms.close();
  }

  /**
   * Loads chunks as one unit: all of them or, on an error, none. Each must stay below the daemon's message limit
   * (4 MiB). The request id makes it safe to send everything again when the connection was lost before the answer.
   */
  async addTasks(swarm_id, request_id, chunks, seconds = 30) {
    let call;
    const answer = new Promise((resolve, reject) => {
      call = this.swarms.addTasks(this.#metadata(), within(seconds), settle(resolve, reject));
    });
    try {
      await Promise.race([answer, send(call, chunks, { swarm_id, request_id })]); // the answer is first: a refusal
      return await answer;
    } finally {
      call.cancel(); // nothing, unless the chunks failed
    }
  }

  /**
   * Tells what happened, and gives the answers in the order of the updates. Updates are sent from now on, so that none
   * waits for an answer; read the answers meanwhile, for a daemon whose answers nobody reads stops reading, too. An
   * update that was refused has `error` in its answer, and stops nothing.
   *
   * When the stream is lost, send again what was not answered: repeating is harmless.
   */
  applyUpdates(swarm_id, updates, seconds = 30) {
    const call = this.scheduler.applyUpdate(this.#metadata(), within(seconds));
    const answers = read(call);
    send(call, updates, { swarm_id }).catch((error) => call.destroy(error));
    return answers;
  }

  /**
   * Everything that happens to a swarm, in order and without gaps: also across lost connections, restarts of the
   * daemon, and times in which it was read too slowly. Without `after_revision` in the request it begins with a
   * snapshot; there is another one in between when the daemon no longer keeps what was missed.
   *
   * It ends with an `end` message when the swarm was deleted, or is finished and `until_finished` is set. It throws
   * when a daemon was not there from the beginning, when it refuses, or when the time is over.
   */
  async *watch(request, seconds = Infinity) {
    const deadline = within(seconds); // of all its streams together
    const next = { ...request };
    let reached = false;
    for (;;) {
      try {
        for await (const message of read(this.swarms.watchSwarm(next, this.#metadata(), deadline))) {
          reached = true;
          next.after_revision = message.end ? message.end.resume_revision : message.revision;
          if (PASSING_ENDS.has(message.end?.reason)) break;
          yield message;
          if (message.end) return;
        }
      } catch (error) {
        if (reached && error.code === grpc.status.OUT_OF_RANGE) delete next.after_revision;
        else if (!reached || error.code !== grpc.status.UNAVAILABLE) throw error;
      }
      await sleep(RETRY_PAUSE_MS);
    }
  }

  #unary(stub, name, request, seconds) {
    return new Promise((resolve, reject) => {
      stub[name](request, this.#metadata(), within(seconds), settle(resolve, reject));
    });
  }

  #metadata() {
    const metadata = new grpc.Metadata();
    if (this.#token) metadata.set("authorization", `Bearer ${this.#token}`);
    return metadata;
  }
}

/**
 * Makes a call again for as long as it ends as UNAVAILABLE, as all calls do while the daemon is restarted, but not for
 * longer than so many seconds. Only for calls that may be carried out twice, for the lost one may have been: those that
 * read, and those with a request_id, whose repeat gets the same answer.
 */
export async function retry(seconds, call) {
  const until = performance.now() + seconds * 1000;
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (error.code !== grpc.status.UNAVAILABLE || performance.now() >= until) throw error;
    }
    await sleep(RETRY_PAUSE_MS);
  }
}

/** What is known of a call that failed: the details, too, which the daemon gives beside code and message. */
export function failureOf(error) {
  const failure = { code: codeName(error.code), message: error.details, reason: "", domain: "", field: "" };
  const [trailer] = error.metadata?.get("grpc-status-details-bin") ?? [];
  for (const { type_url, value } of trailer ? decode("Status", trailer).details : []) {
    if (type_url.endsWith("/google.rpc.ErrorInfo")) {
      ({ reason: failure.reason, domain: failure.domain } = decode("ErrorInfo", value));
    } else if (type_url.endsWith("/google.rpc.BadRequest")) {
      failure.field = decode("BadRequest", value).field_violations[0]?.field ?? "";
    }
  }
  return failure;
}

/** The name of a status code: NOT_FOUND for 5. */
export function codeName(code) {
  return grpc.status[code] ?? String(code);
}

/** A number of seconds as google.protobuf.Duration. */
export function duration(number) {
  const nanos = Math.round(number * 1e9);
  return { seconds: String(Math.trunc(nanos / 1e9)), nanos: nanos % 1e9 };
}

function decode(type, bytes) {
  return definitions[`google.rpc.${type}`].deserialize(bytes);
}

function within(seconds) {
  return { deadline: Date.now() + seconds * 1000 };
}

function settle(resolve, reject) {
  return (error, answer) => (error ? reject(error) : resolve(answer));
}

/** Writes all messages, no faster than they leave; the first one says what holds for the whole stream. */
async function send(call, messages, first) {
  for await (const message of messages) {
    if (!call.write({ ...message, ...first })) await once(call, "drain");
    first = {};
  }
  call.end();
}

/** The messages of a stream; throws its error. When the caller has seen enough, the daemon is told. */
function read(call) {
  let failure; // may come before anybody reads, and would then end the process
  call.on("error", (error) => (failure ??= error));
  return (async function* () {
    try {
      yield* call;
      if (failure) throw failure;
    } finally {
      call.cancel();
    }
  })();
}
