"""The kinds of identifiers that Italian patients have, told apart by issuer and form."""

from __future__ import annotations

import re

from chalicelib.domain.identifiers import PatientIdentifier

CODICE_FISCALE = "2.16.840.1.113883.2.9.4.3.2"
STP = "2.16.840.1.113883.2.9.4.3.17"
ENI = "2.16.840.1.113883.2.9.4.3.18"
TEAM = "2.16.840.1.113883.2.9.4.3.7"
TEAM_CARD = "2.16.840.1.113883.2.9.4.3.3"
LOMBARDY = "2.16.840.1.113883.2.9.2.30.4.1"
NATIONAL = (CODICE_FISCALE, STP, ENI, TEAM, TEAM_CARD, LOMBARDY)
"""The issuers of codes that a patient has at every hospital."""
_PUBLIC = re.compile(r"2\.16\.840\.1\.113883\.2\.9(\.4(\.3(\.\d+)*)?|\.2(\.\d+(\.4(\.1(\.\d+)*)?)?)?)?")
"""Identifiers of persons by the state (4.3: codice fiscale, STP, ENI, TEAM …), and by each region (2.<region>.4.1); and the
arcs above them, which are HL7 Italy's, the state's and the regions' own."""

_FOREIGNER = re.compile(r"(STP|ENI)\d{13}")
_PROVISIONAL = re.compile(r"\d{11}")
_WORD = re.compile(r"[^\W_]+")
NOBODY = {
    "SCONOSCIUTO", "SCONOSCIUTA", "IGNOTO", "IGNOTA", "ANONIMO", "ANONIMA", "UNKNOWN", "ANONYMOUS", "NEONATO", "NEONATA",
    "GEMELLO", "GEMELLA", "FETO", "BABY", "NEWBORN", "TWIN",
}  # fmt: skip
UNNAMED = NOBODY | {
    "NN", "ND", "MASCHIO", "FEMMINA", "BAMBINO", "BAMBINA", "BIMBO", "BIMBA", "FIGLIO", "FIGLIA", "BOY", "GIRL", "MALE", "FEMALE",
}  # fmt: skip
"""Words that registrations write in place of a name that nobody knows, or has given yet; the latter may be a family's name."""
_FISCAL = re.compile(r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]")


def kind(identifier: PatientIdentifier) -> str:
    """`codice-fiscale`, `codice-fiscale-provisional`, `stp`, `eni`, `team`, `regional` or `hospital`.

    STP and ENI codes also have 16 characters, and are told apart by their form even under the codice fiscale's root.
    """
    value = identifier.value.strip().upper()
    foreigner = _FOREIGNER.fullmatch(value)
    if foreigner and identifier.issuer in (CODICE_FISCALE, STP, ENI):
        return foreigner[1].lower()
    if identifier.issuer == CODICE_FISCALE:
        return "codice-fiscale-provisional" if _PROVISIONAL.fullmatch(value) else "codice-fiscale"
    return {STP: "stp", ENI: "eni", TEAM: "team", TEAM_CARD: "team", LOMBARDY: "regional"}.get(identifier.issuer, "hospital")


def is_public(issuer: str) -> bool:
    """Whether an OID is a national or regional register's, under which every hospital has the same patient's number, or above."""
    return _PUBLIC.fullmatch(issuer) is not None


def looks_like_codice_fiscale(value: str) -> bool:
    """Whether a value has the form of a personal codice fiscale of 16 characters; whether it is valid is another question."""
    return _FISCAL.fullmatch(value.strip().upper()) is not None


def is_stand_in(name: str) -> bool:
    """Whether a name (`FAMILY^GIVEN`, upper case, without accents) stands in for one that is not known or not given yet: of a
    newborn, a twin, an unknown person. Two who are called so are not called alike."""
    family, _, given = name.partition("^")
    return not (NOBODY.isdisjoint(_WORD.findall(family)) and UNNAMED.isdisjoint(_WORD.findall(given)))
