/** Carries out script.json with the client beside this file; README.md one folder up says what each step means. */

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { isDeepStrictEqual } from "node:util";
import { Client, codeName, duration, failureOf, retry } from "./swarm_client.js";

/** A step did not come to what it should. */
class WrongError extends Error {}

/** One run of the script: a method for each `do`, with the result of the step. */
class Steps {
  #client;
  #withoutToken;
  #revisions = new Map();
  #batches = new Map();

  constructor(client, withoutToken) {
    this.#client = client;
    this.#withoutToken = withoutToken;
  }

  async create_swarm(step) {
    const { swarm, request_id } = step;
    const answer = await this.#clientOf(step).createSwarm({ swarm, request_id }, seconds(step));
    const { swarm_id, max_concurrently_running, workflow_run_status } = answer.swarm;
    return {
      swarm_id,
      max_concurrently_running,
      workflow_run_status: short(workflow_run_status, "WORKFLOW_RUN_STATUS_"),
    };
  }

  async get_swarm(step) {
    const { swarm } = await this.#clientOf(step).getSwarm({ swarm_id: step.swarm_id }, seconds(step));
    const { total, done, ready, active } = swarm.task_counts;
    return { total, done, ready, active, outcome: short(swarm.outcome, "SWARM_OUTCOME_") };
  }

  async list_swarms(step) {
    const { swarms } = await this.#clientOf(step).listSwarms({}, seconds(step));
    return { swarm_ids: swarms.map(({ swarm_id }) => swarm_id) };
  }

  async delete_swarm(step) {
    await this.#clientOf(step).deleteSwarm({ swarm_id: step.swarm_id }, seconds(step));
    return {};
  }

  async add_tasks(step) {
    const chunks = step.chunks.map(({ task_resources = [], ...others }) => ({
      ...others,
      task_resources: task_resources.map(({ runtime_seconds, ...values }) => ({
        ...values,
        ...(runtime_seconds !== undefined && { runtime: duration(runtime_seconds) }),
      })),
    }));
    const client = this.#clientOf(step);
    const answer = await client.addTasks(step.swarm_id, step.request_id, chunks, seconds(step));
    const { task_count, array_count, task_resources_count, newly_ready_count } = answer;
    return { task_count, array_count, task_resources_count, newly_ready_count };
  }

  async has_work(step) {
    const request = { swarm_id: step.swarm_id };
    if (step.wait_seconds !== undefined) request.wait = duration(step.wait_seconds);
    const answer = await this.#clientOf(step).hasWork(request, seconds(step));
    const { has_work, ready_to_run_count, available_capacity, active_count, finished } = answer;
    return { has_work, ready_to_run_count, available_capacity, active_count, finished };
  }

  async tick(step) {
    const { swarm_id, request_id, view, timeout_seconds } = step;
    const request = { swarm_id, request_id, view: `BATCH_VIEW_${view}`, timeout: duration(timeout_seconds) };
    const answer = await this.#clientOf(step).tick(request, seconds(step));
    const ids = answer.batches.map(({ batch_id }) => batch_id);
    if (step.save_batches) this.#batches.set(step.save_batches, ids);
    if (step.same_batches_as) {
      check(isDeepStrictEqual(ids, this.#batches.get(step.same_batches_as)), `other batches than before: ${ids}`);
    }
    return {
      batches: answer.batches.map(({ array_id, task_ids, attempts, tasks }) => ({
        array_id,
        task_ids,
        attempts,
        commands: tasks.map(({ command }) => command),
      })),
      queued: (answer.update?.task_statuses ?? [])
        .filter(({ status }) => status === "TASK_STATUS_QUEUED")
        .flatMap(({ task_ids }) => task_ids),
      ready_to_run_count: answer.ready_to_run_count,
      timed_out: answer.timed_out,
    };
  }

  async apply_updates(step) {
    const updates = step.messages.map(({ sequence, task_statuses }) => ({
      sequence,
      update: {
        task_statuses: task_statuses.map((group) => ({ ...group, status: `TASK_STATUS_${group.status}` })),
      },
    }));
    // The script wants all of them to be sent before an answer is read; a program would read at once.
    let stream;
    await new Promise((resolve) => {
      const messages = (function* () {
        yield* updates;
        resolve();
      })();
      stream = this.#clientOf(step).applyUpdates(step.swarm_id, messages, seconds(step));
    });
    const answers = [];
    for await (const answer of stream) answers.push(updateAnswer(answer));
    return { answers };
  }

  async watch(step) {
    const request = { swarm_id: step.swarm_id, until_finished: step.until_finished ?? false };
    let revision;
    if (step.after) {
      revision = this.#revisions.get(step.after);
      check(revision !== undefined, `no revision was saved as ${step.after}`);
      request.after_revision = revision;
    }
    const result = { snapshot: null, changes: [] };
    for await (const message of this.#clientOf(step).watch(request, seconds(step))) {
      if (message.snapshot) {
        const { total, ready, done } = message.snapshot.swarm.task_counts;
        result.snapshot = { total, ready, done };
      } else if (message.change) {
        const rises = revision === undefined || BigInt(message.revision) > BigInt(revision);
        check(rises, `revision ${message.revision} comes after ${revision}`);
        const groups = message.change.task_statuses;
        result.changes.push(
          groups.map(({ status, task_ids }) => `${short(status, "TASK_STATUS_")} ${task_ids.join()}`).join("; "),
        );
      } else if (message.end) {
        result.end = short(message.end.reason, "REASON_");
        result.outcome = short(message.end.outcome, "SWARM_OUTCOME_");
      }
      revision = message.revision;
      if (result.changes.length === step.read_changes) break; // which cancels the stream
    }
    if (step.save_revision && revision !== undefined) this.#revisions.set(step.save_revision, revision);
    return result;
  }

  async restart() {
    const lines = createInterface({ input: process.stdin });
    console.log("restart");
    const ended = once(lines, "close").then(() => check(false, "nobody said that the daemon is back"));
    try {
      await Promise.race([once(lines, "line"), ended]);
    } finally {
      ended.catch(() => {});
      lines.close();
    }
    return {};
  }

  #clientOf(step) {
    return step.without_token ? this.#withoutToken : this.#client;
  }
}

function updateAnswer({ sequence, changed_count, newly_ready_count, error, ignored }) {
  const result = { sequence, changed_count, newly_ready_count };
  if (error) result.error = { code: codeName(error.code), reason: error.reason };
  if (ignored.length > 0) {
    result.ignored = ignored.map(({ task_ids, status, reason }) => ({
      task_ids,
      status: short(status, "TASK_STATUS_"),
      reason: short(reason, "REASON_"),
    }));
  }
  return result;
}

function seconds(step) {
  return step.deadline_seconds ?? 30;
}

function short(name, prefix) {
  return name.startsWith(prefix) ? name.slice(prefix.length) : name;
}

function check(condition, why) {
  if (!condition) throw new WrongError(why);
}

const KNOWN = new Set(Object.getOwnPropertyNames(Steps.prototype).filter((name) => name !== "constructor"));

/** Throws when the step does not come to what it should. */
async function carryOut(steps, step) {
  check(KNOWN.has(step.do), `${step.do} is nothing that this client knows to do`);
  let result;
  try {
    result = await retry(step.retry_seconds ?? 0, () => steps[step.do](step));
  } catch (error) {
    if (typeof error.code !== "number") throw error; // none of gRPC
    const failure = failureOf(error);
    const found = step.expect_error ? difference(step.expect_error, failure) : "it failed";
    check(!found, `${found}: ${JSON.stringify(failure)}`);
    return;
  }
  check(!step.expect_error, `it went well: ${JSON.stringify(result)}`);
  const found = difference(step.expect ?? {}, result);
  check(!found, found);
}

/** Where the result is not what is wanted; empty when it is. */
function difference(wanted, got, where = "") {
  if (Array.isArray(wanted) && Array.isArray(got) && wanted.length === got.length) {
    return wanted.map((value, place) => difference(value, got[place], `${where}[${place}]`)).find(Boolean) ?? "";
  }
  if (isObject(wanted) && isObject(got)) {
    const names = Object.keys(wanted);
    return names.map((name) => difference(wanted[name], got[name], `${where}.${name}`)).find(Boolean) ?? "";
  }
  if (isDeepStrictEqual(wanted, got)) return "";
  return `${where.replace(/^\./, "")} is ${JSON.stringify(got)}, not ${JSON.stringify(wanted)}`;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const script = JSON.parse(readFileSync(process.argv[2], "utf8"));
const configuration = Client.configuration();
const transport = configuration.address.startsWith("unix:") ? "unix" : "tcp";
const client = new Client(configuration);
const withoutToken = new Client({ ...configuration, token: "" });
const steps = new Steps(client, withoutToken);
for (const step of script.steps) {
  if ((step.only ?? transport) !== transport) continue;
  try {
    await carryOut(steps, step);
    console.log(`ok ${step.name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`failed ${step.name}: ${error.message}`);
  }
}
client.close();
withoutToken.close();
