//! What the stacks of `compose/` set for an application is what the backend reads.

use std::path::Path;

use messaging_kafka::KafkaConfig;
use serde_yaml_ng::Value;

#[test]
fn the_variables_of_the_stacks_are_a_configuration() {
    for (name, servers) in [("kafka", 1), ("kafka-zookeeper", 1), ("kafka-ha", 3)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../compose/{name}.yaml"));
        let stack: Value =
            serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let variables = &stack["services"]["helixagent"]["environment"];
        let config = KafkaConfig::from_variables(|name| {
            let value = variables.get(name).and_then(Value::as_str);
            Ok(value.map(str::to_owned))
        });
        let config = config.unwrap();
        assert_eq!((config.servers.len(), &*config.prefix), (servers, "helixagent"), "{name}");
    }
}
