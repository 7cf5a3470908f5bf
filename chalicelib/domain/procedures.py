"""What a procedure's name says: body region, modality, side, contrast. Italian and English, as hospitals write them.

A table of terms rather than a terminology server: names come as free text from two hospitals' RIS, and a wrong guess only
changes the order in which priors are proposed. Terms match whole words or, with a trailing `*`, their beginnings.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

REGIONS: dict[str, str] = {
    "chest": "torace torac* chest thorax thorac* polmon* lung* pulmon* cost* rib ribs sterno sternum mediastin* tx cxr",
    "head": "encefalo encefal* cranio crani* cerebr* brain head skull testa capo neurocran* ipofisi hypophys* pituitar* tele",
    "face": "massiccio faccial* facial face orbit* mascell* maxill* mandibol* mandib* opt ortopantomografia orthopantom* "
    "dental* dentale rocche rocca petrous paranasal* seni sinus sinuses atm tmj",
    "neck": "collo neck tiroid* thyroid* laringe larynx faringe pharynx carotid* tsa",
    "abdomen": "addome addom* abdom* fegato epat* liver hepat* pancrea* milza spleen renal* rene reni kidney* urinar* uro* "
    "colecist* gallbladder intestin* bowel colon* vie biliar*",
    "pelvis": "pelvi* bacino pelvic* prostat* utero uterus ovar* vescica bladder scrot* testic* rett* rectum",
    "heart": "cuore cuor* card* heart coronar* ecocardio* echocard*",
    "breast": "mammella mammell* mammo* breast seno mammary",
    "aorta": "aort*",
    "cervical-spine": "cervicale cervical c-spine",
    "thoracic-spine": "dorsale dorsal t-spine",
    "lumbar-spine": "lombare lombosacral* lombo* lumbar* lumbosacral* l-spine lspine sacr* coccig* coccyx",
    "spine": "rachide colonna spine spinal vertebr* midollo",
    "shoulder": "spalla shoulder clavicol* clavicle scapol* scapula",
    "upper-limb": "omero humerus gomito elbow avambraccio forearm radio ulna braccio arm polso wrist mano hand dita dito "
    "finger* scafoide scaphoid",
    "hip": "anca anche hip hips femore femur femor*",
    "lower-limb": "ginocchi* knee* gamba leg tibia perone fibula caviglia ankle piede piedi foot feet calcagn* calcane* coscia "
    "thigh patella rotula",
    "whole-body": "total-body totalbody wholebody corpo",
}  # fmt: skip
"""Region → terms. `BodyPartExamined`'s own terms (PS3.16 Annex L) match as words too."""

RELATED: frozenset[frozenset[str]] = frozenset(
    frozenset(pair.split())
    for pair in (
        "chest heart", "chest aorta", "abdomen aorta", "chest thoracic-spine", "chest abdomen", "abdomen pelvis", "head face",
        "head neck", "face neck", "neck cervical-spine", "spine cervical-spine", "spine thoracic-spine", "spine lumbar-spine",
        "hip pelvis", "shoulder upper-limb", "hip lower-limb", "chest breast", "lumbar-spine pelvis", "chest shoulder",
    )
)  # fmt: skip
"""Regions so near each other that an exam of one often shows the other."""

MODALITIES: dict[str, str] = {
    "radiography": "cr dx rx rg rf radiografi* radiogra* x-ray xray xr lastra teleradiografi* cxr",
    "ct": "ct tc tac tomografi* angiotc angio-tc hrct cbct",
    "mr": "mr rm rmn mri risonanza angiorm angio-rm resonance",
    "ultrasound": "us eco ecografi* ultrasound ultrason* sonograph* ecodoppler ecocolordoppler doppler echo ivus",
    "pet": "pt pet pet-tc pet/ct petct",
    "nuclear": "nm scintigrafi* scintigraph* spect",
    "mammography": "mg mx mammografi* mammogra* tomosintesi tomosynthesis",
    "angiography": "xa angiografi* angiogra* dsa",
}
"""Kind of exam → DICOM modalities (PS3.3 C.7.3.1.1.1) and words for it."""

SIDES: dict[str, str] = {
    "right": "destro destra dx dex right rt",
    "left": "sinistro sinistra sx sin left lt",
    "both": "bilaterale bilat* bilateral entrambi entrambe",
}
_RADIOGRAPHY_OR_SIDE = "dx"
_NOT_IMAGES = frozenset({"SR", "PR", "KO", "DOC", "REG", "SEG", "OT", "RTSTRUCT", "AU", "PLAN", "FID", "RWV", "HD", "ECG"})


@dataclass(frozen=True)
class Procedure:
    """What is known of an exam: regions and kinds by the names above, side (`right`, `left`, `both` or empty)."""

    regions: frozenset[str]
    kinds: frozenset[str]
    side: str = ""


def understand(description: str, body_part: str, modalities: tuple[str, ...], laterality: str = "") -> Procedure:
    """What an exam's description, Body Part Examined, modalities and Laterality (R, L, B) together say."""
    words = _words(description)
    named = _match(REGIONS, words) | _match(REGIONS, _words(body_part))
    if named & {"cervical-spine", "thoracic-spine", "lumbar-spine"}:
        named -= {"spine"}
    kinds = frozenset(kind for code in modalities if code not in _NOT_IMAGES for kind in _match(MODALITIES, (code.lower(),)))
    if not kinds:
        kinds = _match(MODALITIES, words)
    side = {"R": "right", "L": "left", "B": "both"}.get(laterality.strip().upper(), "") or _side(words)
    return Procedure(named, kinds, side)


def related(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two sets of regions have neighbours in common."""
    return any(frozenset((a, b)) in RELATED for a in one for b in other)


def _side(words: tuple[str, ...]) -> str:
    # "DX" is the right side after the name of a part ("GINOCCHIO DX") and radiography before it ("DX TORACE").
    if words[:1] == (_RADIOGRAPHY_OR_SIDE,):
        words = words[1:]
    found = _match(SIDES, words)
    if "both" in found or {"right", "left"} <= found:
        return "both"
    return next(iter(found), "")


def _words(text: str) -> tuple[str, ...]:
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return tuple(re.findall(r"[a-z0-9]+(?:[-/][a-z0-9]+)*", folded.replace("_", " ")))


def _match(table: dict[str, str], words: tuple[str, ...]) -> frozenset[str]:
    parts = {*words, *(part for word in words for part in re.split("[-/]", word))}
    return frozenset(name for name, pattern in _compiled(tuple(table.items())) if any(pattern.fullmatch(word) for word in parts))


@lru_cache(8)
def _compiled(table: tuple[tuple[str, str], ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple(
        (name, re.compile("|".join(re.escape(term).replace(r"\*", "[a-z0-9-]*") for term in terms.split())))
        for name, terms in table
    )
