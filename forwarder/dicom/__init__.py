"""DICOM in: associations, storage, storage commitment."""
