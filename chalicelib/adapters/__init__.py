"""The only users of boto3: table, objects, queue, alerts, other functions."""
