"""The listener of the published design: prints every change that the exchange carries.

usage: listener.py AMQP_URL EXCHANGE
"""

import json
import sys

import pika

url, exchange = sys.argv[1:]

connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare(exchange=exchange, exchange_type="fanout", durable=True)
queue = channel.queue_declare(queue="", exclusive=True).method.queue
channel.queue_bind(exchange=exchange, queue=queue)


def callback(ch, method, properties, body):
    change = json.loads(body)
    print(change["table"], change["operation"], change["new_record"], change["old_record"], flush=True)


channel.basic_consume(queue=queue, on_message_callback=callback, auto_ack=True)
print("listening", flush=True)
channel.start_consuming()
