# Writes or reads as a Python program does that knows nothing of ours: LIBRARY write EXCHANGE
# SUBJECT BODY, or LIBRARY read QUEUE.
import os, sys

URL = os.environ['RABBITMQ_URL']


def show(body, properties):
    """Prints a body, if its properties are what every client understands."""
    assert properties['message_id'], properties
    assert properties['content_type'] == 'application/json', properties
    assert properties['delivery_mode'] == 2, properties
    sys.stdout.buffer.write(body + b'\n')


def pika_write(exchange, subject, body):
    import pika
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange, subject, body.encode(), mandatory=True)


def pika_read(queue):
    import pika
    with pika.BlockingConnection(pika.URLParameters(URL)) as connection:
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(queue)
            if method is None:
                return
            show(body, vars(properties))


def kombu_write(exchange, subject, body):
    import kombu
    with kombu.Connection(URL, transport_options={'confirm_publish': True}) as connection:
        there = kombu.Exchange(exchange, type='topic', durable=True)
        producer = connection.Producer(exchange=there)
        producer.publish(body, routing_key=subject, content_type='application/json',
                         content_encoding='utf-8')


def kombu_read(queue):
    import kombu
    with kombu.Connection(URL) as connection:
        there = kombu.Queue(queue, no_declare=True)(connection.default_channel)
        while True:
            message = there.get()
            if message is None:
                return
            properties = dict(message.properties, content_type=message.content_type)
            show(bytes(message.body) if not isinstance(message.body, str)
                 else message.body.encode(), properties)


globals()[f'{sys.argv[1]}_{sys.argv[2]}'](*sys.argv[3:])
