"""The hospital's door for people and viewers: the queue for everyone, staff pages and DICOMweb for those who are known."""
