"""The wire formats of DICOMweb (PS3.18): parsing and writing, no input or output of its own."""
