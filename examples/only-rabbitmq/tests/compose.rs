//! What the stacks of `compose/` set for an application is what the backend reads.

use std::path::Path;

use messaging_amqp::RabbitConfig;
use serde_yaml_ng::Value;

#[test]
fn the_variables_of_the_stacks_are_a_configuration() {
    for name in ["rabbitmq", "rabbitmq-ha"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../compose/{name}.yaml"));
        let stack: Value =
            serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let variables = &stack["services"]["helixagent"]["environment"];
        let config = RabbitConfig::from_variables(|name| {
            let value = variables.get(name).and_then(Value::as_str);
            // The engine puts a secret in its place.
            Ok(value.map(|text| text.replace("${RABBITMQ_PASSWORD:?set it in .env}", "secret")))
        });
        let config = config.unwrap();
        assert_eq!(config.exchange, "helixagent", "{name}");
        let management = config.management.unwrap();
        assert!(config.nodes.iter().any(|node| node.host == management.address.host), "{name}");
    }
}
