//! `provision`: makes the broker have what the topology names, and says what that takes.

use std::path::Path;
use std::process::ExitCode;

use messaging::driver::{Change, Plan, Target};
use messaging::{Broker, Environment, Registry};
use serde_json::{Value, json};

use crate::cli::ProvisionArgs;
use crate::exit::{DRIFT, Failure};
use crate::output;

/// Whatever goes wrong ends with 1, as 2 says that there is drift.
pub(crate) async fn run(args: &ProvisionArgs) -> Result<ExitCode, Failure> {
    let broker = open(args.file.as_deref()).await.map_err(Failure::unfinished)?;
    if broker.backend() == "memory" {
        return Err(Failure::unfinished(
            "the memory backend lives in one process, so what is provisioned here would end with \
             it; choose a broker with MESSAGING_BACKEND",
        ));
    }
    let report = provision(&broker, args).await.map_err(Failure::unfinished)?;
    output::write(if args.json { report.to_json() } else { report.to_text() }.as_bytes())?;
    broker.close().await.map_err(Failure::unfinished)?;
    Ok(if args.check && report.is_drift() { DRIFT.into() } else { ExitCode::SUCCESS })
}

/// Connects without creating anything, so that there is something left to show.
async fn open(file: Option<&Path>) -> messaging::Result<Broker> {
    let mut environment = Environment::of_process();
    if let Some(file) = file {
        environment = environment.with("MESSAGING_TOPOLOGY", file);
    }
    Registry::compiled_in().builder(&environment).await?.as_found().open().await
}

/// What there was to do.
#[derive(Debug)]
struct Report {
    place: (&'static str, String),
    plan: Plan,
    deletions: Vec<Target>,
    done: bool,
}

/// Plans, and does it unless only the plan was asked for.
async fn provision(broker: &Broker, args: &ProvisionArgs) -> Result<Report, Failure> {
    let topology = broker.topology();
    let admin = broker.admin()?;
    let plan = admin.plan(&topology).await?;
    let mut deletions: Vec<Target> = Vec::new();
    for target in &args.delete {
        check_deletion(&plan, target)?;
        if !deletions.contains(target) {
            deletions.push(target.clone());
        }
    }
    let done = !args.plan && !args.check;
    if done {
        admin.apply(&topology).await?;
        for target in &deletions {
            admin.delete(target).await?;
        }
    }
    Ok(Report { place: (broker.backend(), broker.address()), plan, deletions, done })
}

/// Only what the broker has and the topology does not name is ever deleted.
fn check_deletion(plan: &Plan, target: &Target) -> Result<(), Failure> {
    if plan.unmanaged.contains(&target.to_string()) {
        return Ok(());
    }
    let known = match plan.unmanaged.as_slice() {
        [] => "nothing".to_owned(),
        all => all.join(", "),
    };
    let text = format!("{target} can't be deleted: only what is unmanaged can ({known})");
    Err(Failure::unfinished(text))
}

impl Report {
    fn is_drift(&self) -> bool {
        !self.plan.is_empty()
    }

    fn to_text(&self) -> String {
        let (backend, address) = &self.place;
        let mut lines = vec![format!("{backend} ({address})")];
        lines.extend(self.plan.changes.iter().map(Change::to_string));
        lines.extend(self.deletions.iter().map(|target| format!("delete {target}")));
        let deleted = |name: &&String| self.deletions.iter().any(|t| t.to_string() == **name);
        let left = self.plan.unmanaged.iter().filter(|name| !deleted(name));
        lines.extend(left.map(|name| format!("unmanaged {name}")));
        let steps = self.plan.changes.len() + self.deletions.len();
        lines.push(match (steps, self.done) {
            (0, _) => "nothing to do".to_owned(),
            (_, true) => format!("{steps} done"),
            (_, false) => format!("{steps} to do"),
        });
        lines.join("\n") + "\n"
    }

    fn to_json(&self) -> String {
        let (backend, address) = &self.place;
        let change = |change: &Change| {
            json!({
                "action": change.action.name(),
                "target": change.target,
                "detail": change.detail,
            })
        };
        let changes: Vec<Value> = self.plan.changes.iter().map(change).collect();
        let deletions: Vec<String> = self.deletions.iter().map(Target::to_string).collect();
        let report = json!({
            "backend": backend,
            "address": address,
            "changes": changes,
            "deletions": deletions,
            "unmanaged": self.plan.unmanaged,
            "done": self.done,
        });
        format!("{report}\n")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use messaging::memory::Memory;
    use messaging::topology::GroupConfig;
    use messaging::{Bytes, Patterns, SubscribeSpec, Topology};

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(more: &[&str]) -> ProvisionArgs {
        let words = ["helixagent", "provision"].iter().chain(more);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Provision(args) => args,
            other => panic!("{other:?}"),
        }
    }

    /// Another connection to the same broker, which wants a group `g` with this pattern.
    async fn connect(memory: &Memory, pattern: &str) -> Broker {
        let group = GroupConfig::new("g".parse().unwrap(), Patterns::new([pattern]).unwrap());
        let topology = Topology::default().group(group);
        Broker::builder(memory.clone()).topology(topology).as_found().open().await.unwrap()
    }

    #[tokio::test]
    async fn a_plan_changes_nothing_and_what_is_done_is_not_done_again() {
        let memory = Memory::new();
        let broker = connect(&memory, "tasks.#").await;
        let text = provision(&broker, &args(&["--plan"])).await.unwrap().to_text();
        assert!(text.contains("create stream tasks: work, lanes 1\n"), "{text}");
        assert!(text.ends_with("create group g: tasks.#\n5 to do\n"), "{text}");
        let report = provision(&broker, &args(&["--check"])).await.unwrap();
        assert!(report.is_drift() && !report.done);
        let text = provision(&broker, &args(&[])).await.unwrap().to_text();
        assert!(text.ends_with("5 done\n"), "{text}");
        let report = provision(&broker, &args(&["--plan", "--check"])).await.unwrap();
        assert!(!report.is_drift());
        assert_eq!(report.to_text(), "memory (in this process)\nnothing to do\n");
    }

    #[tokio::test]
    async fn other_patterns_are_drift_until_they_are_provisioned() {
        let memory = Memory::new();
        provision(&connect(&memory, "tasks.a").await, &args(&[])).await.unwrap();
        let broker = connect(&memory, "tasks.b").await;
        let report = provision(&broker, &args(&["--check"])).await.unwrap();
        assert!(report.is_drift());
        let line = "alter group g: now tasks.a, asked tasks.b\n";
        assert!(report.to_text().contains(line), "{}", report.to_text());
        provision(&broker, &args(&[])).await.unwrap();
        assert!(!provision(&broker, &args(&["--check"])).await.unwrap().is_drift());
    }

    #[tokio::test]
    async fn only_what_is_unmanaged_is_deleted_and_only_by_its_name() {
        let memory = Memory::new();
        let broker = connect(&memory, "tasks.#").await;
        provision(&broker, &args(&[])).await.unwrap();
        let spec = SubscribeSpec::group("old", ["events.#"]).unwrap();
        drop(broker.subscribe::<Bytes>(spec).await.unwrap());

        let report = provision(&broker, &args(&["--check"])).await.unwrap();
        assert!(!report.is_drift(), "an unmanaged group is no drift");
        assert!(report.to_text().contains("\nunmanaged group old\n"), "{}", report.to_text());
        for wrong in ["group g", "group never", "stream tasks"] {
            let failure = provision(&broker, &args(&["--delete", wrong])).await.unwrap_err();
            let text = format!("{wrong} can't be deleted: only what is unmanaged can (group old)");
            assert_eq!(failure.to_string(), text);
        }
        let report = provision(&broker, &args(&["--plan", "--delete", "group old"])).await.unwrap();
        assert!(report.to_text().ends_with("delete group old\n1 to do\n"));
        let report = provision(&broker, &args(&["--delete", "group old"])).await.unwrap();
        assert_eq!(report.to_text(), "memory (in this process)\ndelete group old\n1 done\n");
        let report: Value =
            serde_json::from_str(&provision(&broker, &args(&["--plan"])).await.unwrap().to_json())
                .unwrap();
        let none = json!([]);
        let parts = [&report["changes"], &report["deletions"], &report["unmanaged"]];
        assert_eq!(parts, [&none, &none, &none]);
    }
}
