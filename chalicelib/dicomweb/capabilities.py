"""What the service can do, as a tree, and that tree as a WADL document in XML or JSON (PS3.18 8.9, Annexes G and H).

The tree is the list of DICOMweb's routes: tests hold it against the routes that exist.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from chalicelib.dicomweb import representations
from chalicelib.dicomweb.media_types import Representation, describe
from chalicelib.dicomweb.search_attributes import ATTRIBUTES, LEVELS, RETURNED_ONLY, Level
from chalicelib.domain.json_object import JsonObject

WADL = "application/vnd.sun.wadl+xml"
OFFERS: tuple[Representation, ...] = (Representation(WADL), Representation("application/json"))
_NAMESPACE = "http://wadl.dev.java.net/2009/02"

_MULTIPART = 'multipart/related; type="{}"'
_STORED = tuple(_MULTIPART.format(name) for name in (representations.DICOM, representations.JSON, representations.XML))
_INSTANCES = tuple(map(describe, representations.instance("1.2.840.10008.1.2.4.80")))
_STUDY = tuple(map(describe, representations.instances(frozenset({"1.2.840.10008.1.2.4.80"}))))
_FRAMES = tuple(map(describe, representations.frames("1.2.840.10008.1.2.1", single=True))) + tuple(
    _MULTIPART.format(name) for name in sorted(set(representations.FRAME_TYPES.values()))
)
_BULK = tuple(map(describe, representations.bulkdata(single=True)))
_METADATA = tuple(map(describe, representations.METADATA))
_SEARCH = tuple(map(describe, representations.SEARCH))
_RENDERED = tuple(dict.fromkeys(describe(o) for offers in representations.RENDERED.values() for o in offers))
_THUMBNAIL = tuple(map(describe, representations.THUMBNAIL))
_STORE_ANSWER = tuple(map(describe, representations.STORE_RESPONSE))
_COMMITMENT = tuple(map(describe, representations.COMMITMENT))

_RENDER_PARAMETERS = ("accept", "annotation", "quality", "viewport", "window", "iccprofile", "owner")
_FLAGS = ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")


@dataclass(frozen=True, slots=True)
class Method:
    """One transaction on a resource: its id, what it takes and gives, its query parameters and statuses."""

    verb: str
    id: str
    answers: tuple[str, ...]
    statuses: str
    takes: tuple[str, ...] = ()
    query: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DescribedResource:
    """One segment of a path, `{name}` for one that varies, with its methods and what is below it."""

    path: str
    methods: tuple[Method, ...] = ()
    below: tuple[DescribedResource, ...] = field(default=())


def _search(name: str, *levels: Level) -> Method:
    keys = [
        text for tag, row in ATTRIBUTES.items() if row.level in levels and tag not in RETURNED_ONLY for text in (row.keyword, tag)
    ]
    query = (*keys, "includefield", "limit", "offset", *_FLAGS, "owner")
    return Method("GET", name, _SEARCH, "200", query=query)


def _get(name: str, answers: tuple[str, ...], *query: str) -> Method:
    return Method("GET", name, answers, "200 304 307", query=query)


def _store(name: str) -> Method:
    return Method("POST", name, _STORE_ANSWER, "200 202 409", takes=_STORED)


def _retrieve(entity: str, answers: tuple[str, ...]) -> tuple[Method, tuple[DescribedResource, ...]]:
    """(the entity itself, the resources that every study, series and instance has below it) (10.4.1.1)."""
    return _get(f"retrieve{entity}", answers, "accept", "owner"), (
        DescribedResource("metadata", (_get(f"retrieve{entity}Metadata", _METADATA, "accept", "charset", "owner"),)),
        DescribedResource("rendered", (_get(f"retrieveRendered{entity}", _RENDERED, *_RENDER_PARAMETERS),)),
        DescribedResource("thumbnail", (_get(f"retrieve{entity}Thumbnail", _THUMBNAIL, "accept", "viewport", "owner"),)),
        DescribedResource("bulkdata", (_get(f"retrieve{entity}Bulkdata", _BULK, "accept", "owner"),)),
        DescribedResource("pixeldata", (_get(f"retrieve{entity}PixelData", _FRAMES, "accept", "owner"),)),
    )


def _tree() -> tuple[DescribedResource, ...]:
    """Table H-1, services Studies, Storage Commitment and URI."""
    instance, below_instance = _retrieve("Instance", _INSTANCES)
    series, below_series = _retrieve("Series", _STUDY)
    study, below_study = _retrieve("Study", _STUDY)
    frames = DescribedResource(
        "frames",
        below=(
            DescribedResource(
                "{frames}",
                (_get("retrieveFrames", _FRAMES, "accept", "owner"),),
                (
                    DescribedResource("rendered", (_get("retrieveRenderedFrames", _RENDERED, *_RENDER_PARAMETERS),)),
                    DescribedResource("thumbnail", (_get("retrieveFrameThumbnail", _THUMBNAIL, "viewport", "owner"),)),
                ),
            ),
        ),
    )
    bulk = DescribedResource("{bulkdata}", (_get("retrieveBulkdata", _BULK, "accept", "owner"),))
    of_instance = tuple(DescribedResource(r.path, r.methods, (bulk,)) if r.path == "bulkdata" else r for r in below_instance)
    instances = DescribedResource(
        "instances",
        (_search("searchForSeriesInstances", "study", "series", "instance"),),
        (DescribedResource("{instance}", (instance,), (*of_instance, frames)),),
    )
    all_series = DescribedResource(
        "series",
        (_search("searchForStudySeries", "study", "series"),),
        (DescribedResource("{series}", (series,), (*below_series, instances)),),
    )
    study_instances = DescribedResource("instances", (_search("searchForStudyInstances", *LEVELS),))
    commitment = (
        Method("POST", "requestCommitment", _COMMITMENT, "200 202 409", takes=_COMMITMENT),
        Method("GET", "checkCommitment", _COMMITMENT, "200 202 404"),
    )
    return (
        DescribedResource(
            "studies",
            (_search("searchForStudies", "study"), _store("storeInstances")),
            (DescribedResource("{study}", (study, _store("storeStudyInstances")), (*below_study, all_series, study_instances)),),
        ),
        DescribedResource("series", (_search("searchForSeries", "study", "series"),)),
        DescribedResource("instances", (_search("searchForInstances", *LEVELS),)),
        DescribedResource("commitment-requests", below=(DescribedResource("{transaction}", commitment),)),
        DescribedResource("wado", (Method("GET", "retrieveByUri", (representations.DICOM, *_RENDERED), "200 307"),)),
    )


def routes() -> Iterator[tuple[str, str]]:
    """Every (method, path template below the base URI) of the description."""
    pending = [("", resource) for resource in _tree()]
    while pending:
        above, resource = pending.pop()
        path = f"{above}/{resource.path}"
        yield from ((method.verb, path) for method in resource.methods)
        pending += [(path, inner) for inner in resource.below]


def description(base_url: str) -> JsonObject:
    """The WADL document for the service at `base_url`, in the JSON form of Annex G."""
    resources = {"@base": base_url, "resource": [_resource(root) for root in _tree()]}
    return {"application": {"@xmlns": _NAMESPACE, "resources": resources}}


def _resource(resource: DescribedResource) -> JsonObject:
    found: JsonObject = {"@path": resource.path}
    if resource.path.startswith("{"):
        name = resource.path.strip("{}")
        found["param"] = [{"@name": name, "@style": "template", "@required": "true"}]
    if resource.methods:
        found["method"] = [_method(method) for method in resource.methods]
    if resource.below:
        found["resource"] = [_resource(inner) for inner in resource.below]
    return found


def _method(method: Method) -> JsonObject:
    accept = {
        "@name": "Accept",
        "@style": "header",
        "@default": method.answers[0],
        "option": [{"@value": name} for name in method.answers],
    }
    query = [{"@name": name, "@style": "query"} for name in method.query]
    request: JsonObject = {"param": [accept, *query]}
    if method.takes:
        request["representation"] = [{"@mediaType": name} for name in method.takes]
    return {
        "@name": method.verb,
        "@id": method.id,
        "request": request,
        "response": [
            {
                "@status": method.statuses,
                "representation": [{"@mediaType": name} for name in method.answers],
            },
            {"@status": "400 403 404 406", "representation": [{"@mediaType": "application/problem+json"}]},
        ],
    }


def to_json(base_url: str) -> bytes:
    """The description as `application/json`."""
    return json.dumps(description(base_url), separators=(",", ":")).encode("utf-8")


def to_xml(base_url: str) -> bytes:
    """The description as `application/vnd.sun.wadl+xml`."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n']
    for name, element in description(base_url).items():
        _write(name, element, out)
    return "".join(out).encode("utf-8")


def _write(name: str, element: Any, out: list[str]) -> None:
    """One element of Annex G as XML: `@` names are attributes, objects children, arrays repeated children."""
    if isinstance(element, list):
        for child in element:
            _write(name, child, out)
        return
    attributes = "".join(f' {key[1:]}="{html.escape(value)}"' for key, value in element.items() if key[0] == "@")
    children = {key: value for key, value in element.items() if key[0] != "@"}
    if not children:
        out.append(f"<{name}{attributes}/>")
        return
    out.append(f"<{name}{attributes}>")
    for key, value in children.items():
        _write(key, value, out)
    out.append(f"</{name}>")
