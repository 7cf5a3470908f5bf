"""Taken from the archive for the hospital's own systems: instances, coerced to its patient, stored into its DICOM nodes."""
