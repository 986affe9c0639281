# Writes or reads as a Python program does that knows nothing of ours: write TOPIC BODY, or
# read TOPIC.
import os, sys
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

SERVERS = os.environ['KAFKA_BROKERS'].split(',')


def write(topic, body):
    producer = KafkaProducer(bootstrap_servers=SERVERS, acks='all')
    producer.send(topic, body.encode()).get(timeout=10)
    producer.close()


def read(topic):
    consumer = KafkaConsumer(bootstrap_servers=SERVERS, enable_auto_commit=False)
    all = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    consumer.assign(all)
    consumer.seek_to_beginning(*all)
    ends = consumer.end_offsets(all)
    while any(consumer.position(one) < ends[one] for one in all):
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                show(record)
    consumer.close()


def show(record):
    """Prints a body, if its headers say what a program needs."""
    headers = dict(record.headers)
    assert headers['message-id'] and headers['subject'], headers
    assert headers['content-type'] == b'application/json', headers
    sys.stdout.buffer.write(record.value + b'\n')


globals()[sys.argv[1]](*sys.argv[2:])
