//! `doctor`: reaches the broker, and says what is promised here.

use std::process::ExitCode;

use messaging::driver::{Health, Scope, Standing};
use messaging::{Broker, Capabilities, Environment, Registry, Support};
use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::exit::{Failure, UNFINISHED};
use crate::output;
use crate::table::one_line;

pub(crate) async fn run(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let found = look().await;
    let report = match found {
        Ok(report) => report,
        Err(error) => {
            let failure = Failure::from(error);
            if args.json {
                let report = json!({ "reached": false, "error": failure.to_string() });
                output::write(format!("{report}\n").as_bytes())?;
            }
            return Err(failure);
        }
    };
    output::write(if args.json { report.to_json() } else { report.to_text() }.as_bytes())?;
    Ok(if report.health.is_sound() { ExitCode::SUCCESS } else { UNFINISHED.into() })
}

/// What was found.
#[derive(Debug)]
struct Report {
    backend: &'static str,
    address: String,
    health: Health,
    capabilities: Capabilities,
}

/// Looks without creating anything.
async fn look() -> messaging::Result<Report> {
    let builder = Registry::compiled_in().builder(&Environment::of_process()).await?;
    let broker = builder.as_found().open().await?;
    let report = Report::of(&broker).await?;
    broker.close().await?;
    Ok(report)
}

impl Report {
    async fn of(broker: &Broker) -> messaging::Result<Self> {
        let health = match broker.admin() {
            Ok(admin) => admin.health().await?,
            // It was reached, and there is nobody to say more.
            Err(_) => Health::serving(),
        };
        let capabilities = broker.capabilities(Scope::Broker);
        Ok(Self { backend: broker.backend(), address: broker.address(), health, capabilities })
    }

    fn to_text(&self) -> String {
        let mut lines = vec![
            line("backend", self.backend),
            line("address", &self.address),
            line("version", self.health.version.as_deref().unwrap_or("unknown")),
            line("serves", if self.health.serving { "yes" } else { "no" }),
        ];
        for promise in &self.health.promises {
            let (state, why) = standing(&promise.standing);
            let because = why.map_or_else(String::new, |why| format!(": {why}"));
            lines.push(line(state, &format!("{}{because}", promise.what)));
        }
        lines.extend(self.health.notes.iter().map(|note| line("note", note)));
        for (feature, support, note) in self.capabilities.iter() {
            let because = if note.is_empty() { String::new() } else { format!(": {note}") };
            lines.push(line(offered(support), &format!("{feature}{because}")));
        }
        lines.join("\n") + "\n"
    }

    fn to_json(&self) -> String {
        let promises: Vec<Value> = self
            .health
            .promises
            .iter()
            .map(|promise| {
                let (state, why) = standing(&promise.standing);
                json!({ "what": promise.what, "standing": state, "why": why })
            })
            .collect();
        let features: Vec<Value> = self
            .capabilities
            .iter()
            .map(|(feature, support, note)| {
                json!({ "feature": feature.name(), "support": offered(support), "note": note })
            })
            .collect();
        let report = json!({
            "reached": true,
            "backend": self.backend,
            "address": self.address,
            "version": self.health.version,
            "serving": self.health.serving,
            "sound": self.health.is_sound(),
            "promises": promises,
            "notes": self.health.notes,
            "features": features,
        });
        format!("{report}\n")
    }
}

fn line(label: &str, text: &str) -> String {
    format!("{label:<11} {}", one_line(text))
}

fn standing(standing: &Standing) -> (&'static str, Option<&str>) {
    match standing {
        Standing::Kept => ("promised", None),
        Standing::NotMade { reason } => ("no promise", Some(reason)),
        Standing::Broken { setting } => ("BROKEN", Some(setting)),
        _ => ("unknown", None),
    }
}

const fn offered(support: Support) -> &'static str {
    match support {
        Support::Native => "native",
        Support::Emulated => "emulated",
        _ => "unsupported",
    }
}

#[cfg(test)]
mod tests {
    use messaging::Feature;
    use messaging::driver::Promise;

    use super::*;

    fn report(health: Health) -> Report {
        let capabilities =
            Capabilities::none().with(Feature::Listen, Support::Native, "gaps are visible");
        Report { backend: "redis", address: "127.0.0.1:6379".to_owned(), health, capabilities }
    }

    #[test]
    fn what_is_promised_what_is_not_and_what_breaks_it_are_lines_of_their_own() {
        let health = Health::serving()
            .with_version("7.0.15")
            .with_promise(Promise::kept("a confirmed publish survives a restart"))
            .with_promise(Promise::not_made("it survives the machine", "there is one node"))
            .with_promise(Promise::broken("no message is evicted", "maxmemory-policy is lru"))
            .with_note("persistence is\nslow");
        let text = report(health).to_text();
        for line in [
            "version     7.0.15\n",
            "promised    a confirmed publish survives a restart\n",
            "no promise  it survives the machine: there is one node\n",
            "BROKEN      no message is evicted: maxmemory-policy is lru\n",
            "note        persistence is\\nslow\n",
            "native      listen: gaps are visible\n",
            "unsupported settlement\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn json_says_the_same() {
        let health = Health::serving().with_promise(Promise::broken("a", "b is off"));
        let found: Value = serde_json::from_str(&report(health).to_json()).unwrap();
        assert_eq!((&found["reached"], &found["sound"]), (&true.into(), &false.into()));
        let wanted = json!([{ "what": "a", "standing": "BROKEN", "why": "b is off" }]);
        assert_eq!(found["promises"], wanted);
        assert_eq!(found["features"][3]["support"], "native");
    }
}
