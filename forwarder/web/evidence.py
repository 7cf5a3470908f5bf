"""Words for what speaks for and against two numbers being one patient's, as archive, registration and PACS name it."""

from __future__ import annotations

from forwarder.web.pages import N_

EVIDENCE = {
    "linked": N_("linked already"),
    "linked-to-own-number": N_("linked to another number of this hospital"),
    "same-name": N_("same name"),
    "same-birth-date": N_("same birth date"),
    "same-sex": N_("same sex"),
    "same-codice-fiscale": N_("same codice fiscale"),
    "coming-from-there": N_("admitted from that hospital"),
    "different-name": N_("other name"),
    "different-birth-date": N_("other birth date"),
    "different-sex": N_("other sex"),
    "different-codice-fiscale": N_("other codice fiscale"),
    "different-omocodia": N_("codice fiscale that is the same only without omocodia"),
    "codice-fiscale-disagrees": N_("codice fiscale that does not agree"),
    "coming-from-elsewhere": N_("admitted from elsewhere"),
    "several-numbers": N_("several numbers"),
    "several-senders": N_("transfers of several hospitals wait"),
    "undone-before": N_("was undone before"),
}
