//! The requests of a member, over connections to its coordinator.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use messaging_core::{Error, ErrorKind};
use tokio::time::Instant;

use crate::cluster::{BrokerId, Cluster};
use crate::connection::Connection;
use crate::group::member::{Answer, Fault, Joined, Request, Settings};
use crate::group::{PROTOCOL, PROTOCOL_TYPE};

const MEMBER_ID_REQUIRED: i16 = 79;
const NOT_COORDINATOR: i16 = 16;
const DENIED: i16 = 30;

/// Makes the requests of one member.
#[derive(Debug)]
pub(super) struct Requests {
    cluster: Arc<Cluster>,
    settings: Settings,
    link: Arc<Mutex<Option<Link>>>,
}

/// The coordinator, and the connection of joins, which it holds back until the group has gathered.
#[derive(Clone, Debug)]
struct Link {
    coordinator: BrokerId,
    joins: Connection,
}

impl Requests {
    pub(super) fn new(cluster: Arc<Cluster>, settings: Settings) -> Self {
        Self { cluster, settings, link: Arc::default() }
    }

    pub(super) fn reconnect(&self) {
        if let Some(link) = self.link.lock().unwrap_or_else(PoisonError::into_inner).take() {
            link.joins.end();
        }
    }

    pub(super) fn make(
        &self,
        request: Request,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answer, Fault>> + Send + use<> {
        let cluster = Arc::clone(&self.cluster);
        let settings = self.settings.clone();
        let link = Arc::clone(&self.link);
        async move {
            let known = link.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let made = tokio::time::timeout_at(deadline, async {
                if matches!(request, Request::Find) {
                    let found = find(&cluster, &settings.group).await?;
                    *link.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                    return Ok(Answer::Found);
                }
                let Some(known) = known else { return Err(Fault::Code(NOT_COORDINATOR)) };
                ask(&cluster, &settings, &known, request, deadline).await
            });
            made.await.unwrap_or(Err(Fault::Broken))
        }
    }
}

async fn find(cluster: &Cluster, group: &str) -> Result<Link, Fault> {
    let broken = |error: Error| match error.kind() {
        ErrorKind::Denied => Fault::Code(DENIED),
        _ => Fault::Broken,
    };
    let coordinator = cluster.coordinator(group).await.map_err(broken)?;
    let joins = cluster.dedicated(coordinator).await.map_err(broken)?;
    Ok(Link { coordinator, joins })
}

async fn ask(
    cluster: &Cluster,
    settings: &Settings,
    link: &Link,
    request: Request,
    deadline: Instant,
) -> Result<Answer, Fault> {
    let group = GroupId(text(&settings.group));
    let instance = settings.instance.as_deref().map(text);
    let broken = |_: Error| Fault::Broken;
    match request {
        Request::Find => Ok(Answer::Found),
        Request::Join { member, claim } => {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(PROTOCOL))
                .with_metadata(claim);
            let request = JoinGroupRequest::default()
                .with_group_id(group)
                .with_session_timeout_ms(millis(settings.session))
                .with_rebalance_timeout_ms(millis(settings.rebalance))
                .with_member_id(text(&member))
                .with_group_instance_id(instance)
                .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
                .with_protocols(vec![protocol]);
            let answer = link.joins.call(&request, deadline).await.map_err(broken)?;
            match answer.error_code {
                0 => {}
                MEMBER_ID_REQUIRED => return Ok(Answer::Named(answer.member_id.to_string())),
                code => return Err(Fault::Code(code)),
            }
            let leads = answer.leader == answer.member_id && !answer.skip_assignment;
            let members = answer.members.into_iter();
            let members = members.map(|one| (one.member_id.to_string(), one.metadata));
            Ok(Answer::Joined(Joined {
                generation: answer.generation_id,
                member: answer.member_id.to_string(),
                members: leads.then(|| members.collect()),
            }))
        }
        Request::Sync { member, generation, assignments } => {
            let assignments = assignments.into_iter().map(|(id, assignment)| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(text(&id))
                    .with_assignment(assignment)
            });
            let mut request = SyncGroupRequest::default()
                .with_group_id(group)
                .with_generation_id(generation)
                .with_member_id(text(&member))
                .with_group_instance_id(instance)
                .with_assignments(assignments.collect());
            if link.joins.version::<SyncGroupRequest>().map_err(broken)? >= 5 {
                request.protocol_type = Some(StrBytes::from_static_str(PROTOCOL_TYPE));
                request.protocol_name = Some(StrBytes::from_static_str(PROTOCOL));
            }
            let answer = link.joins.call(&request, deadline).await.map_err(broken)?;
            checked(answer.error_code, Answer::Synced(answer.assignment))
        }
        Request::Beat { member, generation } => {
            let connection = cluster.broker(link.coordinator).await.map_err(broken)?;
            let request = HeartbeatRequest::default()
                .with_group_id(group)
                .with_generation_id(generation)
                .with_member_id(text(&member))
                .with_group_instance_id(instance);
            let answer = connection.call(&request, deadline).await.map_err(broken)?;
            checked(answer.error_code, Answer::Alive)
        }
        Request::Leave { member } => {
            let connection = cluster.broker(link.coordinator).await.map_err(broken)?;
            let one = MemberIdentity::default()
                .with_member_id(text(&member))
                .with_group_instance_id(instance);
            let request = LeaveGroupRequest::default().with_group_id(group).with_members(vec![one]);
            let answer = connection.call(&request, deadline).await.map_err(broken)?;
            checked(answer.error_code, Answer::Left)
        }
    }
}

fn checked(code: i16, answer: Answer) -> Result<Answer, Fault> {
    if code == 0 { Ok(answer) } else { Err(Fault::Code(code)) }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn millis(time: std::time::Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
