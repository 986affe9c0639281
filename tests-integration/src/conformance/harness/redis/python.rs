//! Python's client, installed beside the brokers where it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// Writes or reads as a Python program does that knows nothing of ours.
const PROGRAM: &str = "
import os, sys, redis
kind = redis.RedisCluster if os.environ.get('REDIS_CLUSTER_NODES') else redis.Redis
client = kind(host=os.environ['REDIS_HOST'], port=int(os.environ['REDIS_PORT']),
              password=os.environ['REDIS_PASSWORD'])
if sys.argv[1] == 'write':
    client.xadd(sys.argv[2], {'body': sys.argv[3]})
elif sys.argv[1] == 'publish':
    client.publish(sys.argv[2], sys.argv[3])
elif sys.argv[1] == 'listen':
    listener = client.pubsub()
    listener.subscribe(sys.argv[2])
    for push in listener.listen():
        data = push['data'] if push['type'] == 'message' else b'1'
        sys.stdout.buffer.write(b'\\n'.join([push['type'].encode(), push['channel'], data, b'']))
        sys.stdout.buffer.flush()
else:
    for _, fields in client.xrange(sys.argv[2]):
        sys.stdout.buffer.write(fields[b'body'] + b'\\n')
";

/// Held while the library is installed, which cases may want at the same time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes sure that Python is there with its library.
pub(super) fn install() -> Result<(), String> {
    let _installing = INSTALLING.lock();
    if run(&["-c", "import redis"]).is_ok() {
        return Ok(());
    }
    let place = place();
    let place = place.to_string_lossy();
    run(&["-m", "pip", "install", "--quiet", "--target", &place, "redis"])
        .map_err(|error| format!("Python's redis client can't be installed: {error}"))?;
    run(&["-c", "import redis"]).map(drop)
}

/// The program, ready to run.
pub(super) fn command(args: &[&str], variables: &[(String, String)]) -> Command {
    let mut command = python(&["-c", PROGRAM]);
    command.args(args).envs(variables.iter().cloned());
    command
}

fn run(args: &[&str]) -> Result<String, String> {
    super::server::output(&mut python(args))
}

fn python(args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.args(args).env("PYTHONPATH", place());
    command
}

fn place() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join(".brokers/python")
}
