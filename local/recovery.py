"""After a restart: what was in the queue is asked for again.

The emulated queue is not kept. Instead an ObjectCreated event is sent again for every instance object that
has no verdict yet; the indexer takes repetition for granted, so that this is one more delivery of the same
event.
"""

from __future__ import annotations

from typing import Any

from chalicelib.domain import keys
from local.emulation.moto_patches import ACCOUNT, REGION


def announce_unindexed(bucket: Any, table_name: str) -> int:
    """Send the events; returns how many."""
    from moto.dynamodb.models import dynamodb_backends
    from moto.dynamodb.models.dynamo_type import DynamoType
    from moto.s3 import notifications

    from local.emulation.objects import StoredKey

    table = dynamodb_backends[ACCOUNT][REGION].get_table(table_name)
    count = 0
    for name in list(bucket.keys):
        key = bucket.keys[name]
        if not name.startswith(keys.begins(keys.instance_object)) or not isinstance(key, StoredKey):
            continue
        instance = keys.read(keys.instance_object, name) or ("", "")
        verdict = (DynamoType({"S": part}) for part in keys.verdict(*instance))
        if table.get_item(*verdict) is None:
            notifications.send_event(ACCOUNT, notifications.S3NotificationEvent.OBJECT_CREATED_PUT_EVENT, bucket, key)
            count += 1
    return count
