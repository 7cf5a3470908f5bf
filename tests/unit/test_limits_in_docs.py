"""Each limit that the conformance statements name has a test that tries it at its end and one beyond; or is a wait of the code.

`LIMITS` goes by their words. A limit in the usual words ("64 at the most", "more than 80") that stands in none of them fails, so
that none is stated without a test. What the schemas of docs/openapi.yaml say is tried by tests/sharing/test_limits.py, out of
the document.
"""

from __future__ import annotations

import re

import pytest

from chalicelib.adapters import dynamodb
from chalicelib.domain import forwarder_signs, studies
from chalicelib.services.erasure import retention
from forwarder.archive import retry
from forwarder.compression import pool
from forwarder.deliver import delivery, engine, planning, raster
from forwarder.dicom import refusals
from forwarder.errors import Failure
from forwarder.hl7.adt import engine as adt_engine
from forwarder.operations import mail, work_items
from forwarder.query import retrieval
from forwarder.upload import status_polling
from tests.harness import ROOT

F, U, S, INTEGRATION = "tests/forwarder/test_", "tests/unit/", "tests/sharing/test_", "tests/integration/"
BODIES, HEAD = f"{U}dicomweb/test_bodies.py::test_", f"{U}dicom/test_hostile_files.py::test_"
QUERY, HL7, ADT = f"{F}query_limits.py::test_", f"{F}hl7_report.py::test_", f"{F}adt_door.py::test_"
IDENTIFIER = f"{F}query.py::test_a_hostile_identifier_harms_nobody"
AT_ONCE = f"{QUERY}more_than_eight_at_once_wait_for_a_place_and_are_told_that_there_is_none"
ADDRESSES = f"{S}reading_order.py::test_a_manifest_of_2000_instances_is_in_reading_order_and_its_addresses_live_300_seconds"
TOO_MUCH = f"{HL7}what_is_too_much_or_not_the_whole_is_refused", f"{HL7}what_is_just_not_too_much_is_taken"
LATE = f"{F}associations.py::test_who_asks_byte_by_byte_has_one_deadline"
STRANGERS = f"{F}associations.py::test_before_an_association_stands_a_connection_is_one_thread_and_there_are_only_so_many"
LENGTHS = (
    f"{F}associations.py::test_what_is_sent_keeps_to_the_maximum_length_that_the_sender_names_and_to_16384_where_it_names_none"
)
STORED = f"{F}large_store.py::test_what_is_larger_than_4_mb_is_taken_apart_here_up_to_8_gib"
ORDERS = f"{F}orders_with_the_city.py::test_an_order_message_has_20_orders_and_an_answer_tells_of_five_exams"
COMMITMENT = f"{F}commitment.py::test_"
ADT_COUNTS = f"{ADT}a_number_of_64_characters_100_patients_and_the_last_20_that_could_not_be_read"
ADT_REFUSED = f"{ADT}what_cannot_be_read_is_refused_naming_the_place_and_stands_on_the_page"
NAMED = f"{S}limits.py::test_a_study_on_the_timeline_names_30_body_parts_and_12_series_and_codes"
SIGNED = f"{INTEGRATION}door/test_image_display.py::test_"

LIMITS: dict[str, dict[str, tuple[str, ...]]] = {
    "conformance.md": {
        "A request takes 4.4 MB; a larger one is 413": (
            f"{INTEGRATION}dicomweb/test_letter.py::test_a_request_of_4_4_mb_is_stored",
            f"{INTEGRATION}dicomweb/test_letter.py::test_what_the_gateway_refuses_is_a_problem_too",
        ),
        "A boundary has 200 characters at the most": (
            f"{U}dicomweb/test_multipart.py::test_a_reader_takes_boundaries_longer_than_a_writer_may_make_them",
            f"{U}dicomweb/test_multipart.py::test_a_boundary_that_is_none_is_refused",
        ),
        "which takes 5 GiB an instance": (
            f"{S}limits.py::test_what_is_at_the_limit_is_taken_and_one_beyond_it_is_a_bad_request",
        ),
        "the answer waits for that, 4 seconds at the most": (
            f"{U}services/test_searchable.py::test_an_answer_waits_four_seconds_at_the_most_and_no_longer_than_it_has_to",
        ),
        "`limit` is 100 unless given, 1000 at most": (
            f"{U}dicomweb/test_search_parameters.py::test_limit_and_offset_have_their_defaults_and_the_maximum",
        ),
        "that only the newest 10,000 candidates were looked at": (
            f"{U}services/test_search_by_modality.py::"
            "test_of_more_candidates_than_10_000_the_newest_are_looked_at_and_the_answer_says_so",
        ),
        "one for each modality, of ten at most": (
            f"{U}services/test_search_by_modality.py::test_ten_modalities_are_looked_up_each_by_its_own_and_more_are_filtered",
        ),
        "A body of up to 4.4 MB is sent with 200": (
            f"{BODIES}a_body_of_4_4_mb_is_sent_and_one_byte_more_is_referred_to",
        ),
        "an address in S3 that lives for 300 seconds": (ADDRESSES,),
        "is put together once and kept for a day": (
            "tests/infra/test_template_data.py::test_the_lifecycle_removes_what_nobody_needs_and_no_hospitals_instance",
        ),
        "more than 4 GiB would have to be read for it (3.75 GiB in a ZIP": (
            f"{BODIES}4_gib_are_read_for_an_answer_and_not_a_byte_more", f"{BODIES}a_zip_has_3_75_gib_and_not_a_byte_more",
        ),
        "A head may have 16 MiB and 400,000 elements (an item counts four)": (
            f"{HEAD}a_head_may_have_what_the_conformance_statement_says_and_an_item_counts_four",
            f"{HEAD}a_header_of_16_mib_is_read_and_a_larger_one_is_not",
        ),
        "1,000 items are held; those of longer ones, up to 4,000,000 elements": (
            f"{U}dicom/test_many_frames.py::test_1000_items_are_held_and_of_more_none",
            f"{U}dicom/test_many_frames.py::test_there_is_a_limit",
        ),
        "more than 128 M pixels a frame": (
            f"{U}pixels/test_kinds.py::test_128_m_pixels_are_drawn_and_200_frames_as_one_and_not_one_more",
        ),
        "A thumbnail has 128 pixels a side, or what `viewport` says, 1024 at the most": (
            f"{BODIES}a_thumbnail_has_128_pixels_a_side_or_up_to_1024",
        ),
        "413 where more than 64 MiB of them would have to be made anew": (
            f"{U}services/test_retrieve_values.py::test_64_mib_of_values_are_made_anew_for_an_answer_and_not_a_byte_more",
        ),
        "values over 1,024 bytes are a `BulkDataURI`": (
            f"{U}dicom/test_metadata.py::test_a_value_of_1024_bytes_is_in_the_metadata_and_a_longer_one_is_not",
        ),
        "all of them in multipart (64 at most)": (f"{BODIES}64_pictures_come_in_one_answer",),
        "an animated GIF (of up to 200 frames and 128 M pixels)": (f"{BODIES}an_animation_has_200_frames_and_128_m_pixels",),
        "Storage Commitment Request Module in JSON or XML of at most 5,000 instances": (
            f"{U}dicomweb/test_commitment.py::test_5000_instances_are_committed_at_once",
            f"{U}dicomweb/test_commitment.py::test_what_is_no_request_module_is_refused",
        ),
        "and is kept for 30 days": (f"{U}dicomweb/test_commitment.py::test_an_answer_is_kept_for_30_days",),
        "in the manifest (of up to 2,000 instances)": (ADDRESSES,),
        "1,024 characters a value, eight values, and 8 KB an instance": (
            f"{U}dicom/test_summary.py::test_a_value_is_kept_as_it_is_valid_or_left_out",
            f"{U}dicom/test_summary.py::test_of_long_values_8_kb_are_kept",
        ),
        "A Patient ID or its issuer of more than 64 characters is refused": (
            f"{HEAD}a_patient_id_that_is_longer_than_dicom_allows_is_refused_rather_than_cut",
        ),
        "(200 characters; Text Value, or the narrative of a CDA of less than 1 MiB)": (
            f"{U}domain/test_report_sections.py::test_of_what_a_report_concludes_a_list_shows_200_characters_and_a_sign_where_it_is_cut",
            f"{U}dicom/test_report_identity.py::test_of_a_cda_of_1_mib_and_more_no_conclusion_is_read",
        ),
        "the images that it singles out, 100 at the most": (
            f"{U}dicom/test_key_images.py::test_a_document_that_names_all_images_is_cut_and_a_deep_one_read_to_a_depth",
        ),
        "more than 10,000 matches, or the archive looked at the newest 10,000": (
            f"{QUERY}ten_thousand_matches_are_answered_and_not_one_more",
        ),
        "more than 8 queries at once for 10 seconds; an identifier of more than 256 KiB": (AT_ONCE, IDENTIFIER),
        "more than 80 keys, a sequence of several items": (
            f"{QUERY}80_keys_are_taken_and_not_one_more_and_sequences_of_one_item",
        ),
        "a retrieval is of 1,000 studies and 65,535 instances at the most": (
            f"{QUERY}a_retrieval_is_of_1000_studies_and_65535_instances",
        ),
        "(8 lie on the forwarder's disk at the most)": (
            f"{QUERY}after_eight_failures_of_the_archive_in_a_row_the_rest_is_not_tried",
        ),
        "it is called again, twice at the most for an instance": (
            f"{QUERY}a_destination_that_drops_and_comes_back_gets_everything",
        ),
        "every five seconds while one lasts": (f"{F}retrieve.py::test_a_retrieval_says_that_it_goes_on",),
        "an identifier of more than 256 KiB; more than 8 queries at once for 10 seconds": (IDENTIFIER, AT_ONCE),
        "or eight failures in a row of archive or disk": (
            f"{QUERY}after_eight_failures_of_the_archive_in_a_row_the_rest_is_not_tried",
        ),
    },
    "forwarder.md": {
        "Up to 500 instances in one question": (f"{F}outbox.py::test_one_question_is_of_500_instances_at_the_most",),
        "after 12 refusals it is put aside": (
            f"{F}outbox.py::test_after_12_refusals_of_the_store_an_instance_is_put_aside_and_no_sooner",
        ),
        "connections beyond the associations allowed and 64 more are closed at once": (STRANGERS,),
        "who has not asked for an association within 30 seconds is gone": (LATE,),
        "What the archive finds to be no DICOM all the same it removes after a week": (
            f"{U}services/test_removals.py::test_it_goes_a_week_after_its_verdict_and_not_before",
        ),
        "131,072 bytes; what is sent has at most the sender's maximum length (16,384 where it names none, never less than 64)": (
            LENGTHS, f"{F}docs.py::test_the_conformance_statement_is_that_of_the_code",
        ),
        "no whole A-ASSOCIATE-RQ within 30 seconds of the connection": (LATE,),
        "no TLS within 15; more connections than the associations allowed and 64": (LATE, STRANGERS),
        "the last 100 different ones": (f"{F}associations.py::test_a_flood_of_different_refusals_is_remembered_within_bounds",),
        "repeated until it is accepted, for a week at most": (f"{COMMITMENT}who_is_never_reached_is_called_for_a_week",),
        "has its verdict, or has it within five seconds": (
            f"{COMMITMENT}who_cannot_be_answered_is_refused_at_once_and_the_page_says_what_is_missing",
        ),
        "more than 100,000 references in one request, 1,000 requests open": (
            f"{COMMITMENT}more_open_requests_and_references_than_can_be_kept_are_refused",
        ),
        "A name of more than 64 characters goes in as it is": (
            f"{F}coercion.py::test_a_name_longer_than_the_standard_has_it_goes_in",
        ),
        "has not answered in ten minutes": (
            f"{F}deliver_faults.py::test_a_pacs_that_answers_no_request_for_commitment_is_asked_by_c_find",
        ),
        "put aside after three times": (
            f"{F}deliver_confirmed.py::test_what_the_pacs_never_keeps_takes_a_person_after_three_times",
        ),
        "it is asked four times, with pauses that double": (
            f"{F}deliver_confirmed.py::test_what_c_find_lacks_for_a_while_is_not_brought_twice",
        ),
        "up to a quarter of an hour between two tries": (
            f"{F}deliver_rules.py::test_the_longest_pause_between_two_tries_is_a_quarter_of_an_hour",
        ),
        "An instance that breaks three associations is put aside": (
            f"{F}deliver_faults.py::test_an_image_that_breaks_every_association_takes_a_person_and_the_others_come",
        ),
        "The name (printable ASCII, at most 64 characters)": (
            f"{INTEGRATION}door/test_identity.py::test_a_name_has_64_characters_of_printable_ascii",
        ),
        "(STOW-RS) up to 8 GiB and 5,000 in one request": (
            STORED, f"{F}large_store.py::test_more_parts_than_are_taken_are_refused",
        ),
        "What is larger than the archive takes at once (4 MB)": (STORED,),
        "an instance has 5 GiB at the most": (
            f"{F}large_store.py::test_an_instance_larger_than_the_archive_takes_is_refused",
        ),
        "(two minutes at the most for each 500 instances)": (STORED,),
        "(`web.ris_secret_file`, at least 16 characters)": (f"{SIGNED}a_secret_has_16_characters_at_least",),
        "Good once, and for five minutes at the most": (
            f"{SIGNED}what_the_ris_signed_opens_once_for_whom_it_names", f"{SIGNED}nothing_else_of_it_opens_anything",
        ),
        "larger than `hl7.max_message_mb`, more segments than `hl7.max_segments`": (
            f"{F}hl7_door.py::test_a_message_that_is_too_large_is_refused_and_the_connection_goes_on",
            f"{F}hl7_door.py::test_more_segments_than_allowed_are_refused",
        ),
        "nothing but a document over 4,400,000 bytes, more than 100 reports or ten times as much of them": TOO_MUCH,
        "an MSH of 5,000 characters": (f"{HL7}a_header_without_end_is_refused",),
        "whose message has been coming for more than 10 s": (
            f"{F}hl7_door.py::test_of_a_full_set_of_slow_messages_one_makes_room_and_the_others_are_heard_out",
        ),
        "where no more than a week lies between them": (
            f"{F}adt_rules.py::test_what_names_no_visit_belongs_together_within_a_week",
        ),
        "(400 days at most)": (f"{F}adt_rules.py::test_what_stands_of_an_event_is_kept_for_400_days",),
        "the last 20 ADT messages answered with AE or AR": (ADT_COUNTS,),
        "a number of more than 64 characters": (ADT_COUNTS, ADT_REFUSED),
        "more than 100 patients in one message; more than 2,000 events of one patient": (
            ADT_COUNTS, ADT_REFUSED, f"{ADT}of_one_patient_2000_events_are_kept_and_not_one_more",
        ),
        "(OBR; at most 20 in a message)": (ORDERS,),
        "At most five; in ASCII": (ORDERS,),
        "AE 207: more than 20 orders": (ORDERS,),
    },
    "openapi.yaml": {
        "more than 20 are 20": (f"{S}changes.py::test_a_long_poll_of_more_than_20_seconds_is_one_of_20",),
        "The ids of up to 16 other documents": (f"{S}limits.py::test_a_report_replaces_up_to_16_documents",),
        "by each person; 1,000 at the most": (f"{S}limits.py::test_the_first_1000_readings_of_a_study_are_listed",),
        "a text of more than 500,000 characters": (
            f"{U}dicom/test_report_identity.py::test_a_text_of_500_000_characters_has_sections_and_a_longer_one_has_none",
        ),
        "Body Part Examined (0018,0015) of all series, 30 at most": (NAMED,),
        "What series and protocols with images are called, 12 at most": (NAMED,),
        "Procedure and anatomic region codes as scheme|value, 12 at most": (NAMED,),
    },
    "sharing.md": {
        "after 24 hours": (f"{S}emergencies.py::test_it_opens_every_owners_studies_for_a_day_and_is_reviewed_by_each",),
        "until it expires, at most 300 seconds later": (ADDRESSES,),
        "and ten years in all at the most": (
            f"{S}acceptance.py::test_a_transfer_is_extended_and_never_shortened_nor_beyond_ten_years",
        ),
        "60 proposals of an institution in any hour": (
            f"{S}proposals.py::test_after_sixty_proposals_in_an_hour_there_is_no_more_for_a_while",
            f"{S}proposals.py::test_the_limit_is_of_any_hour_and_of_each_institution_for_itself",
        ),
        "(100 names at most)": (f"{S}issuer_names.py::test_a_system_that_makes_up_names_does_not_fill_the_feed",),
        "says more than 16 names": (f"{S}named_apart.py::test_a_number_of_countless_names_is_nobodys_and_is_read_in_a_moment",),
        "a code that more than 16 numbers carry": (f"{S}identifiers.py::test_a_code_joins_16_numbers_and_not_17",),
        "Of more than 8 patients the others": (
            f"{S}two_patients.py::test_a_study_of_very_many_patients_still_fits_and_is_found_under_each",
        ),
        "and at most 10,000; a longer one is rejected": (
            f"{S}withdrawal.py::test_a_note_that_names_too_much_is_refused_as_a_whole",
        ),
        "what is larger than 1 GiB (`pixels-not-compared`) and the 201st correction of an instance": (
            f"{S}corrections.py::test_what_is_too_large_to_be_compared_is_a_conflict_that_says_so",
            f"{S}corrections.py::test_an_instance_is_corrected_200_times_and_not_once_more",
        ),
    },
    "operations.md": {
        "One that has said nothing for ten minutes is *silent*": (
            f"{U}services/test_forwarders.py::test_a_forwarder_is_silent_ten_minutes_after_its_last_sign_and_none_that_never_sent_any",
        ),
        "of what came within 30 days, or `--every-object`": (
            f"{U}operations/test_rebuild.py::"
            "test_bytes_that_are_gone_are_looked_for_among_the_young_and_among_all_where_that_is_asked_for",
        ),
        "for what came within 30 days": (
            f"{U}operations/test_rebuild.py::"
            "test_bytes_that_are_gone_are_looked_for_among_the_young_and_among_all_where_that_is_asked_for",
        ),
        "Within 30 days they can be brought back": (
            "tests/infra/test_template_data.py::test_the_lifecycle_removes_what_nobody_needs_and_no_hospitals_instance",
        ),
    },
}  # fmt: skip
WAITS: dict[str, dict[str, tuple[float, float]]] = {
    "forwarder.md": {
        "then one each hour": (refusals.AGAIN, 3600),
        "What takes over a minute, and 2 s more for each MB, is given up": (pool.PATIENCE + 1e6 / pool.SLOWEST, 62),
        "Secondary Capture of each page, 150 dpi": (raster.DOTS_PER_INCH, 150),
        "put aside after three times": (delivery.TRIES, 3),
        "patients of whom something was brought are looked at once a day": (engine.REVIEW_EVERY.total_seconds(), 86_400),
        "(what the archive says, at most five minutes old)": (work_items.ASK_SECONDS, 300),
        "is tried again after five minutes": (mail.RETRY_SECONDS, 300),
        "pauses whose bound doubles up to 6 hours": (retry.bound(retry.PLANS[Failure.ABSENT], 99), 6 * 3600),
        "in the two minutes after, and every ten minutes": (max(*adt_engine.LOOKS, adt_engine.LOOK_ANYWAY_SECONDS), 600),
        "before all other patients', for seven days": (planning.ORDERED_SECONDS, 7 * 86_400),
        "since the forwarder's start (20 names; the rest under `…`)": (status_polling.MOST_NAMES, 20),
    },
    "conformance.md": {"65,535 instances at the most": (retrieval.MOST_SUB_OPERATIONS, 65_535)},
    "operations.md": {
        "A forwarder says once a minute how it is": (forwarder_signs.EVERY.total_seconds(), 60),
        "(`last_pass`, counts and up to 200 UIDs)": (retention.MOST_NAMED, 200),
        "every four weeks": (retention.EVERY.days, 28),
        "of a study of more than 98 series, reports and rows each is old or new": (dynamodb.MAX_TRANSACTION - 2, 98),
    },
    "sharing.md": {"Of more than 8 patients the others": (studies.MAX_PERSONS, 8)},
    "openapi.yaml": {},
}
"""What no test waits for, or what is no boundary of anything that is asked: the constant, and what the words say."""
NONE = (
    "or with more than six, and behind a date", "that the library knows (more than 150)", "two failures within ten minutes",
    "Computed bodies go by themselves within two days", "a patient with more than five linked numbers takes more reads",
)  # fmt: skip
"""In such words, and no limits."""
NOT_OF_THE_STATEMENT = ("Install in ten minutes", "What of this was tried, and how", "How fast")
"""Sections that measure and tell, and promise nothing."""

_NUMBER = r"(?:\d[\d,.]*|two|three|four|five|six|eight|ten|twelve|twice|a week|a day|a quarter)"
_BEFORE = r"(?:at (?:the )?most|up to|more than|over|at least|less than|within|longer than|larger than)"
LIMIT = re.compile(rf"\b{_BEFORE} {_NUMBER}\b|\b{_NUMBER}(?: [\w-]+){{0,6}},? at (?:the )?most\b")


def _text(name: str) -> str:
    """A document in one line, without what is not of the statement."""
    sections = re.split(r"^(?=#{2,3} )", (ROOT / "docs" / name).read_text(encoding="utf-8"), flags=re.M)
    kept = [section for section in sections if not section.lstrip("# ").startswith(NOT_OF_THE_STATEMENT)]
    return " ".join("".join(kept).split())


@pytest.mark.parametrize("name", LIMITS)
def test_no_limit_is_stated_without_a_test(name: str) -> None:
    text = _text(name)
    for words in (*LIMITS[name], *WAITS[name], *NONE):
        text = text.replace(words, "…")
    assert [text[max(0, found.start() - 40) : found.end() + 40] for found in LIMIT.finditer(text)] == []


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_listed_is_stated_and_each_test_is_there(name: str) -> None:
    text = " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())
    assert [words for words in (*LIMITS[name], *WAITS[name]) if words not in text] == []
    for test in {test for tests in LIMITS[name].values() for test in tests}:
        path, _, function = test.partition("::")
        assert re.search(rf"^ *def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.M), test


@pytest.mark.parametrize("name", WAITS)
def test_waits_are_those_of_the_code(name: str) -> None:
    assert [words for words, (value, said) in WAITS[name].items() if value != said] == []
