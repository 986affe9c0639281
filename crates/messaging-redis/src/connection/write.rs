//! Writing, and what is known of every command afterwards.

use futures::future::join_all;
use redis::aio::ConnectionLike;
use redis::cluster_async::ClusterConnection;
use redis::{Arg, Cmd, Pipeline, RedisError, ServerError, ServerErrorKind, Value};

use super::{Link, Sharded, by_shard};
use crate::wire::number;

/// How many milliseconds replicas have to take what was written.
const REPLICATION: u32 = 1_000;

/// What became of commands that write.
#[derive(Debug)]
pub(crate) struct Written {
    /// What the server answered to each. Where it answered an error, the command had no effect;
    /// `None` where it may have had one, or too few replicas have it.
    pub(crate) answers: Vec<Option<Value>>,
    /// Whether the connection failed at some of them.
    pub(crate) is_broken: bool,
}

impl Link {
    /// Sends all commands in one piece and waits for so many replicas.
    ///
    /// On a cluster the commands of a shard take effect together or not at all: for several, the
    /// client library tells one error in place of all answers.
    pub(crate) async fn write_all(&mut self, mut commands: Vec<Sharded>, replicas: u32) -> Written {
        let count = commands.len();
        if let Self::Cluster(connection) = self {
            let parts = by_shard(commands).into_iter().map(|(indexes, pipeline)| {
                let connection = connection.clone();
                async move { (indexes, write_shard(connection, pipeline, replicas).await) }
            });
            let mut all = Written { answers: vec![None; count], is_broken: false };
            for (indexes, part) in join_all(parts).await {
                all.is_broken |= part.is_broken;
                for (index, answer) in indexes.into_iter().zip(part.answers) {
                    if let Some(slot) = all.answers.get_mut(index) {
                        *slot = answer;
                    }
                }
            }
            return all;
        }
        if replicas > 0 {
            commands.push(Sharded { shard: 0, command: wait(replicas) });
        }
        match self.run_all(commands).await {
            Ok(mut answers) => {
                let is_replicated = replicas == 0 || is_enough(answers.pop().as_ref(), replicas);
                known(answers, is_replicated)
            }
            Err(_) => lost(count),
        }
    }
}

async fn write_shard(
    mut connection: ClusterConnection,
    mut pipeline: Pipeline,
    replicas: u32,
) -> Written {
    let count = pipeline.len();
    pipeline.atomic();
    let answer = connection.req_packed_commands(&pipeline, count + 1, 1).await;
    let refused = match answer.map(|mut answers| answers.pop()) {
        Ok(Some(Value::Array(answers))) if answers.len() == count => {
            let is_replicated = replicas == 0 || replicate(connection, &pipeline, replicas).await;
            return known(answers, is_replicated);
        }
        Ok(Some(Value::ServerError(error))) => error,
        Ok(_) => return lost(count),
        Err(error) => match refusal(error, count) {
            Some(error) => error,
            None => return lost(count),
        },
    };
    known(vec![Value::ServerError(refused); count], true)
}

/// The server's own answer to a transaction, which then had no effect.
///
/// The client library gives the errors of its own search for nodes in place of answers. These are
/// no server's errors, or such that are not listed here.
fn refusal(error: RedisError, count: usize) -> Option<ServerError> {
    let is_of_transaction = match error.kind() {
        redis::ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::ExecAbort
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        ),
        _ => false,
    };
    let errors = error.into_server_errors().filter(|_| is_of_transaction)?;
    // Where MULTI itself is refused, the commands take effect one by one.
    errors.first().filter(|(index, _)| *index < count).map(|(_, error)| error.clone())
}

/// Waits for the replicas of the shard that a pipeline went to.
async fn replicate(mut connection: ClusterConnection, written: &Pipeline, replicas: u32) -> bool {
    let first = written.cmd_iter().next();
    let Some(Arg::Simple(key)) = first.and_then(|command| command.args_iter().nth(1)) else {
        return false;
    };
    // To wait has no key that leads to the shard.
    let mut pipeline = Pipeline::new();
    pipeline.cmd("EXISTS").arg(key).add_command(wait(replicas));
    let answers = connection.req_packed_commands(&pipeline, 0, 2).await;
    is_enough(answers.ok().as_ref().and_then(|answers| answers.last()), replicas)
}

fn wait(replicas: u32) -> Cmd {
    let mut command = redis::cmd("WAIT");
    command.arg(replicas).arg(REPLICATION);
    command
}

fn is_enough(answer: Option<&Value>, replicas: u32) -> bool {
    answer.and_then(number).is_some_and(|number| number >= i64::from(replicas))
}

fn known(answers: Vec<Value>, is_replicated: bool) -> Written {
    let told = |answer| match answer {
        error @ Value::ServerError(_) => Some(error),
        // A failover may forget it.
        _ if !is_replicated => None,
        answer => Some(answer),
    };
    Written { answers: answers.into_iter().map(told).collect(), is_broken: false }
}

fn lost(count: usize) -> Written {
    Written { answers: vec![None; count], is_broken: true }
}
