"""The resources of DICOMweb that are read, as data: below `/dicomweb`, and those that a reading session has below its own.

Imported with the app: which function answers is said by name, and its module is imported when it is asked (docs/adr/0022).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

SERVICE = "/dicomweb"
SESSION = "/view/{reader}"
"""Below it is the DICOMweb of a reading session; `{reader}` is the session's pass."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: its path below the service, what answers GET, and whether a reading session has it.

    `answered_by`: a module of `chalicelib.api` and a function in it. It takes the `dicomweb_service.Service` and, by name,
    what the path's placeholders stand for, UIDs checked; its docstring names the statuses.
    """

    path: str
    answered_by: str
    in_session: bool

    @property
    def signed_path(self) -> str:
        """Where those ask for it who sign."""
        return SERVICE + self.path

    @property
    def session_path(self) -> str:
        """Where a reading session asks for it: WADO-URI stands beside the other service, not below it."""
        return SESSION + (self.path if self.path == "/wado" else SERVICE + self.path)

    def load(self) -> Any:
        """The function that answers."""
        module, _, name = self.answered_by.partition(".")
        return getattr(import_module(f"chalicelib.api.{module}"), name)


_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"

RESOURCES: tuple[Resource, ...] = (
    # QIDO-RS (PS3.18 10.6)
    Resource("/studies", "dicomweb_search.search_for_studies", True),
    Resource("/series", "dicomweb_search.search_for_series", False),
    Resource("/instances", "dicomweb_search.search_for_instances", False),
    Resource(_STUDY + "/series", "dicomweb_search.search_for_series", True),
    Resource(_STUDY + "/instances", "dicomweb_search.search_for_instances", True),
    Resource(_SERIES + "/instances", "dicomweb_search.search_for_instances", True),
    # WADO-RS (10.4), WADO-URI (9)
    Resource(_STUDY, "dicomweb_retrieve.retrieve_instances", False),
    Resource(_SERIES, "dicomweb_retrieve.retrieve_instances", False),
    Resource(_INSTANCE, "dicomweb_retrieve.retrieve_instances", True),
    Resource(_FRAMES, "dicomweb_retrieve.retrieve_frames", True),
    Resource(_STUDY + "/metadata", "dicomweb_retrieve.retrieve_metadata", True),
    Resource(_SERIES + "/metadata", "dicomweb_retrieve.retrieve_metadata", True),
    Resource(_INSTANCE + "/metadata", "dicomweb_retrieve.retrieve_metadata", True),
    Resource(_STUDY + "/bulkdata", "dicomweb_retrieve.retrieve_all_bulkdata", False),
    Resource(_SERIES + "/bulkdata", "dicomweb_retrieve.retrieve_all_bulkdata", False),
    Resource(_INSTANCE + "/bulkdata", "dicomweb_retrieve.retrieve_all_bulkdata", False),
    Resource(_INSTANCE + "/bulkdata/{bulkdata}", "dicomweb_retrieve.retrieve_bulkdata", True),
    Resource(_STUDY + "/pixeldata", "dicomweb_retrieve.retrieve_pixel_data", False),
    Resource(_SERIES + "/pixeldata", "dicomweb_retrieve.retrieve_pixel_data", False),
    Resource(_INSTANCE + "/pixeldata", "dicomweb_retrieve.retrieve_pixel_data", False),
    Resource("/wado", "dicomweb_retrieve.retrieve_by_uri", True),
    # Rendered resources and thumbnails (10.4.1.1.3, 10.4.1.1.4)
    Resource(_STUDY + "/rendered", "dicomweb_rendered.retrieve_rendered", False),
    Resource(_SERIES + "/rendered", "dicomweb_rendered.retrieve_rendered", False),
    Resource(_INSTANCE + "/rendered", "dicomweb_rendered.retrieve_rendered", True),
    Resource(_FRAMES + "/rendered", "dicomweb_rendered.retrieve_rendered", True),
    Resource(_STUDY + "/thumbnail", "dicomweb_rendered.retrieve_thumbnail", True),
    Resource(_SERIES + "/thumbnail", "dicomweb_rendered.retrieve_thumbnail", True),
    Resource(_INSTANCE + "/thumbnail", "dicomweb_rendered.retrieve_thumbnail", True),
    Resource(_FRAMES + "/thumbnail", "dicomweb_rendered.retrieve_thumbnail", False),
)
