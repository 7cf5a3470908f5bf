"""What is changed in moto before it serves: tables and objects live in the state, transactions undo by
savepoint.

`install` must run before anything else imports `moto`.
"""

from __future__ import annotations

import collections
import datetime
import functools
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from local.emulation import unused_services
from local.state import State

ACCOUNT = "123456789012"
REGION = "eu-south-1"

_SETTINGS = {
    "MOTO_DISABLE_GLOBAL_CORS": "true",  # CORS is answered as the bucket's configuration says
    "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": "1024",
    "MOTO_IAM_LOAD_MANAGED_POLICIES": "false",
    "MOTO_ACCOUNT_ID": ACCOUNT,
    "MOTO_SERVER_MODE": "true",
}


def install(state: State) -> Any:
    """Load the emulator, put the state under it, and return its WSGI application."""
    os.environ.update(_SETTINGS)
    warnings.filterwarnings("ignore", message="Tried to parse .* but it's not supported by moto")
    with unused_services.left_out():
        import moto.cloudformation.models as cloudformation
    import moto.backends as backends
    import moto.core.common_models as common_models
    import moto.core.responses as responses
    import moto.core.serialize as serialize
    import moto.dynamodb.comparisons as comparisons
    import moto.dynamodb.models as dynamodb
    import moto.dynamodb.models.dynamo_type as dynamo_type
    import moto.dynamodb.responses as dynamodb_responses
    import moto.s3.models as s3
    import moto.s3.utils as s3_utils
    import moto.sqs.models as sqs
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from local.emulation.attributes import PlainAttributes, plain_answer
    from local.emulation.objects import StoredKey
    from local.emulation.table import StoredTable

    StoredTable.state = state
    StoredKey.directory = state.directory / "objects"
    dynamodb.Table = StoredTable
    dynamo_type.LimitedSizeDict = PlainAttributes
    s3.FakeKey = StoredKey
    _undo_transactions_by_savepoint(dynamodb.DynamoDBBackend, state)
    _lock_deletes(sqs.Queue)
    cloudformation.Stack.parse_template = staticmethod(_parse_template(cloudformation.Stack.parse_template))
    _remember_roles(state)
    common_models.BaseModel.__new__ = _untracked
    s3.get_canned_acl = functools.cache(s3.get_canned_acl)
    _serialize_attributes_at_once(serialize.BaseJSONSerializer)
    list_what_is_there(s3_utils._VersionedKeyStore)
    dynamodb_responses.dynamo_to_dict = plain_answer
    _lex_once(comparisons.ConditionExpressionParser)
    responses.method_names_from_class = functools.cache(responses.method_names_from_class)
    responses.gen_amzn_requestid_long = _name_the_request
    backends.list_of_moto_modules = functools.cache(lambda listed=backends.list_of_moto_modules: list(listed()))
    return DomainDispatcherApplication(create_backend_app)


def list_what_is_there(keys: Any) -> None:
    """A listing of a bucket is what is there when it begins: moto looks each key up again, and fails where one was removed."""

    def lists(self: Any) -> Iterator[tuple[str, list[Any]]]:
        yield from list(dict.items(self))

    def items(self: Any) -> Iterator[tuple[str, Any]]:
        return ((name, versions[-1]) for name, versions in lists(self) if versions)

    def values(self: Any) -> Iterator[Any]:
        return (newest for _, newest in items(self))

    keys.lists = keys.iterlists = lists
    keys.items = keys.iteritems = items
    keys.values = keys.itervalues = values


def _untracked(cls: type, *_arguments: Any, **_named: Any) -> Any:
    """moto keeps every object that it ever made, each item of each query among them, for a reset that never comes."""
    return object.__new__(cls)


def _undo_transactions_by_savepoint(backend: Any, state: State) -> None:
    original = backend.transact_write_items

    def transact_write_items(self: Any, transact_items: list[dict[str, Any]]) -> None:
        with state.transaction():
            original(self, transact_items)

    backend.transact_write_items = transact_write_items


def _parse_template(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """JSON is YAML, but reading it as such takes a hundred times as long."""

    def parse_template(template: str) -> Any:
        return json.loads(template) if template.lstrip().startswith("{") else parse(template)

    return parse_template


def _serialize_attributes_at_once(serializer: Any) -> None:
    """moto looks for each of an attribute value's ten possible members under each of its possible names, which made a
    Query of 200 items take a quarter of a second."""
    from local.emulation.attributes import Plain, plain_value

    original_structure, original_map = serializer._serialize_type_structure, serializer._serialize_type_map

    def structure(self: Any, serialized: dict[str, Any], value: Any, shape: Any, key: str) -> None:
        if shape.name == "AttributeValue" and key and value is not None:
            serialized[key] = plain_value(value)
        else:
            original_structure(self, serialized, value, shape, key)

    def mapping(self: Any, serialized: dict[str, Any], value: Any, shape: Any, key: str) -> None:
        if shape.value.name == "AttributeValue" and key:
            if type(value) is not Plain:
                value = {name: plain_value(inner) for name, inner in value.items()}
            serialized[self.get_serialized_name(shape, key)] = value
        else:
            original_map(self, serialized, value, shape, key)

    serializer._serialize_type_structure, serializer._serialize_type_map = structure, mapping


def _lex_once(parser: Any) -> None:
    """The same few conditions come again and again, each of them several times in one request; moto takes each apart anew."""
    original = parser._lex_condition_expression

    @functools.lru_cache(maxsize=1000)
    def nodes_of(expression: str) -> tuple[Any, ...]:
        return tuple(original(parser(expression, None, None)))

    def lex(self: Any) -> collections.deque[Any]:
        return collections.deque(nodes_of(self.condition_expression or ""))

    parser._lex_condition_expression = lex


def _name_the_request(headers: dict[str, Any] | None = None) -> str:
    """moto draws each of an id's 52 letters by itself."""
    name = uuid.uuid4().hex.upper()
    if headers is not None:
        headers["x-amzn-requestid"] = name
    return name


def _lock_deletes(queue: Any) -> None:
    """moto rebuilds a queue's list when it deletes, and loses what another thread appends meanwhile."""
    original = queue.delete_message

    def delete_message(self: Any, receipt_handle: str) -> None:
        with self._messages_lock:
            original(self, receipt_handle)

    queue.delete_message = delete_message


def _remember_roles(state: State) -> None:
    """Temporary credentials outlive a restart, as they do in AWS."""
    import moto.sts.models as sts

    original = sts.STSBackend.assume_role

    def assume_role(self: Any, **arguments: Any) -> Any:
        role = original(self, **arguments)
        with state.transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO credentials VALUES (?, ?, ?, ?, ?, ?)",
                (
                    role.access_key_id,
                    role.secret_access_key,
                    role.session_token,
                    role.role_arn,
                    role.session_name,
                    role.expiration.replace(tzinfo=datetime.UTC).timestamp(),
                ),
            )
        return role

    sts.STSBackend.assume_role = assume_role
