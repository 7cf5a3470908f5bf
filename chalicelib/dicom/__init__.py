"""Reading and writing DICOM within limits: heads, values, metadata, documents."""
