//! The requests that we make.

use kafka_protocol::messages;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};

/// A request and what answers it.
pub(crate) trait Request: Encodable + HeaderVersion + Message + Send + Sync {
    /// Its number in the protocol.
    const KEY: i16;
    /// Its name in errors.
    const NAME: &'static str;
    /// The highest version that we speak.
    const HIGHEST: i16;
    /// What answers it.
    type Response: Decodable + HeaderVersion + Message + Send;
}

macro_rules! requests {
    ($($key:literal $name:literal $request:ident => $response:ident $(.. $highest:literal)?;)*) => {$(
        impl Request for messages::$request {
            const KEY: i16 = $key;
            const NAME: &'static str = $name;
            const HIGHEST: i16 = requests!(@highest $request $($highest)?);
            type Response = messages::$response;
        }
    )*};
    (@highest $request:ident) => { <messages::$request as Message>::VERSIONS.max };
    (@highest $request:ident $highest:literal) => { $highest };
}

// A bound on the version: above it topics go by their ids, of which we keep no table.
requests! {
    0 "Produce" ProduceRequest => ProduceResponse .. 12;
    1 "Fetch" FetchRequest => FetchResponse .. 12;
    2 "ListOffsets" ListOffsetsRequest => ListOffsetsResponse;
    3 "Metadata" MetadataRequest => MetadataResponse .. 12;
    8 "OffsetCommit" OffsetCommitRequest => OffsetCommitResponse .. 9;
    9 "OffsetFetch" OffsetFetchRequest => OffsetFetchResponse .. 9;
    10 "FindCoordinator" FindCoordinatorRequest => FindCoordinatorResponse;
    11 "JoinGroup" JoinGroupRequest => JoinGroupResponse;
    12 "Heartbeat" HeartbeatRequest => HeartbeatResponse;
    13 "LeaveGroup" LeaveGroupRequest => LeaveGroupResponse;
    14 "SyncGroup" SyncGroupRequest => SyncGroupResponse;
    15 "DescribeGroups" DescribeGroupsRequest => DescribeGroupsResponse;
    16 "ListGroups" ListGroupsRequest => ListGroupsResponse;
    17 "SaslHandshake" SaslHandshakeRequest => SaslHandshakeResponse;
    18 "ApiVersions" ApiVersionsRequest => ApiVersionsResponse .. 3;
    19 "CreateTopics" CreateTopicsRequest => CreateTopicsResponse;
    20 "DeleteTopics" DeleteTopicsRequest => DeleteTopicsResponse .. 5;
    23 "OffsetForLeaderEpoch" OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;
    32 "DescribeConfigs" DescribeConfigsRequest => DescribeConfigsResponse;
    36 "SaslAuthenticate" SaslAuthenticateRequest => SaslAuthenticateResponse;
    37 "CreatePartitions" CreatePartitionsRequest => CreatePartitionsResponse;
    42 "DeleteGroups" DeleteGroupsRequest => DeleteGroupsResponse;
    44 "IncrementalAlterConfigs" IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse;
    47 "OffsetDelete" OffsetDeleteRequest => OffsetDeleteResponse;
    60 "DescribeCluster" DescribeClusterRequest => DescribeClusterResponse;
}
