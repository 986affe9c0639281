# Writes or reads as a Python program does that knows nothing of ours.
import os, sys, redis

kind = redis.RedisCluster if os.environ.get('REDIS_CLUSTER_NODES') else redis.Redis
client = kind(host=os.environ['REDIS_HOST'], port=int(os.environ['REDIS_PORT']),
              password=os.environ['REDIS_PASSWORD'])
if sys.argv[1] == 'write':
    client.xadd(sys.argv[2], {'body': sys.argv[3]})
elif sys.argv[1] == 'publish':
    client.publish(sys.argv[2], sys.argv[3])
elif sys.argv[1] == 'listen':
    listener = client.pubsub()
    listener.subscribe(sys.argv[2])
    for push in listener.listen():
        data = push['data'] if push['type'] == 'message' else b'1'
        sys.stdout.buffer.write(b'\n'.join([push['type'].encode(), push['channel'], data, b'']))
        sys.stdout.buffer.flush()
else:
    for _, fields in client.xrange(sys.argv[2]):
        sys.stdout.buffer.write(fields[b'body'] + b'\n')
