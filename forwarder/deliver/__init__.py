"""Into the hospital's PACS: what came by an accepted transfer, under the hospital's own number of the patient."""
