//! The configuration of a broker.

use std::fmt::Write;

use super::Brokers;
use crate::brokers::plan::{Node, Role};

/// The number of a broker in its cluster.
pub(super) fn id(brokers: &Brokers, node: &Node) -> i32 {
    (1..).zip(brokers.plan.with_role(Role::Server)).find(|(_, it)| *it == node).map_or(0, |it| it.0)
}

/// 16 bytes in URL-safe base64; every hexadecimal digit is one of its digits.
pub(super) fn cluster_id(brokers: &Brokers) -> String {
    format!("{}A", brokers.plan.id.chars().take(21).collect::<String>())
}

/// Brokers that create nothing by themselves and elect nobody who misses something.
pub(super) fn of(brokers: &Brokers, node: &Node) -> String {
    let options = &brokers.plan.options;
    let id = id(brokers, node);
    let copies = options.nodes.min(3).to_string();
    let in_sync = if options.nodes >= 3 { "2" } else { "1" };
    let advertised = usize::try_from(id - 1).ok().and_then(|index| options.advertised.get(index));
    let advertised = advertised.unwrap_or(&node.port);
    let mut listeners =
        format!("CLIENT://127.0.0.1:{},BROKER://127.0.0.1:{}", node.port, node.second);
    if !options.zookeeper {
        listeners.push_str(&format!(",CONTROLLER://127.0.0.1:{}", node.peers));
    }
    let second = node.second;
    let names = "CLIENT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT";
    let mut lines: Vec<(&str, String)> = vec![
        ("listeners", listeners),
        (
            "advertised.listeners",
            format!("CLIENT://127.0.0.1:{advertised},BROKER://127.0.0.1:{second}"),
        ),
        ("listener.security.protocol.map", names.to_owned()),
        ("inter.broker.listener.name", "BROKER".to_owned()),
        ("log.dirs", brokers.dir_of(node).join("data").display().to_string()),
        ("default.replication.factor", copies.clone()),
        ("min.insync.replicas", in_sync.to_owned()),
        ("offsets.topic.replication.factor", copies.clone()),
        ("offsets.topic.num.partitions", "6".to_owned()),
        ("transaction.state.log.replication.factor", copies.clone()),
        ("transaction.state.log.min.isr", in_sync.to_owned()),
        ("auto.create.topics.enable", "false".to_owned()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("group.initial.rebalance.delay.ms", "0".to_owned()),
    ];
    if options.zookeeper {
        lines.extend(with_zookeeper(brokers, id));
    } else {
        lines.extend(with_controllers(brokers, id));
    }
    if options.kafka_version.starts_with("4.") {
        lines.push(("share.coordinator.state.topic.replication.factor", copies));
        lines.push(("share.coordinator.state.topic.min.isr", in_sync.to_owned()));
    }
    let settings = options.settings.iter().map(|(name, value)| (&**name, value.clone()));
    let mut text = String::new();
    // The last line with a name wins.
    for (name, value) in lines.into_iter().chain(settings) {
        // Writing to a string can't fail.
        writeln!(text, "{name}={value}").unwrap_or_default();
    }
    text
}

fn with_controllers(brokers: &Brokers, id: i32) -> Vec<(&'static str, String)> {
    let servers = (1..).zip(brokers.plan.with_role(Role::Server));
    let voters: Vec<String> =
        servers.map(|(id, node)| format!("{id}@127.0.0.1:{}", node.peers)).collect();
    vec![
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", id.to_string()),
        ("controller.quorum.voters", voters.join(",")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("broker.session.timeout.ms", "3000".to_owned()),
        ("broker.heartbeat.interval.ms", "500".to_owned()),
    ]
}

fn with_zookeeper(brokers: &Brokers, id: i32) -> Vec<(&'static str, String)> {
    let port = brokers.plan.with_role(Role::Support).next().map_or(0, |node| node.port);
    vec![
        ("broker.id", id.to_string()),
        ("zookeeper.connect", format!("127.0.0.1:{port}")),
        ("zookeeper.session.timeout.ms", "3000".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::brokers::plan::Plan;
    use crate::brokers::ports::Ports;
    use crate::brokers::recipe::recipe;
    use crate::brokers::{Kind, Options};

    /// What the second broker's file says, as Java reads it.
    fn second(options: Options, name: &str) -> Option<String> {
        let nodes = recipe(Kind::Kafka).nodes(&options, &mut Ports::default()).unwrap();
        let (password, id) = (String::new(), "0123456789abcdef0123456789abcdef".to_owned());
        let brokers = Brokers { dir: "/d".into(), plan: Plan { options, nodes, password, id } };
        let node = brokers.plan.with_role(Role::Server).nth(1).unwrap();
        let text = of(&brokers, node);
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.rfind(|(it, _)| *it == name).map(|(_, value)| value.to_owned())
    }

    #[test]
    fn three_brokers_keep_three_copies_of_which_two_confirm() {
        let options = || Options::new(Kind::Kafka).with_nodes(3);
        assert_eq!(second(options(), "node.id").unwrap(), "2");
        assert_eq!(second(options(), "offsets.topic.replication.factor").unwrap(), "3");
        assert_eq!(second(options(), "min.insync.replicas").unwrap(), "2");
        assert!(second(options(), "share.coordinator.state.topic.min.isr").is_some());
        let older = second(options().with_zookeeper(), "share.coordinator.state.topic.min.isr");
        assert_eq!(older, None);
    }

    #[test]
    fn clients_are_sent_to_advertised_ports_and_brokers_are_not() {
        let options = Options::new(Kind::Kafka).with_nodes(2).with_advertised_ports(&[7001, 7002]);
        let advertised = second(options, "advertised.listeners").unwrap();
        assert!(advertised.starts_with("CLIENT://127.0.0.1:7002,BROKER://"), "{advertised}");
    }

    #[test]
    fn settings_win_over_ours() {
        let setting = "auto.create.topics.enable";
        let options = Options::new(Kind::Kafka).with_nodes(2).with_setting(setting, "true");
        assert_eq!(second(options, setting).unwrap(), "true");
    }
}
