"""The resources of DICOMweb that are read, as data: below `/dicomweb`, and those that a reading session has below its own.

Imported with the app: which function answers is said by name, and its module is imported when it is asked (docs/adr/0022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chalicelib.api.loading import load

SERVICE = "/dicomweb"
SESSION = "/view/{reader}"
"""Below it is the DICOMweb of a reading session; `{reader}` is the session's pass."""


@dataclass(frozen=True, slots=True)
class DicomwebResource:
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
        return getattr(load(module), name)


_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"

RESOURCES: tuple[DicomwebResource, ...] = (
    # QIDO-RS (PS3.18 10.6)
    DicomwebResource("/studies", "dicomweb_search.search_for_studies", True),
    DicomwebResource("/series", "dicomweb_search.search_for_series", False),
    DicomwebResource("/instances", "dicomweb_search.search_for_instances", False),
    DicomwebResource(_STUDY + "/series", "dicomweb_search.search_for_series", True),
    DicomwebResource(_STUDY + "/instances", "dicomweb_search.search_for_instances", True),
    DicomwebResource(_SERIES + "/instances", "dicomweb_search.search_for_instances", True),
    # WADO-RS (10.4), WADO-URI (9)
    DicomwebResource(_STUDY, "dicomweb_retrieve.retrieve_instances", False),
    DicomwebResource(_SERIES, "dicomweb_retrieve.retrieve_instances", False),
    DicomwebResource(_INSTANCE, "dicomweb_retrieve.retrieve_instances", True),
    DicomwebResource(_FRAMES, "dicomweb_retrieve.retrieve_frames", True),
    DicomwebResource(_STUDY + "/metadata", "dicomweb_retrieve.retrieve_metadata", True),
    DicomwebResource(_SERIES + "/metadata", "dicomweb_retrieve.retrieve_metadata", True),
    DicomwebResource(_INSTANCE + "/metadata", "dicomweb_retrieve.retrieve_metadata", True),
    DicomwebResource(_STUDY + "/bulkdata", "dicomweb_retrieve.retrieve_all_bulkdata", False),
    DicomwebResource(_SERIES + "/bulkdata", "dicomweb_retrieve.retrieve_all_bulkdata", False),
    DicomwebResource(_INSTANCE + "/bulkdata", "dicomweb_retrieve.retrieve_all_bulkdata", False),
    DicomwebResource(_INSTANCE + "/bulkdata/{bulkdata}", "dicomweb_retrieve.retrieve_bulkdata", True),
    DicomwebResource(_STUDY + "/pixeldata", "dicomweb_retrieve.retrieve_pixel_data", False),
    DicomwebResource(_SERIES + "/pixeldata", "dicomweb_retrieve.retrieve_pixel_data", False),
    DicomwebResource(_INSTANCE + "/pixeldata", "dicomweb_retrieve.retrieve_pixel_data", False),
    DicomwebResource("/wado", "dicomweb_retrieve.retrieve_by_uri", True),
    # Rendered resources and thumbnails (10.4.1.1.3, 10.4.1.1.4)
    DicomwebResource(_STUDY + "/rendered", "dicomweb_rendered.retrieve_rendered", False),
    DicomwebResource(_SERIES + "/rendered", "dicomweb_rendered.retrieve_rendered", False),
    DicomwebResource(_INSTANCE + "/rendered", "dicomweb_rendered.retrieve_rendered", True),
    DicomwebResource(_FRAMES + "/rendered", "dicomweb_rendered.retrieve_rendered", True),
    DicomwebResource(_STUDY + "/thumbnail", "dicomweb_rendered.retrieve_thumbnail", True),
    DicomwebResource(_SERIES + "/thumbnail", "dicomweb_rendered.retrieve_thumbnail", True),
    DicomwebResource(_INSTANCE + "/thumbnail", "dicomweb_rendered.retrieve_thumbnail", True),
    DicomwebResource(_FRAMES + "/thumbnail", "dicomweb_rendered.retrieve_thumbnail", False),
)
