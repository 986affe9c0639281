//! Records as bytes, written past every client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

fn number(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

fn sized(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    number(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// A record without a key, with one header.
pub(crate) fn record(delta: i64, value: &[u8], header: (&[u8], Option<&[u8]>)) -> Vec<u8> {
    let mut body = vec![0, 0];
    number(&mut body, delta);
    sized(&mut body, None);
    sized(&mut body, Some(value));
    number(&mut body, 1);
    sized(&mut body, Some(header.0));
    sized(&mut body, header.1);
    let mut out = Vec::new();
    sized(&mut out, Some(&body));
    out
}

/// A batch of so many records, compressed as the attributes say.
pub(crate) fn batch(attributes: i16, count: i32, body: &[u8]) -> Bytes {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = now.as_millis() as i64;
    let mut summed = BytesMut::new();
    summed.put_i16(attributes);
    summed.put_i32(count - 1);
    summed.put_i64(now);
    summed.put_i64(now);
    // No idempotent producer.
    summed.put_i64(-1);
    summed.put_i16(-1);
    summed.put_i32(-1);
    summed.put_i32(count);
    summed.extend_from_slice(body);
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(summed.len() as i32 + 9);
    out.put_i32(-1);
    out.put_i8(2);
    out.put_u32(crc32c::crc32c(&summed));
    out.extend_from_slice(&summed);
    out.freeze()
}

/// Writes a batch to a topic's first partition, and gives the broker's error code.
pub(crate) fn produce(server: SocketAddr, topic: &str, batch: Bytes) -> i16 {
    const VERSION: i16 = 7;
    let one = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partition_data(vec![one]);
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic]);
    let header = RequestHeader::default().with_request_api_key(0).with_request_api_version(VERSION);
    let mut frame = BytesMut::new();
    header.encode(&mut frame, 1).unwrap();
    request.encode(&mut frame, VERSION).unwrap();
    let mut link = TcpStream::connect(server).unwrap();
    link.write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
    link.write_all(&frame).unwrap();
    let mut length = [0; 4];
    link.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    link.read_exact(&mut answer).unwrap();
    // Behind the correlation.
    let mut answer = Bytes::from(answer).slice(4..);
    let answer = ProduceResponse::decode(&mut answer, VERSION).unwrap();
    answer.responses[0].partition_responses[0].error_code
}
