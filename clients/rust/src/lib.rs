//! A client of swarmd on one connection: the part to copy from.
//!
//! Calls of one message go through [`Client::swarms`] and [`Client::scheduler`]; the streams have
//! methods here. A client is cheap to clone, and its clones share the connection.

use std::{env, error::Error, fs, future::Future, time::Duration};

use tokio::time::{sleep, timeout_at, Instant};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
    Code, Request, Status, Streaming,
};
use tonic_types::StatusExt;

use proto::{
    scheduler_service_client::SchedulerServiceClient, swarm_service_client::SwarmServiceClient,
    AddTasksRequest, AddTasksResponse, ApplyUpdateRequest, ApplyUpdateResponse, WatchSwarmRequest,
    WatchSwarmResponse,
};

/// The stubs, as build.rs makes them.
#[allow(clippy::all, missing_docs)]
pub mod proto {
    tonic::include_proto!("swarm.v1");
}

/// The answer of a tick may well have more than the 4 MiB that gRPC takes by default.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Both services, on one connection.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects with the first call, and again whenever the connection was lost.
    ///
    /// `address` is `unix:PATH` or `HOST:PORT`. An empty token is not sent. With a CA certificate
    /// (PEM) the connection is TLS, and the daemon's certificate must come from that CA.
    pub fn new(address: &str, token: &str, ca: Option<&[u8]>) -> Result<Self, Box<dyn Error>> {
        let mut endpoint = Endpoint::from_shared(match ca {
            _ if address.starts_with("unix:") => address.to_owned(),
            None => format!("http://{address}"),
            Some(_) => format!("https://{address}"),
        })?
        .http2_keep_alive_interval(Duration::from_secs(30)); // Below 10 s the daemon hangs up.
        if let Some(pem) = ca {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls)?;
        }
        Self {
            channel: endpoint.connect_lazy(),
            authorization: None,
        }
        .with_token(token)
    }

    /// Connects to where SWARMD_ADDRESS, SWARMD_TOKEN_FILE and SWARMD_TLS_CA say.
    pub fn from_environment() -> Result<Self, Box<dyn Error>> {
        let address = env::var("SWARMD_ADDRESS").map_err(|_| "SWARMD_ADDRESS is not set")?;
        let token = env::var_os("SWARMD_TOKEN_FILE").map(fs::read_to_string);
        let ca = env::var_os("SWARMD_TLS_CA").map(fs::read).transpose()?;
        Self::new(
            &address,
            token.transpose()?.unwrap_or_default().trim(),
            ca.as_deref(),
        )
    }

    /// The same connection with another token; an empty one is not sent.
    pub fn with_token(mut self, token: &str) -> Result<Self, Box<dyn Error>> {
        self.authorization = match token {
            "" => None,
            token => Some(format!("Bearer {token}").parse()?),
        };
        Ok(self)
    }

    /// The calls that keep swarms.
    pub fn swarms(&self) -> SwarmServiceClient<Channel> {
        SwarmServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// The calls that schedule.
    pub fn scheduler(&self) -> SchedulerServiceClient<Channel> {
        SchedulerServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    /// What goes with every call: the token, and how long the daemon may take.
    pub fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        if let Some(value) = &self.authorization {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        request
    }

    /// Loads chunks as one unit; each must stay below the daemon's limit for a message (4 MiB).
    ///
    /// The request id makes it safe to send all of it again when the connection was lost before
    /// the answer came.
    pub async fn add_tasks(
        &self,
        swarm_id: &str,
        request_id: &str,
        mut chunks: Vec<AddTasksRequest>,
        deadline: Duration,
    ) -> Result<AddTasksResponse, Status> {
        if let Some(first) = chunks.first_mut() {
            first.swarm_id = swarm_id.to_owned();
            first.request_id = request_id.to_owned();
        }
        let request = self.request(tokio_stream::iter(chunks), deadline);
        let answer = within(deadline, self.swarms().add_tasks(request)).await?;
        Ok(answer.into_inner())
    }

    /// Tells what happened. The connection's own task sends the updates, so none waits for an
    /// answer.
    ///
    /// A wrong update does not end the stream: its answer has an error, and the others count.
    /// When the connection was lost send again what was not answered; repeating is harmless.
    pub async fn apply_updates(
        &self,
        swarm_id: &str,
        mut updates: Vec<ApplyUpdateRequest>,
        deadline: Duration,
    ) -> Result<Answers<ApplyUpdateResponse>, Status> {
        if let Some(first) = updates.first_mut() {
            first.swarm_id = swarm_id.to_owned();
        }
        let until = Instant::now() + deadline;
        let request = self.request(tokio_stream::iter(updates), deadline);
        let answer = within(deadline, self.scheduler().apply_update(request)).await?;
        Ok(Answers {
            stream: answer.into_inner(),
            until,
        })
    }

    /// What happens from now on, or after a revision; drop it when enough was seen.
    ///
    /// Each message has a revision: keep the last one, and a watch that begins after it goes on
    /// without a gap, also when the daemon was started again meanwhile.
    pub async fn watch(
        &self,
        swarm_id: &str,
        after_revision: Option<i64>,
        until_finished: bool,
        deadline: Duration,
    ) -> Result<Answers<WatchSwarmResponse>, Status> {
        let message = WatchSwarmRequest {
            swarm_id: swarm_id.to_owned(),
            after_revision,
            until_finished,
            ..Default::default()
        };
        let until = Instant::now() + deadline;
        let request = self.request(message, deadline);
        let answer = within(deadline, self.swarms().watch_swarm(request)).await?;
        Ok(Answers {
            stream: answer.into_inner(),
            until,
        })
    }
}

/// The answers of a call that has several of them. Dropping it cancels the call.
#[derive(Debug)]
pub struct Answers<T> {
    stream: Streaming<T>,
    until: Instant,
}

impl<T> Answers<T> {
    /// The next one; none at the end.
    pub async fn next(&mut self) -> Result<Option<T>, Status> {
        by(self.until, self.stream.message()).await
    }
}

/// A call that fails as gRPC says it must, which tonic by itself does not quite do.
pub async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    by(Instant::now() + deadline, call).await
}

async fn by<T>(until: Instant, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = || Status::deadline_exceeded("no answer came in time");
    match timeout_at(until, call).await {
        // tonic looks at the deadline only until an answer begins, and then says CANCELLED.
        Err(_) => Err(late()),
        // It says UNKNOWN or CANCELLED of a connection that was lost. Only what it says by itself,
        // and not the daemon, has a source.
        Ok(Err(status))
            if matches!(status.code(), Code::Unknown | Code::Cancelled)
                && status.source().is_some() =>
        {
            if Instant::now() >= until {
                return Err(late());
            }
            Err(Status::unavailable(status.message()))
        }
        Ok(result) => result,
    }
}

/// Makes a call again while the daemon is not there, for so long at most.
///
/// Only for what can be done twice: calls that read, calls with a request id, and updates.
pub async fn while_unavailable<T, F>(
    patience: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>>,
{
    let until = Instant::now() + patience;
    loop {
        match call().await {
            Err(status) if status.code() == Code::Unavailable && Instant::now() < until => {
                sleep(Duration::from_millis(200)).await;
            }
            result => return result,
        }
    }
}

/// What is known of a call that failed; texts that the daemon did not give are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status.
    pub code: Code,
    /// A constant for programs: `UNKNOWN_SWARM`.
    pub reason: String,
    /// Who says so: `swarmd`.
    pub domain: String,
    /// The field of the request that is wrong.
    pub field: String,
}

impl From<&Status> for Failure {
    /// Reads the details that the daemon sends beside status and message.
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let (reason, domain) = details
            .error_info()
            .map(|info| (info.reason.clone(), info.domain.clone()))
            .unwrap_or_default();
        let field = details
            .bad_request()
            .and_then(|bad| bad.field_violations.first())
            .map(|violation| violation.field.clone())
            .unwrap_or_default();
        Self {
            code: status.code(),
            reason,
            domain,
            field,
        }
    }
}
