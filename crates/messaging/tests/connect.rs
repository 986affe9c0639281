//! Choosing a backend by the environment.

use messaging::{Environment, ErrorKind, Registry};

#[expect(clippy::unwrap_used, reason = "a test helper")]
async fn kind_and_text(environment: Environment) -> (ErrorKind, String) {
    let error = Registry::compiled_in().connect(&environment).await.unwrap_err();
    (error.kind().clone(), error.to_string())
}

#[tokio::test]
async fn unset_means_memory_with_the_default_topology() {
    for environment in [
        Environment::default(),
        Environment::default().with("MESSAGING_BACKEND", ""),
        Environment::default().with("MESSAGING_BACKEND", "memory"),
    ] {
        let broker = Registry::compiled_in().connect(&environment).await.unwrap();
        assert_eq!(broker.backend(), "memory");
        assert!(broker.topology().stream("tasks").is_some());
        broker.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_backend_that_is_unknown_or_not_compiled_in_is_refused_with_those_that_are() {
    let kafka = Environment::default().with("MESSAGING_BACKEND", "kafka");
    let error = Registry::empty().connect(&kafka).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::UnknownBackend);
    assert!(error.to_string().contains("not compiled in"), "{error}");
    for (name, why) in [("nats", "no backend"), ("Memory", "no backend"), ("a\nb", "a\\nb")] {
        let environment = Environment::default().with("MESSAGING_BACKEND", name);
        let (kind, text) = kind_and_text(environment).await;
        assert_eq!(kind, ErrorKind::UnknownBackend);
        assert!(text.contains(why) && text.contains("compiled in: memory"), "{text}");
    }
}

#[tokio::test]
async fn a_topology_file_is_used_and_a_missing_one_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[stream]]\nname = \"jobs\"\nkind = \"work\"\n").unwrap();
    let environment = Environment::default().with("MESSAGING_TOPOLOGY", file.path());
    let broker = Registry::compiled_in().connect(&environment).await.unwrap();
    assert!(broker.topology().stream("jobs").is_some());

    let environment = Environment::default().with("MESSAGING_TOPOLOGY", "missing.toml");
    let (kind, text) = kind_and_text(environment).await;
    assert_eq!(kind, ErrorKind::InvalidConfig);
    assert!(text.contains("missing.toml"), "{text}");
}

#[tokio::test]
async fn a_broker_opened_as_found_has_only_what_was_there() {
    let builder = Registry::compiled_in().builder(&Environment::default()).await.unwrap();
    let broker = builder.as_found().open().await.unwrap();
    let plan = broker.admin().unwrap().plan(&broker.topology()).await.unwrap();
    assert_eq!(plan.changes.len(), broker.topology().streams.len());
}

#[tokio::test]
async fn connecting_creates_streams_and_no_groups() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "[[stream]]\nname = \"jobs\"\nkind = \"work\"\n\
                [[group]]\nname = \"g\"\npatterns = [\"jobs.#\"]\n";
    std::fs::write(file.path(), text).unwrap();
    let environment = Environment::default().with("MESSAGING_TOPOLOGY", file.path());
    let broker = Registry::compiled_in().connect(&environment).await.unwrap();
    let plan = broker.admin().unwrap().plan(&broker.topology()).await.unwrap();
    let steps: Vec<&str> = plan.changes.iter().map(|change| &*change.target).collect();
    assert_eq!(steps, ["group g"]);
}

#[test]
fn an_environment_shows_no_values() {
    let environment = Environment::default().with("REDIS_PASSWORD", "hunter2");
    assert_eq!(format!("{environment:?}"), "{\"REDIS_PASSWORD\"}");
}
