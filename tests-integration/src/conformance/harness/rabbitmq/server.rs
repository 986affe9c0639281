//! The RabbitMQ nodes behind a stage, as cases drive them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use xtask::brokers::Private;

use super::connect;
use crate::conformance::harness::nodes::each;
use crate::conformance::harness::python;
use crate::conformance::{Connecting, Foreign, Server};

/// The usual Python clients, and a program with each.
const LIBRARIES: [&str; 2] = ["pika", "kombu"];
const PROGRAM: &str = include_str!("client.py");

/// The exchange, where nothing says otherwise.
const EXCHANGE: &str = "helixagent";

/// An address where nothing listens.
const NOBODY: &str = "127.0.0.1:1";

/// A virtual host of its own on nodes of ours; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct RabbitServer {
    nodes: Arc<Private>,
    host: String,
}

impl RabbitServer {
    /// Makes an empty virtual host.
    pub(super) fn create(nodes: Arc<Private>, host: &str) -> Result<Self, String> {
        let management = nodes.management()?;
        management.put(&format!("/api/vhosts/{host}"), &json!({}))?;
        let server = Self { nodes, host: host.to_owned() };
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let (user, _) = server.credentials();
        management.put(&format!("/api/permissions/{host}/{user}"), &all)?;
        Ok(server)
    }

    /// What `RABBITMQ_URL` says for the nodes: user and password.
    fn credentials(&self) -> (String, String) {
        let url = self.nodes.variable("RABBITMQ_URL").unwrap_or_default();
        let user = url.trim_start_matches("amqp://").split('@').next().unwrap_or_default();
        let (user, password) = user.split_once(':').unwrap_or_default();
        (user.to_owned(), password.to_owned())
    }

    /// The variables, with something else in place of the user and password or of the address.
    fn variables_with(&self, from: &str, to: &str) -> Vec<(String, String)> {
        let mut all = self.variables();
        for (_, value) in &mut all {
            *value = value.replace(from, to);
        }
        all
    }

    /// The queue from which foreign clients read a stream.
    fn queue_of(stream: &str) -> String {
        format!("foreign-{stream}")
    }

    fn path(&self, kind: &str, name: &str) -> String {
        format!("/api/{kind}/{}/{name}", self.host)
    }

    /// Runs `rabbitmqadmin`, which the nodes themselves hand out.
    fn admin(&self, args: &[&str]) -> Result<String, String> {
        let file = tool(&self.nodes)?;
        let url = self.nodes.variable("RABBITMQ_MANAGEMENT_URL").unwrap_or_default();
        let port = url.rsplit(':').next().unwrap_or_default().to_owned();
        let (user, password) = self.credentials();
        let mut all = vec!["-H", "127.0.0.1", "-P", &port, "-u", &user, "-p", &password];
        all.extend(["-V", &self.host]);
        all.extend(args);
        python::call_file(&file, &all)
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        // Where the nodes are down or go with it, there is nothing left to delete.
        let management = self.nodes.management();
        let deleted = management.and_then(|it| it.delete(&format!("/api/vhosts/{}", self.host)));
        deleted.unwrap_or_default();
    }
}

impl Server for RabbitServer {
    fn kill(&self) -> Result<(), String> {
        each(&self.nodes, |nodes, node| nodes.kill(node))
    }

    fn stop(&self) -> Result<(), String> {
        each(&self.nodes, |nodes, node| nodes.stop(node))
    }

    fn start(&self) -> Result<(), String> {
        self.nodes.start_missing()
    }

    fn pause(&self) -> Result<(), String> {
        each(&self.nodes, |nodes, node| nodes.pause(node))
    }

    fn resume(&self) -> Result<(), String> {
        each(&self.nodes, |nodes, node| nodes.resume(node))
    }

    fn cut(&self) -> Result<(), String> {
        let (user, _) = self.credentials();
        self.nodes.management()?.delete(&format!("/api/connections/username/{user}"))
    }

    fn has(&self, client: Foreign) -> Result<(), String> {
        match client {
            Foreign::Tool => tool(&self.nodes).map(drop),
            Foreign::Python(library) => python::install(library),
        }
    }

    fn libraries(&self) -> &'static [&'static str] {
        &LIBRARIES
    }

    fn write(&self, client: Foreign, subject: &str, body: &str) -> Result<(), String> {
        match client {
            Foreign::Tool => self.admin(&[
                "publish",
                &format!("exchange={EXCHANGE}"),
                &format!("routing_key={subject}"),
                &format!("payload={body}"),
            ]),
            Foreign::Python(library) => {
                let args = [library, "write", EXCHANGE, subject, body];
                python::call(PROGRAM, &args, &self.variables())
            }
        }
        .map(drop)
    }

    fn prepare_reading(&self, stream: &str) -> Result<(), String> {
        let management = self.nodes.management()?;
        let queue = Self::queue_of(stream);
        management.delete(&self.path("queues", &queue))?;
        management.put(&self.path("queues", &queue), &json!({ "durable": true }))?;
        let binding = format!("routing_key={stream}.#");
        let (source, destination) = (format!("source={EXCHANGE}"), format!("destination={queue}"));
        self.admin(&["declare", "binding", &source, &destination, &binding]).map(drop)
    }

    fn read(&self, client: Foreign, stream: &str) -> Result<Vec<String>, String> {
        let queue = Self::queue_of(stream);
        match client {
            Foreign::Tool => {
                let queue = format!("queue={queue}");
                let all = self.admin(&["-f", "raw_json", "get", &queue, "count=1000"])?;
                let all: Vec<Value> = serde_json::from_str(&all).map_err(|e| e.to_string())?;
                let body = |message: &Value| Some(message.get("payload")?.as_str()?.to_owned());
                all.iter().map(|message| body(message).ok_or("no payload".to_owned())).collect()
            }
            Foreign::Python(library) => {
                let all = python::call(PROGRAM, &[library, "read", &queue], &self.variables())?;
                Ok(all.lines().map(str::to_owned).collect())
            }
        }
    }

    fn forget_group(&self, _: &str, group: &str) -> Result<(), String> {
        self.nodes.management()?.delete(&self.path("queues", group))
    }

    /// Deletes the exchange and every queue: a stream of its own is not there.
    fn forget_stream(&self, _: &str) -> Result<(), String> {
        let management = self.nodes.management()?;
        management.delete(&self.path("exchanges", EXCHANGE))?;
        let queues = management.get(&format!("/api/queues/{}?columns=name", self.host))?;
        let queues = queues.unwrap_or_default();
        let names = queues.as_array().into_iter().flatten().filter_map(|it| it.get("name"));
        names
            .filter_map(Value::as_str)
            .try_for_each(|name| management.delete(&self.path("queues", name)))
    }

    fn trim(&self, _: &str) -> Result<(), String> {
        Err("what is in hand can't be deleted".to_owned())
    }

    fn password(&self) -> String {
        self.credentials().1
    }

    fn with_password(&self, password: &str) -> Connecting {
        connect(&self.variables_with(&self.password(), &percent_encoded(password)))
    }

    fn to_nobody(&self) -> (Connecting, String) {
        let mut variables = self.variables();
        variables.retain(|(name, _)| name != "RABBITMQ_CLUSTER_NODES");
        for (_, value) in variables.iter_mut().filter(|(name, _)| name == "RABBITMQ_URL") {
            let (user, rest) = value.split_once('@').unwrap_or_default();
            let (_, path) = rest.split_once('/').unwrap_or_default();
            *value = format!("{user}@{NOBODY}/{path}");
        }
        (connect(&variables), NOBODY.to_owned())
    }

    /// A member is dead when its connection ends.
    fn impatiently(&self) -> Connecting {
        connect(&self.variables())
    }

    fn variables(&self) -> Vec<(String, String)> {
        let mut all = self.nodes.env();
        for (_, value) in all.iter_mut().filter(|(name, _)| name == "RABBITMQ_URL") {
            value.push_str(&self.host);
        }
        all
    }
}

/// Where `rabbitmqadmin` is, fetched from the nodes if it is not there yet.
fn tool(nodes: &Private) -> Result<PathBuf, String> {
    let file = python::place().join("rabbitmqadmin");
    if !file.exists() {
        let text = nodes.management()?.file("/cli/rabbitmqadmin")?;
        let failed = |error: std::io::Error| format!("{}: {error}", file.display());
        fs::create_dir_all(python::place()).map_err(failed)?;
        // Whoever sees the file sees all of it.
        let new = file.with_extension(std::process::id().to_string());
        fs::write(&new, text).map_err(failed)?;
        fs::rename(&new, &file).map_err(failed)?;
    }
    Ok(file)
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
