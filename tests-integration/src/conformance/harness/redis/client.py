# Writes or reads as a Python program does that knows nothing of ours.
import os, sys, redis

kind = redis.RedisCluster if os.environ.get('REDIS_CLUSTER_NODES') else redis.Redis
client = kind(host=os.environ['REDIS_HOST'], port=int(os.environ['REDIS_PORT']),
              password=os.environ['REDIS_PASSWORD'])
if sys.argv[1] == 'write':
    client.xadd(sys.argv[2], {'body': sys.argv[3]})
else:
    for _, fields in client.xrange(sys.argv[2]):
        sys.stdout.buffer.write(fields[b'body'] + b'\n')
