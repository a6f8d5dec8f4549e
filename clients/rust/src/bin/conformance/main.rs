//! Carries out script.json; README.md two folders up says what each step means.

mod script_json;

use std::{
    cell::RefCell, collections::HashMap, env, error::Error, fs, io, process::ExitCode,
    time::Duration,
};

use serde_json::{json, Value};
use swarm_client::{
    proto::{
        watch_swarm_response::Event, AddTasksRequest, ApplyUpdateRequest, ApplyUpdateResponse,
        CreateSwarmRequest, DeleteSwarmRequest, GetSwarmRequest, HasWorkRequest, ListSwarmsRequest,
        StateUpdate, TaskStatus, TickRequest,
    },
    while_unavailable, within, Client, Failure,
};
use tonic::{Code, Status};

use script_json::{difference, members, read, write};

/// What came of a step. A call that failed is a [`Status`] in the box.
type Outcome = Result<Value, Box<dyn Error>>;

/// One run of the script.
struct Run {
    client: Client,
    revisions: RefCell<HashMap<String, i64>>,
    batches: RefCell<HashMap<String, Vec<String>>>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: conformance SCRIPT")?;
    let script: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let unix = env::var("SWARMD_ADDRESS")?.starts_with("unix:");
    let transport = if unix { "unix" } else { "tcp" };
    let run = Run {
        client: Client::from_environment()?,
        revisions: RefCell::default(),
        batches: RefCell::default(),
    };
    let mut code = ExitCode::SUCCESS;
    for step in list(&script, "steps")? {
        if step.get("only").is_some_and(|only| only != transport) {
            continue;
        }
        let name = text(step, "name")?;
        match run.carry_out(step).await {
            Ok(()) => println!("ok {name}"),
            Err(problem) => {
                println!("failed {name}: {problem}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

impl Run {
    /// An error when the step does not come to what it should.
    async fn carry_out(&self, step: &Value) -> Result<(), Box<dyn Error>> {
        let patience = seconds(step, "retry_seconds", 0.0)?;
        let outcome = while_unavailable(patience, || async {
            match self.act(step).await.map_err(<dyn Error>::downcast) {
                Err(Ok(status)) => Err(*status),
                Err(Err(surprise)) => Ok(Err(surprise)),
                Ok(result) => Ok(Ok(result)),
            }
        });
        let wanted = step.get("expect_error");
        let found = match outcome.await {
            Err(status) => {
                let failure = failure(&status);
                let unlike = |wanted| difference(wanted, &failure, "").is_some();
                wanted
                    .is_none_or(unlike)
                    .then(|| format!("it failed with {failure}: {}", status.message()))
            }
            Ok(Err(surprise)) => return Err(surprise),
            Ok(Ok(result)) if wanted.is_some() => Some(format!("it went well: {result}")),
            Ok(Ok(result)) => step
                .get("expect")
                .and_then(|wanted| difference(wanted, &result, "")),
        };
        found.map_or(Ok(()), |found| Err(found.into()))
    }

    async fn act(&self, step: &Value) -> Outcome {
        let client = match step.get("without_token") {
            Some(Value::Bool(true)) => self.client.clone().with_token("")?,
            _ => self.client.clone(),
        };
        let deadline = seconds(step, "deadline_seconds", 30.0)?;
        match text(step, "do")? {
            "create_swarm" => create_swarm(&client, step, deadline).await,
            "get_swarm" => get_swarm(&client, step, deadline).await,
            "list_swarms" => list_swarms(&client, deadline).await,
            "delete_swarm" => delete_swarm(&client, step, deadline).await,
            "add_tasks" => add_tasks(&client, step, deadline).await,
            "has_work" => has_work(&client, step, deadline).await,
            "tick" => self.tick(&client, step, deadline).await,
            "apply_updates" => apply_updates(&client, step, deadline).await,
            "watch" => self.watch(&client, step, deadline).await,
            "restart" => restart(),
            other => Err(format!("nobody knows how to do {other}").into()),
        }
    }

    async fn tick(&self, client: &Client, step: &Value, deadline: Duration) -> Outcome {
        let names = ["swarm_id", "request_id", "view", "timeout_seconds"];
        let request: TickRequest = read(&members(step, &names))?;
        let request = client.request(request, deadline);
        let answer = within(deadline, client.scheduler().tick(request)).await?;
        let answer = answer.into_inner();

        let batches = answer.batches.iter();
        let ids: Vec<String> = batches.map(|batch| batch.batch_id.clone()).collect();
        if step.get("same_batches_as").is_some() {
            let saved = self.batches.borrow();
            let wanted = saved.get(text(step, "same_batches_as")?);
            if wanted != Some(&ids) {
                return Err(format!("the batches are {ids:?}, not {wanted:?}").into());
            }
        }
        if step.get("save_batches").is_some() {
            let name = text(step, "save_batches")?.to_owned();
            self.batches.borrow_mut().insert(name, ids);
        }

        let mut result = write(&answer)?;
        for (place, batch) in answer.batches.iter().enumerate() {
            let commands: Vec<&str> = batch.tasks.iter().map(|task| &*task.command).collect();
            result["batches"][place]["commands"] = json!(commands);
        }
        let groups = answer
            .update
            .iter()
            .flat_map(|update| &update.task_statuses);
        let queued = groups.filter(|group| group.status() == TaskStatus::Queued);
        let queued = queued.flat_map(|group| &group.task_ids);
        result["queued"] = queued.map(i64::to_string).collect();
        Ok(result)
    }

    async fn watch(&self, client: &Client, step: &Value, deadline: Duration) -> Outcome {
        let mut revision = None;
        if step.get("after").is_some() {
            let name = text(step, "after")?;
            let saved = self.revisions.borrow().get(name).copied();
            revision = Some(saved.ok_or_else(|| format!("no revision {name} was saved"))?);
        }
        let until_finished = step.get("until_finished") == Some(&Value::Bool(true));
        let enough = step.get("read_changes").and_then(Value::as_u64);
        let mut changes = Vec::new();
        let mut result = json!({"snapshot": null});

        let swarm_id = text(step, "swarm_id")?;
        let mut answers = client
            .watch(swarm_id, revision, until_finished, deadline)
            .await?;
        while let Some(message) = answers.next().await? {
            match message.event {
                Some(Event::Snapshot(snapshot)) => {
                    let counts = snapshot.swarm.and_then(|swarm| swarm.task_counts);
                    result["snapshot"] = write(&counts.unwrap_or_default())?;
                }
                Some(Event::Change(change)) => {
                    if let Some(before) = revision.filter(|&before| message.revision <= before) {
                        let now = message.revision;
                        return Err(format!("revision {now} comes after {before}").into());
                    }
                    let groups = change.task_statuses.iter().map(told);
                    changes.push(groups.collect::<Result<Vec<_>, _>>()?.join("; "));
                }
                Some(Event::End(end)) => {
                    let end = write(&end)?;
                    result["end"] = end["reason"].clone();
                    result["outcome"] = end["outcome"].clone();
                }
                Some(Event::Progress(_)) | None => {}
            }
            revision = Some(message.revision);
            if enough == Some(changes.len() as u64) {
                break;
            }
        }
        if step.get("save_revision").is_some() {
            let name = text(step, "save_revision")?.to_owned();
            let revision = revision.ok_or("there was no message")?;
            self.revisions.borrow_mut().insert(name, revision);
        }
        result["changes"] = json!(changes);
        Ok(result)
    }
}

async fn create_swarm(client: &Client, step: &Value, deadline: Duration) -> Outcome {
    let request: CreateSwarmRequest = read(&members(step, &["swarm", "request_id"]))?;
    let request = client.request(request, deadline);
    let answer = within(deadline, client.swarms().create_swarm(request)).await?;
    write(&answer.into_inner().swarm.ok_or("there is no swarm")?)
}

async fn get_swarm(client: &Client, step: &Value, deadline: Duration) -> Outcome {
    let request: GetSwarmRequest = read(&members(step, &["swarm_id"]))?;
    let request = client.request(request, deadline);
    let answer = within(deadline, client.swarms().get_swarm(request)).await?;
    let swarm = write(&answer.into_inner().swarm.ok_or("there is no swarm")?)?;
    let mut result = swarm["task_counts"].clone();
    result["outcome"] = swarm["outcome"].clone();
    Ok(result)
}

async fn list_swarms(client: &Client, deadline: Duration) -> Outcome {
    let request = client.request(ListSwarmsRequest::default(), deadline);
    let answer = within(deadline, client.swarms().list_swarms(request)).await?;
    let swarms = answer.into_inner().swarms.into_iter();
    let ids: Vec<String> = swarms.map(|swarm| swarm.swarm_id).collect();
    Ok(json!({ "swarm_ids": ids }))
}

async fn delete_swarm(client: &Client, step: &Value, deadline: Duration) -> Outcome {
    let request: DeleteSwarmRequest = read(&members(step, &["swarm_id"]))?;
    let request = client.request(request, deadline);
    within(deadline, client.swarms().delete_swarm(request)).await?;
    Ok(json!({}))
}

async fn add_tasks(client: &Client, step: &Value, deadline: Duration) -> Outcome {
    let chunks = list(step, "chunks")?.iter().map(read::<AddTasksRequest>);
    let chunks = chunks.collect::<Result<_, _>>()?;
    let (swarm_id, request_id) = (text(step, "swarm_id")?, text(step, "request_id")?);
    write(
        &client
            .add_tasks(swarm_id, request_id, chunks, deadline)
            .await?,
    )
}

async fn has_work(client: &Client, step: &Value, deadline: Duration) -> Outcome {
    let request: HasWorkRequest = read(&members(step, &["swarm_id", "wait_seconds"]))?;
    let request = client.request(request, deadline);
    let answer = within(deadline, client.scheduler().has_work(request)).await?;
    write(&answer.into_inner())
}

async fn apply_updates(client: &Client, step: &Value, deadline: Duration) -> Outcome {
    let mut updates = Vec::new();
    for message in list(step, "messages")? {
        let update: StateUpdate = read(&members(message, &["task_statuses"]))?;
        updates.push(ApplyUpdateRequest {
            update: Some(update),
            ..read(&members(message, &["sequence"]))?
        });
    }
    let swarm_id = text(step, "swarm_id")?;
    let mut answers = client.apply_updates(swarm_id, updates, deadline).await?;
    let mut read = Vec::new();
    while let Some(answer) = answers.next().await? {
        read.push(update_answer(&answer)?);
    }
    Ok(json!({ "answers": read }))
}

fn update_answer(answer: &ApplyUpdateResponse) -> Outcome {
    let mut result = write(answer)?;
    if let Some(error) = &answer.error {
        result["error"]["code"] = json!(code_name(Code::from_i32(error.code)));
    }
    Ok(result)
}

fn told(group: &swarm_client::proto::TaskStatusGroup) -> Result<String, Box<dyn Error>> {
    let status = write(group)?["status"].clone();
    let ids: Vec<String> = group.task_ids.iter().map(i64::to_string).collect();
    let status = status.as_str().ok_or("a status without a name")?;
    Ok(format!("{status} {}", ids.join(",")))
}

fn restart() -> Outcome {
    println!("restart");
    match io::stdin().read_line(&mut String::new())? {
        0 => Err("standard input is at its end".into()),
        _ => Ok(json!({})),
    }
}

fn failure(status: &Status) -> Value {
    let failure = Failure::from(status);
    json!({
        "code": code_name(failure.code),
        "reason": failure.reason,
        "domain": failure.domain,
        "field": failure.field,
    })
}

/// `NOT_FOUND`: tonic has only `NotFound`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn text<'a>(step: &'a Value, name: &str) -> Result<&'a str, String> {
    let found = step.get(name).and_then(Value::as_str);
    found.ok_or_else(|| format!("the step has no {name}"))
}

fn list<'a>(step: &'a Value, name: &str) -> Result<&'a Vec<Value>, String> {
    let found = step.get(name).and_then(Value::as_array);
    found.ok_or_else(|| format!("the step has no {name}"))
}

fn seconds(step: &Value, name: &str, otherwise: f64) -> Result<Duration, Box<dyn Error>> {
    let value = match step.get(name) {
        Some(value) => value
            .as_f64()
            .ok_or_else(|| format!("{name} is no number"))?,
        None => otherwise,
    };
    Ok(Duration::try_from_secs_f64(value)?)
}
