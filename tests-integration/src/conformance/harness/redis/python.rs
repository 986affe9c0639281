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
else:
    for _, fields in client.xrange(sys.argv[2]):
        sys.stdout.buffer.write(fields[b'body'] + b'\\n')
";

/// Held while the library is installed, which cases may want at the same time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes sure that Python is there with its library.
pub(super) fn install() -> Result<(), String> {
    let _installing = INSTALLING.lock();
    if run(&["-c", "import redis"], &[]).is_ok() {
        return Ok(());
    }
    let place = place();
    let place = place.to_string_lossy();
    run(&["-m", "pip", "install", "--quiet", "--target", &place, "redis"], &[])
        .map_err(|error| format!("Python's redis client can't be installed: {error}"))?;
    run(&["-c", "import redis"], &[]).map(drop)
}

pub(super) fn call(args: &[&str], variables: &[(String, String)]) -> Result<String, String> {
    let args: Vec<&str> = ["-c", PROGRAM].iter().chain(args).copied().collect();
    run(&args, variables)
}

fn run(args: &[&str], variables: &[(String, String)]) -> Result<String, String> {
    let mut command = Command::new("python3");
    command.args(args).env("PYTHONPATH", place()).envs(variables.iter().cloned());
    super::server::output(&mut command)
}

fn place() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join(".brokers/python")
}
